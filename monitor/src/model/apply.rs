//! One event, applied: what it lets us know of its group and device.

use monitor_ebpf::wire::{Hook, Phase};

use crate::event::{Event, Key};

use super::call::Moment;
use super::group::{Actor, Group};
use super::host::Host;
use super::reset::is_reset;
use super::role::{Leaver, Role, lets_rids_go, shows_alive, shows_table};
use super::transition::Transition;

impl Host {
    /// Takes in one event, in the order of the ring, and says what became known by it.
    pub fn apply(&mut self, event: Box<Event>, transitions: &mut Vec<Transition>) {
        let trusted = self.trusts(event.mono_ns);
        let role = Role::of(event.hook);
        if event.hook == Hook::SvaUnbind && self.unbinds_again(&event, transitions) {
            return;
        }
        let group = match role {
            Role::Lifetime => return self.lifetime(&event, trusted, transitions),
            Role::Tags => return self.reads.note(&event),
            Role::Leaving(_) | Role::Hardware | Role::Reset => self.known_group(&event),
            Role::Call if event.phase == Phase::End && event.group.is_none() => self.group_of_call(&event),
            Role::Call | Role::Letting | Role::Reading | Role::Joining => {
                self.meet_group(&event, transitions)
            }
        };
        self.apply_device(&event, group, trusted, transitions);
        match (role, group) {
            (Role::Hardware, _) => self.apply_hardware(event, group, trusted, transitions),
            (_, Some(key)) => self.apply_group(event, role, key, trusted, transitions),
            (_, None) => {}
        }
    }

    fn apply_hardware(
        &mut self,
        mut event: Box<Event>,
        group: Option<Key>,
        trusted: bool,
        transitions: &mut Vec<Transition>,
    ) {
        if event.hook == Hook::AtsOn {
            self.reads.note_ats(&event);
        }
        let overtaken = self.overtaken(group, event.mono_ns);
        if let Some(key) = group
            && let Some(group) = self.group_mut(key)
        {
            group.see_free(&event, overtaken);
            group.remember(&event);
            let (reference, before) = (group.reference(), group.pasids.len());
            self.hardware(key, &event, trusted, transitions);
            let after = self.group_by_key(key).map_or(0, |group| group.pasids.len());
            self.pasids = self.pasids + after - before;
            if self.leaves_table(key, &event, trusted) {
                transitions.push(Transition::TableLeft { group: reference, event: event.clone() });
            }
        }
        if let Some(range) = event.range.take() {
            // A flush that began before all of its hooks were attached: its descriptors may not have been seen.
            if !trusted {
                return;
            }
            let group = group.and_then(|key| self.group_by_key(key)).map(Group::reference);
            transitions.push(Transition::RangeShort { group, event, range });
        } else if let Some(flush) = event.flush.take() {
            self.flushed(group, event, flush, transitions);
        }
    }

    fn apply_group(
        &mut self,
        event: Box<Event>,
        role: Role,
        key: Key,
        trusted: bool,
        transitions: &mut Vec<Transition>,
    ) {
        match (role, event.phase) {
            (Role::Leaving(Leaver::Group), Phase::Begin | Phase::Point) => {
                return self.free_group(key, event, transitions);
            }
            (Role::Call, Phase::Begin) => {
                self.call_began(event.mono_ns);
                self.reads.begins(&event);
            }
            _ => {}
        }
        let (room, core_pasids) = (self.room(), self.core_pasids);
        let again = role == Role::Reading && self.reads_again(key, &event);
        let detached = lets_rids_go(&event) && event.group.is_some_and(|seen| seen.domain.is_none());
        let Some(group) = self.groups.get_mut(&key) else { return };
        let overtaken = group.lost_at.is_some_and(|lost_at| event.mono_ns < lost_at);
        let moment = Moment { trusted, overtaken, room, core_pasids };
        self.lifetimes.note_sites(key, group.id, &event);
        group.see_free(&event, moment.overtaken);
        let before = group.pasids.len();
        match (role, event.phase) {
            (Role::Call, Phase::Begin) => group.begin(event, moment, transitions),
            (Role::Call, _) => group.end(event, moment, &mut self.lifetimes, &mut self.former, transitions),
            (Role::Letting, _) => group.let_go(&event, moment, transitions),
            (Role::Reading, _) => {
                group.read(&event, again, moment, transitions);
                self.pasids = self.pasids + group.pasids.len() - before;
                return self.look(key, &event, transitions);
            }
            _ => group.remember(&event),
        }
        self.pasids = self.pasids + group.pasids.len() - before;
        if detached {
            self.rids_detached(key);
        }
        if let Some(Transition::Returned { operation, end, .. }) = transitions.last() {
            self.want_look(key, operation, end);
            self.tagged(transitions);
        }
    }

    fn free_group(&mut self, key: Key, event: Box<Event>, transitions: &mut Vec<Transition>) {
        let left = event.array.as_ref().is_some_and(|array| array.pasids().next().is_some());
        if let Some(group) = self.group_mut(key) {
            group.remember(&event);
            let group = group.reference();
            if left {
                transitions.push(Transition::FreedWithPasids { group, event });
            }
        }
        self.drop_group(key, transitions);
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
    fn apply_device(
        &mut self,
        event: &Event,
        group: Option<Key>,
        trusted: bool,
        transitions: &mut Vec<Transition>,
    ) {
        let Some(seen) = event.device.as_ref().filter(|seen| !seen.name.is_empty()) else { return };
        match (event.hook, event.phase) {
            (Hook::DeviceRemove | Hook::DeviceRelease, Phase::Begin | Phase::Point) => {
                self.departures.note(seen.key, event.mono_ns);
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
        if shows_alive(event) && !self.departures.since(seen.key, event.mono_ns) {
            self.meet_device(seen, group, event.mono_ns, transitions);
        }
        let attached = event.hook == Hook::RidAttach && event.phase == Phase::End;
        let resets = is_reset(event.hook);
        let table = seen.table.filter(|_| shows_table(event));
        if !attached && !resets && table.is_none() || self.overtaken(group, event.mono_ns) {
            return;
        }
        let known = self.device_mut(seen.key);
        let Some(device) = known.filter(|device| device.name == seen.name) else { return };
        if attached {
            // Where it is after a failure is the driver's affair.
            device.domain = event.domain.filter(|_| event.ret == Some(0));
            device.astray = event.ret != Some(0);
            device.attached_by = device.domain.map(|_| Actor::of(event));
        }
        if let Some(table) = table.filter(|&table| device.table != Some(table)) {
            device.table = Some(table);
            transitions.push(match table {
                Some(_) => Transition::Table { device: seen.key, hook: event.hook, actor: Actor::of(event) },
                None => Transition::TableGone { device: seen.key },
            });
        }
        if resets {
            self.reset(seen.key, event, trusted);
        }
    }
}
