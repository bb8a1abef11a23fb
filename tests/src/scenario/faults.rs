//! `faults`: where something around it is broken the daemon says so and doesn't start, or watches as far as it can, and never
//! raises what isn't there.

use super::Report;
use super::transcript::{Phase, Transcript};

/// Whether it watches, its exit code, and what must be in what it says.
type Row = (&'static str, bool, i32, &'static [&'static str]);

const REFUSED: i32 = 2;
const ALL: &[&str] = &["all hooks attached"];

const KILLED: i32 = 128 + 9;

#[rustfmt::skip]
pub const ROWS: [Row; 23] = [
    ("bpf", false, REFUSED, &["CAP_BPF", "CAP_PERFMON"]),
    ("perfmon", false, REFUSED, &["CAP_BPF", "CAP_PERFMON"]),
    ("syslog", true, 0, &["all hooks attached", "give CAP_SYSLOG", "not judged: ", "teardown-flush-incomplete"]),
    ("btf", false, REFUSED, &["/sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF"]),
    ("without-owners", true, 0, &["not judged: ownership-stuck: this kernel has nothing for hook claim_group"]),
    ("without-PASIDs-and-processes", true, 0, &["pasid-leaked", "sva-bond-imbalance", "hook pasid_attach"]),
    ("without-RIDs-and-domains", true, 0, &["domain-freed-while-attached", "hook domain_free", "hook rid_attach"]),
    ("without-the-Intel-driver", true, 0, &["teardown-flush-incomplete", "invalidation-failed", "hook vtd_qi_submit_sync"]),
    ("without-groups-and-their-reading", true, 0, &["0 groups read", "7 of 7 groups can't be read", "domain-off-default"]),
    ("groups", true, 0, &["all hooks attached", "0 groups read", "no IOMMU groups", "intel_iommu=on"]),
    ("ftrace", false, REFUSED, &["kernel.ftrace_enabled is 0"]),
    ("compiler", true, 0, &["not all hooks", "net.core.bpf_jit_enable is 0", "refused: Invalid argument"]),
    ("memory", false, KILLED, &["memory.max is 48 MiB", "MemoryMax="]),
    ("port", false, REFUSED, &["--web.listen-address", "in use"]),
    ("configuration", false, REFUSED, &["wrong.toml", "line 1"]),
    ("reload", true, 0, &["wrong.toml", "line 1"]),
    ("silenced", true, 0, &["all hooks attached", "report nothing (kernel.ftrace_enabled is 0", "report again"]),
    ("clock", true, 0, ALL),
    ("processor", true, 0, ALL),
    ("output", true, 0, ALL),
    ("stuck", true, 0, &["stdout takes no more lines", "the spool takes no more (No space left", "takes lines again", "none was dropped"]),
    ("journal", true, 0, &["the journal takes no more lines: they go to the spool", "takes lines again", "none was dropped"]),
    ("tracefs", true, 0, &["all hooks attached", "nothing is pinned"]),
];

pub fn seen(report: &Report) -> Result<(), String> {
    report.exits_with(&[0])?;
    let transcript = Transcript::read(&report.text);
    if let Some(name) = transcript.names().find(|&name| !ROWS.iter().any(|row| row.0 == name)) {
        return Err(format!("nothing is said of `{name}`"));
    }
    let judged = ROWS.iter().filter_map(|row| {
        let why = transcript.phase(row.0).and_then(|phase| one(phase, row)).err()?;
        Some(format!("{}: {why}", row.0))
    });
    let wrong: Vec<String> = judged.collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

fn one(phase: &Phase, &(_, ready, exit, words): &Row) -> Result<(), String> {
    let said = phase.said.join("\n");
    let word = |name: &str| phase.status.get(name).map(String::as_str).unwrap_or_default();
    if let Some(word) = words.iter().find(|word| !said.contains(**word)) {
        return Err(format!("`{word}` is not in: {said}"));
    }
    if (word("ready") == "yes") != ready || phase.exits != [exit] {
        return Err(format!("ready: {}, exit code: {:?}; it says: {said}", word("ready"), phase.exits));
    }
    if word("raised") != "0" {
        return Err(format!("{} violations were raised", word("raised")));
    }
    let planted = phase.status.get("planted");
    if planted.is_some_and(|planted| planted == "0" || word("counted") != planted) {
        return Err(format!("{} of {} violations were told", word("planted"), word("counted")));
    }
    if phase.broken.is_none() { Err("the script doesn't say what is broken".into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(text: &str) -> Result<(), String> {
        let transcript = Transcript::read(&format!("@ phase port\n@ broken the port is taken\n{text}"));
        one(transcript.phase("port").unwrap(), &("port", false, 2, &["in use"]))
    }

    #[test]
    fn a_wrong_end_a_missing_word_and_a_wrong_verdict_are_told() {
        let right = "@ status ready no\n@ exit 2\n@ status raised 0\n@ said it is in use\n";
        judged(right).unwrap();
        for (from, to) in
            [("ready no", "ready yes"), ("exit 2", "exit 0"), ("raised 0", "raised 1"), ("in use", "free")]
        {
            judged(&right.replace(from, to)).unwrap_err();
        }
    }

    #[test]
    fn of_what_was_planted_all_must_have_been_told() {
        let right = "@ status ready no\n@ exit 2\n@ status raised 0\n@ said it is in use\n";
        let told = |planted: u32| format!("{right}@ status planted {planted}\n@ status counted 60\n");
        judged(&told(60)).unwrap();
        judged(&told(59)).unwrap_err();
        judged(&told(60).replace("60", "0")).unwrap_err();
    }
}
