//! `record`: what is recorded, and told later, is what happened.

use serde_json::Value;

use super::expect::{self, Expect, Violation};
use super::transcript::{Phase, Transcript};
use super::{Report, refusals};
use crate::Series;

const CHECK: &str = "pasid-left-on-release";

/// What can't be done, and what its one line must hold.
const REFUSALS: [(&str, &[&str]); 6] = [
    ("taken", &["a.iwrec", "--force"]),
    ("no-place", &["-o", "nowhere/a.iwrec"]),
    ("too-small", &["--max-size", "1K"]),
    ("unprivileged", &["CAP_BPF", "CAP_PERFMON"]),
    ("no-recording", &["/guest/lib.sh", "no recording"]),
    ("missing", &["nothing.iwrec"]),
];

pub fn record(report: &Report) -> Result<(), String> {
    report.exits_with(&[0])?;
    let transcript = Transcript::read(&report.text);
    // Before 6.2 there are no PASIDs that could be left.
    let wrong = report.series != Series::V6_1;
    let found = i32::from(wrong);

    let (live, replayed) = (transcript.phase("live")?, transcript.phase("replayed")?);
    ends_with(live, &[0])?;
    ends_with(replayed, &[found])?;
    expect::one(&left("live", wrong, true), live, &transcript)?;
    expect::one(&left("replayed", wrong, false), replayed, &transcript)?;
    same(live, replayed)?;

    let shown = transcript.phase("shown")?;
    ends_with(shown, &[found, found])?;
    // Nor can a device be claimed.
    counted(shown, &[("claim_group", 3), ("claim_device", i32::from(wrong)), ("attach_group", 1)])?;

    let killed = transcript.phase("killed")?;
    refused(killed, &["killed.iwrec", "offset", "end mark"])?;
    counted(killed, &[("claim_group", 3), ("release_group", 3)])?;
    refused(transcript.phase("cut")?, &["cut.iwrec", "offset", "missing"])?;

    full(&transcript, wrong)?;
    for (phase, words) in REFUSALS {
        refusals::one(transcript.phase(phase)?, words).map_err(|why| format!("{phase}: {why}"))?;
    }
    Ok(())
}

/// What is found of the workload, by whoever looks; the kernel itself warns where it is done.
fn left(phase: &'static str, wrong: bool, done: bool) -> Expect {
    let violation = |device, devices, implied| Violation {
        check: CHECK,
        group_of: Some(device),
        devices,
        pasids: &[5],
        attached_by: Some("tenant"),
        triggered_by: Some("owner"),
        implied,
    };
    let mut row = Expect::clean(phase, &[]);
    if wrong {
        row = row
            .raises(violation("softdev.0", &["softdev.0"], &["ownership-stuck"]))
            .resolves(CHECK, Some("softdev.0"), "cleared")
            .raises(violation("softdev.2", &["softdev.2", "softdev.3"], &["ownership-stuck"]))
            .resolves(CHECK, Some("softdev.2"), "cleared")
            .raises(violation("softdev.1", &["softdev.1"], &["ownership-leaked"]));
    }
    if wrong && done {
        row = row
            .warns("__iommu_release_dma_ownership")
            .warns("__iommu_release_dma_ownership")
            .warns("iommu_device_unuse_default_domain");
    }
    row
}

/// Line by line what was said live, but for the world's time, of which a recording has one offset.
fn same(live: &Phase, replayed: &Phase) -> Result<(), String> {
    if live.json.len() != replayed.json.len() {
        return Err(format!("{} lines live, {} replayed", live.json.len(), replayed.json.len()));
    }
    for (live, replayed) in live.json.iter().zip(&replayed.json) {
        let (live, replayed) = (without_wall_clock(live), without_wall_clock(replayed));
        if live != replayed {
            return Err(format!("live: {live}\nreplayed: {replayed}"));
        }
    }
    Ok(())
}

/// Members that are times of the day: a recording has the clock of its beginning.
const WALL_CLOCK: [&str; 4] = ["ts", "raised", "first_seen", "last_seen"];

fn without_wall_clock(line: &Value) -> Value {
    match line {
        Value::Object(members) => {
            let members = members.iter().filter(|(name, _)| !WALL_CLOCK.contains(&name.as_str()));
            members.map(|(name, value)| (name.clone(), without_wall_clock(value))).collect()
        }
        Value::Array(values) => values.iter().map(without_wall_clock).collect(),
        other => other.clone(),
    }
}

/// What could not be written is told, and what comes after it is judged again.
fn full(transcript: &Transcript, wrong: bool) -> Result<(), String> {
    let phase = transcript.phase("full")?;
    ends_with(phase, &[2, i32::from(wrong)])?;
    let [said] = &phase.said[..] else { return Err(format!("full: said {:?}", phase.said)) };
    if !said.contains("No space left on device") {
        return Err(format!("full: {said}"));
    }
    let stages: Vec<&Value> = phase.of_kind("loss").map(|loss| &loss["stage"]).collect();
    if stages.is_empty() || stages.iter().any(|stage| **stage != "recording") {
        return Err(format!("full: lost at {stages:?}"));
    }
    let found = phase.of_kind("violation").map(|line| &line["check"]);
    let found = found.filter(|check| **check != expect::ADVISORY).collect::<Vec<_>>();
    if found == vec![CHECK; usize::from(wrong)] { Ok(()) } else { Err(format!("full: found {found:?}")) }
}

/// One line that says so, whatever was told before it.
fn refused(phase: &Phase, words: &[&str]) -> Result<(), String> {
    ends_with(phase, &[2])?;
    let [line] = &phase.said[..] else { return Err(format!("{}: said {:?}", phase.name, phase.said)) };
    match words.iter().find(|word| !line.contains(**word)) {
        None => Ok(()),
        Some(word) => Err(format!("{}: `{word}` is not in: {line}", phase.name)),
    }
}

fn ends_with(phase: &Phase, codes: &[i32]) -> Result<(), String> {
    if phase.exits == codes {
        Ok(())
    } else {
        Err(format!("{}: the exit codes were {:?}, not {codes:?}", phase.name, phase.exits))
    }
}

fn counted(phase: &Phase, calls: &[(&str, i32)]) -> Result<(), String> {
    for (call, expected) in calls {
        let found = phase.watched.get(*call).copied().unwrap_or_default();
        if found != f64::from(*expected) {
            return Err(format!("{}: {found} calls of {call} in the recording, not {expected}", phase.name));
        }
    }
    Ok(())
}
