//! docs/proof.md.

use std::fmt::Write as _;

use crate::Series;

use super::{Armament, Catch, How, Proofs, Source, reasons};

const HEAD: &str = "\
# What has been caught, and where

Written by `cargo xtask test vm --write-proof` from what its guests said; every whole run is held against it. A cell names
the scenarios (`tests/guest/scenarios/`) that planted the fault there and had it raised as it should be, with group,
device, PASID and tasks, while the same sequence without the fault raised nothing and the check was armed. †: it was told
within the violation that it follows from. A recording that is replayed (`monitor/tests/recordings/`) shows that the
verdict is the same at the desk; it never counts as caught live. A number is a reason why there is nothing.
";

/// Where each check must be caught live by itself: on one of these at least.
const FLOOR: [Series; 2] = [Series::V6_12, Series::V7];

/// The page; or every cell that is empty, every check that was caught without a silent twin, and every one that was
/// nowhere caught live.
pub(super) fn write(proofs: &Proofs) -> Result<String, Vec<String>> {
    let mut notes = Notes::default();
    let mut wrong = Vec::new();
    let mut rows = String::new();
    for check in checks(proofs) {
        if !FLOOR.iter().any(|&series| is_live(proofs, check, series)) {
            wrong.push(format!("{check}: caught live by itself neither on 6.12 nor on 7"));
        }
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
    let mut caught: Vec<Catch<'_>> = proofs.of(check, series, source).collect();
    caught.sort_unstable();
    let here = format!("{check} on {series}, {source}");
    let live = source != Source::Recording;
    if live
        && !caught.is_empty()
        && let Some(by) = caught.iter().all(|catch| !catch.silent).then(|| caught[0].by)
    {
        return Err(format!("{here}: caught in `{by}`, but no phase shows it armed and silent"));
    }
    if !caught.is_empty() {
        let names: Vec<String> = caught.iter().map(name).collect();
        let what = if live { "caught, twin silent" } else { "caught" };
        return Ok(format!("{what}: {}", names.join(", ")));
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

/// Whether it was caught by itself, with a silent twin.
fn is_live(proofs: &Proofs, check: &str, series: Series) -> bool {
    let live = [Source::Driver, Source::Software].into_iter();
    live.flat_map(|source| proofs.of(check, series, source))
        .any(|catch| catch.silent && catch.how == How::ByItself)
}

fn name(catch: &Catch<'_>) -> String {
    let how = if catch.how == How::Implied { "†" } else { "" };
    match catch.by.split_once(", ") {
        Some((by, what)) => format!("`{by}`{how} ({what})"),
        None => format!("`{}`{how}", catch.by),
    }
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
