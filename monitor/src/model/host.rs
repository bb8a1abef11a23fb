//! The host: its groups and devices, and what is known of them.

use std::time::Duration;

// Seeded anew in each run, and half the time of the standard library's hash.
use foldhash::HashMap;

use serde::{Deserialize, Serialize};

use crate::event::{self, Event, Key};

use super::departures::Departures;
use super::device::Device;
use super::former::Former;
use super::group::Group;
use super::lifetime::Lifetimes;
use super::look::Looking;
use super::slow::Slow;
use super::tags::Reads;
use super::transition::Transition;

/// How many attached PASIDs are kept on a host: as many as there are PASIDs. Beyond it a group's PASIDs
/// are unknown.
pub const MAX_PASIDS: usize = 1 << 20;
/// How many groups, and how many devices, are kept; a host has as many as its hardware.
const MAX_OBJECTS: usize = 65_536;
/// A call that has not returned after this time, in ns, has returned unseen.
const MAX_CALL_NS: u64 = 30_000_000_000;
/// A call whose begin was lost, or came before we watched, has returned after this time, in ns. Until then
/// it may meet other calls unseen, and they are not judged.
pub(super) const GRACE_NS: u64 = 250_000_000;

/// How long a process that has exited may stay bound, if nobody says otherwise.
pub const SVA_GRACE: Duration = Duration::from_secs(10 * 60);

/// A group of one generation: stays distinct when the address is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GroupRef {
    pub key: Key,
    pub generation: u64,
}

/// Everything that is known of the host's IOMMU groups.
#[derive(Clone, Debug)]
pub struct Host {
    pub(super) core_pasids: bool,
    pub(super) groups: HashMap<Key, Group>,
    ids: HashMap<u32, Key>,
    devices: HashMap<Key, Device>,
    /// Attached PASIDs of all groups together.
    pub(super) pasids: usize,
    generation: u64,
    pub(super) lifetimes: Lifetimes,
    sva_grace: Duration,
    pub(super) slow: Slow,
    /// The look that is under way: one group is looked at after the other.
    pub(super) looking: Option<Looking>,
    /// From then on every call under way is known: calls that began before are not judged.
    trusted_from: Option<u64>,
    /// The latest loss that was told, of whatever group.
    lost_at: Option<u64>,
    /// The group that went last: what is told of its end is told when it is gone.
    departed: Option<Box<Group>>,
    pub(super) departures: Departures,
    pub(super) former: Former,
    pub(super) reads: Reads,
    /// Groups at which a look is wanted.
    pub(super) wanted: Vec<Key>,
    /// No call that is under way began before, in CLOCK_MONOTONIC ns: until it is time for one of then, no
    /// group need be looked at.
    oldest_call: u64,
}

impl Host {
    /// `core_pasids`: the kernel has `iommu_group::pasid_array` (from 6.2).
    pub fn new(core_pasids: bool) -> Host {
        Host {
            core_pasids,
            groups: HashMap::default(),
            ids: HashMap::default(),
            devices: HashMap::default(),
            pasids: 0,
            generation: 0,
            lifetimes: Lifetimes::default(),
            sva_grace: SVA_GRACE,
            slow: Slow::default(),
            looking: None,
            trusted_from: None,
            lost_at: None,
            departed: None,
            departures: Departures::default(),
            former: Former::default(),
            reads: Reads::default(),
            wanted: Vec::new(),
            oldest_call: u64::MAX,
        }
    }

    /// A process that has exited may stay bound for so long.
    pub fn set_sva_grace(&mut self, grace: Duration) {
        self.sva_grace = grace;
    }

    /// How long a process that has exited may stay bound.
    pub fn sva_grace(&self) -> Duration {
        self.sva_grace
    }

    /// Every hook listens from this time on; nothing is known of what began before.
    pub fn watched_from(&mut self, mono_ns: u64) {
        self.trusted_from = Some(mono_ns.saturating_add(GRACE_NS));
    }

    /// From when on calls are judged; `None`: nothing was watched yet.
    pub fn trusted_from(&self) -> Option<u64> {
        self.trusted_from
    }

    /// Whether a call that begins at this time can meet no call that we don't know of, as far as all groups
    /// are concerned. The first event is the start, if nobody said so.
    pub(super) fn trusts(&mut self, mono_ns: u64) -> bool {
        *self.trusted_from.get_or_insert(mono_ns.saturating_add(GRACE_NS)) <= mono_ns
    }

    /// Whether an event of this time, on this group or on none, may be older than something that was lost: its reading
    /// makes nothing known. What another group lost is nothing to a group, and what it did goes on being known by its
    /// own records.
    pub(super) fn overtaken(&self, group: Option<Key>, mono_ns: u64) -> bool {
        let lost_at = match group.and_then(|key| self.groups.get(&key)) {
            Some(group) => group.lost_at,
            None => self.lost_at,
        };
        lost_at.is_some_and(|lost_at| mono_ns < lost_at)
    }

    /// The core keeps account of PASIDs, so a `pasid_array` that was not read is unknown, not absent.
    pub fn core_pasids(&self) -> bool {
        self.core_pasids
    }

    /// The group, if it is still the same one.
    pub fn group(&self, group: GroupRef) -> Option<&Group> {
        self.groups.get(&group.key).filter(|known| known.generation == group.generation)
    }

    /// The group that went last, if it is this one.
    pub fn departed(&self, group: GroupRef) -> Option<&Group> {
        self.departed.as_deref().filter(|departed| departed.reference() == group)
    }

    pub fn group_by_key(&self, key: Key) -> Option<&Group> {
        self.groups.get(&key)
    }

    pub fn group_by_id(&self, id: u32) -> Option<&Group> {
        self.groups.get(self.ids.get(&id)?)
    }

    /// All groups, in no order.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.values()
    }

    pub fn device(&self, key: Key) -> Option<&Device> {
        self.devices.get(&key)
    }

    /// All devices, in no order.
    pub fn devices(&self) -> impl Iterator<Item = &Device> {
        self.devices.values()
    }

    /// The names of a group's members, in order.
    pub fn names(&self, group: &Group) -> Vec<String> {
        let devices = group.devices.iter().filter_map(|key| self.devices.get(key));
        let mut names: Vec<String> = devices.map(|device| device.name.to_string()).collect();
        names.sort_unstable();
        names
    }

    /// What was known of these groups is not known any more: events were lost, up to this time. `None`: any
    /// group.
    pub fn mark_unknown(&mut self, groups: Option<&[Key]>, mono_ns: u64, transitions: &mut Vec<Transition>) {
        self.lost_at = self.lost_at.max(Some(mono_ns));
        self.looking = None;
        self.lifetimes.forget();
        self.reads.forget(mono_ns);
        let keys: Vec<Key> = match groups {
            Some(groups) => groups.to_vec(),
            None => {
                self.watched_from(mono_ns);
                self.groups.keys().copied().collect()
            }
        };
        for group in keys {
            let Some(group) = self.groups.get_mut(&group) else { continue };
            self.pasids -= group.pasids.len();
            forget(group, transitions);
            group.trusted_from = mono_ns.saturating_add(GRACE_NS);
            group.lost_at = group.lost_at.max(Some(mono_ns));
            for device in group.devices.iter() {
                if let Some(device) = self.devices.get_mut(device) {
                    device.forget();
                }
            }
        }
        if groups.is_none() {
            self.devices.values_mut().for_each(Device::forget);
        }
    }

    /// The kernel has no group of this number any more.
    pub fn gone(&mut self, id: u32, transitions: &mut Vec<Transition>) {
        if let Some(&key) = self.ids.get(&id) {
            self.drop_group(key, transitions);
        }
    }

    /// Time passes: a call that should have returned long ago has returned unseen, and what it did is
    /// not known.
    pub fn tick(&mut self, mono_ns: u64, transitions: &mut Vec<Transition>) {
        let before = mono_ns.saturating_sub(MAX_CALL_NS);
        if self.oldest_call >= before {
            return;
        }
        self.oldest_call = u64::MAX;
        for group in self.groups.values_mut() {
            if group.in_flight.expire(before) {
                self.pasids -= group.pasids.len();
                forget(group, transitions);
            }
            self.oldest_call = self.oldest_call.min(group.in_flight.oldest());
        }
    }

    /// A call began at this time.
    pub(super) fn call_began(&mut self, mono_ns: u64) {
        self.oldest_call = self.oldest_call.min(mono_ns);
    }

    /// The group that the event is about, made known if it was not. `None`: it names none.
    pub(super) fn meet_group(&mut self, event: &Event, transitions: &mut Vec<Transition>) -> Option<Key> {
        let seen = event.group.as_ref()?;
        match self.groups.get(&seen.key) {
            Some(known) if known.id == seen.id => return Some(seen.key),
            // Its number may be what could not be read: that drops nobody.
            Some(known) if event.incomplete => return Some(known.key),
            None if event.incomplete && self.ids.contains_key(&seen.id) => return None,
            _ => {}
        }
        // The address or the number is used again: the old group went unseen.
        self.drop_group(seen.key, transitions);
        if let Some(&key) = self.ids.get(&seen.id) {
            self.drop_group(key, transitions);
        }
        if self.groups.len() >= MAX_OBJECTS {
            return None;
        }
        self.generation += 1;
        let mut group = Group::new(seen.key, seen.id, self.generation);
        // It may be one that a loss was of, before we knew it.
        group.trusted_from = self.lost_at.map_or(0, |lost_at| lost_at.saturating_add(GRACE_NS));
        group.lost_at = self.lost_at;
        group.unseen = self.lost_at.is_some();
        self.groups.insert(seen.key, group);
        self.ids.insert(seen.id, seen.key);
        Some(seen.key)
    }

    /// How many more PASIDs are kept.
    pub(super) fn room(&self) -> usize {
        MAX_PASIDS.saturating_sub(self.pasids)
    }

    pub(super) fn group_mut(&mut self, key: Key) -> Option<&mut Group> {
        self.groups.get_mut(&key)
    }

    pub(super) fn drop_group(&mut self, key: Key, transitions: &mut Vec<Transition>) {
        let Some(group) = self.groups.remove(&key) else { return };
        self.wanted.retain(|&wanted| wanted != key);
        self.ids.remove(&group.id);
        self.pasids -= group.pasids.len();
        for device in &group.devices {
            self.drop_device(*device, transitions);
        }
        let reference = group.reference();
        transitions.push(Transition::GroupGone { group: reference, id: group.id });
        self.departed = Some(Box::new(group));
    }

    /// A device that an event showed alive, in `group` if it names one.
    pub(super) fn meet_device(
        &mut self,
        seen: &event::Device,
        group: Option<Key>,
        mono_ns: u64,
        transitions: &mut Vec<Transition>,
    ) {
        let known = self.devices.get_mut(&seen.key).filter(|known| known.name == seen.name);
        if let Some(known) = known.filter(|known| group.is_none() || known.group == group) {
            known.max_pasids = seen.max_pasids.or(known.max_pasids);
            return;
        }
        if self.devices.get(&seen.key).is_none_or(|known| known.name != seen.name) {
            // The address is used again, and the old device went unseen.
            self.drop_device(seen.key, transitions);
            if self.devices.len() >= MAX_OBJECTS {
                return;
            }
            self.generation += 1;
            self.devices.insert(seen.key, Device::new(seen, self.generation, mono_ns));
        }
        let Some(device) = self.devices.get_mut(&seen.key) else { return };
        device.max_pasids = seen.max_pasids.or(device.max_pasids);
        if group.is_some() && device.group != group {
            if let Some(old) = device.group.and_then(|old| self.groups.get_mut(&old)) {
                old.devices.remove(&seen.key);
            }
            device.group = group;
            device.since_ns = mono_ns;
            if let Some(group) = group.and_then(|key| self.groups.get_mut(&key)) {
                group.devices.insert(seen.key);
            }
        }
    }

    pub(super) fn device_mut(&mut self, key: Key) -> Option<&mut Device> {
        self.devices.get_mut(&key)
    }

    pub(super) fn drop_device(&mut self, key: Key, transitions: &mut Vec<Transition>) {
        let Some(device) = self.devices.remove(&key) else { return };
        if let Some(group) = device.group.and_then(|group| self.groups.get_mut(&group)) {
            group.devices.remove(&key);
            group.left_last = Some(device.name);
            if !group.torn.is_empty() {
                group.torn.retain(|(_, torn)| *torn != key);
            }
        }
        transitions.push(Transition::DeviceGone { device: Box::new(device) });
    }
}

impl Group {
    pub fn reference(&self) -> GroupRef {
        GroupRef { key: self.key, generation: self.generation }
    }
}

/// Forgets a group's state, and says so if it was known.
pub(super) fn forget(group: &mut Group, transitions: &mut Vec<Transition>) {
    let was_known = group.synced;
    group.forget();
    if was_known {
        transitions.push(Transition::Unknown { group: group.reference() });
    }
}
