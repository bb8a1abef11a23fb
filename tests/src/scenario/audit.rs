//! `tables`, `group`, `leaky`: what the daemon finds by reading every group again.

use serde_json::Value;

use super::Report;
use super::expect::{self, Expect, Violation};
use super::imbalance::unknown_pasid_warns_in;
use super::transcript::Transcript;

const MISMATCH: &str = "pasid-table-mismatch";
const DIVERGENCE: &str = "group-divergence";
const RESIDUE: &str = "failed-attach-residue";
const RELEASED: &str = "released-with-pasids";
const NVME: &str = "0000:01:00.0";
const NVME_OF_PAIR: &str = "0000:05:00.0";
/// The ports of the switch, and what is behind them.
const PAIR: [&str; 4] = ["0000:04:00.0", "0000:04:00.1", NVME_OF_PAIR, "0000:06:00.0"];

pub fn tables(report: &Report) -> Result<(), String> {
    let differs = |pasids, attached_by| Violation {
        check: MISMATCH,
        group_of: Some(NVME),
        devices: &[NVME],
        pasids,
        attached_by,
        triggered_by: None,
        implied: &[],
    };
    let mended = |phase| Expect::clean(phase, &[]).resolves(MISMATCH, Some(NVME), "cleared");
    let rows = [
        Expect::clean("clean", &[("pasid_attach", 2)]),
        Expect::clean("extra", &[]).raises(differs(&[7], None)),
        mended("extra-mended"),
        Expect::clean("missing", &[]).raises(differs(&[5], Some("tenant"))),
        mended("missing-mended"),
        // What the driver left in its table it did not flush either.
        Expect::clean("kept", &[("pasid_detach", 1)]).raises(differs(&[5], None)).raises(Violation {
            check: "teardown-flush-incomplete",
            attached_by: Some("tenant"),
            triggered_by: Some("tenant"),
            ..differs(&[5], None)
        }),
        mended("kept-mended"),
        Expect::clean("residue", &[("pasid_attach", 1)]).raises(residue(NVME, &[NVME], &[9])),
        Expect::clean("residue-mended", &[]).resolves(RESIDUE, Some(NVME), "cleared"),
        Expect::clean("refused", &[("pasid_attach", 1)]),
        Expect::clean("gone-clean", &[("pasid_attach", 1), ("group_release", 1)]),
        Expect::clean("gone", &[("pasid_attach", 1), ("vtd_table_left", 1), ("group_release", 1)])
            .raises(released(NVME, &[NVME], &[8])),
        Expect::clean("back", &[]),
    ];
    expect::phases(report, &[MISMATCH, DIVERGENCE, RESIDUE, RELEASED, "domain-off-default"], &rows)?;
    // What was read is shown as it is: the RID's own entry, and the two PASIDs.
    let transcript = Transcript::read(&report.text);
    let phase = transcript.phase("clean")?;
    let number = phase.group_of(NVME)?;
    let page = phase.of_kind("groups").next().ok_or("there is no page of groups")?;
    let groups = page["is"].as_array().ok_or("the page of groups is no list")?;
    let group = groups.iter().find(|group| group["group"] == number).ok_or("the group is not on the page")?;
    let list = |value: &Value| -> Vec<u64> {
        value.as_array().into_iter().flatten().filter_map(|one| one["pasid"].as_u64()).collect()
    };
    let table = group["tables"].as_array().into_iter().flatten().find(|table| table["device"] == NVME);
    let entries = table.map(|table| list(&table["entries"])).unwrap_or_default();
    if list(&group["pasids"]) == [5, 6] && entries == [0, 5, 6] {
        Ok(())
    } else {
        Err(format!("the group shows as {group}"))
    }
}

pub fn group(report: &Report) -> Result<(), String> {
    let differs = Violation {
        check: DIVERGENCE,
        group_of: Some(NVME_OF_PAIR),
        devices: &PAIR,
        pasids: &[5],
        attached_by: Some("tenant"),
        triggered_by: None,
        implied: &[],
    };
    let mended = |phase| Expect::clean(phase, &[]).resolves(DIVERGENCE, Some(NVME_OF_PAIR), "cleared");
    let rows = [
        Expect::clean("clean", &[("pasid_attach", 1), ("pasid_detach", 1)]),
        Expect::clean("uneven", &[("pasid_attach", 1)]).raises(differs),
        mended("mended"),
        Expect::clean("residue", &[("pasid_attach", 1)]).raises(residue(NVME_OF_PAIR, &PAIR, &[6])),
        Expect::clean("residue-mended", &[]).resolves(RESIDUE, Some(NVME_OF_PAIR), "cleared"),
        Expect::clean("not-brought-back", &[("pasid_attach", 1)]).raises(residue(NVME_OF_PAIR, &PAIR, &[7])),
        Expect::clean("brought-back", &[]).resolves(RESIDUE, Some(NVME_OF_PAIR), "cleared"),
        Expect::clean("refused", &[("pasid_attach", 1)]),
        Expect::clean("joined", &[("pasid_attach", 1), ("vtd_table_left", 1)])
            .raises(released(NVME_OF_PAIR, &PAIR, &[5]))
            .raises(differs),
        // The core takes the PASID from the member that never got it, too.
        mended("left").warns(unknown_pasid_warns_in(report.series)),
    ];
    expect::phases(report, &[MISMATCH, DIVERGENCE, RESIDUE, RELEASED], &rows)?;
    let transcript = Transcript::read(&report.text);
    for (phase, severity) in [("uneven", "critical"), ("joined", "info")] {
        let mut lines = transcript.phase(phase)?.of_kind("violation");
        let line = lines.find(|line| line["check"] == DIVERGENCE).ok_or("there is no divergence")?;
        if line["severity"] != severity {
            return Err(format!("{phase}: the severity is {}", line["severity"]));
        }
    }
    Ok(())
}

/// A device went, and this PASID with it.
pub fn released(of: &'static str, devices: &'static [&'static str], pasids: &'static [u32]) -> Violation {
    Violation {
        check: RELEASED,
        group_of: Some(of),
        devices,
        pasids,
        attached_by: Some("tenant"),
        triggered_by: Some("remover"),
        implied: &[],
    }
}

/// A failed attach of this PASID left something, and the hardware differs from the core's account by that.
fn residue(of: &'static str, devices: &'static [&'static str], pasids: &'static [u32]) -> Violation {
    Violation {
        check: RESIDUE,
        group_of: Some(of),
        devices,
        pasids,
        attached_by: None,
        triggered_by: Some("tenant"),
        implied: &[MISMATCH],
    }
}

pub fn leaky(report: &Report) -> Result<(), String> {
    const CHECK: &str = "attach-imbalance";
    let clumsy = Violation {
        check: CHECK,
        group_of: Some("softdev.0"),
        devices: &["softdev.0"],
        pasids: &[5],
        attached_by: None,
        triggered_by: Some("clumsy"),
        implied: &[],
    };
    let rows = [
        Expect::clean("clean", &[("pasid_attach", 1)]),
        Expect::clean("missed", &[("pasid_attach", 0)]),
        Expect::clean("after", &[("pasid_attach", 0), ("pasid_detach", 3)]).raises(clumsy),
    ];
    expect::phases(report, &["ownership-stuck", "domain-off-default"], &rows)?;
    let transcript = Transcript::read(&report.text);
    for (name, misses, degraded) in [("clean", 0.0, 0.0), ("missed", 1.0, 1.0), ("after", 1.0, 1.0)] {
        let phase = transcript.phase(name)?;
        let state = format!("check_state{{check=\"{CHECK}\",state=\"degraded\"}}");
        let found = (phase.metric("hook_misses_total{hook=\"pasid_attach\"}"), phase.metric(&state));
        if found != (misses, degraded) {
            return Err(format!("{name}: misses and degraded are {found:?}"));
        }
    }
    Ok(())
}
