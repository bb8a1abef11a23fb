//! docs/proof.md.

use std::fmt::Write as _;

use crate::Series;

use super::{Armament, Proofs, Source, reasons};

const HEAD: &str = "\
# What has been caught, and where

Written by `cargo xtask test vm` from what its guests said, and held against each such run. A cell names the scenarios
(`tests/guest/scenarios/`) that planted the fault there and had it raised as it should be, with group, device and PASID,
while the same sequence without the fault raised nothing and the check was armed. A recording that is replayed shows
that the verdict is the same at the desk; it never counts as caught live. A number is a reason why there is nothing.
";

/// The page; or every cell that is empty, and every check that was caught without a silent twin.
pub(super) fn write(proofs: &Proofs) -> Result<String, Vec<String>> {
    let mut notes = Notes::default();
    let mut wrong = Vec::new();
    let mut rows = String::new();
    for check in checks(proofs) {
        for series in Series::ALL {
            let cells = Source::ALL.map(|source| {
                cell(proofs, check, series, source, &mut notes).unwrap_or_else(|missing| {
                    wrong.push(missing);
                    String::new()
                })
            });
            let name = format!("[`{check}`](checks/{check}.md)");
            let _ = writeln!(rows, "| {name} | {series} | {} |", cells.join(" | "));
        }
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let sources = Source::ALL.map(|source| source.to_string());
    let header = format!("| check | kernel | {} |\n|---|---|---|---|---|\n", sources.join(" | "));
    Ok(format!("{HEAD}\n{header}{rows}\n{}", notes.list()))
}

/// Every check that some kernel's `doctor` lists, in its order.
fn checks(proofs: &Proofs) -> Vec<&str> {
    let longest = proofs.armament.values().max_by_key(|list| list.len());
    longest.into_iter().flatten().map(|line| line.check.as_str()).collect()
}

fn cell(
    proofs: &Proofs,
    check: &str,
    series: Series,
    source: Source,
    notes: &mut Notes,
) -> Result<String, String> {
    let mut caught: Vec<(&str, bool)> = proofs.of(check, series, source).collect();
    caught.sort_unstable();
    let here = format!("{check} on {series}, {source}");
    if let Some((by, _)) = caught.iter().find(|(_, silent)| !caught.iter().any(|(_, twin)| *twin) && !silent)
    {
        return Err(format!("{here}: caught in `{by}`, but no phase shows it armed and silent"));
    }
    if !caught.is_empty() {
        let names: Vec<String> = caught.iter().map(|(by, _)| format!("`{by}`")).collect();
        return Ok(format!("caught, twin silent: {}", names.join(", ")));
    }
    let unarmed = proofs.armament.get(&series).and_then(|list| list.iter().find(|line| line.check == check));
    let reason = match unarmed {
        Some(Armament { state, reason, .. }) if state == "unavailable" || state == "not-applicable" => {
            format!("{state}: {reason}")
        }
        _ => {
            reasons::find(check, series, source).ok_or(format!("{here}: neither caught nor a reason"))?.into()
        }
    };
    Ok(format!("[{}]", notes.number(reason)))
}

/// The reasons, each said once.
#[derive(Default)]
struct Notes(Vec<String>);

impl Notes {
    fn number(&mut self, reason: String) -> usize {
        let known = self.0.iter().position(|other| *other == reason);
        1 + known.unwrap_or_else(|| {
            self.0.push(reason);
            self.0.len() - 1
        })
    }

    fn list(&self) -> String {
        self.0.iter().enumerate().fold(String::new(), |mut text, (at, reason)| {
            let _ = writeln!(text, "{}. {reason}", at + 1);
            text
        })
    }
}
