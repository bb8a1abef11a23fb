//! One IOMMU group: who owns it, what its RIDs are attached to, which PASIDs live in it.

use std::collections::{BTreeMap, BTreeSet};

use foldhash::HashMap;

use serde::{Deserialize, Serialize};

use crate::event::{ArrayEntry, Comm, Domain, Event, Key, Name, Ownership, PasidArray, TableReading};

use super::bond::Bond;
use super::contest::Contest;
use super::evidence::{Evidence, History};
use super::in_flight::InFlight;
use super::look::Look;
use super::stirred::Stirred;
use super::takers::{Holder, Takers};
use super::touches::{Overlap, Pasids, Touches};
use super::unanswered::Unanswered;
use super::wanted::Failure;

/// A task at a moment: who did something, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// PASIDs that one of several calls at once attached, it isn't known which.
    pub(super) contested: BTreeSet<u32>,
    /// Of PASIDs in doubt: the calls at once that may have attached them.
    pub(super) contests: BTreeMap<u32, Contest>,
    /// By `mm_struct`.
    pub(super) bonds: BTreeMap<Key, Bond>,
    /// Counts up when what was detached before counts no more.
    pub(super) tenure: u32,
    /// Members of which the last look found a page request that waits for its response without its PASID. No call on that
    /// PASID was seen since it was found first.
    pub(super) unanswered: Vec<(Key, Unanswered)>,
    /// PASIDs whose process has exited, and since when at the latest, in CLOCK_MONOTONIC ns.
    pub(super) exited: BTreeMap<u32, u64>,
    pub(super) takers: Takers,
    /// PASIDs whose entries the driver cleared without being asked to by a call on them, each with the device: the
    /// process has exited, or they were lost.
    pub(super) torn: BTreeSet<(u32, Key)>,
    pub(super) in_flight: InFlight,
    /// Calls that began before, in CLOCK_MONOTONIC ns, may have met others unseen.
    pub(super) trusted_from: u64,
    /// The latest loss of records that may have been its own. What was reported before may be overtaken by what was lost.
    pub(super) lost_at: Option<u64>,
    /// When it was last read as a whole, in CLOCK_MONOTONIC ns.
    pub(super) read_ns: u64,
    /// Who held it and where it sat when it was last read under the mutex, unless a call that may change that was
    /// seen since.
    pub(super) proved: (Option<Ownership>, Option<Domain>),
    /// PASIDs of which a call was seen since `pasid_array` was last read under the mutex; all of them, if it was not
    /// since the group's state is known.
    pub(super) stirred: Stirred,
    /// PASIDs of which a call was seen since the last look, and the hardware tables that it read, by device.
    pub(super) stirred_since_look: Stirred,
    pub tables: Vec<(Key, Box<TableReading>)>,
    /// Calls that failed, for the next look to tell what they left.
    pub(super) failures: Vec<Failure>,
    /// The member that left last.
    pub left_last: Option<Name>,
    /// A look is wanted, for these or for another call's sake.
    pub(super) wanted: bool,
    /// Nobody held it at a time since we watch: who holds it now was seen to take hold of it, or is about to be.
    pub seen_free: bool,
    /// Something of it went unseen since we watch, by a hook that missed a call or by a loss: how it came to be what
    /// it is can't be told from its state.
    pub unseen: bool,
    /// What the last look found, and how many there were.
    pub looked: Option<Box<Look>>,
    pub(super) looks: u64,
    evidence: History,
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
            contested: BTreeSet::new(),
            contests: BTreeMap::new(),
            bonds: BTreeMap::new(),
            tenure: 0,
            unanswered: Vec::new(),
            exited: BTreeMap::new(),
            takers: Takers::default(),
            torn: BTreeSet::new(),
            in_flight: InFlight::default(),
            trusted_from: 0,
            lost_at: None,
            read_ns: 0,
            proved: (None, None),
            seen_free: false,
            unseen: false,
            stirred: Stirred::all(),
            stirred_since_look: Stirred::default(),
            tables: Vec::new(),
            failures: Vec::new(),
            wanted: false,
            left_last: None,
            looked: None,
            looks: 0,
            evidence: History::default(),
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

    /// A call was seen that attached this PASID, or may have.
    pub fn saw_attached(&self, pasid: u32) -> bool {
        self.contested.contains(&pasid)
            || self.attachment(pasid).is_some_and(|known| known.attached_by.is_some())
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
        if let Some(contest) = self.contests.get(&entry.pasid) {
            return contest.outcome(entry.domain);
        }
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

    /// Who is known to hold it: who claimed it, or else whose drivers are bound. Who came before we watched is not
    /// among them.
    pub fn holders(&self, claims: bool) -> impl Iterator<Item = &Holder> {
        self.takers.of(claims)
    }

    /// What the calls that are under way may change at any moment.
    pub fn under_way(&self) -> Overlap {
        self.in_flight.all()
    }

    /// What is known of it is so at this time: since it was read, no call can have changed it unseen. What a loss left
    /// unseen has returned by [`Group::trusted_from`], and a reading from before may be older than what it did.
    pub(super) fn is_known(&self, mono_ns: u64) -> bool {
        self.synced && self.trusted_from <= mono_ns && self.trusted_from <= self.read_ns
    }

    /// Of what returned at this time or later the begin was not lost.
    pub fn saw_begins(&self, mono_ns: u64) -> bool {
        self.trusted_from <= mono_ns
    }

    /// No call is under way.
    pub fn quiescent(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// The calls that led here, the oldest first.
    pub fn evidence(&self) -> impl Iterator<Item = Evidence> {
        self.evidence.calls()
    }

    pub(super) fn remember(&mut self, event: &Event) {
        self.evidence.note(event);
    }

    /// What any event read was so at a time since we watch, whoever was in a call then. `overtaken`: it may have been
    /// so before something that was lost.
    pub(super) fn see_free(&mut self, event: &Event, overtaken: bool) {
        let read = event.group.as_ref().and_then(|seen| seen.ownership);
        let free = read.is_some_and(|read| read.count == 0 && read.owner.is_none());
        self.seen_free |= free && !event.incomplete && !overtaken;
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
        self.contested.clear();
        self.contests.clear();
        self.bonds.clear();
        self.tenure = self.tenure.wrapping_add(1);
        self.unanswered.clear();
        self.exited.clear();
        self.takers.clear();
        self.torn.clear();
        self.seen_free = false;
        self.unseen = true;
        self.looked = None;
        self.tables.clear();
        self.failures.clear();
        self.proved = (None, None);
        self.stirred.add_all();
        self.in_flight.distrust();
    }

    /// A call that may change this was seen: what was read before it proves nothing of what comes after.
    pub(super) fn touched(&mut self, touches: Touches) {
        self.proved.0.take_if(|_| touches.ownership);
        self.proved.1.take_if(|_| touches.domain);
        match touches.pasid {
            Some(Pasids::One(pasid)) => {
                self.stirred.add(pasid);
                self.stirred_since_look.add(pasid);
                self.unanswered.retain(|(_, waits)| waits.pasid != pasid);
                self.failures.retain(|failure| failure.pasid != pasid);
            }
            Some(Pasids::Any) => {
                self.stirred.add_all();
                self.stirred_since_look.add_all();
                self.unanswered.clear();
                self.failures.clear();
            }
            None => {}
        }
    }
}
