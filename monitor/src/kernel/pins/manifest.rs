//! What a set of pins says of itself: its programs, and what came of every hook.

use monitor_ebpf::wire::Hook;
use serde::{Deserialize, Serialize};

use crate::{
    advisory::Advisories,
    coverage::{Backend, Coverage, HookState},
    kernel::{
        catalogue::Driver,
        journal::{Journal, Memory, SETS},
    },
};

#[derive(Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// The name of the set, and its number among those that share its journal.
    pub set: String,
    pub number: u8,
    /// The names of the programs, and which of them are kprobes.
    pub programs: Vec<(String, bool)>,
    hooks: Vec<(u16, State)>,
    unread: Vec<(u16, String)>,
    core_pasids: bool,
    advisories: Option<Advisories>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    Attached(String),
    Absent,
    Idle(String),
    Off,
    Failed(String),
}

impl Manifest {
    /// What a set of this name says of itself in its journal.
    pub fn of(set: &str, memory: &Memory) -> Option<Manifest> {
        let all = (0..SETS).filter_map(|number| Journal::manifest(memory, number));
        all.filter_map(|text| serde_json::from_slice::<Manifest>(&text).ok()).find(|known| known.set == set)
    }

    pub fn new(set: &str, number: u8, programs: Vec<(String, bool)>, coverage: &Coverage) -> Manifest {
        let state = |state: &HookState| match state {
            HookState::Attached { backend } => State::Attached(backend.name().into()),
            HookState::Absent => State::Absent,
            HookState::Idle { driver } => State::Idle((*driver).into()),
            HookState::Off => State::Off,
            HookState::Failed { reason } => State::Failed(reason.clone()),
        };
        let unread = |&hook: &Hook| Some((hook as u16, coverage.unread(hook)?.to_owned()));
        Manifest {
            set: set.to_owned(),
            number,
            programs,
            hooks: coverage.iter().map(|(hook, known)| (hook as u16, state(known))).collect(),
            unread: Hook::ALL.iter().filter_map(unread).collect(),
            core_pasids: coverage.core_pasids,
            advisories: coverage.advisories.clone(),
        }
    }

    /// `None` where it names what this version doesn't know.
    pub fn coverage(&self) -> Option<Coverage> {
        let mut coverage = Coverage::default();
        for (number, state) in &self.hooks {
            let state = match state {
                State::Attached(name) => HookState::Attached {
                    backend: Backend::ALL.into_iter().find(|backend| backend.name() == name)?,
                },
                State::Absent => HookState::Absent,
                State::Idle(name) => HookState::Idle {
                    driver: Driver::ALL.into_iter().map(Driver::name).find(|known| known == name)?,
                },
                State::Off => HookState::Off,
                State::Failed(reason) => HookState::Failed { reason: reason.clone() },
            };
            coverage.set(Hook::from_number(*number)?, state);
        }
        for (number, reason) in &self.unread {
            coverage.set_unread(Hook::from_number(*number)?, reason.clone());
        }
        coverage.core_pasids = self.core_pasids;
        coverage.advisories = self.advisories.clone();
        Some(coverage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_of_every_hook_is_the_same_afterwards() {
        let states = [
            HookState::Attached { backend: Backend::Kprobe },
            HookState::Absent,
            HookState::Idle { driver: Driver::Smmu.name() },
            HookState::Off,
            HookState::Failed { reason: "EPERM".into() },
        ];
        let mut coverage = Coverage::default();
        for (&hook, state) in Hook::ALL.iter().zip(states.iter().cycle()) {
            coverage.set(hook, state.clone());
        }
        coverage.core_pasids = true;
        coverage.set_unread(Hook::ALL[3], "no address".into());
        let text =
            serde_json::to_vec(&Manifest::new("set", 2, vec![("mm_exit_fentry".into(), false)], &coverage));
        let manifest: Manifest = serde_json::from_slice(&text.expect("JSON")).expect("a manifest");
        assert_eq!((manifest.set.as_str(), manifest.number), ("set", 2));
        let read = manifest.coverage().expect("it is all known");
        assert!(coverage.iter().eq(read.iter()));
        assert_eq!((read.core_pasids, read.unread(Hook::ALL[3])), (true, Some("no address")));
    }
}
