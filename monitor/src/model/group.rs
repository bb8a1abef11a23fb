//! One IOMMU group: who owns it, what its RIDs are attached to, which PASIDs live in it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use foldhash::HashMap;
use monitor_ebpf::wire::{Hook, Phase};

use crate::event::{ArrayEntry, Comm, Domain, Event, Key, Name, Ownership, PasidArray, Slot};

use super::bond::Bond;
use super::look::Look;
use super::order::{InFlight, Overlap, Pasids, Touches};
use super::stirred::Stirred;

/// A task at a moment: who did something, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Actor {
    pub tid: u32,
    pub tgid: u32,
    pub comm: Comm,
    /// CLOCK_MONOTONIC, ns.
    pub mono_ns: u64,
    /// Id of the kernel stack, where one was taken.
    pub stack: Option<u32>,
}

impl Actor {
    pub fn of(event: &Event) -> Actor {
        Actor {
            tid: event.task.tid,
            tgid: event.task.tgid,
            comm: event.task.comm,
            mono_ns: event.mono_ns,
            stack: event.stack,
        }
    }
}

/// A PASID that is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// `None`: not known (the array names none, and the attach was not seen).
    pub domain: Option<Domain>,
    /// `None`: attached before we watched, or by a call that we did not see.
    pub attached_by: Option<Actor>,
}

/// What is known of a PASID in a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Presence {
    #[default]
    Unknown,
    Absent,
    Attached(Attachment),
}

/// An event in short, kept as evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    pub hook: Hook,
    pub phase: Phase,
    pub actor: Actor,
    pub device: Option<Name>,
    pub domain: Option<Domain>,
    pub pasid: Option<u32>,
    pub ret: Option<i32>,
}

/// How many events a group keeps as evidence.
const MAX_EVIDENCE: usize = 32;
/// One `struct iommu_group`.
#[derive(Clone, Debug)]
pub struct Group {
    pub key: Key,
    /// The number under /sys/kernel/iommu_groups.
    pub id: u32,
    /// Counts up when the address or the number is used again.
    pub generation: u64,
    /// Members, by device.
    pub devices: BTreeSet<Key>,
    /// `None`: not known.
    pub ownership: Option<Ownership>,
    /// What the group's RIDs are attached to; `None`: not known.
    pub domain: Option<Domain>,
    pub default_domain: Option<Domain>,
    /// Members blocked by a reset.
    pub recovery_cnt: u32,
    /// The state is known: it was read soundly, and nothing was lost since.
    pub synced: bool,
    pub(super) pasids: HashMap<u32, Attachment>,
    /// A PASID that is not in `pasids` is absent; else it is unknown.
    pub(super) pasids_known: bool,
    /// PASIDs of which it is not known whether they are attached.
    pub(super) doubtful: BTreeSet<u32>,
    /// By `mm_struct`.
    pub(super) bonds: BTreeMap<Key, Bond>,
    /// PASIDs whose process has exited, and since when at the latest, in CLOCK_MONOTONIC ns.
    pub(super) exited: BTreeMap<u32, u64>,
    pub(super) in_flight: InFlight,
    /// Calls that began before, in CLOCK_MONOTONIC ns, may have met others unseen.
    pub(super) trusted_from: u64,
    /// Who held it and where it sat when it was last read under the mutex, unless a call that may change that was
    /// seen since.
    pub(super) proved: (Option<Ownership>, Option<Domain>),
    /// PASIDs of which a call was seen since `pasid_array` was last read under the mutex.
    pub(super) stirred: Stirred,
    /// Nobody held it at a time since it became known: who holds it now was seen to take hold of it.
    pub seen_free: bool,
    /// Something of it went unseen since we watch, by a hook that missed a call or by a loss: how it came to be what
    /// it is can't be told from its state.
    pub unseen: bool,
    /// What the last look found, and how many there were.
    pub looked: Option<Box<Look>>,
    pub(super) looks: u64,
    evidence: VecDeque<Evidence>,
}

impl Group {
    pub(super) fn new(key: Key, id: u32, generation: u64) -> Group {
        Group {
            key,
            id,
            generation,
            devices: BTreeSet::new(),
            ownership: None,
            domain: None,
            default_domain: None,
            recovery_cnt: 0,
            synced: false,
            pasids: HashMap::default(),
            pasids_known: false,
            doubtful: BTreeSet::new(),
            bonds: BTreeMap::new(),
            exited: BTreeMap::new(),
            in_flight: InFlight::default(),
            trusted_from: 0,
            proved: (None, None),
            seen_free: false,
            unseen: false,
            stirred: Stirred::default(),
            looked: None,
            looks: 0,
            evidence: VecDeque::new(),
        }
    }

    /// What is known of a PASID.
    pub fn presence(&self, pasid: u32) -> Presence {
        if self.doubtful.contains(&pasid) {
            return Presence::Unknown;
        }
        match self.pasids.get(&pasid) {
            Some(attachment) => Presence::Attached(*attachment),
            None if self.pasids_known => Presence::Absent,
            None => Presence::Unknown,
        }
    }

    /// What is known of an attached PASID, a doubtful one included.
    pub fn attachment(&self, pasid: u32) -> Option<&Attachment> {
        self.pasids.get(&pasid)
    }

    /// The PASIDs that are attached, in ascending order; `None`: not all of them are known.
    pub fn pasids(&self) -> Option<impl Iterator<Item = (u32, &Attachment)>> {
        if !self.synced || !self.pasids_known {
            return None;
        }
        let certain = self.pasids.iter().filter(|(pasid, _)| !self.doubtful.contains(pasid));
        let mut pasids: Vec<(u32, &Attachment)> =
            certain.map(|(&pasid, attachment)| (pasid, attachment)).collect();
        pasids.sort_unstable_by_key(|&(pasid, _)| pasid);
        Some(pasids.into_iter())
    }

    /// The PASIDs of a read array, each with what is known of it if it is the same attachment.
    pub fn attachments(&self, array: &PasidArray) -> Vec<(u32, Attachment)> {
        array.pasids().map(|entry| (entry.pasid, self.attached_as(entry))).collect()
    }

    /// A read entry, with what is known of it if it is the same attachment.
    pub(super) fn attached_as(&self, entry: &ArrayEntry) -> Attachment {
        match (self.pasids.get(&entry.pasid), entry.domain) {
            (Some(known), Some(read)) if known.domain.is_some_and(|had| had.key != read.key) => {
                Attachment { domain: Some(read), attached_by: None }
            }
            (Some(known), read) => Attachment { domain: known.domain.or(read), ..*known },
            (None, read) => Attachment { domain: read, attached_by: None },
        }
    }

    /// How many SVA bonds there are, of those whose bind was seen.
    pub fn bonds(&self) -> usize {
        self.bonds.len()
    }

    /// No call is under way.
    pub fn quiescent(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// The events that led here, the oldest first.
    pub fn evidence(&self) -> impl Iterator<Item = &Evidence> {
        self.evidence.iter()
    }

    pub(super) fn remember(&mut self, event: &Event) {
        if self.evidence.len() == MAX_EVIDENCE {
            self.evidence.pop_front();
        }
        self.evidence.push_back(Evidence {
            hook: event.hook,
            phase: event.phase,
            actor: Actor::of(event),
            device: event.device.map(|device| device.name),
            domain: event.domain,
            pasid: event.pasid,
            ret: event.ret,
        });
    }

    /// Forgets the state; the identity and the members stay. The calls under way are so still, but can't be
    /// judged any more.
    pub(super) fn forget(&mut self) {
        self.ownership = None;
        self.domain = None;
        self.synced = false;
        self.pasids.clear();
        self.pasids_known = false;
        self.doubtful.clear();
        self.bonds.clear();
        self.exited.clear();
        self.seen_free = false;
        self.unseen = true;
        self.looked = None;
        self.proved = (None, None);
        self.in_flight.distrust();
    }

    /// Takes over a read `pasid_array`, but for the PASIDs that a call under way may be changing.
    /// What it shows and we did not know was attached before we watched.
    ///
    /// A reading that was not made under the mutex can be newer than its place in the ring, by what calls did whose
    /// records come after it. Where it contradicts what is known, either may be right: that PASID is in doubt,
    /// and another such reading takes the doubt from none.
    pub(super) fn adopt(&mut self, array: &PasidArray, room: usize, changing: &Overlap, locked: bool) {
        let mut room = room;
        for entry in array.pasids().filter(|entry| !changing.pasid(entry.pasid)) {
            if !locked && (self.doubtful.contains(&entry.pasid) || self.contradicts(entry)) {
                self.doubtful.insert(entry.pasid);
                continue;
            }
            if !self.adopt_entry(entry, &mut room) {
                return;
            }
        }
        if array.complete {
            let there = |pasid: u32| array.entries.binary_search_by_key(&pasid, |entry| entry.pasid).is_ok();
            if locked {
                self.pasids.retain(|&pasid, _| changing.pasid(pasid) || there(pasid));
                self.doubtful.retain(|&pasid| changing.pasid(pasid));
            } else {
                let gone = self.pasids.keys().filter(|&&pasid| !changing.pasid(pasid) && !there(pasid));
                self.doubtful.extend(gone);
            }
            self.pasids_known = true;
        }
    }

    /// Whether what was read of a PASID is not what is known.
    fn contradicts(&self, entry: &ArrayEntry) -> bool {
        match self.pasids.get(&entry.pasid) {
            Some(known) => known.domain.zip(entry.domain).is_some_and(|(had, read)| had.key != read.key),
            None => self.synced && self.pasids_known,
        }
    }

    /// Takes over what was read of one PASID.
    pub(super) fn adopt_slot(&mut self, pasid: u32, slot: Slot, room: usize) {
        match slot {
            Slot::Taken(entry) => drop(self.adopt_entry(&entry, &mut { room })),
            Slot::Empty => {
                self.doubtful.remove(&pasid);
                self.pasids.remove(&pasid);
            }
        }
    }

    /// `false`: there was no room for it, and the group's PASIDs are not all known any more.
    fn adopt_entry(&mut self, entry: &ArrayEntry, room: &mut usize) -> bool {
        self.doubtful.remove(&entry.pasid);
        match self.pasids.get_mut(&entry.pasid) {
            Some(known) => match (entry.domain, known.domain) {
                (Some(read), Some(had)) if read.key == had.key => {}
                (Some(read), None) => known.domain = Some(read),
                (Some(read), Some(_)) => *known = Attachment { domain: Some(read), attached_by: None },
                (None, _) => {}
            },
            None if *room == 0 => {
                self.pasids_known = false;
                return false;
            }
            None => {
                *room -= 1;
                let attachment = Attachment { domain: entry.domain, attached_by: None };
                self.pasids.insert(entry.pasid, attachment);
            }
        }
        true
    }

    /// A call that may change this was seen: what was read before it proves nothing of what comes after.
    pub(super) fn touched(&mut self, touches: Touches) {
        self.proved.0.take_if(|_| touches.ownership);
        self.proved.1.take_if(|_| touches.domain);
        match touches.pasid {
            Some(Pasids::One(pasid)) => self.stirred.add(pasid),
            Some(Pasids::Any) => self.stirred.add_all(),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use monitor_ebpf::wire::Encoding;

    use super::*;

    fn array(pasids: &[u32]) -> PasidArray {
        let entry =
            |&pasid| ArrayEntry { pasid, encoding: Encoding::Reserved, domain: None, mm_exited: false };
        PasidArray { entries: pasids.iter().map(entry).collect(), complete: true }
    }

    fn group() -> Group {
        Group { synced: true, ..Group::new(Key::new(1).expect("an address"), 7, 1) }
    }

    #[test]
    fn without_room_for_a_pasid_the_groups_pasids_are_unknown() {
        let mut group = group();
        group.adopt(&array(&[1, 2]), 2, &Overlap::default(), true);
        assert_eq!(group.pasids().map(Iterator::count), Some(2));
        group.adopt(&array(&[1, 2, 3]), 0, &Overlap::default(), true);
        assert!(group.pasids().is_none());
        assert_eq!(group.presence(3), Presence::Unknown);
        assert!(matches!(group.presence(2), Presence::Attached(_)));
    }

    #[test]
    fn what_a_call_under_way_may_change_is_not_taken_over() {
        let mut group = group();
        group.adopt(&array(&[1]), 9, &Overlap::default(), true);
        group.adopt(&array(&[2]), 9, &Overlap::everything(), true);
        assert!(matches!(group.presence(1), Presence::Attached(_)));
        assert!(!matches!(group.presence(2), Presence::Attached(_)));
    }
}
