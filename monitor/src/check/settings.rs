//! What the operator says of the checks: which are off, what they weigh, their thresholds, what is expected.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::Host;

use super::expectation::Expectation;
use super::spec::{Severity, Spec};
use super::threshold::{THRESHOLDS, Threshold};
use super::violation::Violation;

/// What the operator says of the checks. The default is that he says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The checks that are off.
    pub off: BTreeSet<&'static str>,
    pub severities: BTreeMap<&'static str, Severity>,
    /// By check and key.
    pub thresholds: BTreeMap<(&'static str, &'static str), u64>,
    pub expected: Vec<Arc<Expectation>>,
}

impl Settings {
    /// The same on a host whose CLOCK_REALTIME less its CLOCK_MONOTONIC is so many ns.
    pub fn on_clock(mut self, offset_ns: i64) -> Settings {
        for expectation in &mut self.expected {
            *expectation = Arc::new(Expectation::clone(expectation).on_clock(offset_ns));
        }
        self
    }

    /// How bad a violation of this check is, that the check itself takes for `own`. What it tells for information only,
    /// beside what is wrong, stays that.
    pub fn severity(&self, check: &Spec, own: Severity) -> Severity {
        match self.severities.get(check.name) {
            Some(&wanted) if own > Severity::Info || check.severity() == Severity::Info => wanted,
            _ => own,
        }
    }

    /// What expects at this time that this check finds something where this violation is; of several the one that does so
    /// longest.
    pub fn expectation(&self, check: &str, violation: &Violation, mono_ns: u64) -> Option<&Arc<Expectation>> {
        let valid = self.expected.iter().filter(|one| !one.is_over(mono_ns) && one.covers(check, violation));
        valid.max_by_key(|one| one.until_mono_ns)
    }

    /// How many of the deviations are expected at this time, and how many no more.
    pub fn expectations(&self, mono_ns: u64) -> (usize, usize) {
        let over = self.expected.iter().filter(|one| one.is_over(mono_ns)).count();
        (self.expected.len() - over, over)
    }

    pub fn threshold(&self, threshold: &Threshold) -> u64 {
        let set = self.thresholds.get(&(threshold.check, threshold.key));
        set.copied().unwrap_or(threshold.default)
    }

    /// Gives the thresholds to what the checks judge by.
    pub(crate) fn apply(&self, host: &mut Host) {
        for threshold in &THRESHOLDS {
            (threshold.set)(host, self.threshold(threshold));
        }
    }
}
