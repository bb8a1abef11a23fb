//! docs/faults.md: what the daemon did where something around it was broken, as it was seen in a guest.

use std::fmt::Write as _;

use crate::Series;
use crate::scenario::transcript::{Phase, Transcript};

const HEAD: &str = "\
# Where something around it is broken

Written by `cargo xtask test vm --scenario faults --write-faults` from what the daemon did in a guest; each run of that
scenario is held against it. In none of these did it raise a violation that was not planted: what it can't see it doesn't
judge.

| broken | the daemon | exit code | it says |
|---|---|---|---|
";

/// What stands elsewhere, since it takes more than a start.
const ELSEWHERE: &str = "
More of the kind, each with its scenario (`tests/guest/scenarios/`): a kernel locked down (`lockdown`), a ring that
overflows (`overrun`), a hook that misses calls (`missed`, `leaky`), programs that are left out under preemption
(`preempted`), no trampolines (`left-behind-kprobe`), a disk that is full while it records, and a kill (`record`).
";

/// The page of what one run showed.
pub(super) fn write(series: Series, transcript: &Transcript) -> String {
    let phases = transcript.names().filter_map(|name| transcript.phase(name).ok());
    let rows = phases.filter_map(row).fold(String::new(), |mut text, row| {
        let _ = writeln!(text, "{row}");
        text
    });
    format!("{HEAD}{rows}{ELSEWHERE}\nSeen on {series}.\n")
}

fn row(phase: &Phase) -> Option<String> {
    let broken = phase.broken.as_ref()?;
    let ready = phase.status.get("ready").map(String::as_str) == Some("yes");
    let does = match (ready, phase.exits.as_slice()) {
        (true, _) => "watches",
        (false, [0]) => "ends",
        (false, _) => "doesn't start",
    };
    let exits: Vec<String> = phase.exits.iter().map(ToString::to_string).collect();
    let said: Vec<String> = phase.said.iter().map(|line| format!("`{}`", line.replace('|', "\\|"))).collect();
    let said = if said.is_empty() { "nothing".into() } else { said.join("<br>") };
    Some(format!("| {broken} | {does} | {} | {said} |", exits.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_what_was_seen() {
        let text = "@ phase a\n@ broken the port is taken\n@ exit 2\n@ status ready no\n@ said in use | yes\n@ phase b\n";
        let page = write(Series::V6_12, &Transcript::read(text));
        assert!(page.contains("\n| the port is taken | doesn't start | 2 | `in use \\| yes` |\n"), "{page}");
        assert_eq!(page.matches("\n| ").count(), 2, "{page}");
    }
}
