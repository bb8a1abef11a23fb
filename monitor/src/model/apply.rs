//! One event, applied: what it lets us know of its group and device.
//!
//! What an event read of its group is taken over only where it is sound: under `group->mutex`, or where
//! no call of another task that could be changing it was under way. On entry of a call the reading is
//! the state before the call, on return the state after it.

use monitor_ebpf::wire::{Hook, Phase};

use crate::event::{Event, Key, Slot};

use super::bond::{Bond, settle_bond};
use super::group::{Actor, Attachment, Group, Presence};
use super::host::{Host, forget};
use super::missed::missed;
use super::order::{Locked, Operation, Overlap, Reading, Touches, under_mutex};
use super::role::{Leaver, Role, lets_rids_go, shows_alive, shows_table};
use super::transition::Transition;

/// More PASIDs in doubt than this, and the group is unknown.
const MAX_DOUBTFUL: usize = 65_536;

impl Host {
    /// Takes in one event, in the order of the ring, and says what became known by it.
    pub fn apply<'e>(&mut self, event: &'e Event, transitions: &mut Vec<Transition<'e>>) {
        let trusted = self.trusts(event.mono_ns);
        let role = Role::of(event.hook);
        if event.hook == Hook::SvaUnbind && self.unbinds_again(event, transitions) {
            return;
        }
        let group = match role {
            Role::Lifetime => return self.lifetime(event, trusted, transitions),
            Role::Leaving(_) | Role::Hardware => self.known_group(event),
            Role::Call if event.phase == Phase::End && event.group.is_none() => self.group_of_call(event),
            Role::Call | Role::Letting | Role::Reading | Role::Joining => self.meet_group(event, transitions),
        };
        self.apply_device(event, group, transitions);
        if let Some(flush) = &event.flush {
            self.flushed(group, event, flush, transitions);
        }
        let Some(key) = group else { return };
        self.see_free(key, event);
        let before = self.group_mut(key).map_or(0, |group| group.pasids.len());
        match role {
            Role::Call => match event.phase {
                Phase::Begin => self.begin(key, event, trusted, transitions),
                Phase::End | Phase::Point => self.end(key, event, transitions),
            },
            Role::Letting => self.let_go(key, event, transitions),
            Role::Reading => {
                self.read(key, event, transitions);
                self.look(key, event, transitions);
            }
            Role::Leaving(Leaver::Group) if event.phase != Phase::End => {
                return self.free_group(key, event, transitions);
            }
            Role::Hardware => {
                self.note(key, event);
                self.hardware(key, event, trusted, transitions);
            }
            Role::Joining | Role::Leaving(_) | Role::Lifetime => self.note(key, event),
        }
        if matches!(event.hook, Hook::VtdTableLeft | Hook::AmdTableLeft | Hook::SmmuTableLeft)
            && !self.switches_rid(key, event)
            && let Some(group) = self.group_by_key(key)
        {
            transitions.push(Transition::TableLeft { group: group.reference(), event });
        }
        self.note_sites(key, event);
        let after = self.group_mut(key).map_or(0, |group| group.pasids.len());
        self.pasids = self.pasids + after - before;
    }

    /// What any event read was so at a time since we watch, whoever was in a call then.
    fn see_free(&mut self, key: Key, event: &Event) {
        let read = event.group.and_then(|seen| seen.ownership).filter(|_| !event.incomplete);
        let free = read.is_some_and(|read| read.count == 0 && read.owner.is_none());
        if free
            && !self.overtaken(event.mono_ns)
            && let Some(group) = self.group_mut(key)
        {
            group.seen_free = true;
        }
    }

    /// The group that the event is about, if it is one that we know.
    fn known_group(&self, event: &Event) -> Option<Key> {
        let seen = event.group.as_ref()?;
        self.group_by_key(seen.key).filter(|known| known.id == seen.id).map(|known| known.key)
    }

    /// The group of a call that returns and names none any more: an unbind frees the bond that led there.
    fn group_of_call(&self, event: &Event) -> Option<Key> {
        let mut groups = self.groups();
        groups.find(|group| group.in_flight.holds(event.task.tid, event.hook)).map(|group| group.key)
    }

    /// What the event says of its device: that it lives and where, what table it has, that it goes.
    fn apply_device<'e>(
        &mut self,
        event: &'e Event,
        group: Option<Key>,
        transitions: &mut Vec<Transition<'e>>,
    ) {
        let Some(seen) = event.device.as_ref().filter(|seen| !seen.name.is_empty()) else { return };
        match (event.hook, event.phase) {
            (Hook::DeviceRemove | Hook::DeviceRelease, Phase::Begin | Phase::Point) => {
                return self.drop_device(seen.key, transitions);
            }
            (Hook::VtdTableFree, Phase::Begin | Phase::Point) => {
                if let Some(device) = self.device_mut(seen.key) {
                    device.table = Some(None);
                    transitions.push(Transition::TableGone { device: seen.key });
                }
                return;
            }
            _ => {}
        }
        if shows_alive(event) {
            self.meet_device(seen, group, event.mono_ns, transitions);
        }
        let overtaken = self.overtaken(event.mono_ns);
        let Some(device) = self.device_mut(seen.key).filter(|device| device.name == seen.name && !overtaken)
        else {
            return;
        };
        if event.hook == Hook::RidAttach && event.phase == Phase::End {
            // Where it is after a failure is the driver's affair.
            device.domain = event.domain.filter(|_| event.ret == Some(0));
            device.attached_by = device.domain.map(|_| Actor::of(event));
        }
        if matches!(event.hook, Hook::ResetPrepare | Hook::ResetDone) {
            self.reset(seen.key, event);
        }
        let Some(device) = self.device_mut(seen.key) else { return };
        let Some(table) = seen.table.filter(|_| shows_table(event)) else { return };
        if device.table == Some(table) {
            return;
        }
        device.table = Some(table);
        transitions.push(match table {
            Some(_) => Transition::Table { device: seen.key, event },
            None => Transition::TableGone { device: seen.key },
        });
    }

    fn begin(&mut self, key: Key, event: &Event, trusted: bool, transitions: &mut Vec<Transition<'_>>) {
        let room = self.room();
        self.call_began(event.mono_ns);
        let Some(group) = self.group_mut(key) else { return };
        if group.in_flight.give_up(event.task.tid, event.hook) {
            // An end that never came: nobody knows what that call did.
            forget(group, transitions);
        }
        let presence = event.pasid.map_or(Presence::Unknown, |pasid| presence(group, event, pasid));
        if group.synced {
            adopt(group, event, room);
        }
        let replaced = event.pasid.filter(|_| event.hook == Hook::PasidReplace);
        let entries = replaced.map_or(Vec::new(), |pasid| group.entries_of(pasid));
        group.touched(Touches::by(event));
        let bond =
            event.mm.filter(|_| event.hook == Hook::SvaUnbind).and_then(|mm| group.bonds.get(&mm)).copied();
        let attached = |bond: Bond| group.pasids.get(&bond.pasid?.get()).copied();
        let bond = bond.map(|bond| (bond, attached(bond)));
        group.in_flight.begin(Box::new(Operation {
            hook: event.hook,
            synced: group.synced && trusted && group.trusted_from <= event.mono_ns,
            presence,
            overlap: Overlap::default(),
            locked: None,
            entries,
            nested: None,
            bond,
            taken: None,
            begin: event.clone(),
        }));
    }

    fn end<'e>(&mut self, key: Key, event: &'e Event, transitions: &mut Vec<Transition<'e>>) {
        let (room, core_pasids) = (self.room(), self.core_pasids);
        let overtaken = self.overtaken(event.mono_ns);
        let Some(group) = self.group_mut(key) else { return };
        group.remember(event);
        let tid = event.task.tid;
        let operation = group.in_flight.end(tid, event.hook);
        if operation.is_none() {
            let touches = Touches::by(event);
            group.in_flight.disturb(tid, touches);
            if touches.ownership || touches.pasid.is_some() {
                transitions.push(Transition::Disturbed { group: group.reference() });
            }
        }
        settle(group, operation.as_deref(), event, room);
        group.set_again(event);
        if let Some(pasid) = event.pasid.filter(|_| event.ret.is_none_or(|ret| ret == 0))
            && let Some(outer) = group.in_flight.innermost(tid)
        {
            outer.nested = Some((event.hook, pasid));
        }
        let calm = operation.as_ref().is_some_and(|call| call.overlap.is_calm());
        sync(group, event, core_pasids, calm && !overtaken, transitions);
        let group = group.reference();
        transitions.push(Transition::Updated { group });
        self.note_bond(operation.as_deref(), event, group);
        if event.group.is_some_and(|seen| seen.domain.is_none()) && lets_rids_go(event) {
            self.rids_detached(key);
        }
        if let Some(operation) = operation {
            self.want_look(key, &operation, event);
            transitions.push(Transition::Returned { group, operation, end: event });
        }
    }

    /// `__iommu_release_dma_ownership`: what the calls around it did is read here, under the mutex.
    fn let_go(&mut self, key: Key, event: &Event, transitions: &mut Vec<Transition<'_>>) {
        self.read(key, event, transitions);
        let (Some(group), Some(reading)) = (self.group_mut(key), Reading::of(event)) else { return };
        let pasids = reading.array.as_ref().map_or(Vec::new(), |array| group.attachments(array));
        let Some(call) = group.in_flight.innermost(event.task.tid) else { return };
        match (event.phase, &mut call.locked) {
            (Phase::Begin | Phase::Point, locked) => {
                *locked = Some(Locked { before: reading, pasids, after: None });
            }
            (Phase::End, Some(locked)) => locked.after = Some(reading),
            (Phase::End, None) => {}
        }
    }

    /// A reading for its own sake: one of those that make up a look.
    fn read(&mut self, key: Key, event: &Event, transitions: &mut Vec<Transition<'_>>) {
        let locked = under_mutex(event.hook);
        let sound = (locked || self.reads_again(key, event)) && !self.overtaken(event.mono_ns);
        let (room, core_pasids) = (self.room(), self.core_pasids);
        let Some(group) = self.group_mut(key) else { return };
        if sound {
            if let Some(hook) = missed(group, event) {
                group.unseen = true;
                transitions.push(Transition::Leaked { group: group.reference(), hook });
            }
            adopt(group, event, room);
            group.read_ns = event.mono_ns;
            if let Some(array) = &event.array {
                let exited = array.pasids().filter(|entry| entry.mm_exited);
                for entry in exited {
                    group.exited.entry(entry.pasid).or_insert(event.mono_ns);
                }
            }
            if locked && let Some(seen) = &event.group {
                group.proved = (seen.ownership, seen.domain);
                if event.array.as_ref().is_some_and(|array| array.complete) {
                    group.stirred.clear();
                }
            }
        }
        sync(group, event, core_pasids, sound, transitions);
        transitions.push(Transition::Updated { group: group.reference() });
    }

    fn free_group<'e>(&mut self, key: Key, event: &'e Event, transitions: &mut Vec<Transition<'e>>) {
        self.note(key, event);
        let left = event.array.as_ref().is_some_and(|array| array.pasids().next().is_some());
        if let Some(group) = self.group_mut(key).filter(|_| left) {
            let group = group.reference();
            transitions.push(Transition::FreedWithPasids { group, event });
        }
        self.drop_group(key, transitions);
    }

    fn note(&mut self, key: Key, event: &Event) {
        if let Some(group) = self.group_mut(key) {
            group.remember(event);
        }
    }
}

/// What was known of a PASID on entry of a call on it: what the kernel's array shows, unless the model
/// knows otherwise. Where the two disagree one of them is wrong, and nothing is known.
fn presence(group: &Group, event: &Event, pasid: u32) -> Presence {
    let model = if group.synced { group.presence(pasid) } else { Presence::Unknown };
    match (event.slot, model) {
        (None, model) => model,
        (Some(Slot::Taken(entry)), Presence::Attached(known)) => match (entry.domain, known.domain) {
            (Some(read), Some(had)) if read.key != had.key => Presence::Unknown,
            (read, had) => Presence::Attached(Attachment { domain: read.or(had), ..known }),
        },
        (Some(Slot::Taken(entry)), Presence::Unknown) => Presence::Attached(group.attached_as(&entry)),
        (Some(Slot::Empty), Presence::Absent | Presence::Unknown) if !event.incomplete => Presence::Absent,
        _ => Presence::Unknown,
    }
}

/// Takes over what an event read of its group, where it is sound.
fn adopt(group: &mut Group, event: &Event, room: usize) {
    let Some(seen) = &event.group else { return };
    let changing = group.in_flight.others(event.task.tid);
    let locked = under_mutex(event.hook);
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
    if let (Some(pasid), Some(slot)) = (event.pasid.filter(|&pasid| pasid != 0), event.slot)
        && !event.incomplete
        && !changing.pasid(pasid)
    {
        group.adopt_slot(pasid, slot, room);
    }
    if let Some(array) = &event.array {
        let torn = event.incomplete && array.complete;
        let part = torn.then(|| crate::event::PasidArray { complete: false, ..array.clone() });
        group.adopt(part.as_ref().unwrap_or(array), room, &changing, locked);
    }
}

/// A call returned: what it did, and what the group is now.
fn settle(group: &mut Group, operation: Option<&Operation>, event: &Event, room: usize) {
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
        settle_pasid(group, operation, event, pasid, overlap.pasid(pasid), room);
    }
    group.takers.returned(operation, event);
    adopt(group, event, room);
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
) {
    let attaches = matches!(event.hook, Hook::PasidAttach | Hook::PasidReplace);
    let succeeded = event.ret.is_none_or(|ret| ret == 0);
    if succeeded {
        group.exited.remove(&pasid);
        group.contested.remove(&pasid);
    }
    match disturbed {
        true => group.doubtful.insert(pasid),
        false => group.doubtful.remove(&pasid),
    };
    let begin = operation.map_or(event, |call| &call.begin);
    if attaches && succeeded {
        if room > 0 || group.pasids.contains_key(&pasid) {
            let attached_by = Some(Actor::of(begin));
            let domain = event.domain.or(begin.domain);
            group.pasids.insert(pasid, Attachment { domain, attached_by });
        } else {
            group.pasids_known = false;
        }
    } else if !attaches && !disturbed {
        group.pasids.remove(&pasid);
    } else if !succeeded && !disturbed {
        match operation.map(|call| &call.presence) {
            Some(Presence::Absent) => drop(group.pasids.remove(&pasid)),
            Some(Presence::Attached(_)) | Some(Presence::Unknown) | None => {}
        }
    }
    if group.doubtful.len() > MAX_DOUBTFUL {
        group.forget();
    }
}

/// The group is known as soon as a sound reading gave its state. An array that is longer than a record
/// leaves the PASIDs that are not in it unknown, and no more.
fn sync(
    group: &mut Group,
    event: &Event,
    core_pasids: bool,
    sound: bool,
    transitions: &mut Vec<Transition<'_>>,
) {
    let whole = event.group.is_some_and(|seen| seen.ownership.is_some())
        && (!core_pasids || event.array.is_some())
        && !event.incomplete
        && event.hook != Hook::RidAttach;
    if sound && whole && !group.synced && group.ownership.is_some() {
        group.synced = true;
        transitions.push(Transition::Synced { group: group.reference() });
    }
}
