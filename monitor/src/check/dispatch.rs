//! Who is called for what. A host has far more events than news, and most checks have no interest in most of them:
//! what a check did not ask for costs it nothing.

use crate::model::Kind;

use super::spec::CheckState;
use super::{Check, REGISTRY};

/// The checks that can do their work here, by what they ask for.
#[derive(Default)]
pub(crate) struct Dispatch {
    /// By [`Kind::index`].
    judging: Vec<Vec<&'static dyn Check>>,
    looking: Vec<&'static dyn Check>,
    wants_looks: bool,
}

impl Dispatch {
    /// `states` and `looks`: how far each check can judge transitions and looks, in the order of the registry.
    pub fn new(states: &[CheckState], looks: &[Option<CheckState>]) -> Dispatch {
        let judging = vec![Vec::new(); Kind::COUNT];
        let mut dispatch = Dispatch { judging, looking: Vec::new(), wants_looks: false };
        for (&check, _) in REGISTRY.iter().zip(states).filter(|(_, state)| state.judges()) {
            for kind in check.spec().judges {
                dispatch.judging[kind.index()].push(check);
            }
            dispatch.wants_looks |= check.wants_looks();
        }
        let looks = looks.iter().map(|state| state.as_ref().is_some_and(CheckState::judges));
        dispatch.looking =
            REGISTRY.iter().zip(looks).filter(|(_, looks)| *looks).map(|(&check, _)| check).collect();
        dispatch
    }

    /// The checks that ask for transitions of this kind, in the order of the registry.
    pub fn judging(&self, kind: Kind) -> impl Iterator<Item = &'static dyn Check> {
        self.judging.get(kind.index()).into_iter().flatten().copied()
    }

    /// Some check here takes looks for what a call did.
    pub fn wants_looks(&self) -> bool {
        self.wants_looks
    }

    /// The checks that go by a look, in the order of the registry.
    pub fn looking(&self) -> impl Iterator<Item = &'static dyn Check> {
        self.looking.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use monitor_ebpf::wire::Hook;

    use super::*;

    fn names(checks: impl Iterator<Item = &'static dyn Check>) -> Vec<&'static str> {
        checks.map(|check| check.spec().name).collect()
    }

    #[test]
    fn a_check_is_called_for_what_it_asks_for_where_it_can_judge() {
        let armed = vec![CheckState::Armed; REGISTRY.len()];
        let dispatch = Dispatch::new(&armed, &vec![None; REGISTRY.len()]);
        let detached = names(dispatch.judging(Kind::Returned(Hook::PasidDetach)));
        assert!(detached.contains(&"attach-imbalance") && !detached.contains(&"ownership-leaked"));
        assert_eq!(names(dispatch.looking()), [""; 0]);
        let off = vec![CheckState::Off; REGISTRY.len()];
        let looks: Vec<_> = armed.into_iter().map(Some).collect();
        let dispatch = Dispatch::new(&off, &looks);
        assert_eq!(names(dispatch.judging(Kind::Returned(Hook::PasidDetach))), [""; 0]);
        assert_eq!(names(dispatch.looking()).len(), REGISTRY.len());
    }

    #[test]
    fn every_kind_has_a_number_of_its_own() {
        let mut numbers: Vec<usize> = Hook::ALL.iter().map(|&hook| Kind::Returned(hook).index()).collect();
        let others = [
            Kind::Updated,
            Kind::Disturbed,
            Kind::Synced,
            Kind::Unknown,
            Kind::GroupGone,
            Kind::Looked,
            Kind::Leaked,
            Kind::Table,
            Kind::TableGone,
            Kind::DeviceGone,
            Kind::TableLeft,
            Kind::FreedWithPasids,
            Kind::TornDown,
            Kind::SetUpOwed,
            Kind::SubmissionFailed,
            Kind::SubmissionSlow,
            Kind::RequestAfterDetach,
            Kind::RangeShort,
        ];
        numbers.extend(others.map(Kind::index));
        assert!(numbers.iter().all(|&number| number < Kind::COUNT));
        let all = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), all);
    }
}
