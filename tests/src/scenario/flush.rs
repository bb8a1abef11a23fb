//! `flush`: the flushes of a PASID entry's teardown left out in turn; one that fails; an entry used again without; some
//! that are late; one of a device that was pulled out.

use serde_json::Value;

use super::Report;
use super::expect::{self, Expect, Violation};
use crate::Series;

const TEARDOWN: &str = "teardown-flush-incomplete";
const FAILED: &str = "invalidation-failed";
const REUSED: &str = "pasid-reused-without-flush";
const SLOW: &str = "flush-slow";
const ABSENT: &str = "ats-flush-to-absent";

const INCOMPLETE: Violation = Violation {
    check: TEARDOWN,
    group_of: Some("0000:01:00.0"),
    devices: &["0000:01:00.0"],
    pasids: &[],
    attached_by: Some("tenant"),
    triggered_by: Some("clumsy"),
    implied: &[],
};

pub fn flushed(report: &Report) -> Result<(), String> {
    let armed = [TEARDOWN, FAILED, REUSED, SLOW, ABSENT];
    // A RID's entry is set up again at once, in the same call.
    let rid = Violation { attached_by: None, implied: &[REUSED], ..INCOMPLETE };
    let mut clean = Expect::clean("clean", &[("claim_group", 1), ("release_group", 1)]);
    // The kernel's own fault: docs/finds/vtd-ats-off-on-rid-switch.md.
    if report.series == Series::V6_12 {
        let check = "capability-off-under-pasids";
        clean = clean.raises(Violation { check, pasids: &[9], triggered_by: Some("owner"), ..INCOMPLETE });
        // And what follows from it: docs/finds/vtd-cache-tag-left-by-blocked-rid.md.
        let check = "cache-tag-leaked";
        clean = clean.raises(Violation { check, pasids: &[9], triggered_by: Some("tenant"), ..INCOMPLETE });
    }
    let mut rows = vec![
        clean,
        Expect::clean("rid-pasid-cache", &[]).raises(rid),
        Expect::clean("rid-right", &[]),
        Expect::clean("outside", &[]).raises(Violation {
            check: FAILED,
            group_of: None,
            devices: &[],
            attached_by: None,
            ..INCOMPLETE
        }),
    ];
    let mut told = vec![
        ("rid-pasid-cache", "the PASID cache was not flushed"),
        ("outside", "failed with EIO outside every window"),
    ];
    let mut device_tlb = Expect::clean("rid-device-tlb", &[]);
    // Up to 6.14 the driver switches ATS off before it switches the RID: there is nothing to flush in the device.
    if report.series == Series::V7 {
        let second = "0000:02:00.0";
        device_tlb =
            device_tlb.raises(Violation { group_of: Some(second), devices: &["0000:02:00.0"], ..rid });
        told.push(("rid-device-tlb", "the device TLB was not flushed"));
    }
    rows.push(device_tlb);
    let mut severe = vec![("late", "warning"), ("late-crowded", "warning"), ("dead", "critical")];
    if report.series == Series::V6_1 {
        let triggered_by = Some("owner");
        let late = Violation { check: SLOW, attached_by: None, triggered_by, ..INCOMPLETE };
        rows.push(Expect::clean("rid-late", &[]).raises(late));
        rows.push(Expect::clean("rid-in-time", &[]));
        rows.push(Expect::clean("rid-dead", &[]).raises(Violation { triggered_by: Some("clumsy"), ..late }));
        severe = vec![("rid-late", "warning"), ("rid-dead", "critical")];
    } else {
        let of = |pasids| Violation { pasids, ..INCOMPLETE };
        rows.extend([
            Expect::clean("pasid-cache", &[]).raises(of(&[21])),
            Expect::clean("iotlb", &[]).raises(of(&[22])),
            Expect::clean("device-tlb", &[]).raises(of(&[23])),
            Expect::clean("nothing", &[]).raises(of(&[24])),
            Expect::clean("failed", &[]).raises(Violation {
                check: FAILED,
                implied: &[TEARDOWN],
                ..of(&[25])
            }),
            Expect::clean("reused", &[]).raises(Violation {
                check: REUSED,
                attached_by: Some("heir"),
                triggered_by: Some("heir"),
                ..of(&[22])
            }),
            Expect::clean("reused-right", &[]),
            Expect::clean("late-once", &[]),
            Expect::clean("late", &[]).raises(Violation { check: SLOW, ..of(&[27]) }),
            Expect::clean("in-time", &[]),
            Expect::clean("late-crowded", &[]).raises(Violation { check: SLOW, ..of(&[28]) }),
            Expect::clean("dead", &[]).raises(Violation { check: SLOW, ..of(&[32]) }),
            Expect::clean("absent", &[]).raises(Violation { check: ABSENT, ..of(&[30]) }),
            Expect::clean("absent-right", &[]),
        ]);
        told.extend([
            ("pasid-cache", "the PASID cache was not flushed"),
            ("iotlb", "the IOTLB was not flushed"),
            ("device-tlb", "the device TLB was not flushed"),
            ("nothing", "the PASID cache, IOTLB and device TLB were not flushed"),
            ("failed", "failed with EIO while PASID 25 of 0000:01:00.0 was torn down"),
            ("reused", "is in use again, and the IOTLB and device TLB were not flushed"),
            ("late", "ms while PASID 27 of 0000:01:00.0 was torn down"),
            ("late-crowded", "ms while PASID 28 of 0000:01:00.0 was torn down"),
            ("dead", "ms while PASID 32 of 0000:01:00.0 was torn down"),
        ]);
    }
    expect::phases(report, &armed, &rows)?;
    for (phase, severity) in severe {
        let found = violations(report, phase);
        let slow = found.iter().find(|found| found["check"] == SLOW);
        if slow.is_none_or(|slow| slow["severity"] != severity) {
            return Err(format!("{phase}: no {SLOW} is {severity}: {found:?}"));
        }
    }
    for (phase, text) in told {
        let summaries: Vec<String> = violations(report, phase)
            .iter()
            .filter_map(|found| found["summary"].as_str().map(str::to_owned))
            .collect();
        if !summaries.iter().any(|summary| summary.contains(text)) {
            return Err(format!("{phase}: no violation says `{text}`: {summaries:?}"));
        }
    }
    Ok(())
}

/// The violations of a phase.
fn violations(report: &Report, phase: &str) -> Vec<Value> {
    let mark = format!("@ phase {phase}");
    let lines = report.text.lines().skip_while(|line| *line != mark).skip(1);
    let lines = lines.take_while(|line| !line.starts_with("@ phase "));
    let values = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    values.filter(|value| value["kind"] == "violation").collect()
}
