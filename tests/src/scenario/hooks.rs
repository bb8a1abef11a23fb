//! `hooks`: on a kernel that lacks one function or tracepoint that the daemon listens to, each of them in turn: it watches,
//! says which checks can't be judged there, and raises nothing. Where it says nothing there is a reason.

mod lacks;

use std::collections::BTreeSet;

use super::Report;
use super::transcript::{Phase, Transcript};
pub(crate) use lacks::LACKS;

/// The kernel as it is: what the others are held against.
const WHOLE: &str = "whole";

/// What a kernel lacks, and what the daemon makes of it.
pub(crate) struct Lack {
    /// A function or a tracepoint.
    pub name: &'static str,
    /// The hooks that are attached on the kernel as it is, and now are not.
    pub lost: &'static [&'static str],
    /// The other way round: what is listened to instead.
    pub instead: &'static [&'static str],
    pub says: Says,
}

pub(crate) enum Says {
    /// These lines, beside what it says of the kernel as it is.
    Lines(&'static [&'static str]),
    /// No more than of the kernel as it is: why.
    Nothing(&'static str),
}

pub fn missing(report: &Report) -> Result<(), String> {
    report.exits_with(&[0])?;
    judge(&Transcript::read(&report.text), &LACKS)
}

fn judge(transcript: &Transcript, lacks: &[Lack]) -> Result<(), String> {
    let phases: Vec<&str> = transcript.names().collect();
    let rows = lacks.iter().map(|lack| format!("without-{}", lack.name));
    let expected: Vec<String> = [WHOLE.to_owned()].into_iter().chain(rows).collect();
    if phases != expected {
        return Err(format!("the phases are {phases:?}, not {expected:?}"));
    }
    let whole = transcript.phase(WHOLE)?;
    let there = attached(whole);
    let mut wrong: Vec<String> =
        unharmed(whole).err().map(|why| format!("{WHOLE}: {why}")).into_iter().collect();
    for lack in lacks {
        let phase = transcript.phase(&format!("without-{}", lack.name))?;
        wrong.extend(one(phase, whole, lack).err().map(|why| format!("{}: {why}", lack.name)));
    }
    let lost: BTreeSet<&str> = lacks.iter().flat_map(|lack| lack.lost).copied().collect();
    let never: Vec<&&str> = there.difference(&lost).collect();
    if !never.is_empty() {
        wrong.push(format!("nothing was left out of what these hooks listen to: {never:?}"));
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

fn one(phase: &Phase, whole: &Phase, lack: &Lack) -> Result<(), String> {
    unharmed(phase)?;
    let (there, here) = (attached(whole), attached(phase));
    let held = |what: &str, found: Vec<&&str>, expected: &[&str]| {
        let (found, expected): (BTreeSet<&str>, BTreeSet<&str>) =
            (found.into_iter().copied().collect(), expected.iter().copied().collect());
        if found == expected { Ok(()) } else { Err(format!("{what} {found:?}, not {expected:?}")) }
    };
    held("not attached are", there.difference(&here).collect(), lack.lost)?;
    held("attached instead are", here.difference(&there).collect(), lack.instead)?;
    let new = phase.said.iter().filter(|line| !whole.said.contains(line));
    let said: Vec<&str> = new.map(|line| line.strip_prefix("iommu-watch: ").unwrap_or(line)).collect();
    match lack.says {
        Says::Lines(lines) if said == lines => Ok(()),
        Says::Lines(lines) => Err(format!("it says {said:?}, not {lines:?}")),
        Says::Nothing(_) if said.is_empty() => Ok(()),
        Says::Nothing(why) => Err(format!("it says {said:?}, and need not: {why}")),
    }
}

/// It watches, is right, and ends as it should.
fn unharmed(phase: &Phase) -> Result<(), String> {
    let word = |name: &str| phase.status.get(name).map(String::as_str);
    if (word("ready"), word("raised"), phase.exits.as_slice()) == (Some("yes"), Some("0"), &[0]) {
        return Ok(());
    }
    let said = phase.said.join("\n");
    Err(format!("{:?}, exit codes {:?}; it says: {said}", phase.status, phase.exits))
}

/// The hooks that are attached, by their metric.
fn attached(phase: &Phase) -> BTreeSet<&str> {
    let hooks = phase.metrics.iter().filter(|&(_, &value)| value == 1.0).map(|(series, _)| series);
    let name = hooks.filter_map(|series| series.strip_prefix("hook_attached{hook=\"")?.split_once('"'));
    name.map(|(hook, _)| hook).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: [Lack; 2] = [
        Lack {
            name: "f",
            lost: &["claim"],
            instead: &["free"],
            says: Says::Lines(&["not judged: x: no claim"]),
        },
        Lack {
            name: "g",
            lost: &["read", "look"],
            instead: &[],
            says: Says::Nothing("there is no such way"),
        },
    ];

    fn text() -> String {
        let hooks = |names: &[&str]| -> String {
            let line = |name| format!("iommu_watch_hook_attached{{hook=\"{name}\",backend=\"fentry\"}} 1\n");
            names.iter().map(line).collect()
        };
        let phase = |name: &str, names: &[&str], said: &str| {
            let end = "@ status ready yes\n@ exit 0\n@ status raised 0\n@ said iommu-watch: watching\n";
            format!("@ phase {name}\n{}{end}{said}", hooks(names))
        };
        phase("whole", &["claim", "read", "look"], "")
            + &phase("without-f", &["read", "look", "free"], "@ said iommu-watch: not judged: x: no claim\n")
            + &phase("without-g", &["claim"], "")
    }

    fn judged(text: &str) -> Result<(), String> {
        judge(&Transcript::read(text), &TWO)
    }

    #[test]
    fn each_lack_is_held_against_its_row() {
        judged(&text()).unwrap();
        let wrong = |from: &str, to: &str, why: &str| {
            let told = judged(&text().replace(from, to)).unwrap_err();
            assert!(told.contains(why), "{told}");
        };
        wrong("no claim", "no release", "f: it says [\"not judged: x: no release\"]");
        wrong("@ said iommu-watch: not judged: x: no claim\n", "", "f: it says []");
        wrong("hook=\"free\"", "hook=\"claim\"", "f: not attached are {}");
        wrong("hook=\"free\"", "hook=\"other\"", "f: attached instead are {\"other\"}");
        wrong("ready yes", "ready no", "whole: ");
        wrong("raised 0", "raised 1", "g: ");
        wrong("exit 0", "exit 2", "g: ");
        let silent = format!("{}@ said iommu-watch: not judged: y: no read\n", text());
        assert!(judged(&silent).unwrap_err().contains("need not: there is no such way"));
    }

    #[test]
    fn no_row_goes_without_its_phase_no_phase_without_its_row_and_no_hook_without_its_lack() {
        let cut = text().split_once("@ phase without-g").unwrap().0.to_owned();
        assert!(judged(&cut).unwrap_err().starts_with("the phases are"));
        assert!(judged(&format!("{}@ phase without-h\n", text())).unwrap_err().starts_with("the phases are"));
        let one_more = "@ phase whole\niommu_watch_hook_attached{hook=\"other\",backend=\"tracepoint\"} 1\n";
        let told = judged(&text().replacen("@ phase whole\n", one_more, 1)).unwrap_err();
        assert!(told.contains("f: not attached are {\"claim\", \"other\"}"), "{told}");
        assert!(told.ends_with("listen to: [\"other\"]"), "{told}");
    }
}
