//! The order of things: which calls are under way on a group, and which of them could have met.
//!
//! A call reports its begin before it takes `group->mutex` and its end after it dropped it. Between the
//! two it did its work at a moment nobody saw. So two calls that overlap could have come in either
//! order, and a verdict on one of them would be a guess. What a call may change decides whether
//! another one disturbs it: ownership, the RID's domain, one PASID.

use monitor_ebpf::wire::Hook;

use crate::event::{Domain, Event, Key, Ownership, PasidArray, TableEntry};

use super::bond::Bond;
use super::group::{Actor, Attachment, Presence};
use super::hardware::Taken;
use super::touches::Overlap;

/// Whether a hook runs with `group->mutex` held, so that what it reads is the state at that moment.
pub(super) fn under_mutex(hook: Hook) -> bool {
    matches!(
        hook,
        Hook::RidAttach | Hook::ReleaseLocked | Hook::SnapshotIntel | Hook::SnapshotAmd | Hook::SnapshotDma
    )
}

/// What an event read of its group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    pub ownership: Option<Ownership>,
    pub domain: Option<Domain>,
    pub default_domain: Option<Domain>,
    /// Members blocked by a reset.
    pub recovery_cnt: u32,
    pub array: Option<PasidArray>,
}

impl Reading {
    /// `None` if the event read no group.
    pub fn of(event: &Event) -> Option<Reading> {
        let group = event.group.as_ref()?;
        Some(Reading {
            ownership: group.ownership,
            domain: group.domain,
            default_domain: group.default_domain,
            recovery_cnt: group.recovery_cnt,
            array: event.array.clone(),
        })
    }
}

/// What was read of the group inside the call, under `group->mutex`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locked {
    /// Before the letting go.
    pub before: Reading,
    /// The PASIDs that were attached then, with what was known of them.
    pub pasids: Vec<(u32, Attachment)>,
    /// After it, where its return is seen.
    pub after: Option<Reading>,
}

/// A call whose begin was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    pub hook: Hook,
    /// The call's begin: who called, about what, and the group as it was read then.
    pub begin: Box<Event>,
    /// The model knew the group's state when the call began.
    pub synced: bool,
    /// For a call on a PASID: what was known of it when the call began.
    pub presence: Presence,
    pub overlap: Overlap,
    pub locked: Option<Box<Locked>>,
    /// For a replace: what the members' tables had of the PASID when it began, as far as that is known.
    pub(super) entries: Vec<(Key, TableEntry)>,
    /// A call on a PASID that ran inside this one and succeeded.
    pub(super) nested: Option<(Hook, u32)>,
    /// For an unbind: the bond as it was known when the call began, and its PASID's attachment.
    pub bond: Option<(Bond, Option<Attachment>)>,
    /// What the driver took from the device's PASIDs inside it, if it switches a RID's domain.
    pub taken: Option<Box<Taken>>,
}

impl Operation {
    /// Who called, and when.
    pub fn actor(&self) -> Actor {
        Actor::of(&self.begin)
    }

    pub fn group(&self) -> Option<Key> {
        self.begin.group.map(|group| group.key)
    }

    /// What the group looked like on entry of the call, before it took the mutex.
    pub fn entry(&self) -> Option<Reading> {
        Reading::of(&self.begin)
    }

    /// The call takes a group for an owner or a driver, or a RID to a domain, if it succeeds.
    pub fn takes_hold(&self) -> bool {
        matches!(self.hook, Hook::ClaimGroup | Hook::ClaimDevice | Hook::UseDefault | Hook::RidAttach)
    }

    /// The group was read after the letting go, before the mutex was dropped.
    pub fn locked_after(&self) -> bool {
        self.locked.as_ref().is_some_and(|locked| locked.after.is_some())
    }

    /// The PASID that the call attached, by a call inside it.
    pub fn attached(&self) -> Option<u32> {
        self.nested.filter(|(hook, _)| *hook == Hook::PasidAttach).map(|(_, pasid)| pasid)
    }

    /// The PASID that the call detached, by a call inside it.
    pub fn detached(&self) -> Option<u32> {
        self.nested.filter(|(hook, _)| *hook == Hook::PasidDetach).map(|(_, pasid)| pasid)
    }
}
