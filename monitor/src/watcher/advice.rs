//! What is known of the kernel itself, and of no event, goes to the checks.

use crate::check::{Case, REGISTRY, Scope};

use super::Watcher;
use super::conformance::Books;

impl Watcher {
    /// What is known of the kernel goes to the checks; what is raised already stays so.
    pub(super) fn advise(&mut self, mono_ns: u64) {
        let Some(advisories) = &self.options.coverage.advisories else { return };
        let mut findings = Vec::new();
        let conformance =
            &Books { ledger: &self.ledger, host: &self.host, inventory: self.inventory.as_ref() };
        let mut case =
            Case { host: &self.host, names: &mut self.names, findings: &mut findings, conformance };
        let judging = REGISTRY.iter().zip(&self.states).filter(|(_, state)| state.judges());
        judging.for_each(|(check, _)| check.advise(advisories, mono_ns, &mut case));
        let mut scope = Scope {
            host: &self.host,
            inventory: self.inventory.as_ref(),
            names: &mut self.names,
            boot_id: &self.options.boot_id,
        };
        self.book.take(findings, &mut scope);
    }
}
