//! How the IOMMU drivers behaved, and what follows from it.

use crate::check::{Case, Check, Conforming, Outcome};
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
        if self.foresee(outcomes, mono_ns, reports) {
            let mut outcomes = Vec::new();
            self.book.raise(mono_ns, &self.host, &mut outcomes);
            self.tell(outcomes, reports);
        }
    }

    /// What was raised is told, and what follows from it of the drivers is found; it is not raised yet, for the ring may
    /// hold what explains what else waits. Says whether there is any.
    pub(super) fn foresee(
        &mut self,
        outcomes: Vec<Outcome>,
        mono_ns: u64,
        reports: &mut Vec<Report>,
    ) -> bool {
        let deviates = self.deviates(&outcomes);
        self.tell(outcomes, reports);
        let ask = |check: &dyn Check, case: &mut Case<'_>| {
            case.host.groups().for_each(|group| check.deviates(group, mono_ns, case));
        };
        deviates && self.consult(|check, _, case| ask(check, case))
    }

    /// Whether a driver is seen to deviate by what was raised, for the first time.
    fn deviates(&mut self, outcomes: &[Outcome]) -> bool {
        let mut deviates = false;
        for outcome in outcomes {
            match outcome {
                // That tables are shared by design is about the host, and the ledger has it from the look.
                Outcome::Raised(violation) => {
                    deviates |= self.ledger.raised(violation) || violation.check.name == "pasid-table-shared";
                }
                // What was expected is so no more.
                Outcome::Restated(violation) => deviates |= violation.expected.is_none(),
                Outcome::Resolved(_) => {}
            }
        }
        deviates
    }
}
