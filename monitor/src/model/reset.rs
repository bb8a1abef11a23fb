//! Resets of PCI devices (from 7.0): what is prepared and done, and whether a device is given back what it had.
//!
//! `pci_dev_reset_iommu_prepare` parks a device on the blocking domain, and `pci_dev_reset_iommu_done` puts back what the
//! core has kept for it: the domain of its RID, and its PASIDs. Every function of the kernel that resets a device calls
//! both, in one task, and they may be nested.

use monitor_ebpf::wire::{Hook, Phase};

use crate::event::{DomainKind, Event, Key};

use super::device::Device;
use super::group::{Actor, Attachment, Group};
use super::host::Host;
use super::order::{Operation, under_mutex};

/// More resets of a device than this at once, and how many there are is not known.
const MAX_RESETS: usize = 64;

/// What is known of a device's resets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Resets {
    /// Prepared and not done, as far as that was seen; the oldest first.
    prepared: Vec<Prepared>,
    /// Functions that reset it and have not returned.
    functions: Vec<(Hook, Actor)>,
    /// A reset keeps it on the blocking domain, as was read.
    blocked: bool,
    /// Nothing kept it blocked, as was read when every call that went unseen had returned, and every reset since was seen.
    settled: bool,
    /// The PASIDs that were live when the first of these resets was prepared.
    parked: Vec<(u32, Attachment)>,
    over: Option<Box<AfterReset>>,
}

/// A reset that was prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Prepared {
    by: Actor,
    /// No call that went unseen can have met it.
    certain: bool,
}

/// All resets of a device are over, and it is to have again what it had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AfterReset {
    /// Who prepared the last one, and when.
    pub by: Actor,
    /// `pci_dev_reset_iommu_done` was called. Else the function returned without it, and said that the device is reset.
    pub done: bool,
    /// The PASIDs that were live before.
    pub parked: Vec<(u32, Attachment)>,
    /// The device is on the blocking domain still.
    pub blocked: bool,
    /// It isn't, and these are attached as they were, and not in its table. What the first look found stays in the list
    /// until the last of them is there again, or detached.
    pub lacking: Vec<(u32, Attachment)>,
}

/// Whether a hook is about the resets of a device.
pub(super) fn is_reset(hook: Hook) -> bool {
    matches!(hook, Hook::ResetPrepare | Hook::ResetDone | Hook::ResetFunction | Hook::ResetFlr)
}

impl Resets {
    /// Its PASIDs are in the core's array, and need not be in its table.
    pub fn under_way(&self) -> bool {
        !self.prepared.is_empty() || self.blocked
    }

    fn prepare(&mut self, by: Actor, certain: bool, live: Vec<(u32, Attachment)>) {
        if let Some(over) = self.over.take() {
            // What the last one did not give back is owed still.
            self.parked = over.parked;
        } else if !self.under_way() {
            self.parked.clear();
        }
        for (pasid, attachment) in live {
            self.parked.retain(|(known, _)| *known != pasid);
            self.parked.push((pasid, attachment));
        }
        self.open(Prepared { by, certain });
    }

    fn open(&mut self, prepared: Prepared) {
        if self.prepared.len() >= MAX_RESETS {
            self.prepared.remove(0);
            self.settled = false;
        }
        self.prepared.push(prepared);
    }

    /// One of this task is prepared.
    fn holds(&self, tid: u32) -> bool {
        self.prepared.iter().any(|prepared| prepared.by.tid == tid)
    }

    /// The last one of this task is not prepared any more.
    fn close(&mut self, tid: u32) -> Option<Prepared> {
        let at = self.prepared.iter().rposition(|prepared| prepared.by.tid == tid)?;
        Some(self.prepared.remove(at))
    }

    /// Nobody resets it any more, as far as that is certain.
    fn over(&mut self, last: Prepared, done: bool) {
        if self.settled && self.prepared.is_empty() && last.certain {
            let (parked, lacking) = (self.parked.clone(), Vec::new());
            let over = AfterReset { by: last.by, done, parked, blocked: false, lacking };
            self.over = Some(Box::new(over));
        }
    }

    /// A function that resets has returned in this task.
    fn returned(&mut self, hook: Hook, tid: u32, ret: Option<i32>) {
        let last = self.functions.iter().rposition(|(of, by)| *of == hook && by.tid == tid);
        let Some((_, began)) = last.map(|at| self.functions.remove(at)) else { return };
        // What failed may keep the device blocked.
        if ret != Some(0) {
            return;
        }
        let inside = |prepared: &Prepared| prepared.by.tid == tid && prepared.by.mono_ns >= began.mono_ns;
        let (left, others): (Vec<_>, Vec<_>) = self.prepared.drain(..).partition(inside);
        self.prepared = others;
        let certain = left.iter().all(|prepared| prepared.certain);
        if let Some(first) = left.into_iter().next() {
            self.blocked = true;
            self.over(Prepared { certain, ..first }, false);
        }
    }
}

impl Host {
    /// A reset is prepared, or done, or a function that does both begins or returns. What is prepared counts from the
    /// begin of that call to the return of the other, so that both are inside.
    pub(super) fn reset(&mut self, key: Key, event: &Event, trusted: bool) {
        let others = self.member(key).map_or(0, |(_, group)| {
            let others = group.devices.iter().filter(|&&other| other != key);
            others.filter(|other| self.device(**other).is_some_and(Device::in_reset)).count()
        });
        let begins = (event.hook, event.phase) == (Hook::ResetPrepare, Phase::Begin);
        let mut live = if begins { self.live_pasids(key) } else { Vec::new() };
        // Nothing is in the table for one on a blocking domain.
        let is_blocked = |attachment: &Attachment| {
            attachment.domain.is_none_or(|domain| domain.kind == DomainKind::Blocked)
        };
        live.retain(|(_, attachment)| !is_blocked(attachment));
        let known = self.member(key).map(|(_, group)| (group.key, group.is_known(event.mono_ns)));
        let certain = trusted && known.is_some_and(|(_, known)| known);
        let blocked = event.group.map_or(0, |group| group.recovery_cnt) as usize;
        let free = begins && certain && !event.incomplete && event.group.is_some() && blocked == 0;
        let (tid, by) = (event.task.tid, Actor::of(event));
        let Some(device) = self.device_mut(key) else { return };
        let resets = &mut device.resets;
        let were_over = resets.over.is_some();
        // The look at the start, and the one after a loss, come too early to tell of what goes unseen still.
        resets.settled |= free;
        match (event.hook, event.phase) {
            (Hook::ResetPrepare, Phase::Begin) => resets.prepare(by, certain, live),
            (Hook::ResetPrepare, Phase::End) if event.ret != Some(0) => drop(resets.close(tid)),
            // Its begin came before we watched, or unseen.
            (Hook::ResetPrepare, Phase::End) | (Hook::ResetDone, Phase::Begin) if !resets.holds(tid) => {
                resets.settled = false;
                resets.open(Prepared { by, certain: false });
            }
            (Hook::ResetDone, Phase::End) => {
                let last = resets.close(tid);
                // It returned, and left somebody blocked: if that is nobody else, it is this one.
                resets.blocked = resets.prepared.is_empty() && blocked > others;
                if let Some(last) = last {
                    resets.over(last, true);
                }
            }
            (Hook::ResetFunction | Hook::ResetFlr, Phase::Begin) if resets.functions.len() < MAX_RESETS => {
                resets.functions.push((event.hook, by));
            }
            (Hook::ResetFunction | Hook::ResetFlr, Phase::End) => resets.returned(event.hook, tid, event.ret),
            _ => {}
        }
        if !were_over
            && device.resets.over.is_some()
            && let Some((group, _)) = known
        {
            self.look_soon(group);
        }
    }

    /// What a look reads of a device beside its tables, and what it shows of a reset that is over.
    pub(super) fn look_at_device(&mut self, key: Key, event: &Event) -> Option<Box<AfterReset>> {
        const RESET: &[Hook] = &[Hook::ResetPrepare, Hook::ResetDone];
        let group = self.group_by_key(key);
        let resetting = group.is_some_and(|group| group.in_flight.any(RESET));
        // Else a reset that goes unseen may be about to block it.
        let known = group.is_some_and(|group| group.is_known(event.mono_ns));
        let certain = self.trusts(event.mono_ns) && known;
        let seen = event.device.as_ref()?;
        let owed = self.device(seen.key).and_then(|device| device.resets.over.as_ref());
        let owed = owed.map(|over| self.lacking(key, &over.parked, event)).unwrap_or_default();
        let device = self.device_mut(seen.key)?;
        device.state = seen.state.or(device.state);
        let state = seen.state.filter(|_| !resetting)?;
        let resets = &mut device.resets;
        resets.blocked |= state.blocked;
        // What was read without the mutex may be older than its place in the ring.
        if !under_mutex(event.hook) || event.incomplete {
            return None;
        }
        if !state.blocked {
            resets.blocked = false;
            resets.settled |= certain;
            // A reset of a device without ATS takes nothing off it.
            resets.prepared.clear();
        } else if !resets.prepared.is_empty() {
            return None;
        }
        let mut over = resets.over.take()?;
        over.blocked = state.blocked;
        if over.lacking.is_empty() || owed.is_empty() {
            over.lacking = owed;
        }
        if over.blocked {
            // How many resets keep it there is not known any more.
            (over.lacking, resets.settled) = (Vec::new(), false);
        } else if over.lacking.is_empty() {
            return None;
        }
        resets.over = Some(over.clone());
        Some(over)
    }

    /// Of the PASIDs that a device had, those that are attached as they were, and that this look misses in its table.
    fn lacking(&self, key: Key, parked: &[(u32, Attachment)], event: &Event) -> Vec<(u32, Attachment)> {
        let array = event.array.as_ref().filter(|array| array.complete);
        let table = event.table.as_ref().filter(|table| table.is_whole());
        let (Some(group), Some(array), Some(table)) = (self.group_by_key(key), array, table) else {
            return Vec::new();
        };
        let max = event.device.and_then(|device| device.max_pasids).unwrap_or_default();
        let same = |pasid: u32, had: &Attachment| {
            group.attachment(pasid) == Some(had) && !group.in_flight.touches(pasid) && pasid < max
        };
        let attached = |pasid: u32| array.pasids().any(|entry| entry.pasid == pasid && !entry.mm_exited);
        let lacks = |(pasid, had): &&(u32, Attachment)| {
            table.get(*pasid).is_none() && same(*pasid, had) && attached(*pasid)
        };
        parked.iter().filter(lacks).copied().collect()
    }
}

impl Group {
    /// A switch of a RID's domain that has returned was that of a reset that is being done: it puts the RID back.
    pub fn puts_back(&self, switch: &Operation) -> bool {
        self.in_flight.holds(switch.begin.task.tid, Hook::ResetDone)
    }
}
