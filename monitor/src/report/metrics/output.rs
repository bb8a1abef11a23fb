//! What became of what there was to tell: lines, and what was pushed.

use crate::watcher::{Pushed, Spooled};

use super::{Sample, Scrape, one, sample};

/// Every check, from 0 on.
pub(super) fn suppressed(scrape: &Scrape<'_>) -> Vec<Sample> {
    let counts = &scrape.watcher.counters().told.suppressed;
    let of = |name: &'static str| sample([name], counts.get(name).copied().unwrap_or(0) as f64);
    scrape.watcher.checks().map(|(spec, _)| of(spec.name)).collect()
}

/// None where there is no spool.
pub(super) fn spooled(scrape: &Scrape<'_>, value: impl Fn(&Spooled) -> f64) -> Vec<Sample> {
    scrape.watcher.counters().told.spool.as_ref().map_or(Vec::new(), |spool| one(value(spool)))
}

/// None where nothing is pushed.
pub(super) fn pushed(scrape: &Scrape<'_>, value: impl Fn(&Pushed) -> u64) -> Vec<Sample> {
    scrape.watcher.counters().told.push.as_ref().map_or(Vec::new(), |push| one(value(push) as f64))
}

pub(super) fn push_requests(scrape: &Scrape<'_>) -> Vec<Sample> {
    let push = scrape.watcher.counters().told.push.as_ref();
    push.map_or(Vec::new(), |push| {
        vec![sample(["accepted"], push.accepted as f64), sample(["failed"], push.failed as f64)]
    })
}
