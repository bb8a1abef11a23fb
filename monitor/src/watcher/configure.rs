//! What the operator says, at the start and later: the state that was rebuilt from events stays.

use std::sync::Arc;

use crate::check::{Carried, Outcome, Settings, Severity, Spec};

use super::{Report, Watcher};

impl Watcher {
    /// The operator says something else from now on. What is open is held against it again, what was switched off
    /// judges no more.
    pub fn configure(&mut self, settings: Settings, mono_ns: u64) -> Vec<Report> {
        let reports = self.adopt(settings, mono_ns);
        // Of the kernel nothing new will come that a check which was off could find it by.
        self.advise(mono_ns);
        reports
    }

    pub(super) fn adopt(&mut self, settings: Settings, mono_ns: u64) -> Vec<Report> {
        let settings = Arc::new(settings);
        self.options.settings = settings.clone();
        settings.apply(&mut self.host);
        self.ledger.configure(settings.clone());
        let mut reports = self.restate(mono_ns);
        let mut outcomes = Vec::new();
        self.book.configure(settings, mono_ns, &mut outcomes);
        self.foresee(outcomes, mono_ns, &mut reports);
        reports
    }

    /// The wall clock was set: CLOCK_REALTIME less CLOCK_MONOTONIC is so many ns now.
    pub fn clock_set(&mut self, offset_ns: i64, mono_ns: u64) -> Vec<Report> {
        let settings = Settings::clone(&self.options.settings).on_clock(offset_ns);
        self.adopt(settings, mono_ns)
    }

    /// The configuration was read again and was bad; or it was good, at that time in seconds since the epoch.
    pub fn config_was_read(&mut self, good_at_seconds: Option<f64>) {
        let config = &mut self.counters.config;
        config.failed = good_at_seconds.is_none();
        config.read_at_seconds = good_at_seconds.unwrap_or(config.read_at_seconds);
    }

    /// The web configuration was read again, and was good or bad.
    pub fn web_config_was_read(&mut self, good: bool) {
        self.counters.config.web_failed = !good;
    }

    /// What stands, for a process after this one that has not what it was concluded from.
    pub(crate) fn carried(&self) -> Vec<Carried> {
        self.book.carried()
    }

    /// Takes over what stood: it is told no more, but for that it is resolved.
    pub(crate) fn carry(&mut self, carried: Vec<Carried>, mono_ns: u64) {
        self.book.carry(carried, mono_ns);
    }

    /// What stood at this time is this, whatever was concluded here: that was from less.
    pub(crate) fn stands(&mut self, carried: Vec<Carried>, mono_ns: u64) {
        self.book.stands(carried, &self.host, mono_ns);
    }

    /// Tells anew all that stands: the operator says something else than when it was told, or wasn't.
    pub(crate) fn tell_standing(&self) -> Vec<Report> {
        self.book.open().map(|violation| Report::Restated(Box::new(violation.clone()))).collect()
    }

    /// Counts anew from here on, as a process does that begins.
    pub fn begin_counting(&mut self) {
        self.counters = super::Counters::default();
        self.book.begin_counting();
    }

    /// For how long nobody was reading before this process took over from another, in ns.
    pub fn unwatched(&mut self, ns: u64) {
        self.counters.unwatched_ns = ns;
    }

    /// How many of this check and severity were told that are expected, so far.
    pub fn expected(&self, check: &'static str, severity: Severity) -> u64 {
        self.book.expected(check, severity)
    }

    /// How many deviations are expected now, and how many were until a day that is over.
    pub fn expectations(&self) -> (usize, usize) {
        self.options.settings.expectations(self.mono_ns)
    }

    /// The severities that a check can have here.
    pub fn severities(&self, spec: &'static Spec) -> Vec<Severity> {
        let mut severities = spec.severities.to_vec();
        let configured = self.options.settings.severities.get(spec.name);
        severities.extend(configured.filter(|severity| !spec.severities.contains(severity)));
        severities
    }

    /// Whether a check is wanted.
    pub(super) fn wants(&self, check: &str) -> bool {
        self.options.filter.check(check) && !self.options.settings.off.contains(check)
    }

    /// What came of it passes the filter.
    pub(super) fn tell(&self, outcomes: Vec<Outcome>, reports: &mut Vec<Report>) {
        let filter = &self.options.filter;
        let told = outcomes.into_iter().filter_map(|outcome| match outcome {
            Outcome::Raised(violation) => {
                filter.passes(violation.group, &violation.devices).then_some(Report::Violation(violation))
            }
            Outcome::Restated(violation) => {
                filter.passes(violation.group, &violation.devices).then_some(Report::Restated(violation))
            }
            Outcome::Resolved(resolved) => filter
                .passes(resolved.group, &resolved.devices)
                .then_some(Report::Resolved(Box::new(resolved))),
        });
        reports.extend(told);
    }
}
