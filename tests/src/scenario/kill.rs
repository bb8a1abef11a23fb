//! `kill`: the daemon is killed again and again, and another version started in its place. What was planted is told once,
//! whoever read it; nothing else is; and nothing is left but the pins, until those are removed.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Report;
use super::transcript::is_stray_find;

/// What stands until it is mended, which the script does.
const STATE: &str = "pasid-left-on-release";

pub fn killed(report: &Report) -> Result<(), String> {
    report.exits_with(&[0])?;
    let told = |what: &str| -> Vec<Vec<&str>> {
        let lines = report.text.lines().filter_map(|line| line.strip_prefix("@ ")?.strip_prefix(what));
        lines.map(|rest| rest.split_whitespace().collect()).collect()
    };
    let planted = told("planted");
    if planted.len() < 16 {
        return Err(format!("only {} faults were planted", planted.len()));
    }
    let violations = report.of_kind("violation");
    let violations: Vec<&Value> = violations.iter().filter(|line| !is_stray_find(line)).collect();
    for fault in &planted {
        let [check, pasid] = fault[..] else { return Err(format!("planted is {fault:?}")) };
        let pasid: u32 = pasid.parse().map_err(|_| format!("planted is {fault:?}"))?;
        let is = |line: &&&Value| line["check"] == check && line["pasid"] == json!([pasid]);
        let count = violations.iter().filter(is).count();
        if count != 1 {
            return Err(format!("{check} of PASID {pasid} was told {count} times"));
        }
    }
    if violations.len() != planted.len() {
        return Err(format!("{} faults were planted, {} told", planted.len(), violations.len()));
    }
    let resolved = report.of_kind("resolved");
    let resolved = by_fingerprint(resolved.iter());
    for violation in violations {
        let fingerprint = violation["fingerprint"].as_str().unwrap_or_default();
        let count = resolved.get(fingerprint).copied().unwrap_or_default();
        if count > 1 || count == 0 && violation["check"] == STATE {
            return Err(format!("{} is resolved {count} times", violation["summary"]));
        }
    }
    if let Some(loss) = report.of_kind("loss").first() {
        return Err(format!("something was lost: {loss}"));
    }
    if told("succeeded").len() < 2 || !told("gap").is_empty() {
        return Err(format!(
            "{} upgrades took over, and {} gaps were told",
            told("succeeded").len(),
            told("gap").len()
        ));
    }
    // The second daemon, the one that was killed so often, the one with other options, and the removal.
    if told("exit") != [["2"], ["0"], ["0"], ["0"]] {
        return Err(format!("they ended with {:?}", told("exit")));
    }
    let said: Vec<String> = told("said").iter().map(|words| words.join(" ")).collect();
    match said.as_slice() {
        [held, replaced, gap]
            if held.contains("another iommu-watch (process ")
                && replaced == "replaced"
                && gap == "not judged" => {}
        _ => return Err(format!("they said {said:?}")),
    }
    let (pinned, unpinned) = (told("pinned"), told("unpinned"));
    let one_set = |pinned: &Vec<&str>| matches!(pinned[..], ["1", programs] if programs != "0");
    if pinned.len() == 2 && pinned.iter().all(one_set) && unpinned == [["0", "0"]] {
        Ok(())
    } else {
        Err(format!("sets and programs: {pinned:?} were pinned, {unpinned:?} are left"))
    }
}

/// How many lines there are of each.
fn by_fingerprint<'a>(lines: impl Iterator<Item = &'a Value>) -> BTreeMap<&'a str, usize> {
    let mut counts = BTreeMap::new();
    for line in lines {
        *counts.entry(line["fingerprint"].as_str().unwrap_or_default()).or_default() += 1;
    }
    counts
}
