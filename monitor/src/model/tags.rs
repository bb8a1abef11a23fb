//! VT-d's cache tags: what was read of them inside a call, held against where that call has left the device.
//!
//! A domain's list of tags is read without its lock (`dmar_domain::cache_lock`): what another task may have changed
//! meanwhile is not relied on. Reading is over before the call around it returns, and who changes a list says so before
//! he begins; so whoever could have met a reading is in the ring before that return.

use foldhash::HashMap;
use monitor_ebpf::wire::{Hook, Phase};

use crate::event::{Domain, DomainKind, Event, Key, Name, Tags};

use super::group::{Actor, Attachment, Group, Presence};
use super::host::{GRACE_NS, Host};
use super::order::Operation;
use super::transition::Transition;

/// Tasks in calls at once of which readings are kept; beyond it all are forgotten.
const MAX_CALLS: usize = 1024;
/// Readings of one call that are kept: of a group with more devices than this nothing is judged.
const MAX_READINGS: usize = 256;

/// What a call left of a device's cache tags in a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tagged {
    pub device: Name,
    pub domain: Domain,
    /// 0: they are those of its RID.
    pub pasid: u32,
    pub tags: Tags,
    /// The RID or the PASID is attached to this domain, now that the call has returned.
    pub attached: bool,
    /// Of a PASID: that attachment, or the one that the call ended, as far as it is known.
    pub attachment: Attachment,
    pub by: Actor,
    /// When the call returned, in CLOCK_MONOTONIC ns.
    pub mono_ns: u64,
}

/// What was read in calls that have not returned yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Reads {
    /// Calls of the core that switch a RID or a PASID, by task: they don't run inside each other.
    calls: HashMap<u32, Call>,
    /// Tasks that are changing a domain's list.
    changing: HashMap<u32, Option<Domain>>,
    /// Devices whose ATS came on, by which task and when, in CLOCK_MONOTONIC ns.
    ats_on: HashMap<Key, (u32, u64)>,
    /// Calls that began before may have met others unseen, in CLOCK_MONOTONIC ns.
    trusted_from: u64,
}

#[derive(Clone, Debug, Default)]
struct Call {
    /// What was read last of a device in a domain.
    readings: Vec<Reading>,
    /// Domains whose lists other tasks changed meanwhile.
    met: Vec<Key>,
    /// More than that could be told of.
    mixed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    hook: Hook,
    device: (Key, Name),
    domain: Domain,
    pasid: u32,
    tags: Tags,
}

impl Call {
    /// Another task changes the list of this domain.
    fn meets(&mut self, domain: Option<Domain>) {
        match domain {
            // A nested domain has tags in its parent's list, too (`__cache_tag_assign_parent_domain`).
            Some(domain) if domain.kind != DomainKind::Nested && domain.kind != DomainKind::Unknown => {
                self.mixed |= self.met.len() >= MAX_READINGS;
                if !self.mixed && !self.met.contains(&domain.key) {
                    self.met.push(domain.key);
                }
            }
            _ => self.mixed = true,
        }
    }

    fn reads(&mut self, reading: Reading) {
        let same = |known: &Reading| {
            (known.device.0, known.domain.key, known.pasid)
                == (reading.device.0, reading.domain.key, reading.pasid)
        };
        self.readings.retain(|known| !same(known));
        self.mixed |= self.readings.len() >= MAX_READINGS;
        if !self.mixed {
            self.readings.push(reading);
        }
    }
}

/// Whether a call switches a RID or a PASID.
fn switches(hook: Hook) -> bool {
    matches!(hook, Hook::RidAttach | Hook::PasidAttach | Hook::PasidReplace | Hook::PasidDetach)
}

impl Reads {
    /// Events were lost, up to this time: others may have changed a list unseen.
    pub fn forget(&mut self, mono_ns: u64) {
        self.calls.clear();
        self.changing.clear();
        self.trusted_from = mono_ns.saturating_add(GRACE_NS);
    }

    /// A call of the core begins.
    pub fn begins(&mut self, event: &Event) {
        if !switches(event.hook) {
            return;
        }
        if self.calls.len() >= MAX_CALLS {
            self.calls.clear();
        }
        let mut call = Call::default();
        let others = self.changing.iter().filter(|(tid, _)| **tid != event.task.tid);
        others.for_each(|(_, domain)| call.meets(*domain));
        self.calls.insert(event.task.tid, call);
    }

    /// A device's ATS came on. From 6.15 that is in probe_finalize, which takes no mutex and assigns the tag after it: a
    /// call of another task may read the one without the other. Up to then it is in a switch of the RID, whose mutex the
    /// other task's call waits for.
    pub fn note_ats(&mut self, event: &Event) {
        if self.calls.contains_key(&event.task.tid) {
            return;
        }
        if let Some(device) = event.device {
            if self.ats_on.len() >= MAX_CALLS {
                self.ats_on.clear();
                self.forget(event.mono_ns);
            }
            self.ats_on.insert(device.key, (event.task.tid, event.mono_ns));
        }
    }

    /// A list is about to change, or has changed, or was read.
    pub fn note(&mut self, event: &Event) {
        let tid = event.task.tid;
        if matches!(event.hook, Hook::VtdTagAssign | Hook::VtdTagUnassign) {
            let seen = match event.phase {
                Phase::End => self.changing.remove(&tid).is_some(),
                Phase::Begin | Phase::Point => {
                    if self.changing.len() >= MAX_CALLS {
                        self.forget(event.mono_ns);
                    }
                    self.changing.insert(tid, event.domain);
                    false
                }
            };
            if !seen {
                let others = self.calls.iter_mut().filter(|(other, _)| **other != tid);
                others.for_each(|(_, call)| call.meets(event.domain));
            }
        }
        let Some(call) = self.calls.get_mut(&tid).filter(|_| event.phase == Phase::End) else { return };
        let (Some(device), Some(domain)) = (event.device, event.domain) else { return };
        let (Some(pasid), Some(tags)) = (event.pasid, event.tags) else { return };
        // Of a switch that failed the tags are as the driver's last call on them left them.
        if event.hook == Hook::VtdAttach && event.ret != Some(0) {
            return;
        }
        call.reads(Reading { hook: event.hook, device: (device.key, device.name), domain, pasid, tags });
    }

    /// A call of the core returns: what was read in it, less what others may have changed meanwhile.
    fn ends(&mut self, operation: &Operation) -> Vec<Reading> {
        let call = self.calls.remove(&operation.begin.task.tid);
        let Some(call) = call.filter(|call| !call.mixed) else { return Vec::new() };
        let begin = &operation.begin;
        if !operation.synced || begin.mono_ns < self.trusted_from {
            return Vec::new();
        }
        let Call { mut readings, met, .. } = call;
        let finalizes = |device: Key| {
            let on = self.ats_on.get(&device).filter(|(tid, _)| *tid != begin.task.tid);
            on.is_some_and(|(_, on_ns)| begin.mono_ns <= on_ns.saturating_add(GRACE_NS))
        };
        readings.retain(|reading| !met.contains(&reading.domain.key) && !finalizes(reading.device.0));
        readings
    }
}

impl Host {
    /// A call of the core has returned: what it left of cache tags, where the device surely is or isn't attached.
    pub(super) fn tagged(&mut self, transitions: &mut Vec<Transition>) {
        let Some(Transition::Returned { group: reference, operation, end }) = transitions.last() else {
            return;
        };
        if !switches(operation.hook) {
            return;
        }
        let readings = self.reads.ends(operation);
        let Some(group) = self.group(*reference).filter(|_| !readings.is_empty()) else { return };
        let (reference, by, mono_ns) = (*reference, operation.actor(), end.mono_ns);
        let tagged = readings.into_iter().filter_map(|reading| {
            let attached = attached(group, operation, end, &reading)?;
            let Reading { device: (_, device), domain, pasid, tags, .. } = reading;
            let known = if attached { group.presence(pasid) } else { operation.presence };
            let attachment = match known {
                Presence::Attached(known) if known.domain.is_some_and(|on| on.key == domain.key) => known,
                _ => Attachment { domain: Some(domain), attached_by: None },
            };
            Some(Tagged { device, domain, pasid, tags, attached, attachment, by, mono_ns })
        });
        let tagged: Vec<Transition> =
            tagged.map(|tagged| Transition::Tagged { group: reference, tagged: Box::new(tagged) }).collect();
        transitions.extend(tagged);
    }
}

/// Whether what was read is of something that is attached to that domain now. `None`: it isn't known.
fn attached(group: &Group, operation: &Operation, end: &Event, reading: &Reading) -> Option<bool> {
    let domain = reading.domain.key;
    // A driver that fails takes its tags back. One that leaves all as it is, the entry too, is another fault.
    if end.ret.is_some_and(|ret| ret != 0) && reading.hook != Hook::VtdTagUnassign {
        return None;
    }
    if operation.hook == Hook::RidAttach {
        operation.begin.device.filter(|device| device.key == reading.device.0 && reading.pasid == 0)?;
        let to = operation.begin.domain?;
        // A driver that fails has given the RID up, if it touched its tags (`device_block_translation`).
        return end.ret.map(|ret| ret == 0 && to.key == domain);
    }
    if reading.pasid == 0 || operation.begin.pasid != Some(reading.pasid) {
        return None;
    }
    match group.presence(reading.pasid) {
        Presence::Attached(known) => known.domain.map(|on| on.key == domain),
        Presence::Absent => Some(false),
        Presence::Unknown => None,
    }
}
