//! `rid-switch`: a RID's domain is switched under PASIDs, what they rely on goes off, a PASID is not taken off, a reset
//! doesn't give back what it took, and the same rightly; `seed`: the sequence that all of this began with.

use crate::Series;

use super::Report;
use super::expect::{self, Expect, Violation};

const LOST: &str = "pasid-lost-on-detach";
const HANDED: &str = "user-pasid-on-nonconforming";
const REFUSED: &str = "rid-switch-refused";
const OFF: &str = "capability-off-under-pasids";
const LEAKED: &str = "cache-tag-leaked";
const KEPT: &str = "driver-detach-failed";
const UNPAIRED: &str = "reset-unpaired";
const NVME: &str = "0000:01:00.0";
const SECOND: &str = "0000:02:00.0";
const SOFT: &str = "softdev.0";
const BOTH: &[u32] = &[5, 70];

/// The driver of 6.12 can't say that a PASID was not taken off.
fn armed(series: Series) -> &'static [&'static str] {
    if series == Series::V7 { &[LOST, REFUSED, OFF, KEPT, UNPAIRED] } else { &[LOST, REFUSED, OFF] }
}

fn found(
    check: &'static str,
    pasids: &'static [u32],
    attached_by: &'static str,
    triggered_by: &'static str,
) -> Violation {
    Violation {
        check,
        group_of: Some(NVME),
        devices: &[NVME],
        pasids,
        attached_by: Some(attached_by),
        triggered_by: Some(triggered_by),
        implied: &[],
    }
}

pub fn on_intel(report: &Report) -> Result<(), String> {
    let newest = report.series == Series::V7;
    let switched: expect::Calls =
        &[("pasid_attach", 2), ("pasid_detach", 2), ("attach_device", 1), ("detach_device", 1)];
    let mut kept = Expect::clean("kept", switched);
    if !newest {
        // A true one: up to 6.14 this driver switches ATS off with every switch of the RID (docs/finds).
        kept = kept.raises(found(OFF, BOTH, "tenant", "owner"));
    }
    let mut rows = vec![
        Expect::clean("empty", &[("attach_device", 1), ("detach_device", 1)]),
        kept,
        Expect::clean("lost", switched).raises(found(LOST, BOTH, "tenant", "owner")),
        Expect::clean("refused", &[("pasid_attach", 2), ("pasid_detach", 2), ("attach_device", 1)])
            .raises(found(REFUSED, BOTH, "tenant", "owner")),
        Expect::clean("off-empty", &[("ats_off", 1), ("pasid_off", 1), ("pasid_attach", 2)]),
        Expect::clean("ats-off", &[("ats_off", 1), ("ats_on", 1)])
            .raises(found(OFF, BOTH, "tenant", "saboteur")),
        Expect::clean("pasid-off", &[("pasid_off", 1), ("pasid_on", 1)])
            .raises(found(OFF, BOTH, "tenant", "saboteur")),
        Expect::clean("off-again", &[("pasid_detach", 2), ("detach_device", 1)]),
    ];
    let reset: expect::Calls = match newest {
        true => &[
            ("pasid_attach", 2),
            ("reset_prepare", 1),
            ("reset_done", 1),
            ("reset_function", 1),
            ("reset_flr", 1),
        ],
        false => &[("pasid_attach", 2), ("reset_prepare", 0), ("reset_done", 0)],
    };
    rows.push(Expect::clean("reset", reset));
    if newest {
        rows.push(
            Expect::clean("not-taken-off", &[("pasid_attach", 2), ("pasid_detach", 2)])
                .raises(found(KEPT, &[5], "tenant", "saboteur"))
                .warns("iommu_detach_device_pasid"),
        );
        rows.extend(resets());
    }
    rows.push(Expect::clean("end", &[("pasid_detach", 2), ("release_device", 1)]));
    expect::phases(report, armed(report.series), &rows)?;
    severities(report)
}

/// What a reset takes off a device and doesn't give back, each time in another way.
fn resets() -> [Expect; 5] {
    let paired: expect::Calls = &[("reset_prepare", 1), ("reset_done", 1)];
    let lost = |pasids| found(UNPAIRED, pasids, "tenant", "owner");
    let of_rid = |device, devices| Violation {
        group_of: Some(device),
        devices,
        attached_by: None,
        ..found(UNPAIRED, &[], "tenant", "owner")
    };
    [
        Expect::clean("reset-no-rid", paired).raises(of_rid(NVME, &[NVME])).warns("pci_dev_reset_iommu_done"),
        // That no table has it follows from what is open since `not-taken-off` as well: it is told there.
        Expect::clean("reset-no-pasid", paired).raises(lost(&[5])),
        Expect::clean("reset-mends", paired).resolves(UNPAIRED, Some(NVME), "cleared"),
        Expect::clean("flr-unpaired", &[("reset_prepare", 1), ("reset_done", 0), ("reset_flr", 1)])
            .raises(of_rid(SECOND, &[SECOND])),
        Expect::clean("reset-not-done", &[("reset_prepare", 1), ("reset_done", 1), ("pasid_off", 1)])
            .raises(lost(BOTH)),
    ]
}

/// ATS is a warning, PASID is critical, a refusal is for information.
fn severities(report: &Report) -> Result<(), String> {
    for (check, what, severity) in [
        (OFF, "switched ATS of", "warning"),
        (OFF, "switched PASID of", "critical"),
        (REFUSED, "was refused a switch", "info"),
        (LOST, "and its driver cleared PASIDs 5 and 70", "critical"),
    ] {
        let mut lines = report.of_kind("violation").into_iter();
        let line = lines.find(|line| {
            line["check"] == check && line["summary"].as_str().is_some_and(|text| text.contains(what))
        });
        let found = line.ok_or(format!("no violation of {check} says `{what}`"))?;
        if found["severity"] != severity {
            return Err(format!("{check}, `{what}`: {}, not {severity}", found["severity"]));
        }
    }
    Ok(())
}

pub fn seed(report: &Report) -> Result<(), String> {
    if report.series == Series::V6_1 {
        report.says("seed: not possible on this kernel: -EOPNOTSUPP")?;
        let calls = &[("claim_group", 1), ("attach_device", 1), ("detach_device", 1), ("release_group", 1)];
        return expect::phases(report, &[], &[Expect::clean("a", calls)]);
    }
    let newest = report.series == Series::V7;
    let (second, pasid): (_, &'static [u32]) =
        if newest { ("@ second sva", &[1]) } else { ("@ second pasid", &[5]) };
    report.says(second)?;
    let calls: expect::Calls = &[
        ("claim_group", 1),
        ("attach_device", 1),
        ("pasid_attach", 1),
        ("detach_device", 1),
        ("pasid_detach", 1),
        ("release_group", 1),
    ];
    let handed = |device, triggered_by| Violation {
        group_of: Some(device),
        devices: if device == SOFT { &[SOFT] } else { &[NVME] },
        triggered_by,
        ..found(HANDED, &[5], "user", "user")
    };
    let mut a = Expect::clean("a", calls);
    let mut b = Expect::clean("b", calls).raises(found(LOST, pasid, "user", "driver"));
    if !newest {
        // The driver is found out while userspace has its PASID; then it is known before. A process's is the kernel's.
        a = a.raises(found(OFF, pasid, "user", "driver")).raises(handed(NVME, None));
        b = b.raises(handed(NVME, Some("user")));
        // ATS is off when the PASID is detached, and its tag stays (docs/finds/vtd-cache-tag-left-by-blocked-rid.md).
        let leaked = found(LEAKED, pasid, "user", "user");
        (a, b) = (a.raises(leaked), b.raises(leaked));
        (a, b) = (a.resolves(HANDED, Some(NVME), "cleared"), b.resolves(HANDED, Some(NVME), "cleared"));
    }
    let refused =
        Violation { group_of: Some(SOFT), devices: &[SOFT], ..found(REFUSED, &[5], "user", "driver") };
    let given: expect::Calls =
        &[("claim_group", 1), ("pasid_attach", 1), ("pasid_detach", 1), ("release_group", 1)];
    let rows = [
        Expect::clean("unknown", given),
        a,
        b,
        Expect::clean("handed", given).raises(handed(NVME, Some("user"))).resolves(
            HANDED,
            Some(NVME),
            "cleared",
        ),
        // The same PASID, behind a driver that broke nothing so far.
        Expect::clean("a-softiommu", calls),
        // The core has told the owner that his RID is detached, and WARNs.
        Expect::clean("c", calls)
            .raises(refused)
            .raises(handed(SOFT, None))
            .resolves(HANDED, Some(SOFT), "cleared")
            .warns("iommu_detach_device"),
        Expect::clean("verdict", &[]),
    ];
    verdicts(report)?;
    expect::phases(report, armed(report.series), &rows)
}

/// The table that all of this began with, by driver, and what it comes to.
fn verdicts(report: &Report) -> Result<(), String> {
    let page = report.of_kind("verdicts").pop().ok_or("there is no page of verdicts")?;
    let drivers = page["is"]["drivers"].as_array().ok_or("there are no drivers")?;
    for (name, [kept, lost, refused]) in [("intel", [1, 1, 0]), ("softiommu", [0, 0, 1])] {
        let driver = drivers.iter().find(|driver| driver["iommu_driver"] == name);
        let driver = driver.ok_or(format!("nothing is said of {name}"))?;
        let table = serde_json::json!({"kept": kept, "lost": lost, "refused": refused});
        let rule = driver["rules"].as_array().into_iter().flatten();
        let rule = rule.filter(|rule| rule["rule"] == "rid-switch-keeps-pasids").map(|rule| &rule["verdict"]);
        if driver["rid_switch"] != table || driver["verdict"] != "violates" || !rule.eq(["violates"]) {
            return Err(format!("of {name} is said {driver}"));
        }
    }
    Ok(())
}
