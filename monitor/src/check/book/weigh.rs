//! What the operator says of the violations that are open: how bad they are, and whether they are expected.

use std::sync::Arc;

use super::super::fingerprint::Fingerprint;
use super::super::outcome::{Outcome, Reason};
use super::super::settings::Settings;
use super::super::spec::Severity;
use super::super::violation::Violation;
use super::Book;

/// How many violations of one check and severity were told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Total {
    /// Those that were expected by nobody.
    raised: u64,
    expected: u64,
}

impl Book {
    /// The operator says something else from now on.
    pub fn configure(&mut self, settings: Arc<Settings>, mono_ns: u64, outcomes: &mut Vec<Outcome>) {
        self.settings = settings;
        let settings = self.settings.clone();
        let is_off = |check: &str| settings.off.contains(check);
        self.pending.retain(|pending| !is_off(pending.open.violation.check.name));
        let open = self.open.iter().filter(|(_, open)| is_off(open.violation.check.name));
        let off: Vec<Fingerprint> = open.map(|(&fingerprint, _)| fingerprint).collect();
        for fingerprint in off {
            self.close(fingerprint, Reason::Off, mono_ns, outcomes);
        }
        self.restate(mono_ns, outcomes);
    }

    /// What was expected for a time that is over is told anew.
    pub fn end_expectations(&mut self, mono_ns: u64, outcomes: &mut Vec<Outcome>) {
        if self.expected_until.is_some_and(|end| end <= mono_ns) {
            self.restate(mono_ns, outcomes);
        }
    }

    /// Holds what is open against the settings again, and tells anew what is another matter than it was.
    fn restate(&mut self, mono_ns: u64, outcomes: &mut Vec<Outcome>) {
        let settings = self.settings.clone();
        self.expected_until = None;
        let mut counted = Vec::new();
        for open in self.open.values_mut() {
            let before = (open.violation.severity, open.violation.expected.clone());
            weigh(&settings, &mut open.violation, mono_ns);
            let Violation { severity, expected, .. } = &open.violation;
            let end = expected.as_ref().map(|expectation| expectation.until_mono_ns);
            self.expected_until = self.expected_until.into_iter().chain(end).min();
            if (*severity, expected) == (before.0, &before.1) {
                continue;
            }
            if expected.is_some() != before.1.is_some() {
                counted.push(open.violation.clone());
            }
            outcomes.push(Outcome::Restated(Box::new(open.violation.clone())));
        }
        counted.iter().for_each(|violation| self.count(violation));
    }

    /// Weighs a violation that is about to be told, and counts it.
    pub(super) fn weigh_and_count(&mut self, violation: &mut Violation, mono_ns: u64) {
        weigh(&self.settings, violation, mono_ns);
        let end = violation.expected.as_ref().map(|expectation| expectation.until_mono_ns);
        self.expected_until = self.expected_until.into_iter().chain(end).min();
        self.count(violation);
    }

    /// What was raised up to now is not counted.
    pub fn begin_counting(&mut self) {
        self.totals.clear();
    }

    fn count(&mut self, violation: &Violation) {
        let total = self.totals.entry((violation.check.name, violation.severity)).or_default();
        match violation.expected {
            None => total.raised += 1,
            Some(_) => total.expected += 1,
        }
    }

    /// How many of a check and severity were raised that nobody expected.
    pub fn raised(&self, check: &'static str, severity: Severity) -> u64 {
        self.totals.get(&(check, severity)).map_or(0, |total| total.raised)
    }

    /// The same of those that were expected.
    pub fn expected(&self, check: &'static str, severity: Severity) -> u64 {
        self.totals.get(&(check, severity)).map_or(0, |total| total.expected)
    }
}

pub(super) fn weigh(settings: &Settings, violation: &mut Violation, mono_ns: u64) {
    violation.severity = settings.severity(violation.check, violation.own_severity);
    violation.expected = settings.expectation(violation.check.name, violation, mono_ns).cloned();
}
