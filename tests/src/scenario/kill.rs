//! `kill`, and `kills` with more of them: the daemon is killed again and again, and another version started in its place.
//! What was planted is told once, whoever read it; nothing else is; and nothing is left but the pins, until those are
//! removed.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Report;
use super::transcript::is_stray_find;

/// What stands until it is mended, which the script does.
const STATE: &str = "pasid-left-on-release";

pub fn killed(report: &Report) -> Result<(), String> {
    judge(report, 8)
}

pub fn often(report: &Report) -> Result<(), String> {
    judge(report, 50)
}

/// With each kill two faults are planted at least.
fn judge(report: &Report, kills: usize) -> Result<(), String> {
    report.exits_with(&[0])?;
    let told = |what: &str| -> Vec<Vec<&str>> {
        let lines = report.text.lines().filter_map(|line| line.strip_prefix("@ ")?.strip_prefix(what));
        lines.map(|rest| rest.split_whitespace().collect()).collect()
    };
    let (struck, planted) = (told("killed").len(), told("planted"));
    if struck < kills || planted.len() < 2 * kills {
        return Err(format!("only {struck} kills struck, and {} faults were planted", planted.len()));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Series;

    const END: &str = "@ said x another iommu-watch (process 1)\n@ exit 2\n@ exit 0\n@ succeeded\n@ succeeded\n\
        @ pinned 1 50\n@ said replaced\n@ said not judged\n@ exit 0\n@ pinned 1 50\n@ exit 0\n@ unpinned 0 0\n";

    fn told(kind: &str, check: &str, pasid: usize) -> String {
        format!(
            "{}\n",
            json!({"kind": kind, "check": check, "pasid": [pasid], "fingerprint": format!("{check}{pasid}")})
        )
    }

    /// What a run of so many kills writes where all is well.
    fn text(kills: usize) -> String {
        let round = |number| {
            let faults = [("teardown-flush-incomplete", 1000 + number), (STATE, 2000 + number)];
            let lines = faults.map(|(check, pasid)| {
                let [raised, resolved] = ["violation", "resolved"].map(|kind| told(kind, check, pasid));
                format!("@ planted {check} {pasid}\n{raised}{resolved}")
            });
            format!("@ killed\n{}", lines.concat())
        };
        (0..kills).map(round).collect::<String>() + END
    }

    fn judged(text: &str, kills: usize) -> Result<(), String> {
        judge(&Report { series: Series::V7, exit: 0, text: text.into() }, kills)
    }

    #[test]
    fn each_kill_that_was_asked_for_must_have_struck() {
        judged(&text(50), 50).unwrap();
        judged(&text(49), 50).unwrap_err();
        judged(&text(50).replacen("@ killed\n", "", 1), 50).unwrap_err();
    }

    #[test]
    fn what_is_lost_or_doubled_is_told() {
        let right = text(8);
        let (line, resolved) = (told("violation", STATE, 2003), told("resolved", STATE, 2003));
        for (from, to) in [
            (line.as_str(), ""),
            (&line, &line.repeat(2)),
            (&resolved, ""),
            (&resolved, &resolved.repeat(2)),
            ("@ unpinned 0 0", "@ unpinned 0 1"),
            ("@ said replaced", "@ said nothing"),
            ("@ succeeded\n", ""),
            ("@ unpinned", "{\"kind\":\"loss\"}\n@ unpinned"),
            ("@ unpinned", "@ gap 3 s\n@ unpinned"),
        ] {
            judged(&right.replace(from, to), 8).unwrap_err();
        }
        let one_more = format!("{right}{}", told("violation", STATE, 2900));
        judged(&one_more, 8).unwrap_err();
    }
}
