//! docs/lacking.md: what the daemon says of a kernel that lacks one function or tracepoint that it listens to.
//!
//! The rows are those that the scenario `hooks` has held the guest against.

use std::fmt::Write as _;

use crate::Series;
use crate::scenario::hooks::{LACKS, Lack, Says};

const HEAD: &str = "\
# Where the kernel lacks one function that is listened to

Written by `cargo xtask test vm --scenario hooks --write-faults`: in a guest each of these functions and tracepoints in turn
is withheld from the daemon. It watches each time, ends with 0 and raises nothing; beside what it says of the kernel as
it is, it says this. Hooks and checks that aren't named do their work. [faults.md](faults.md) has what else may be broken.

| the kernel lacks | hooks | the daemon says |
|---|---|---|
";

/// The page of a run in which the guest was as the rows have it.
pub(super) fn write(series: Series) -> String {
    let rows = LACKS.iter().fold(String::new(), |mut text, lack| {
        let _ = writeln!(text, "{}", row(lack));
        text
    });
    format!("{HEAD}{rows}\nSeen on {series}.\n")
}

fn row(lack: &Lack) -> String {
    let lost: Vec<String> = lack.lost.iter().map(|hook| format!("`{hook}`")).collect();
    let said = match lack.says {
        Says::Lines(lines) => lines.iter().map(|line| format!("`{line}`")).collect::<Vec<_>>().join("<br>"),
        Says::Nothing(why) => format!("nothing, for nothing is missed: {why}"),
    };
    format!("| `{}` | {} | {said} |", lack.name, lost.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_what_is_said_or_why_nothing_is() {
        let row = |says| row(&Lack { name: "f", lost: &["claim", "look"], instead: &[], says });
        let said = row(Says::Lines(&["not judged: x: no claim", "judged in part: y"]));
        assert_eq!(said, "| `f` | `claim`, `look` | `not judged: x: no claim`<br>`judged in part: y` |");
        let silent = row(Says::Nothing("who joins is found"));
        assert_eq!(silent, "| `f` | `claim`, `look` | nothing, for nothing is missed: who joins is found |");
    }

    #[test]
    fn the_page_is_of_the_rows_that_a_guest_is_held_against() {
        assert_eq!(include_str!("../../../docs/lacking.md"), write(Series::V6_12));
    }
}
