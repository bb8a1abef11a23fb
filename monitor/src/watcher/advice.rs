//! What became known, by an event or of the kernel itself, goes to the checks.

use crate::check::{Case, Finding, REGISTRY, Scope};
use crate::model::Transition;

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

    pub(super) fn judge(&mut self, transition: &Transition, findings: &mut Vec<Finding>) {
        let conformance =
            &Books { ledger: &self.ledger, host: &self.host, inventory: self.inventory.as_ref() };
        let mut case = Case { host: &self.host, names: &mut self.names, findings, conformance };
        if let Transition::Looked { group, look } = transition {
            let Some(group) = self.host.group(*group) else { return };
            self.dispatch.looking().for_each(|check| check.look(look, group, &mut case));
        }
        self.dispatch.judging(transition.kind()).for_each(|check| check.judge(transition, &mut case));
    }
}
