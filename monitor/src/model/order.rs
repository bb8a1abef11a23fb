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

/// What of a group's state a call may change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Touches {
    pub ownership: bool,
    pub domain: bool,
    pub pasid: Option<Pasids>,
    pub bonds: Option<Bonds>,
}

/// Of whose bonds a call changes the count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bonds {
    Of(Key),
    Any,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pasids {
    One(u32),
    Any,
}

impl Touches {
    /// What the call of this record may change.
    pub fn by(event: &Event) -> Touches {
        let bonds = matches!(event.hook, Hook::SvaBind | Hook::SvaUnbind)
            .then(|| event.mm.map_or(Bonds::Any, Bonds::Of));
        Touches { bonds, ..Touches::of(event.hook, event.pasid) }
    }

    pub fn of(hook: Hook, pasid: Option<u32>) -> Touches {
        let nothing = Touches::default();
        match hook {
            Hook::ClaimGroup
            | Hook::ReleaseGroup
            | Hook::ClaimDevice
            | Hook::ReleaseDevice
            | Hook::ReleaseLocked => Touches { ownership: true, domain: true, ..nothing },
            Hook::UseDefault | Hook::UnuseDefault => Touches { ownership: true, ..nothing },
            Hook::RidAttach
            | Hook::AttachDevice
            | Hook::DetachDevice
            | Hook::AttachGroup
            | Hook::DetachGroup
            | Hook::AttachGroupHandle
            | Hook::DetachGroupHandle
            | Hook::ReplaceGroupHandle
            | Hook::ReplaceGroupDomain
            | Hook::DeviceRelease => Touches { domain: true, ..nothing },
            Hook::PasidAttach | Hook::PasidReplace | Hook::PasidDetach => {
                Touches { pasid: Some(pasid.map_or(Pasids::Any, Pasids::One)), ..nothing }
            }
            // An SVA bind or unbind changes the array only through the PASID calls nested in it, and
            // they report themselves. The drivers' entries are hardware, not the core's state, and a reset leaves
            // that as it is: what its RID is on meanwhile, the attach inside it tells.
            Hook::SvaBind
            | Hook::SvaUnbind
            | Hook::DeviceAdd
            | Hook::DeviceRemove
            | Hook::GroupRelease
            | Hook::VtdSetupFirst
            | Hook::VtdSetupSecond
            | Hook::VtdSetupPassThrough
            | Hook::VtdSetupNested
            | Hook::VtdTearDown
            | Hook::VtdTableAlloc
            | Hook::VtdTableFree
            | Hook::VtdTableLeft
            | Hook::VtdQueue
            | Hook::VtdSubmit
            | Hook::DevicePresent
            | Hook::SnapshotGroup
            | Hook::SnapshotIntel
            | Hook::SnapshotAmd
            | Hook::SnapshotDma
            | Hook::PasidAlloc
            | Hook::PasidFree
            | Hook::MmDrop
            | Hook::MmExit
            | Hook::DomainAlloc
            | Hook::DomainFree
            | Hook::VtdDomainFree
            | Hook::AmdDomainFree
            | Hook::ResetPrepare
            | Hook::ResetDone
            | Hook::PasidOn
            | Hook::PasidOff
            | Hook::AtsOn
            | Hook::AtsOff
            | Hook::VtdDetach
            | Hook::AmdDetach
            | Hook::SmmuDetach
            | Hook::AmdClear
            | Hook::AmdTableFree
            | Hook::AmdTableLeft
            | Hook::AmdQueue
            | Hook::AmdWait
            | Hook::AmdSet
            | Hook::SmmuClear
            | Hook::SmmuQueue
            | Hook::SmmuRemove
            | Hook::SmmuSet
            | Hook::SmmuTableLeft => nothing,
        }
    }
}

/// Whether a hook runs with `group->mutex` held, so that what it reads is the state at that moment.
pub(super) fn under_mutex(hook: Hook) -> bool {
    matches!(
        hook,
        Hook::RidAttach | Hook::ReleaseLocked | Hook::SnapshotIntel | Hook::SnapshotAmd | Hook::SnapshotDma
    )
}

/// What the calls of other tasks that overlapped with a call may have changed meanwhile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlap {
    ownership: bool,
    domain: bool,
    any_pasid: bool,
    pasids: Vec<u32>,
    any_bond: bool,
    bonds: Vec<Key>,
}

/// Beyond this many PASIDs an overlap counts as one with every PASID.
const MAX_OVERLAP: usize = 64;

impl Overlap {
    /// Everything may have changed: the begin of the call was not seen.
    pub fn everything() -> Overlap {
        Overlap {
            ownership: true,
            domain: true,
            any_pasid: true,
            pasids: Vec::new(),
            any_bond: true,
            bonds: Vec::new(),
        }
    }

    pub fn ownership(&self) -> bool {
        self.ownership
    }

    pub fn domain(&self) -> bool {
        self.domain
    }

    pub fn pasid(&self, pasid: u32) -> bool {
        self.any_pasid || self.pasids.contains(&pasid)
    }

    /// The count of a process's binds may have changed.
    pub fn bonds_of(&self, mm: Key) -> bool {
        self.any_bond || self.bonds.contains(&mm)
    }

    /// Nothing of the group's state may have changed.
    pub(super) fn is_calm(&self) -> bool {
        !self.ownership && !self.domain && !self.any_pasid && self.pasids.is_empty()
    }

    pub(super) fn add(&mut self, touches: Touches) {
        match touches.bonds {
            Some(Bonds::Of(mm)) if !self.bonds_of(mm) => {
                self.bonds.push(mm);
                self.any_bond |= self.bonds.len() > MAX_OVERLAP;
            }
            Some(Bonds::Any) => self.any_bond = true,
            _ => {}
        }
        self.ownership |= touches.ownership;
        self.domain |= touches.domain;
        match touches.pasid {
            Some(Pasids::One(pasid)) if !self.pasid(pasid) => {
                self.pasids.push(pasid);
                self.any_pasid |= self.pasids.len() > MAX_OVERLAP;
            }
            Some(Pasids::Any) => self.any_pasid = true,
            _ => {}
        }
    }
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
    pub begin: Event,
    /// The model knew the group's state when the call began.
    pub synced: bool,
    /// For a call on a PASID: what was known of it when the call began.
    pub presence: Presence,
    pub overlap: Overlap,
    pub locked: Option<Locked>,
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

    pub(super) fn touches(&self) -> Touches {
        Touches::by(&self.begin)
    }
}
