//! `imbalance`: a PASID is detached twice, and by the name of another domain; a device asks for a page with one that was
//! detached, or asked before and gets no response.

use super::Report;
use super::expect::{self, Calls, Expect, Violation};
use crate::Series;

const CHECK: &str = "attach-imbalance";
const LATE: &str = "fault-after-detach";
const UNANSWERED: &str = "iopf-unanswered";

pub fn on_softiommu(report: &Report) -> Result<(), String> {
    const DEVICES: &[&str] = &["softdev.0"];
    const REPLACE: Calls = &[("pasid_attach", 1), ("pasid_replace", 1), ("pasid_detach", 1)];

    let mut rows = rows(DEVICES, None);
    if report.series == Series::V7 {
        rows.push(Expect::clean("replace", REPLACE));
        rows.push(Expect::clean("replaced", REPLACE).raises(clumsy(DEVICES, Some("successor"))));
    }
    rows.push(Expect::clean("requests", &[("pasid_attach", 1), ("pasid_detach", 1), ("page_request", 2)]));
    rows.push(Expect::clean("request-late", &[("page_request", 1)]).raises(Violation {
        check: LATE,
        triggered_by: Some("tenant"),
        ..clumsy(DEVICES, Some("tenant"))
    }));
    rows.push(Expect::clean("answered", &[("pasid_attach", 4), ("pasid_detach", 3)]));
    rows.push(Expect::clean("unanswered", &[("pasid_attach", 1), ("pasid_detach", 1)]).raises(Violation {
        check: UNANSWERED,
        pasids: &[6],
        triggered_by: Some("hasty"),
        ..clumsy(DEVICES, Some("tenant"))
    }));
    rows.push(Expect::clean("answered-late", &[("pasid_detach", 1)]).resolves(
        UNANSWERED,
        Some("softdev.0"),
        "cleared",
    ));
    expect::phases(report, &[CHECK, LATE, UNANSWERED], &rows)
}

pub fn on_intel(report: &Report) -> Result<(), String> {
    expect::phases(report, &[CHECK], &rows(&["0000:01:00.0"], Some(unknown_pasid_warns_in(report.series))))
}

/// The function of the Intel driver that warns, once a boot, of a PASID to be removed that it does not have.
pub fn unknown_pasid_warns_in(series: Series) -> &'static str {
    match series {
        Series::V6_1 | Series::V6_12 => "intel_iommu_remove_dev_pasid",
        Series::V7 => "domain_remove_dev_pasid",
    }
}

/// The Intel driver warns of the first fault, once a boot.
fn rows(devices: &'static [&'static str], warns: Option<&'static str>) -> Vec<Expect> {
    let twice =
        Expect::clean("twice", &[("pasid_attach", 1), ("pasid_detach", 2)]).raises(clumsy(devices, None));
    vec![
        Expect::clean(
            "clean",
            &[("claim_device", 1), ("pasid_attach", 3), ("pasid_detach", 3), ("release_device", 1)],
        ),
        warns.into_iter().fold(twice, Expect::warns),
        Expect::clean("another", &[("pasid_attach", 1), ("pasid_detach", 1)])
            .raises(clumsy(devices, Some("tenant"))),
    ]
}

fn clumsy(devices: &'static [&'static str], attached_by: Option<&'static str>) -> Violation {
    Violation {
        check: CHECK,
        group_of: devices.first().copied(),
        devices,
        pasids: &[5],
        attached_by,
        triggered_by: Some("clumsy"),
        implied: &[],
    }
}
