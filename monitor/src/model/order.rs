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
            // they report themselves. VT-d's entries are hardware, not the core's state.
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
            | Hook::AmdDomainFree => nothing,
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

/// Whether a call to `inner` can run inside a call to `outer` of the same task on the same group.
fn encloses(outer: Hook, inner: Hook) -> bool {
    match inner {
        // The choke point of every switch of a RID's domain.
        Hook::RidAttach => outer != Hook::RidAttach,
        Hook::ReleaseLocked => matches!(outer, Hook::ReleaseGroup | Hook::ReleaseDevice),
        Hook::PasidAttach | Hook::PasidReplace | Hook::PasidDetach => {
            matches!(outer, Hook::SvaBind | Hook::SvaUnbind)
        }
        _ => false,
    }
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

/// The calls under way on one group, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct InFlight {
    #[expect(
        clippy::vec_box,
        reason = "the room that one call leaves is warm for the next, of whatever group"
    )]
    calls: Vec<Box<Operation>>,
}

/// More calls than this at once on one group, and the oldest is given up.
const MAX_IN_FLIGHT: usize = 1024;

impl InFlight {
    /// Before a call begins: gives up the calls whose end must have been missed, since the task can't be
    /// in them any more, or there are too many. Says whether there were any.
    pub fn give_up(&mut self, tid: u32, hook: Hook) -> bool {
        let before = self.calls.len();
        self.calls.retain(|call| call.begin.task.tid != tid || encloses(call.hook, hook));
        if self.calls.len() >= MAX_IN_FLIGHT {
            self.calls.remove(0);
        }
        self.calls.len() != before
    }

    /// A call begins, and may meet those of other tasks that are under way.
    pub fn begin(&mut self, mut operation: Box<Operation>) {
        let tid = operation.begin.task.tid;
        let touches = operation.touches();
        for call in self.calls.iter_mut().filter(|call| call.begin.task.tid != tid) {
            call.overlap.add(touches);
            operation.overlap.add(call.touches());
        }
        self.calls.push(operation);
    }

    /// A call returns: the innermost of this task and hook. `None`: its begin was not seen.
    pub fn end(&mut self, tid: u32, hook: Hook) -> Option<Box<Operation>> {
        let index = self.calls.iter().rposition(|call| call.begin.task.tid == tid && call.hook == hook)?;
        Some(self.calls.remove(index))
    }

    /// Whether a call of this task to this hook is under way.
    pub fn holds(&self, tid: u32, hook: Hook) -> bool {
        self.calls.iter().any(|call| call.begin.task.tid == tid && call.hook == hook)
    }

    /// A call returned whose begin was not seen: it may have met every call that is under way.
    pub fn disturb(&mut self, tid: u32, touches: Touches) {
        for call in self.calls.iter_mut().filter(|call| call.begin.task.tid != tid) {
            call.overlap.add(touches);
        }
    }

    /// The calls of a task, the outermost first.
    pub fn of(&self, tid: u32) -> impl Iterator<Item = &Operation> {
        self.calls.iter().map(Box::as_ref).filter(move |call| call.begin.task.tid == tid)
    }

    /// The innermost call of this task.
    pub fn innermost(&mut self, tid: u32) -> Option<&mut Operation> {
        self.calls.iter_mut().rfind(|call| call.begin.task.tid == tid).map(Box::as_mut)
    }

    /// What the calls of the other tasks that are under way may change at any moment.
    pub fn others(&self, tid: u32) -> Overlap {
        let mut overlap = Overlap::default();
        for call in self.calls.iter().filter(|call| call.begin.task.tid != tid) {
            overlap.add(call.touches());
        }
        overlap
    }

    /// Gives up the calls that began before `mono_ns`: their end was missed. Says whether there were any.
    pub fn expire(&mut self, mono_ns: u64) -> bool {
        let before = self.calls.len();
        self.calls.retain(|call| call.begin.mono_ns >= mono_ns);
        self.calls.len() != before
    }

    /// When the oldest call began; the end of time if none is under way.
    pub fn oldest(&self) -> u64 {
        self.calls.iter().map(|call| call.begin.mono_ns).min().unwrap_or(u64::MAX)
    }

    /// Anything may have happened in between: no verdict on a call that is under way.
    pub fn distrust(&mut self) {
        for call in &mut self.calls {
            call.synced = false;
            call.presence = Presence::Unknown;
            call.overlap = Overlap::everything();
        }
    }

    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }
}
