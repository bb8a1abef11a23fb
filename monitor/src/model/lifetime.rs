//! What attachments stand on, and what must not go before them: PASIDs of the global allocator, the `mm_struct` of a
//! process, domains. Here is what was known of its attachments when one of them went.

use std::collections::BTreeMap;

use foldhash::{HashMap, HashSet};
use monitor_ebpf::wire::{Hook, Phase};

use crate::event::{Domain, DomainKind, Event, Key};

use super::bond::Ended;
use super::group::{Actor, Attachment, Group, Presence};
use super::holders::{Bound, Sites};
use super::host::{GroupRef, Host};
use super::touches::Overlap;
use super::transition::Transition;

/// `__mmdrop`s that are under way; a task is in one at a time.
const MAX_DROPS: usize = 4096;
/// PASIDs that drivers have taken from the allocator for their own use.
const MAX_TAKEN: usize = 1 << 20;

/// What a group had attached when something that it needs went. It is known for sure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub group: GroupRef,
    pub rids: Option<Rids>,
    /// In ascending order.
    pub pasids: Vec<(u32, Attachment)>,
}

/// RIDs that are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rids {
    /// Who attached the first of those whose attach was seen.
    pub attached_by: Option<Actor>,
}

/// What went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    Domain(Domain),
    /// It went back to the allocator.
    Pasid(u32),
    /// The `mm_struct` that has this PASID.
    Mm(u32),
}

/// A PASID that a driver took for its own use.
#[derive(Clone, Copy, Debug)]
struct Taken {
    device: Key,
    mono_ns: u64,
}

/// An `__mmdrop` under way.
#[derive(Clone, Copy, Debug)]
struct Dropping {
    pasid: u32,
    by: Actor,
    /// Its PASID went back.
    back: bool,
    sure: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Lifetimes {
    pub bound: Bound,
    pub sites: Sites,
    taken: BTreeMap<u32, Taken>,
    /// By task.
    drops: HashMap<u32, Dropping>,
    pub ended: HashMap<Key, Ended>,
    /// Tasks that unbind a bond that has ended: what their record says beside is out of freed memory.
    pub astray: HashSet<u32>,
}

impl Lifetimes {
    /// Something was lost: what is known only because nothing else was seen is not known any more.
    pub fn forget(&mut self) {
        self.taken.clear();
        self.drops.clear();
        self.ended.clear();
        self.astray.clear();
    }

    /// Keeps where what is attached now is to be looked for when its domain or its PASID goes.
    pub fn note_sites(&mut self, key: Key, id: u32, event: &Event) {
        match event.hook {
            Hook::RidAttach | Hook::PasidAttach | Hook::PasidReplace
                if event.phase == Phase::End && event.ret == Some(0) =>
            {
                self.note_site(key, id, event.pasid, event.domain);
            }
            hook if monitor_ebpf::wire::is_snapshot(hook) => {
                self.note_site(key, id, None, event.group.and_then(|group| group.domain));
                for entry in event.array.iter().flat_map(|array| array.pasids()) {
                    self.note_site(key, id, Some(entry.pasid), entry.domain);
                }
            }
            _ => {}
        }
    }

    fn note_site(&mut self, key: Key, id: u32, pasid: Option<u32>, domain: Option<Domain>) {
        match (pasid, domain) {
            (Some(pasid), Some(Domain { kind: DomainKind::Sva, .. })) => self.bound.note(pasid, id),
            (_, Some(domain)) => self.sites.note(domain.key, key),
            (_, None) => {}
        }
    }
}

impl Host {
    /// A record of the calls that are on no group.
    pub(super) fn lifetime(&mut self, event: &Event, trusted: bool, transitions: &mut Vec<Transition>) {
        let sure = trusted && !self.overtaken(None, event.mono_ns);
        match event.hook {
            Hook::PasidAlloc => self.pasid_taken(event, sure),
            Hook::PasidFree => self.pasid_back(event, sure, transitions),
            Hook::MmDrop => self.mm_drops(event, sure, transitions),
            Hook::MmExit => self.mm_exits(event),
            Hook::DomainAlloc => {
                if let Some(domain) = event.domain {
                    self.lifetimes.sites.take(domain.key);
                }
                self.note_known(event);
            }
            _ => self.domain_goes(event, sure, transitions),
        }
    }

    /// Whether this task is still in a call on the group, or in an `__mmdrop`, that had begun at this time.
    pub fn is_calling(&self, group: GroupRef, tid: u32, mono_ns: u64) -> bool {
        let drops = self.lifetimes.drops.get(&tid).is_some_and(|call| call.by.mono_ns <= mono_ns);
        drops || self.group(group).is_some_and(|group| group.in_flight.began(tid) <= mono_ns)
    }

    fn note_known(&mut self, event: &Event) {
        let seen = event.group.map(|group| group.key);
        if let Some(group) = seen.and_then(|key| self.group_mut(key)) {
            group.remember(event);
        }
    }

    fn pasid_taken(&mut self, event: &Event, sure: bool) {
        self.note_known(event);
        let Some(pasid) = event.pasid else { return };
        self.lifetimes.bound.clear(pasid);
        self.lifetimes.taken.remove(&pasid);
        // Inside a bind it is the process's.
        if let Some(device) = event.device.filter(|_| event.mm.is_none() && sure)
            && self.lifetimes.taken.len() < MAX_TAKEN
        {
            let taken = Taken { device: device.key, mono_ns: event.mono_ns };
            self.lifetimes.taken.insert(pasid, taken);
        }
    }

    fn pasid_back(&mut self, event: &Event, sure: bool, transitions: &mut Vec<Transition>) {
        let Some(pasid) = event.pasid else { return };
        let dropping = self.lifetimes.drops.get_mut(&event.task.tid).filter(|call| call.pasid == pasid);
        let of_mm = event.mm.is_some() || dropping.is_some();
        if let Some(call) = dropping {
            call.back = true;
        }
        let mut held = self.bound_to(pasid, event, sure);
        if let Some(taken) = self.lifetimes.taken.remove(&pasid).filter(|_| sure && !of_mm) {
            held.extend(self.kept_by_taker(pasid, taken, event));
        }
        self.lifetimes.bound.clear(pasid);
        self.tell_gone(Gone::Pasid(pasid), held, event, transitions);
    }

    fn mm_drops(&mut self, event: &Event, sure: bool, transitions: &mut Vec<Transition>) {
        let tid = event.task.tid;
        let Some(pasid) = event.pasid else { return };
        if event.phase != Phase::End {
            let held = self.bound_to(pasid, event, sure);
            self.tell_gone(Gone::Mm(pasid), held, event, transitions);
            if self.lifetimes.drops.len() < MAX_DROPS {
                self.lifetimes.drops.insert(tid, Dropping { pasid, by: Actor::of(event), back: false, sure });
            }
            return;
        }
        let Some(call) = self.lifetimes.drops.remove(&tid).filter(|call| call.pasid == pasid) else { return };
        if call.sure && !call.back {
            let group = match self.lifetimes.bound.groups(pasid)[..] {
                [id] => self.group_by_id(id).map(Group::reference),
                _ => None,
            };
            let event = Box::new(event.clone());
            transitions.push(Transition::PasidLeaked { pasid, group, by: call.by, event });
        }
        self.lifetimes.bound.clear(pasid);
    }

    fn mm_exits(&mut self, event: &Event) {
        let Some(pasid) = event.pasid else { return };
        for id in self.lifetimes.bound.groups(pasid) {
            let Some(key) = self.group_by_id(id).map(|group| group.key) else { continue };
            let Some(group) = self.group_mut(key) else { continue };
            if group.pasids.get(&pasid).is_some_and(is_bound) {
                group.exited.entry(pasid).or_insert(event.mono_ns);
                group.remember(event);
            }
        }
    }

    fn domain_goes(&mut self, event: &Event, sure: bool, transitions: &mut Vec<Transition>) {
        let Some(domain) = event.domain else { return };
        let held = match domain.kind {
            // A static one may have a `free` that does nothing (VT-d's up to 6.6), and every group may be on it.
            DomainKind::Blocked | DomainKind::Identity => return,
            DomainKind::Sva => {
                let bound = event.pasid.map(|pasid| self.bound_to(pasid, event, sure)).unwrap_or_default();
                // A detach that is under way may have taken it off by now.
                let changing = |held: &Held, pasid: u32| {
                    self.group_by_key(held.group.key).is_none_or(|group| group.in_flight.touches(pasid))
                };
                let on = |held: &Held| {
                    let mut on = held.pasids.iter().filter(|(_, attachment)| is_on(attachment, domain));
                    on.any(|&(pasid, _)| !changing(held, pasid))
                };
                let held = bound.into_iter().filter(on).collect();
                self.forget_bound(event.pasid);
                held
            }
            _ => {
                let sites = self.lifetimes.sites.take(domain.key);
                let groups = sites.into_iter().filter_map(|key| self.group_by_key(key));
                groups.filter_map(|group| self.on_domain(group, domain, event).filter(|_| sure)).collect()
            }
        };
        self.tell_gone(Gone::Domain(domain), held, event, transitions);
    }

    /// Groups that have a PASID no more need not be looked at when it goes.
    fn forget_bound(&mut self, pasid: Option<u32>) {
        let Some(pasid) = pasid else { return };
        for id in self.lifetimes.bound.groups(pasid) {
            if self.group_by_id(id).is_none_or(|group| !group.pasids.contains_key(&pasid)) {
                self.lifetimes.bound.left(pasid, id);
            }
        }
    }

    fn tell_gone(&mut self, what: Gone, held: Vec<Held>, event: &Event, transitions: &mut Vec<Transition>) {
        for held in held {
            if let Some(group) = self.group_mut(held.group.key) {
                group.remember(event);
            }
            transitions.push(Transition::Gone { what, held, event: Box::new(event.clone()) });
        }
    }

    /// The groups that have this PASID attached to a process: until its detach has returned.
    fn bound_to(&self, pasid: u32, event: &Event, sure: bool) -> Vec<Held> {
        let groups = self.lifetimes.bound.groups(pasid).into_iter().filter_map(|id| self.group_by_id(id));
        let held = groups.filter_map(|group| match group.presence(pasid) {
            Presence::Attached(attachment)
                if is_bound(&attachment) && group.is_known(event.mono_ns) && self.takes_pasids(group) =>
            {
                Some(Held { group: group.reference(), rids: None, pasids: vec![(pasid, attachment)] })
            }
            _ => None,
        });
        held.filter(|_| sure).collect()
    }

    /// What of the device's group was attached under this PASID since a driver took it for the device.
    fn kept_by_taker(&self, pasid: u32, taken: Taken, event: &Event) -> Option<Held> {
        let device = self.device(taken.device).filter(|device| device.since_ns <= taken.mono_ns)?;
        let group = self.group_by_key(device.group?).filter(|group| group.is_known(event.mono_ns))?;
        // Whoever claimed the group chooses his PASIDs himself (iommufd).
        let drivers = group.ownership.is_some_and(|ownership| ownership.owner.is_none());
        let calm = !group.in_flight.touches(pasid);
        match group.presence(pasid) {
            Presence::Attached(attachment)
                if drivers
                    && calm
                    && !is_bound(&attachment)
                    && attachment.attached_by.is_some_and(|by| by.mono_ns >= taken.mono_ns) =>
            {
                Some(Held { group: group.reference(), rids: None, pasids: vec![(pasid, attachment)] })
            }
            _ => None,
        }
    }

    /// What of the group is attached to a domain, less what a call under way may be changing.
    fn on_domain(&self, group: &Group, domain: Domain, event: &Event) -> Option<Held> {
        if !group.is_known(event.mono_ns) {
            return None;
        }
        let changing = under_way(group);
        let rids = self.rids_on(group, domain).filter(|_| !changing.domain());
        let takes = self.takes_pasids(group);
        let certain = |pasid: &u32| takes && !group.doubtful.contains(pasid) && !changing.pasid(*pasid);
        let attached = group.pasids.iter().filter(|(pasid, at)| is_on(at, domain) && certain(pasid));
        let mut pasids: Vec<(u32, Attachment)> = attached.map(|(&pasid, &at)| (pasid, at)).collect();
        pasids.sort_unstable_by_key(|&(pasid, _)| pasid);
        let held = Held { group: group.reference(), rids, pasids };
        (held.rids.is_some() || !held.pasids.is_empty()).then_some(held)
    }

    /// Whether a RID of the group is on the domain for sure. What the core says of the group and what was seen of the
    /// device must not contradict each other: between a reset and its end they do.
    fn rids_on(&self, group: &Group, domain: Domain) -> Option<Rids> {
        let says = group.domain.map(|says| says.key == domain.key);
        let members = group.devices.iter().filter_map(|&key| self.device(key));
        let mut on = members.filter(|device| {
            let unsettled = device.state.is_some_and(|state| state.blocked || state.deferred);
            match device.domain.map(|seen| seen.key == domain.key) {
                Some(seen) => seen && says != Some(false) && !unsettled,
                None => says == Some(true) && !unsettled,
            }
        });
        let first = on.next()?;
        Some(Rids { attached_by: first.attached_by.or_else(|| on.find_map(|device| device.attached_by)) })
    }

    /// The group has a device that takes PASIDs: one that leaves ends its attachments without a detach.
    fn takes_pasids(&self, group: &Group) -> bool {
        let takes = |&key: &Key| self.device(key).is_some_and(|device| device.max_pasids != Some(0));
        group.devices.iter().any(takes)
    }

    /// The group's RIDs were detached, and there is no domain that they went to (up to 6.3, where there is no
    /// default domain).
    pub(super) fn rids_detached(&mut self, key: Key) {
        let devices = self.group_by_key(key).map(|group| group.devices.clone()).unwrap_or_default();
        for device in devices {
            if let Some(device) = self.device_mut(device) {
                (device.domain, device.attached_by) = (None, None);
            }
        }
    }
}

/// What any call that is under way on the group may change at any moment.
fn under_way(group: &Group) -> Overlap {
    // No task has this number.
    group.in_flight.others(u32::MAX).overlap()
}

fn is_bound(attachment: &Attachment) -> bool {
    attachment.domain.is_some_and(|domain| domain.kind == DomainKind::Sva)
}

fn is_on(attachment: &Attachment, domain: Domain) -> bool {
    attachment.domain.is_some_and(|on| on.key == domain.key)
}

impl Group {
    /// The PASIDs whose processes have exited, with what is known of their attachment and since when at the latest.
    pub(super) fn lingering(&mut self) -> Vec<(u32, Attachment, u64)> {
        let pasids = &self.pasids;
        self.exited.retain(|pasid, _| pasids.get(pasid).is_some_and(is_bound));
        let certain = self.exited.iter().filter(|(pasid, _)| !self.doubtful.contains(pasid));
        certain.filter_map(|(&pasid, &since)| Some((pasid, *self.pasids.get(&pasid)?, since))).collect()
    }
}
