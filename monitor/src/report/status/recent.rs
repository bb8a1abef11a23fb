//! The violations of late, those that are over among them: what the status page remembers.

use std::collections::VecDeque;

use crate::{
    check::{Fingerprint, Severity, Violation},
    watcher::Report,
};

/// How many are remembered.
const KEPT: usize = 30;

/// A violation that was raised, and how it ended if it did.
#[derive(Clone, Debug)]
pub struct Past {
    fingerprint: Fingerprint,
    pub check: &'static str,
    pub severity: Severity,
    pub raised_ns: u64,
    pub group: Option<u32>,
    pub summary: String,
    pub expected: bool,
    /// When it ended, and why.
    pub over: Option<(u64, &'static str)>,
}

#[derive(Debug, Default)]
pub struct Recent {
    /// The latest last.
    past: VecDeque<Past>,
}

impl Recent {
    pub fn note(&mut self, reports: &[Report]) {
        for report in reports {
            match report {
                Report::Violation(violation) => {
                    if self.past.len() == KEPT {
                        self.past.pop_front();
                    }
                    self.past.push_back(Past::new(violation));
                }
                Report::Restated(violation) => {
                    if let Some(past) = self.of(violation.fingerprint) {
                        past.severity = violation.severity;
                        past.expected = violation.expected.is_some();
                    }
                }
                Report::Resolved(resolved) => {
                    if let Some(past) = self.of(resolved.fingerprint) {
                        past.over = Some((resolved.mono_ns, resolved.reason.name()));
                    }
                }
                _ => {}
            }
        }
    }

    /// The latest first.
    pub fn latest(&self) -> impl Iterator<Item = &Past> {
        self.past.iter().rev()
    }

    /// The latest of this cause.
    fn of(&mut self, fingerprint: Fingerprint) -> Option<&mut Past> {
        self.past.iter_mut().rev().find(|past| past.fingerprint == fingerprint)
    }
}

impl Past {
    fn new(violation: &Violation) -> Past {
        Past {
            fingerprint: violation.fingerprint,
            check: violation.check.name,
            severity: violation.severity,
            raised_ns: violation.mono_ns,
            group: violation.group,
            summary: violation.summary.clone(),
            expected: violation.expected.is_some(),
            over: None,
        }
    }
}
