//! Which hooks report on this kernel: what the checks hold their needs against.

pub(crate) mod companion;

use std::collections::{BTreeMap, BTreeSet};

use monitor_ebpf::wire::Hook;

use crate::advisory::Advisories;

/// By what a hook listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Backend {
    Fentry,
    Kprobe,
    Tracepoint,
}

impl Backend {
    pub const ALL: [Backend; 3] = [Backend::Fentry, Backend::Kprobe, Backend::Tracepoint];

    /// The value of the `backend` label.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Fentry => "fentry",
            Backend::Kprobe => "kprobe",
            Backend::Tracepoint => "tracepoint",
        }
    }
}

/// What became of one hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookState {
    Attached {
        backend: Backend,
    },
    /// The running kernel has no such function or tracepoint.
    Absent,
    /// It is in an IOMMU driver, and this host has none of its hardware: nothing is attached, and nothing missed.
    Idle {
        driver: &'static str,
    },
    /// It is for a check that is off unless it is asked for, and nobody asked.
    Off,
    /// It is there and could not be attached: why, in words for a person.
    Failed {
        reason: String,
    },
}

/// The state of every hook. A hook that was never tried is absent.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    states: BTreeMap<Hook, HookState>,
    /// Hooks on drivers whose hardware tables' entries can't be read here, and why.
    unread: BTreeMap<Hook, String>,
    /// Hooks that did not report every call: reads of the kernel's state showed it.
    leaky: BTreeSet<Hook>,
    /// `iommu_group::pasid_array` exists (from 6.2): the core knows PASIDs.
    pub core_pasids: bool,
    /// Which known defects the kernel has; `None`: nobody asked.
    pub advisories: Option<Advisories>,
}

impl Coverage {
    pub fn set(&mut self, hook: Hook, state: HookState) {
        self.states.insert(hook, state);
    }

    pub fn get(&self, hook: Hook) -> &HookState {
        self.states.get(&hook).unwrap_or(&HookState::Absent)
    }

    pub fn attached(&self, hook: Hook) -> bool {
        matches!(self.get(hook), HookState::Attached { .. })
    }

    /// The hook is on a driver whose hardware tables' entries can't be read, for this reason.
    pub fn set_unread(&mut self, hook: Hook, reason: String) {
        self.unread.insert(hook, reason);
    }

    pub fn unread(&self, hook: Hook) -> Option<&str> {
        self.unread.get(&hook).map(String::as_str)
    }

    /// A call went unreported that this hook should have seen. Says whether that is news.
    pub fn mark_leaky(&mut self, hook: Hook) -> bool {
        self.leaky.insert(hook)
    }

    pub fn leaky(&self, hook: Hook) -> bool {
        self.leaky.contains(&hook)
    }

    /// Every hook with its state, in the order of the hooks.
    pub fn iter(&self) -> impl Iterator<Item = (Hook, &HookState)> {
        Hook::ALL.iter().map(|&hook| (hook, self.get(hook)))
    }
}
