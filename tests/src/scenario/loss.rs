//! `overrun`, `missed`, `preempted`: events are lost on purpose. Of which groups is told, nothing is raised by guess, each
//! group is soon known again, and the next fault is caught.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::Report;
use super::expect::{self, Expect, Violation};
use super::transcript::{Phase, Transcript};

const CHECK: &str = "pasid-left-on-release";
const ARMED: [&str; 4] = [CHECK, "ownership-stuck", "ownership-leaked", "attach-imbalance"];

/// How many events a storm must lose at least.
const LOST: u64 = 10_000;
/// How soon a group must be known again: two of the audit periods that the script gives to the daemon.
const KNOWN_AGAIN: Duration = Duration::from_secs(10);

pub fn overrun(report: &Report) -> Result<(), String> {
    let [left, mended] = fault("fault", "mended", "softdev.0");
    let rows = [
        Expect::clean("overrun", &[]),
        left,
        mended,
        // The fault itself is lost: nobody knows who did it, or whether it was one.
        Expect::clean("hidden", &[]).warns("__iommu_release_dma_ownership"),
        Expect::clean("hidden-mended", &[("pasid_detach", 1), ("release_group", 1)]),
    ];
    expect::lossy_phases(report, &ARMED, &rows)?;
    let transcript = Transcript::read(&report.text);
    let overrun = transcript.phase("overrun")?;
    lost_of(overrun, "ring", LOST, Some(&["softdev.0", "softdev.2"]))?;
    let hidden = transcript.phase("hidden")?;
    lost_of(hidden, "ring", LOST, Some(&["softdev.1", "softdev.2"]))?;
    // What the lost fault left is read, and shown.
    let left = hidden.group_of("softdev.1")?;
    let state = hidden.of_kind("state").filter(|state| state["group"] == left).last();
    let shown = state.is_some_and(|state| {
        let pasids: Vec<&Value> = state["pasids"].as_array().into_iter().flatten().collect();
        state["ownership"] == "user" && pasids.len() == 1 && pasids[0]["pasid"] == 5
    });
    if shown { Ok(()) } else { Err(format!("hidden: what was left shows as {state:?}")) }
}

/// More calls under way at once than a kretprobe has room for.
pub fn missed(report: &Report) -> Result<(), String> {
    report.says("@ kprobes 1\n")?;
    preempted(report)
}

/// A program is preempted, and others would run it meanwhile.
pub fn preempted(report: &Report) -> Result<(), String> {
    let [left, mended] = fault("fault", "mended", "softdev.1");
    expect::lossy_phases(report, &ARMED, &[Expect::clean("missed", &[]), left, mended])?;
    lost_of(Transcript::read(&report.text).phase("missed")?, "kernel", 1, None)
}

/// A fault as ever, and its mending.
fn fault(left: &'static str, mended: &'static str, device: &'static str) -> [Expect; 2] {
    let violation = Violation {
        check: CHECK,
        group_of: Some(device),
        devices: match device {
            "softdev.0" => &["softdev.0"],
            _ => &["softdev.1"],
        },
        pasids: &[5],
        attached_by: Some("tenant"),
        triggered_by: Some("owner"),
        implied: &["ownership-stuck"],
    };
    [
        Expect::clean(
            left,
            &[("claim_group", 1), ("pasid_attach", 2), ("pasid_detach", 1), ("release_group", 1)],
        )
        .raises(violation)
        .warns("__iommu_release_dma_ownership"),
        Expect::clean(mended, &[("pasid_detach", 1), ("release_group", 1)]).resolves(
            CHECK,
            Some(device),
            "cleared",
        ),
    ]
}

/// At least so many events were lost at this stage, of these devices' groups (`None`: of any group); exactly
/// these became unknown, and each was known again in time. In a storm that overruns the ring a task may be preempted
/// within a program, too, on kernels that preempt at ticks (7.x always does): the kernel leaves other runs of it out,
/// which is told of any group. Then the others become unknown as well.
fn lost_of(phase: &Phase, stage: &str, least: u64, devices: Option<&[&str]>) -> Result<(), String> {
    let wrong = |what: String| Err(format!("{}: {what}", phase.name));
    let number = |value: &Value| value.as_u64().unwrap_or(u64::MAX);
    let (left_out, losses): (Vec<&Value>, Vec<&Value>) =
        phase.of_kind("loss").partition(|loss| stage == "ring" && loss["stage"] == "kernel");
    if left_out.iter().any(|loss| !loss["groups"].is_null()) {
        return wrong(format!("what the kernel left out is of some groups: {left_out:?}"));
    }
    let count: u64 = losses.iter().map(|loss| loss["count"].as_u64().unwrap_or(0)).sum();
    if count < least {
        return wrong(format!("{count} events lost, not {least}"));
    }
    let Some(last) = losses.last() else { return wrong("there is no line of kind loss".into()) };
    let total = phase.metric(&format!("events_lost_total{{stage=\"{stage}\"}}"));
    if losses.iter().any(|loss| loss["stage"] != stage) || total != number(&last["total"]) as f64 {
        return wrong(format!("the metric says {total} at stage {stage}, the lines say {losses:?}"));
    }
    let states: Vec<&Value> = phase.of_kind("state").collect();
    let of_knowledge = |knowledge: &'static str| {
        states.iter().enumerate().filter(move |(_, state)| state["knowledge"] == knowledge)
    };
    let unknown: BTreeSet<u64> = of_knowledge("unknown").map(|(_, state)| number(&state["group"])).collect();
    match devices {
        Some(devices) => {
            let foreseen: BTreeSet<u64> =
                devices.iter().map(|device| phase.group_of(device)).collect::<Result<_, _>>()?;
            let named: BTreeSet<u64> =
                losses.iter().flat_map(|loss| loss["groups"].as_array()).flatten().map(number).collect();
            if named != foreseen || losses.iter().any(|loss| loss["groups"].is_null()) {
                return wrong(format!("the losses are of groups {named:?}, not of {foreseen:?}"));
            }
            if unknown != foreseen && (left_out.is_empty() || !unknown.is_superset(&foreseen)) {
                return wrong(format!("groups {unknown:?} became unknown, not {foreseen:?}"));
            }
        }
        None => {
            let all = phase.metric("groups{knowledge=\"synced\"}");
            if losses.iter().any(|loss| !loss["groups"].is_null()) || unknown.len() as f64 != all {
                return wrong(format!("groups {unknown:?} became unknown, and there are {all}"));
            }
        }
    }
    for (index, lost) in of_knowledge("unknown") {
        let found = states[index..]
            .iter()
            .find(|state| state["group"] == lost["group"] && state["knowledge"] == "synced");
        let Some(found) = found else {
            return wrong(format!("group {} is not known again", lost["group"]));
        };
        let took = number(&found["mono_ns"]).saturating_sub(number(&lost["mono_ns"]));
        if Duration::from_nanos(took) > KNOWN_AGAIN {
            return wrong(format!("group {} was known again after {took} ns", lost["group"]));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOSS: &str = r#"{"kind":"loss","stage":"ring","count":10000,"total":10000,"groups":[7]}"#;
    const UNKNOWN: &str = r#"{"kind":"state","mono_ns":5,"group":7,"knowledge":"unknown"}"#;
    const SYNCED: &str = r#"{"kind":"state","mono_ns":9,"group":7,"knowledge":"synced"}"#;
    const METRIC: &str = r#"iommu_watch_events_lost_total{stage="ring"} 10000"#;

    fn judged(lines: &[&str]) -> Result<(), String> {
        let text = format!("@ phase x\n@ group softdev.0 7\n{}\n", lines.join("\n"));
        lost_of(Transcript::read(&text).phase("x")?, "ring", LOST, Some(&["softdev.0"]))
    }

    #[test]
    fn a_loss_is_told_counted_scoped_and_made_up_for() {
        judged(&[LOSS, UNKNOWN, SYNCED, METRIC]).unwrap();
        judged(&[UNKNOWN, SYNCED]).unwrap_err();
        judged(&[LOSS, UNKNOWN, SYNCED]).unwrap_err();
        judged(&[LOSS, METRIC]).unwrap_err();
        judged(&[LOSS, UNKNOWN, METRIC]).unwrap_err();
        judged(&[LOSS, SYNCED, UNKNOWN, METRIC]).unwrap_err();
        judged(&[&LOSS.replace("10000", "9999"), UNKNOWN, SYNCED, METRIC]).unwrap_err();
        judged(&[&LOSS.replace("[7]", "null"), UNKNOWN, SYNCED, METRIC]).unwrap_err();
        judged(&[&LOSS.replace("ring", "kernel"), UNKNOWN, SYNCED, METRIC]).unwrap_err();
        judged(&[LOSS, UNKNOWN, SYNCED, METRIC, &UNKNOWN.replace('7', "8"), &SYNCED.replace('7', "8")])
            .unwrap_err();
        let left_out = &LOSS.replace("ring", "kernel").replace("[7]", "null");
        let [unknown, synced] = &[UNKNOWN, SYNCED].map(|line| line.replace('7', "8"));
        judged(&[LOSS, left_out, UNKNOWN, SYNCED, unknown, synced, METRIC]).unwrap();
        judged(&[LOSS, left_out, unknown, synced, METRIC]).unwrap_err();
        judged(&[left_out, UNKNOWN, SYNCED, METRIC]).unwrap_err();
        judged(&[LOSS, UNKNOWN, &SYNCED.replace('9', "10000000006"), METRIC]).unwrap_err();
    }
}
