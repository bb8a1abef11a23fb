//! What the checks found, what of it is expected, and how far they can do their work.

use crate::check::{CheckState, Severity};
use crate::watcher::Watcher;

use super::{Sample, Scrape, one, sample};

pub(super) fn violations_total(scrape: &Scrape<'_>) -> Vec<Sample> {
    pairs(scrape, |check, severity| scrape.watcher.raised(check, severity))
}

pub(super) fn expected_total(scrape: &Scrape<'_>) -> Vec<Sample> {
    pairs(scrape, |check, severity| scrape.watcher.expected(check, severity))
}

pub(super) fn violations_active(scrape: &Scrape<'_>) -> Vec<Sample> {
    pairs(scrape, |check, severity| active(scrape.watcher, check, severity, false))
}

pub(super) fn expected_active(scrape: &Scrape<'_>) -> Vec<Sample> {
    pairs(scrape, |check, severity| active(scrape.watcher, check, severity, true))
}

fn active(watcher: &Watcher, check: &str, severity: Severity, expected: bool) -> u64 {
    let of_pair = watcher.violations().filter(|violation| {
        violation.check.name == check
            && violation.severity == severity
            && violation.expected.is_some() == expected
    });
    of_pair.count() as u64
}

/// Every pair of check and severity that there is, so that all are present from the start.
fn pairs(scrape: &Scrape<'_>, value: impl Fn(&'static str, Severity) -> u64) -> Vec<Sample> {
    let of = |spec| scrape.watcher.severities(spec).into_iter().map(move |severity| (spec, severity));
    let pairs = scrape.watcher.checks().flat_map(|(spec, _)| of(spec));
    pairs
        .map(|(spec, severity)| sample([spec.name, severity.name()], value(spec.name, severity) as f64))
        .collect()
}

pub(super) fn check_state(scrape: &Scrape<'_>) -> Vec<Sample> {
    let checks = scrape.watcher.checks();
    let samples = checks.flat_map(|(spec, state)| {
        CheckState::NAMES.map(|name| sample([spec.name, name], f64::from(u8::from(state.name() == name))))
    });
    samples.collect()
}

pub(super) fn deviations(scrape: &Scrape<'_>) -> Vec<Sample> {
    one(scrape.watcher.expectations().0 as f64)
}

pub(super) fn deviations_over(scrape: &Scrape<'_>) -> Vec<Sample> {
    one(scrape.watcher.expectations().1 as f64)
}
