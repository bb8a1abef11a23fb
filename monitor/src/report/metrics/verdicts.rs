//! What is judged as a whole: drivers by the rules of the API, kernels by known defects.

use crate::advisory::Verdict;
use crate::conformance::Verdict as Judged;

use super::{Sample, Scrape, one, sample};

pub(super) fn conformance(scrape: &Scrape<'_>) -> Vec<Sample> {
    let mut samples = Vec::new();
    for driver in scrape.watcher.conformance() {
        for rule in &driver.rules {
            let allowed = rule.verdict == Judged::Violates && !rule.allowed.is_empty();
            let found = if allowed { "allowed" } else { rule.verdict.name() };
            samples.extend(CONFORMANCE.map(|name| {
                let labels = [driver.iommu_driver.as_str(), rule.rule, name];
                sample(labels, f64::from(u8::from(name == found)))
            }));
        }
    }
    samples
}

/// Every value of the `conformance` label.
const CONFORMANCE: [&str; 4] =
    [Judged::Conforms.name(), Judged::Violates.name(), Judged::NotExercised.name(), "allowed"];

pub(super) fn advisories(scrape: &Scrape<'_>) -> Vec<Sample> {
    let Some(known) = &scrape.watcher.options().coverage.advisories else { return Vec::new() };
    Verdict::ALL.map(|verdict| sample([verdict.name()], known.of(verdict).count() as f64)).into()
}

pub(super) fn advisory_info(scrape: &Scrape<'_>) -> Vec<Sample> {
    let known = scrape.watcher.options().coverage.advisories.iter().flat_map(|known| &known.told);
    known.map(|told| sample([told.id.as_str(), told.verdict.name()], 1.0)).collect()
}

pub(super) fn advisories_date(scrape: &Scrape<'_>) -> Vec<Sample> {
    let known = scrape.watcher.options().coverage.advisories.as_ref();
    known.map_or(Vec::new(), |known| one(known.timestamp_seconds()))
}
