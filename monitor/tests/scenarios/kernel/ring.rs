//! The ring: what the hooks report, with the group as it is read back.

use std::collections::{BTreeMap, BTreeSet};

use monitor::event::{ArrayEntry, Device, Event, Group, Key, Ownership, PasidArray, Slot, Task};
use monitor::kernel::catalogue::{CATALOGUE, Ends, Target};
use monitor_ebpf::wire::{Encoding, Hook, Phase};

use crate::random::Random;

use super::{Call, Dev, Entry, Era, Grp, Kernel, Mm, Read, Reads, Running, domain, sva_domain};

/// A record that is reserved. Its content is read when its program gets to it.
pub(super) struct Unfilled {
    place: usize,
    /// How much of it was read.
    parts: u32,
    /// The next place when the last part was read.
    since: usize,
    /// The call that returns with it.
    fact: Option<usize>,
}

/// What becomes of records on their way: one in so many is lost, or none.
#[derive(Default)]
pub struct Loss {
    pub seed: u64,
    pub one_in: u64,
    /// By task: how many records it has tried to make.
    pub counts: BTreeMap<u32, u64>,
}

impl Loss {
    /// What one task loses hangs on nothing that others do.
    fn strikes(&mut self, tid: u32, one_in: u64) -> bool {
        let count = self.counts.entry(tid).or_default();
        *count += 1;
        one_in > 0 && Random::new(self.seed ^ u64::from(tid) << 32 ^ *count).one_in(one_in)
    }
}

impl Kernel {
    pub(super) fn locked(&mut self, running: &Running, phase: Phase) {
        let event = self.event(Hook::ReleaseLocked, phase, running.group, &running.task);
        self.push(event);
    }

    pub(super) fn rid(
        &mut self,
        task: &Task,
        id: u32,
        device: &Dev,
        phase: Phase,
        to: u64,
        ret: Option<i32>,
    ) {
        let mut event = self.event(Hook::RidAttach, phase, id, task);
        event.device = Some(seen(device));
        event.domain = domain(to);
        event.ret = ret;
        self.push(event);
    }

    pub(super) fn report(&mut self, running: &Running, phase: Phase, ret: Option<i32>) {
        if running.unseen || phase == Phase::Begin && seen_by_its_return(running.hook) {
            return;
        }
        let mut event = self.event(running.hook, phase, running.group, &running.task);
        let devices = &self.groups[&running.group].devices;
        event.device = devices.iter().find(|device| Some(device.name) == running.call.device()).map(seen);
        event.pasid = running.call.pasid();
        event.domain = running.call.domain().and_then(domain);
        match running.call {
            Call::Claim { owner, .. } | Call::ClaimDevice { owner, .. } => event.owner = Key::new(owner),
            Call::Bind { mm, .. } | Call::Unbind { mm, .. } => event.mm = Key::new(mm),
            _ => {}
        }
        event.bond = running.bond.and_then(Key::new);
        let void = matches!(
            running.hook,
            Hook::ReleaseGroup
                | Hook::ReleaseDevice
                | Hook::UnuseDefault
                | Hook::DetachDevice
                | Hook::DetachGroup
                | Hook::DetachGroupHandle
                | Hook::PasidDetach
                | Hook::SvaUnbind
                | Hook::ResetDone
        );
        event.ret = ret.filter(|_| !void);
        if let Some(pasid) = event.pasid.filter(|_| self.era.has_pasids() && reads_slot(running.hook)) {
            event.slot = Some(read_slot(&self.groups[&running.group], pasid, &self.mms));
        }
        event.stack = (phase == Phase::Begin).then_some(running.task.tid);
        let tid = running.task.tid;
        if self.lazy && self.lost(tid) {
            self.uncounted.insert(tid);
            return;
        }
        if self.lazy {
            let (place, fact) = (self.place(), running.fact.filter(|_| phase == Phase::End));
            self.unfilled.insert(tid, Unfilled { place, parts: 0, since: place, fact });
        }
        self.log.push(event);
    }

    /// A record that is reserved and filled at once.
    pub(super) fn push(&mut self, event: Event) {
        match self.lost(event.task.tid) {
            true => self.dropped += 1,
            false => self.log.push(event),
        }
    }

    /// The ring has no room for a record.
    fn lost(&mut self, tid: u32) -> bool {
        self.loss.as_mut().is_some_and(|loss| loss.strikes(tid, loss.one_in))
    }

    /// The programs of a call don't run: the kernel counts that, and nothing else tells.
    pub(super) fn misses(&mut self, tid: u32) -> bool {
        let missed = self.loss.as_mut().is_some_and(|loss| loss.strikes(tid, 4 * loss.one_in));
        self.missed += u64::from(missed);
        missed
    }

    /// The task has still to do with its last record.
    pub fn is_busy(&self, tid: u32) -> bool {
        self.unfilled.contains_key(&tid) || self.uncounted.contains(&tid)
    }

    /// The place in the ring of the next record, counted from the start.
    pub(super) fn place(&self) -> usize {
        self.taken + self.log.len()
    }

    /// The program of this task goes on with its record: first it reads the group, then the time, then the
    /// array, and then the consumer may have it. `false`: there is none.
    pub fn fill(&mut self, tid: u32) -> bool {
        if self.uncounted.remove(&tid) {
            self.dropped += 1;
            return true;
        }
        let Some(unfilled) = self.unfilled.get_mut(&tid) else { return false };
        let event = &mut self.log[unfilled.place - self.taken];
        let id = event.group.expect("a record that names a group").id;
        // What the group was when it went, if it is gone.
        let group = self.groups.get(&id);
        unfilled.parts += 1;
        let what = match (unfilled.parts, group) {
            (1, Some(group)) => {
                event.group = Some(view(id, group));
                Some(Reads::Holder { owner: group.owner, count: group.owner_cnt })
            }
            (2, _) => {
                self.now += 500;
                event.mono_ns = self.now;
                None
            }
            (3, Some(group)) => {
                event.array = event.array.as_ref().map(|_| read_array(group, &self.mms));
                event.slot = event.slot.zip(event.pasid).map(|(_, pasid)| read_slot(group, pasid, &self.mms));
                event.array.as_ref().map(|_| Reads::Attached(attached(self.era, group)))
            }
            _ => None,
        };
        let (from, to) = (unfilled.since, self.taken + self.log.len());
        unfilled.since = to;
        let reads = match unfilled.fact {
            Some(fact) => &mut self.history[fact].exit,
            None => self.entries.entry(tid).or_default(),
        };
        reads.extend(what.map(|what| Read { what, from, to }));
        if unfilled.parts < 3 {
            return true;
        }
        let filled = self.unfilled.remove(&tid);
        if let Some(fact) = filled.and_then(|filled| filled.fact) {
            self.history[fact].returned = self.place();
        }
        true
    }

    /// The records up to the first that is not filled: the consumer stops there.
    pub fn take_ready(&mut self) -> Vec<Event> {
        let first = self.unfilled.values().map(|unfilled| unfilled.place).min();
        let ready = first.map_or(self.log.len(), |first| first - self.taken);
        self.taken += ready;
        self.log.drain(..ready).collect()
    }

    /// Nothing is on its way to the consumer: he has read what was ever reserved.
    pub fn is_drained(&self) -> bool {
        self.log.is_empty()
    }

    /// The program that should have made the record at this place did not run: not even the sequence of its
    /// CPU shows it.
    pub fn miss(&mut self, index: usize) {
        let missed = self.log.remove(index);
        for event in self.log.iter_mut().skip(index).filter(|event| event.cpu == missed.cpu) {
            event.sequence -= 1;
        }
        *self.sequences.entry(missed.cpu).or_default() -= 1;
    }

    /// An event of this moment, with the group as it is read back.
    pub(super) fn event(&mut self, hook: Hook, phase: Phase, id: u32, task: &Task) -> Event {
        self.now += 1_000;
        let cpu = self.cpus.get(&task.tid).copied().unwrap_or(task.tid % 4);
        let sequence = self.sequences.entry(cpu).or_insert(100);
        *sequence += 1;
        let group = &self.groups[&id];
        Event {
            mono_ns: self.now,
            cpu,
            sequence: *sequence,
            task: *task,
            stack: None,
            hook,
            phase,
            group: Some(view(id, group)),
            device: None,
            domain: None,
            old: None,
            pasid: None,
            owner: None,
            bond: None,
            mm: None,
            ret: None,
            array: (self.era.has_pasids() && reads_array(hook)).then(|| read_array(group, &self.mms)),
            slot: None,
            table: None,
            flush: None,
            tags: None,
            unanswered: None,
            range: None,
            incomplete: false,
        }
    }
}

fn view(id: u32, group: &Grp) -> Group {
    Group {
        key: Key::new(group.key).expect("an address"),
        id,
        ownership: Some(Ownership { owner: Key::new(group.owner), count: group.owner_cnt }),
        domain: domain(group.domain),
        default_domain: domain(group.default_domain),
        blocking_domain: domain(group.blocking_domain),
        recovery_cnt: group.recovery_cnt,
    }
}

/// The walker's view: at most as many entries as fit a record.
fn read_array(group: &Grp, mms: &BTreeMap<u64, Mm>) -> PasidArray {
    const CAPACITY: usize = monitor_ebpf::wire::ARRAY_CAPACITY;
    let entries = group.array.iter().take(CAPACITY).map(|(&pasid, &entry)| array_entry(pasid, entry, mms));
    PasidArray { entries: entries.collect(), complete: group.array.len() <= CAPACITY }
}

/// What stands in the array, and is no attach that is not done yet.
fn attached(era: Era, group: &Grp) -> BTreeSet<u32> {
    let done = |entry: &Entry| era != Era::Tagged || entry.encoding != Encoding::Reserved;
    group.array.iter().filter(|(_, entry)| done(entry)).map(|(&pasid, _)| pasid).collect()
}

fn read_slot(group: &Grp, pasid: u32, mms: &BTreeMap<u64, Mm>) -> Slot {
    group.array.get(&pasid).map_or(Slot::Empty, |&entry| Slot::Taken(array_entry(pasid, entry, mms)))
}

fn array_entry(pasid: u32, entry: Entry, mms: &BTreeMap<u64, Mm>) -> ArrayEntry {
    let exited = |(&mm, state): (&u64, &Mm)| state.exited && entry.domain == Some(sva_domain(mm));
    ArrayEntry {
        pasid,
        encoding: entry.encoding,
        domain: entry.domain.and_then(domain),
        mm_exited: mms.iter().any(exited),
    }
}

/// Hooks that read the whole array, as the programs have it.
fn reads_array(hook: Hook) -> bool {
    matches!(
        hook,
        Hook::ClaimGroup
            | Hook::ReleaseGroup
            | Hook::ClaimDevice
            | Hook::ReleaseDevice
            | Hook::UseDefault
            | Hook::UnuseDefault
            | Hook::ReleaseLocked
            | Hook::DeviceRelease
            | Hook::GroupRelease
            | Hook::SnapshotGroup
            | Hook::SnapshotIntel
            | Hook::SnapshotAmd
            | Hook::SnapshotDma
    )
}

/// Hooks that read the entry of their PASID.
fn reads_slot(hook: Hook) -> bool {
    matches!(hook, Hook::PasidAttach | Hook::PasidReplace | Hook::PasidDetach)
}

pub(super) fn seen(device: &Dev) -> Device {
    Device {
        key: Key::new(device.key).expect("an address"),
        name: device.name.into(),
        max_pasids: Some(device.max_pasids),
        table: None,
        state: None,
    }
}

/// Hooks that listen to the return alone, as the catalogue of hooks has it.
fn seen_by_its_return(hook: Hook) -> bool {
    phases(hook) == [Phase::End]
}

/// The moments of a call that its hook reports, as the catalogue of hooks has it.
pub(super) fn phases(hook: Hook) -> Vec<Phase> {
    let row = CATALOGUE.iter().find(|row| row.hook == hook).expect("in the catalogue");
    match row.target {
        Target::Call { ends: Ends::Both, .. } => vec![Phase::Begin, Phase::End],
        Target::Call { ends: Ends::Exit | Ends::Return, .. } | Target::Reduced { .. } => vec![Phase::End],
        Target::Call { ends: Ends::Entry, .. } | Target::Tracepoint { .. } => vec![Phase::Point],
    }
}
