//! A call on a group, as its events tell it: what it began on, what came of it, and what was read of the group at either.
//!
//! What an event read of its group is taken over only where it is sound: under `group->mutex`, or where
//! no call of another task that could be changing it was under way. On entry of a call the reading is
//! the state before the call, on return the state after it.

use monitor_ebpf::wire::{Hook, Phase};

use crate::event::{Event, Slot};

use super::bond::{Bond, settle_bond};
use super::former::{Detached, Former};
use super::group::{Actor, Attachment, Group, Presence};
use super::host::forget;
use super::lifetime::Lifetimes;
use super::missed::missed;
use super::order::{Locked, Operation, Reading, under_mutex};
use super::touches::{Overlap, Touches};
use super::transition::Transition;

/// More PASIDs in doubt than this, and the group is unknown.
const MAX_DOUBTFUL: usize = 65_536;

/// What the host knows when something happens to one of its groups.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    /// A call that begins now can meet none that we don't know of, as far as all groups are concerned.
    pub trusted: bool,
    /// The event may be older than something that was lost: its reading makes nothing known.
    pub overtaken: bool,
    /// How many more PASIDs are kept account of.
    pub room: usize,
    pub core_pasids: bool,
}

impl Group {
    pub(super) fn begin(&mut self, event: Box<Event>, moment: Moment, transitions: &mut Vec<Transition>) {
        if self.in_flight.give_up(event.task.tid, event.hook) {
            // An end that never came: nobody knows what that call did.
            forget(self, transitions);
        }
        let presence = event.pasid.map_or(Presence::Unknown, |pasid| presence(self, &event, pasid));
        if self.synced {
            adopt(self, &event, moment.room);
        }
        let replaced = event.pasid.filter(|_| event.hook == Hook::PasidReplace);
        let entries = replaced.map_or(Vec::new(), |pasid| self.entries_of(pasid));
        self.touched(Touches::by(&event));
        let bond = event.mm.filter(|_| event.hook == Hook::SvaUnbind).and_then(|mm| self.bonds.get(&mm));
        let attached = |bond: &Bond| self.pasids.get(&bond.pasid?.get()).copied();
        let bond = bond.map(|bond| (*bond, attached(bond)));
        self.in_flight.begin(Box::new(Operation {
            hook: event.hook,
            synced: self.synced && moment.trusted && self.trusted_from <= event.mono_ns,
            presence,
            overlap: Overlap::default(),
            locked: None,
            entries,
            nested: None,
            bond,
            taken: None,
            begin: event,
        }));
    }

    pub(super) fn end(
        &mut self,
        event: Box<Event>,
        moment: Moment,
        lifetimes: &mut Lifetimes,
        former: &mut Former,
        transitions: &mut Vec<Transition>,
    ) {
        self.remember(&event);
        let tid = event.task.tid;
        let operation = self.in_flight.end(tid, event.hook);
        if operation.is_none() {
            let touches = Touches::by(&event);
            self.in_flight.disturb(tid, touches);
            if touches.ownership || touches.pasid.is_some() {
                transitions.push(Transition::Disturbed { group: self.reference() });
            }
        }
        settle(self, operation.as_deref(), &event, moment.room, former);
        self.set_again(&event);
        if let Some(pasid) = event.pasid.filter(|_| event.ret.is_none_or(|ret| ret == 0))
            && let Some(outer) = self.in_flight.innermost(tid)
        {
            outer.nested = Some((event.hook, pasid));
        }
        let calm = operation.as_ref().is_some_and(|call| call.overlap.is_calm());
        sync(self, &event, moment.core_pasids, calm && !moment.overtaken, transitions);
        let group = self.reference();
        transitions.push(Transition::Updated { group });
        lifetimes.note_bond(operation.as_deref(), &event, group);
        if let Some(operation) = operation {
            transitions.push(Transition::Returned { group, operation, end: event });
        }
    }

    /// `__iommu_release_dma_ownership`: what the calls around it did is read here, under the mutex.
    pub(super) fn let_go(&mut self, event: &Event, moment: Moment, transitions: &mut Vec<Transition>) {
        self.read(event, false, moment, transitions);
        let Some(reading) = Reading::of(event) else { return };
        let pasids = reading.array.as_ref().map_or(Vec::new(), |array| self.attachments(array));
        let Some(call) = self.in_flight.innermost(event.task.tid) else { return };
        match (event.phase, &mut call.locked) {
            (Phase::Begin | Phase::Point, locked) => {
                *locked = Some(Box::new(Locked { before: reading, pasids, after: None }));
            }
            (Phase::End, Some(locked)) => locked.after = Some(reading),
            (Phase::End, None) => {}
        }
    }

    /// A reading for its own sake: one of those that make up a look. `again`: the same was read on entry of the look,
    /// and nothing was under way.
    pub(super) fn read(
        &mut self,
        event: &Event,
        again: bool,
        moment: Moment,
        transitions: &mut Vec<Transition>,
    ) {
        let locked = under_mutex(event.hook);
        let sound = (locked || again) && !moment.overtaken;
        if sound {
            if let Some(hook) = missed(self, event) {
                self.unseen = true;
                transitions.push(Transition::Leaked { group: self.reference(), hook });
            }
            adopt(self, event, moment.room);
            self.read_ns = event.mono_ns;
            if let Some(array) = &event.array {
                let exited = array.pasids().filter(|entry| entry.mm_exited);
                for entry in exited {
                    self.exited.entry(entry.pasid).or_insert(event.mono_ns);
                }
            }
            if locked && let Some(seen) = &event.group {
                self.proved = (seen.ownership, seen.domain);
                if event.array.as_ref().is_some_and(|array| array.complete) {
                    self.stirred.clear();
                }
            }
        }
        sync(self, event, moment.core_pasids, sound, transitions);
        transitions.push(Transition::Updated { group: self.reference() });
    }
}

/// What was known of a PASID on entry of a call on it: what the kernel's array shows, unless the model
/// knows otherwise. Where the two disagree one of them is wrong, and nothing is known.
fn presence(group: &Group, event: &Event, pasid: u32) -> Presence {
    let model = if group.synced { group.presence(pasid) } else { Presence::Unknown };
    match (&event.slot, model) {
        (None, model) => model,
        (Some(Slot::Taken(entry)), Presence::Attached(known)) => match (entry.domain, known.domain) {
            (Some(read), Some(had)) if read.key != had.key => Presence::Unknown,
            (read, had) => Presence::Attached(Attachment { domain: read.or(had), ..known }),
        },
        (Some(Slot::Taken(entry)), Presence::Unknown) => Presence::Attached(group.attached_as(entry)),
        (Some(Slot::Empty), Presence::Absent | Presence::Unknown) if !event.incomplete => Presence::Absent,
        _ => Presence::Unknown,
    }
}

/// Takes over what an event read of its group, where it is sound.
fn adopt(group: &mut Group, event: &Event, room: usize) {
    let Some(seen) = &event.group else { return };
    let changing = group.in_flight.others(event.task.tid);
    let locked = under_mutex(event.hook);
    let calm = |pasid: &u32| *pasid != 0 && !event.incomplete && !changing.pasid(*pasid);
    let slot = event.pasid.filter(calm).zip(event.slot.as_ref());
    let array = event.array.as_ref().map(|array| (array, changing.overlap()));
    // Inside the switch of a RID's domain ownership and domain are half-way.
    if event.hook != Hook::RidAttach {
        if let Some(ownership) = seen.ownership.filter(|_| locked || !changing.ownership()) {
            group.ownership = Some(ownership);
            group.takers.confirm(ownership);
        }
        if locked || !changing.domain() {
            group.domain = seen.domain.or(group.domain.filter(|_| event.incomplete));
            group.default_domain = seen.default_domain.or(group.default_domain.filter(|_| event.incomplete));
            group.recovery_cnt = seen.recovery_cnt;
        }
    }
    if let Some((pasid, slot)) = slot {
        group.adopt_slot(pasid, slot, room);
    }
    if let Some((array, changing)) = array {
        let torn = event.incomplete && array.complete;
        let part = torn.then(|| crate::event::PasidArray { complete: false, ..array.clone() });
        group.adopt(part.as_ref().unwrap_or(array), room, &changing, locked);
    }
}

/// A call returned: what it did, and what the group is now.
fn settle(group: &mut Group, operation: Option<&Operation>, event: &Event, room: usize, former: &mut Former) {
    let everything = Overlap::everything();
    let overlap = operation.map_or(&everything, |call| &call.overlap);
    let touches = Touches::of(event.hook, event.pasid);
    group.touched(touches);
    if touches.ownership {
        group.ownership = None;
    }
    if touches.domain {
        group.domain = None;
    }
    if let (true, Some(pasid)) = (touches.pasid.is_some(), event.pasid) {
        settle_pasid(group, operation, event, pasid, overlap.pasid(pasid), room, former);
    }
    group.takers.returned(operation, event);
    adopt(group, event, room);
    group.forget_former(event);
    if matches!(event.hook, Hook::SvaBind | Hook::SvaUnbind) && event.ret.is_none_or(|ret| ret == 0) {
        settle_bond(group, operation, event);
    }
}

fn settle_pasid(
    group: &mut Group,
    operation: Option<&Operation>,
    event: &Event,
    pasid: u32,
    disturbed: bool,
    room: usize,
    former: &mut Former,
) {
    let attaches = matches!(event.hook, Hook::PasidAttach | Hook::PasidReplace);
    let succeeded = event.ret.is_none_or(|ret| ret == 0);
    if succeeded {
        group.exited.remove(&pasid);
        group.contested.remove(&pasid);
    }
    let mut last = None;
    if disturbed {
        group.doubtful.insert(pasid);
    } else {
        group.doubtful.remove(&pasid);
        group.contests.remove(&pasid);
    }
    let begin = operation.map_or(event, |call| &call.begin);
    if attaches && succeeded {
        if room > 0 || group.pasids.contains_key(&pasid) {
            let attached_by = Some(Actor::of(begin));
            let domain = event.domain.or(begin.domain);
            let attachment = Attachment { domain, attached_by };
            group.pasids.insert(pasid, attachment);
            if disturbed {
                group.contests.entry(pasid).or_default().enter(attachment, operation, event);
            }
        } else {
            group.pasids_known = false;
        }
    } else if !attaches && !disturbed {
        if let Some(attachment) = group.pasids.remove(&pasid) {
            last = Some(Detached { attachment, by: Actor::of(event) });
        }
    } else if !succeeded && !disturbed {
        match operation.map(|call| &call.presence) {
            Some(Presence::Absent) => drop(group.pasids.remove(&pasid)),
            Some(Presence::Attached(_)) | Some(Presence::Unknown) | None => {}
        }
    }
    former.note(group.tenure(), pasid, last);
    if group.doubtful.len() > MAX_DOUBTFUL {
        group.forget();
    }
}

/// The group is known as soon as a sound reading gave its state. An array that is longer than a record
/// leaves the PASIDs that are not in it unknown, and no more.
fn sync(group: &mut Group, event: &Event, core_pasids: bool, sound: bool, transitions: &mut Vec<Transition>) {
    let whole = event.group.is_some_and(|seen| seen.ownership.is_some())
        && (!core_pasids || event.array.is_some())
        && !event.incomplete
        && event.hook != Hook::RidAttach;
    if sound && whole && !group.synced && group.ownership.is_some() {
        group.synced = true;
        transitions.push(Transition::Synced { group: group.reference() });
    }
}
