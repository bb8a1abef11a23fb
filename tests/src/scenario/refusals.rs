//! `refusals`, `lockdown`: what can't be done is said in one line, with exit code 2, and nothing half is left.

use super::Report;
use super::transcript::{Phase, Transcript};

/// A phase of the script, and what its one line must hold.
type Refusal = (&'static str, &'static [&'static str]);

const UNPRIVILEGED: &[&str] = &["CAP_BPF", "CAP_PERFMON"];
const WITHOUT_BTF: &[&str] = &["/sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF"];
const LOCKED: &[&str] = &["lockdown is `confidentiality`", "lockdown=integrity"];

pub fn refused(report: &Report) -> Result<(), String> {
    let refusals: [Refusal; 17] = [
        ("unprivileged-check", UNPRIVILEGED),
        ("unprivileged-daemon", UNPRIVILEGED),
        ("unprivileged-watch", UNPRIVILEGED),
        ("unprivileged-doctor", UNPRIVILEGED),
        ("without-btf-check", WITHOUT_BTF),
        ("without-btf-daemon", WITHOUT_BTF),
        ("without-btf-doctor", WITHOUT_BTF),
        ("port", &["--web.listen-address", "127.0.0.1:9436", "in use"]),
        ("flag", &["--frobnicate", "--help"]),
        ("command", &["frobnicate", "--help"]),
        ("check-name", &["nonsense", "iommu-watch checks"]),
        ("explained", &["nonsense", "iommu-watch checks"]),
        ("address", &["nonsense", "--web.listen-address"]),
        ("seconds", &["ever", "--for"]),
        ("output", &["--output", "/proc/nope/x"]),
        ("output-directory", &["--output", "full"]),
        ("output-text", &["--output", "--format prom"]),
    ];
    all(report, &refusals)
}

pub fn locked_down(report: &Report) -> Result<(), String> {
    all(report, &[("check", LOCKED), ("daemon", LOCKED), ("watch", LOCKED), ("doctor", LOCKED)])
}

fn all(report: &Report, refusals: &[Refusal]) -> Result<(), String> {
    report.exits_with(&[0])?;
    let transcript = Transcript::read(&report.text);
    let wrong: Vec<String> = refusals
        .iter()
        .filter_map(|(phase, words)| {
            let judged = transcript.phase(phase).and_then(|phase| one(phase, words));
            judged.err().map(|why| format!("{phase}: {why}"))
        })
        .collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

/// One line, with all of these words in it; and nothing else, but that `doctor` tells what it found so far.
pub fn one(phase: &Phase, words: &[&str]) -> Result<(), String> {
    let [line] = &phase.said[..] else { return Err(format!("not one line but {:?}", phase.said)) };
    if let Some(word) = words.iter().find(|word| !line.contains(**word)) {
        return Err(format!("`{word}` is not in: {line}"));
    }
    if line.matches("(os error").count() > 1 {
        return Err(format!("the cause is told twice: {line}"));
    }
    if phase.exits != [2] {
        return Err(format!("the exit code was {:?}", phase.exits));
    }
    if phase.output != Some(0) && !phase.name.ends_with("doctor") {
        return Err(format!("{:?} bytes were written to stdout", phase.output));
    }
    if !phase.left.is_empty() {
        return Err(format!("left behind: {:?}", phase.left));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(text: &str) -> Result<(), String> {
        let transcript = Transcript::read(&format!("@ phase x\n{text}"));
        one(transcript.phase("x").unwrap(), &["why", "what to do"])
    }

    #[test]
    fn a_refusal_is_one_line_that_says_why_and_what_to_do() {
        judged("@ exit 2\n@ said why: what to do\n@ output 0\n").unwrap();
        for wrong in [
            "@ exit 2\n@ output 0\n",
            "@ exit 2\n@ said why: what to do\n@ said more\n@ output 0\n",
            "@ exit 2\n@ said why\n@ output 0\n",
            "@ exit 2\n@ said why: what to do: (os error 2): (os error 2)\n@ output 0\n",
            "@ exit 1\n@ said why: what to do\n@ output 0\n",
            "@ exit 2\n@ said why: what to do\n@ output 7\n",
            "@ exit 2\n@ said why: what to do\n",
            "@ exit 2\n@ said why: what to do\n@ output 0\n@ left x\n",
        ] {
            judged(wrong).unwrap_err();
        }
    }
}
