//! `faults`: where something around it is broken the daemon says so and doesn't start, or watches as far as it can, and never
//! raises what isn't there.

use super::Report;
use super::transcript::{Phase, Transcript};

/// Whether it watches, its exit code, and what must be in what it says.
type Row = (&'static str, bool, i32, &'static [&'static str]);

const REFUSED: i32 = 2;
const ALL: &[&str] = &["all hooks attached"];

pub const ROWS: [Row; 12] = [
    ("bpf", false, REFUSED, &["CAP_BPF", "CAP_PERFMON"]),
    ("perfmon", false, REFUSED, &["CAP_BPF", "CAP_PERFMON"]),
    ("syslog", true, 0, &["hooks attached"]),
    ("btf", false, REFUSED, &["/sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF"]),
    ("groups", true, 0, &["all hooks attached", "0 groups read"]),
    ("tracefs", true, 0, ALL),
    ("port", false, REFUSED, &["--web.listen-address", "in use"]),
    ("configuration", false, REFUSED, &["wrong.toml", "line 1"]),
    ("reload", true, 0, &["wrong.toml", "line 1"]),
    ("clock", true, 0, ALL),
    ("processor", true, 0, ALL),
    ("output", true, 0, ALL),
];

pub fn seen(report: &Report) -> Result<(), String> {
    report.exits_with(&[0])?;
    let transcript = Transcript::read(&report.text);
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
}
