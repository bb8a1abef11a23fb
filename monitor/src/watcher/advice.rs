//! What became known, by an event or of the kernel itself, goes to the checks.

use crate::check::{Case, Check, Finding, REGISTRY, Scope};
use crate::model::Transition;

use super::conformance::Books;
use super::{Options, Watcher};

impl Watcher {
    /// What is known of the kernel goes to the checks; what is raised already stays so.
    pub(super) fn advise(&mut self, mono_ns: u64) {
        self.consult(|check, options, case| {
            if let Some(advisories) = &options.coverage.advisories {
                check.advise(advisories, mono_ns, case);
            }
        });
    }

    /// Asks all checks that judge here. Says whether they found anything.
    pub(super) fn consult(&mut self, ask: impl Fn(&dyn Check, &Options, &mut Case<'_>)) -> bool {
        let mut findings = Vec::new();
        let conformance =
            &Books { ledger: &self.ledger, host: &self.host, inventory: self.inventory.as_ref() };
        let mut case =
            Case { host: &self.host, names: &mut self.names, findings: &mut findings, conformance };
        let judging = REGISTRY.iter().zip(&self.states).filter(|(_, state)| state.judges());
        judging.for_each(|(check, _)| ask(*check, &self.options, &mut case));
        let any = !findings.is_empty();
        self.file(findings);
        any
    }

    /// What was found goes to the book.
    pub(super) fn file(&mut self, findings: Vec<Finding>) {
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
