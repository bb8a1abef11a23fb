//! How the IOMMU drivers behaved, and what follows from it.

use crate::check::{Case, Conforming, Finding, Outcome, REGISTRY, Scope, Violation};
use crate::conformance::{Conformance, Ledger};
use crate::inventory::Inventory;
use crate::model::{GroupRef, Host};

use super::{Report, Watcher};

/// The ledger, with what it looks groups up in.
pub(super) struct Books<'a> {
    pub ledger: &'a Ledger,
    pub host: &'a Host,
    pub inventory: Option<&'a Inventory>,
}

impl Conforming for Books<'_> {
    fn deviation(&self, group: GroupRef, mono_ns: u64) -> Option<(String, Vec<&'static str>)> {
        self.ledger.deviation(group, self.host, self.inventory, mono_ns)
    }
}

impl Watcher {
    /// The verdict on each IOMMU driver of the host.
    pub fn conformance(&self) -> Vec<Conformance> {
        let state = |name: &str| self.checks().find(|(spec, _)| spec.name == name).map(|(_, state)| state);
        self.ledger.verdicts(&self.options.coverage, state, self.mono_ns)
    }

    /// What was raised is told, and what follows from it of the drivers, too.
    pub(super) fn conclude(&mut self, outcomes: Vec<Outcome>, mono_ns: u64, reports: &mut Vec<Report>) {
        let raised: Vec<Violation> = outcomes
            .iter()
            .filter_map(|outcome| match outcome {
                Outcome::Raised(violation) => Some(violation.as_ref().clone()),
                Outcome::Resolved(_) => None,
            })
            .collect();
        self.tell(outcomes, reports);
        if self.deviations(&raised, mono_ns) {
            let mut outcomes = Vec::new();
            self.book.raise(mono_ns, &self.host, &mut outcomes);
            self.tell(outcomes, reports);
        }
    }

    /// These were raised. Where a driver is seen to deviate by them, the checks look at its groups; says whether that
    /// found anything.
    fn deviations(&mut self, raised: &[Violation], mono_ns: u64) -> bool {
        let mut deviates = false;
        for violation in raised {
            // That tables are shared by design is about the host, and the ledger has it from the look.
            deviates |= self.ledger.raised(violation) || violation.check.name == "pasid-table-shared";
        }
        if !deviates {
            return false;
        }
        let mut findings: Vec<Finding> = Vec::new();
        let books = Books { ledger: &self.ledger, host: &self.host, inventory: self.inventory.as_ref() };
        let mut case =
            Case { host: &self.host, names: &mut self.names, findings: &mut findings, conformance: &books };
        let judging = REGISTRY.iter().zip(&self.states).filter(|(_, state)| state.judges());
        for (check, _) in judging {
            self.host.groups().for_each(|group| check.deviates(group, mono_ns, &mut case));
        }
        let any = !findings.is_empty();
        let mut scope = Scope {
            host: &self.host,
            inventory: self.inventory.as_ref(),
            names: &mut self.names,
            boot_id: &self.options.boot_id,
        };
        self.book.take(findings, &mut scope);
        any
    }
}
