//! `amd`: AMD's real driver, whose commands are counted as the guest counts them; and, where the kernel has SVA, what it
//! leaves out of a PASID's teardown, and that it loses PASIDs when a RID's domain is switched.

use serde_json::Value;

use super::Report;
use super::expect::{self, Expect, Violation};
use crate::Series;

const TEARDOWN: &str = "teardown-flush-incomplete";
const FAILED: &str = "invalidation-failed";
const REUSED: &str = "pasid-reused-without-flush";
const LOST: &str = "pasid-lost-on-detach";
const LEFT: &str = "released-with-pasids";
const NVME: &str = "0000:01:00.0";

/// Of the PASID of the one process.
const INCOMPLETE: Violation = Violation {
    check: TEARDOWN,
    group_of: Some(NVME),
    devices: &[NVME],
    pasids: &[1],
    attached_by: Some("tenant"),
    triggered_by: Some("clumsy"),
    implied: &[],
};

pub fn watched(report: &Report) -> Result<(), String> {
    // 6.1's driver keeps PASIDs by domain, in functions of its own.
    let armed: &[&str] = match report.series {
        Series::V6_1 => &[FAILED],
        Series::V6_12 => &[FAILED, TEARDOWN, REUSED, LEFT],
        Series::V7 => &[FAILED, TEARDOWN, REUSED, LEFT, LOST],
    };
    let in_switch = Violation { check: FAILED, pasids: &[], attached_by: None, ..INCOMPLETE };
    let mut rows = vec![
        Expect::clean("clean", &[("claim_group", 1), ("release_group", 1)]),
        Expect::clean("failed", &[]).raises(in_switch),
    ];
    let has_sva = report.text.lines().any(|line| line == "@ second yes");
    if has_sva != (report.series == Series::V7) {
        return Err(format!("SVA on {}: {has_sva}", report.series.name()));
    }
    if has_sva {
        let reused =
            Violation { check: REUSED, attached_by: Some("heir"), triggered_by: Some("heir"), ..INCOMPLETE };
        rows.extend([
            Expect::clean("device-tlb", &[]).raises(INCOMPLETE),
            Expect::clean("reused", &[]).raises(INCOMPLETE).raises(reused),
            Expect::clean("made-up", &[]).raises(INCOMPLETE),
            Expect::clean("failed-pasid", &[]).raises(Violation {
                check: FAILED,
                implied: &[TEARDOWN],
                ..INCOMPLETE
            }),
            // The driver's own: scenario (b), 6.9 to 7.3.
            Expect::clean("lost", &[]).raises(Violation {
                check: LOST,
                implied: &["capability-off-under-pasids"],
                ..INCOMPLETE
            }),
            Expect::clean("left", &[]).raises(Violation { check: LEFT, ..INCOMPLETE }),
        ]);
    }
    expect::phases(report, armed, &rows)?;
    counts(report)?;
    let faults = report.of_kind("faults").first().and_then(|line| line["counted"].as_u64());
    if faults != Some(3) {
        return Err(format!("of 3 I/O page faults these were counted: {faults:?}"));
    }
    match report.of_kind("timed").first().and_then(|line| line["waits"].as_u64()) {
        Some(1..) => Ok(()),
        timed => Err(format!("of 1200 waits these were timed: {timed:?}")),
    }
}

/// What was counted between two readings is between what the guest counted inside and around them.
fn counts(report: &Report) -> Result<(), String> {
    let of = |kind: &str, when: &str, scope: &str| {
        let lines = report.of_kind(kind);
        let line = lines.iter().find(|line: &&Value| line["when"] == when);
        line.and_then(|line| line[scope].as_u64()).ok_or(format!("no count of {scope} {when}"))
    };
    for scope in ["context", "iotlb", "device_tlb"] {
        let counted = of("counted", "after", scope)? - of("counted", "before", scope)?;
        let within = of("guest", "ended", scope)? - of("guest", "begun", scope)?;
        let around = of("guest", "after", scope)? - of("guest", "before", scope)?;
        if !(within..=around).contains(&counted) {
            return Err(format!("{scope}: {counted} counted, by the guest {within} to {around}"));
        }
        // Without ATS nothing goes to devices.
        if counted == 0 && (scope != "device_tlb" || report.series == Series::V7) {
            return Err(format!("{scope}: nothing was counted"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(after: [u64; 2], ended: u64) -> Result<(), String> {
        let line = |kind: &str, when: &str, [context, iotlb]: [u64; 2]| {
            format!(
                "{{\"kind\":\"{kind}\",\"when\":\"{when}\",\"context\":{context},\"iotlb\":{iotlb},\"device_tlb\":0}}\n"
            )
        };
        let text = line("guest", "before", [0, 0])
            + &line("counted", "before", [5, 5])
            + &line("guest", "begun", [1, 1])
            + &line("guest", "ended", [4, ended])
            + &line("counted", "after", after)
            + &line("guest", "after", [4, 11]);
        counts(&Report { series: Series::V6_12, exit: 0, text })
    }

    #[test]
    fn what_is_counted_lies_between_what_the_guest_counted() {
        judged([8, 15], 10).unwrap();
        judged([9, 16], 10).unwrap();
        judged([8, 17], 10).unwrap_err();
        judged([8, 13], 10).unwrap_err();
        judged([5, 15], 10).unwrap_err();
    }
}
