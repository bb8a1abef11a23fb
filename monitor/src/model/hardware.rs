//! The hardware side of a device's PASIDs: entries that its driver clears, tables that it frees, capabilities that
//! are switched off.
//!
//! What a call on a PASID does to its entries is that call's affair. Of interest is what happens to the others.

use monitor_ebpf::wire::{Hook, Phase};

use crate::event::{Event, Key};

use super::device::Device;
use super::group::{Actor, Attachment, Group, Presence};
use super::host::Host;
use super::look::MAX_LISTED;
use super::order::Operation;
use super::transition::Transition;

/// More entries than this that were cleared without a call on them, and the group is unknown.
const MAX_TORN: usize = 65_536;

/// A capability of a PCI device that PASIDs rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Capability {
    /// Address Translation Services: the device keeps translations of its own.
    Ats,
    /// The device can tag its requests with a PASID.
    Pasid,
}

impl Capability {
    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Capability::Ats => "ATS",
            Capability::Pasid => "PASID",
        }
    }
}

/// What a driver took from a device's PASIDs while it switched its RID's domain. Each list is in ascending order, and
/// of at most 256.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// PASIDs that were live, and that it cleared or whose table it freed.
    pub pasids: Vec<(u32, Attachment)>,
    /// It freed the whole table.
    pub table: bool,
    /// What it switched off.
    pub capabilities: Vec<Capability>,
    /// The PASIDs that were live then.
    pub under: Vec<(u32, Attachment)>,
}

impl Taken {
    fn add(&mut self, live: Vec<(u32, Attachment)>) {
        for (pasid, attachment) in live {
            if let Err(at) = self.pasids.binary_search_by_key(&pasid, |&(known, _)| known)
                && self.pasids.len() < MAX_LISTED
            {
                self.pasids.insert(at, (pasid, attachment));
            }
        }
    }
}

impl Host {
    /// The PASIDs >= 1 that are surely in a device's own table, at most 256, in ascending order.
    pub fn live_pasids(&self, device: Key) -> Vec<(u32, Attachment)> {
        let Some((device, group)) = self.member(device) else { return Vec::new() };
        let live = group.pasids.iter().filter(|(pasid, known)| is_live(group, device, **pasid, known));
        let mut live: Vec<_> = live.map(|(&pasid, known)| (pasid, *known)).collect();
        live.sort_unstable_by_key(|&(pasid, _)| pasid);
        live.truncate(MAX_LISTED);
        live
    }

    /// Whether one of these PASIDs >= 1 is surely in a device's own table.
    pub fn has_live_pasid(&self, device: Key, which: impl Fn(u32) -> bool) -> bool {
        let Some((device, group)) = self.member(device) else { return false };
        group.pasids.iter().any(|(&pasid, known)| which(pasid) && is_live(group, device, pasid, known))
    }

    /// A device that is in a group, and that.
    pub(super) fn member(&self, device: Key) -> Option<(&Device, &Group)> {
        let device = self.device(device)?;
        Some((device, self.group_by_key(device.group?)?))
    }

    /// A driver did something to its own tables, or somebody to a capability.
    pub(super) fn hardware(
        &mut self,
        key: Key,
        event: &Event,
        trusted: bool,
        transitions: &mut Vec<Transition>,
    ) {
        let Some(device) = event.device.as_ref().map(|seen| seen.key).filter(|_| is_of_interest(event))
        else {
            return;
        };
        // One that is being released is no member any more: what is done to it then is right.
        if self.member(device).is_none_or(|(_, group)| group.key != key) {
            return;
        }
        let succeeded = event.ret.is_none_or(|ret| ret == 0);
        match (event.hook, event.phase) {
            (Hook::VtdTearDown | Hook::AmdClear | Hook::SmmuClear, Phase::End) if succeeded => {
                self.cleared(key, device, event);
            }
            (
                Hook::VtdSetupFirst
                | Hook::VtdSetupSecond
                | Hook::VtdSetupPassThrough
                | Hook::VtdSetupNested
                | Hook::AmdSet
                | Hook::SmmuSet,
                Phase::End,
            ) if succeeded => {
                if let (Some(group), Some(pasid)) = (self.group_mut(key), event.pasid) {
                    group.torn.remove(&(pasid, device));
                }
            }
            (Hook::VtdTableFree | Hook::AmdTableFree, _) => {
                let live = self.live_pasids(device);
                let gone: Vec<u32> = live.iter().map(|(pasid, _)| *pasid).collect();
                if let Some(taken) = self.window(key, device, event) {
                    taken.table = true;
                    taken.add(live);
                }
                gone.into_iter().for_each(|pasid| self.torn(key, device, pasid));
            }
            (Hook::PageRequest, _) => self.requested(key, device, event, trusted, transitions),
            (Hook::AtsOff, _) => self.switched_off(key, device, Capability::Ats, event, trusted, transitions),
            (Hook::PasidOff, _) => {
                self.switched_off(key, device, Capability::Pasid, event, trusted, transitions);
            }
            (Hook::VtdDetach | Hook::AmdDetach | Hook::SmmuDetach, Phase::End) if !succeeded => {
                self.not_detached(key, device, event, transitions);
            }
            _ => {}
        }
    }

    /// A device goes, and what was in its PASID table goes with it. A switch of its RID tells itself what it took; AMD's
    /// driver frees the table there as well, and a switch that began unseen can't be told from a release.
    pub(super) fn leaves_table(&self, group: Key, event: &Event, trusted: bool) -> bool {
        let Some(known) = self.group_by_key(group) else { return false };
        match event.hook {
            Hook::VtdTableLeft | Hook::SmmuTableLeft => !switches_rid(known, event),
            Hook::AmdTableLeft => {
                trusted && known.trusted_from <= event.mono_ns && !switches_rid(known, event)
            }
            _ => false,
        }
    }

    /// What this task's switch of the device's RID took so far; `None`: it is in none.
    fn window(&mut self, group: Key, device: Key, event: &Event) -> Option<&mut Taken> {
        let call = self.group_mut(group)?.in_flight.innermost(event.task.tid)?;
        is_switch_of(call, device).then(|| call.taken.get_or_insert_default().as_mut())
    }

    /// An entry was cleared.
    fn cleared(&mut self, key: Key, device: Key, event: &Event) {
        let Some(pasid) = event.pasid.filter(|&pasid| pasid != 0) else { return };
        let live = self.member(device).and_then(|(device, group)| {
            let known = group.pasids.get(&pasid)?;
            is_live(group, device, pasid, known).then_some((pasid, *known))
        });
        if let Some(live) = live
            && let Some(taken) = self.window(key, device, event)
        {
            taken.add(vec![live]);
        }
        self.torn(key, device, pasid);
    }

    /// An entry is not in the device's table any more.
    fn torn(&mut self, key: Key, device: Key, pasid: u32) {
        let Some(group) = self.group_mut(key) else { return };
        // A call on the PASID says itself what becomes of it.
        if !group.in_flight.touches(pasid) && group.pasids.contains_key(&pasid) {
            group.torn.insert((pasid, device));
            if group.torn.len() > MAX_TORN {
                group.forget();
            }
        }
    }

    fn switched_off(
        &mut self,
        key: Key,
        device: Key,
        capability: Capability,
        event: &Event,
        trusted: bool,
        transitions: &mut Vec<Transition>,
    ) {
        let under = self.live_pasids(device);
        if under.is_empty() {
            return;
        }
        if let Some(taken) = self.window(key, device, event) {
            taken.capabilities.push(capability);
            taken.under = under;
            return;
        }
        let Some(group) = self.group_by_key(key) else { return };
        if trusted && group.is_known(event.mono_ns) {
            let group = group.reference();
            let event = Box::new(event.clone());
            transitions.push(Transition::CapabilityOff { group, device, capability, under, event });
        }
    }

    /// The driver could not take a PASID off a device. An attach that fails takes it off again, too, where it got it on.
    fn not_detached(&mut self, key: Key, device: Key, event: &Event, transitions: &mut Vec<Transition>) {
        let in_reset = self.device(device).is_none_or(Device::in_reset);
        let Some(group) = self.group_mut(key).filter(|_| !in_reset) else { return };
        let reference = group.reference();
        let Some(pasid) = event.pasid.filter(|&pasid| pasid != 0) else { return };
        let Some(call) = group.in_flight.innermost(event.task.tid) else { return };
        let names_it = |call: &Operation| {
            // Who attaches the blocking domain itself is told that it failed.
            let named = call.begin.domain.map(|domain| domain.key);
            named.is_some() && named == event.domain.map(|domain| domain.key)
        };
        let detaches = match call.hook {
            // Of what is not attached there is nothing to take off.
            Hook::PasidDetach => call.presence != Presence::Absent,
            Hook::PasidAttach | Hook::PasidReplace => !names_it(call),
            _ => false,
        };
        // Another's detach that is under way may have taken it off before.
        if !detaches || call.begin.pasid != Some(pasid) || !call.synced || call.overlap.pasid(pasid) {
            return;
        }
        let domain = event.old.or(call.begin.domain);
        let attachment = match (&call.presence, call.hook) {
            (Presence::Attached(known), Hook::PasidDetach) => *known,
            (_, Hook::PasidDetach) => Attachment { domain, attached_by: None },
            _ => Attachment { domain, attached_by: Some(call.actor()) },
        };
        let by = call.actor();
        let event = Box::new(event.clone());
        transitions.push(Transition::DetachFailed { group: reference, pasid, attachment, by, event });
    }
}

impl Group {
    /// A call on a PASID returned: by it the entries are what they are.
    pub(super) fn set_again(&mut self, event: &Event) {
        if let (Hook::PasidAttach | Hook::PasidReplace | Hook::PasidDetach, Some(pasid)) =
            (event.hook, event.pasid)
            && !self.torn.is_empty()
        {
            self.torn.retain(|(torn, _)| *torn != pasid);
        }
    }
}

/// Entries are set up and cleared with each PASID that comes and goes: what else is to be known of it is known on return.
fn is_of_interest(event: &Event) -> bool {
    let entry = matches!(
        event.hook,
        Hook::VtdTearDown
            | Hook::AmdClear
            | Hook::SmmuClear
            | Hook::VtdSetupFirst
            | Hook::VtdSetupSecond
            | Hook::VtdSetupPassThrough
            | Hook::VtdSetupNested
            | Hook::AmdSet
            | Hook::SmmuSet
    );
    !entry || event.phase == Phase::End
}

/// Whether an attached PASID is surely in this member's own table: not in a reset, not torn down by its driver nor of a
/// process that has exited, no
/// call on it under way, and the member was there when it was attached, or was seen to have it.
fn is_live(group: &Group, device: &Device, pasid: u32, known: &Attachment) -> bool {
    pasid != 0
        && group.synced
        && !device.in_reset()
        && device.max_pasids.is_some_and(|max| pasid < max)
        && !group.doubtful.contains(&pasid)
        && !group.torn.contains(&(pasid, device.key))
        && !group.exited.contains_key(&pasid)
        && !group.in_flight.touches(pasid)
        && (was_there(device, known.attached_by.as_ref()) || was_shown(group, device, pasid))
}

/// A device that joins a group later doesn't get its PASIDs.
fn was_there(device: &Device, attached_by: Option<&Actor>) -> bool {
    attached_by.is_some_and(|by| device.since_ns < by.mono_ns)
}

/// The last look found the PASID in the device's table. A PASID whose process has exited need not be in it, and isn't
/// told from the others: then all have to be.
fn was_shown(group: &Group, device: &Device, pasid: u32) -> bool {
    let Some(look) = &group.looked else { return false };
    let Some(pasids) = look.pasids.as_ref().filter(|pasids| pasids.len() < MAX_LISTED) else { return false };
    let member = look.members.iter().find(|member| member.device == device.key);
    let Some((member, table)) = member.and_then(|member| Some((member, member.table.as_ref()?))) else {
        return false;
    };
    let able = pasids.iter().filter(|&&pasid| pasid < member.max_pasids).count();
    pasids.contains(&pasid) && !table.missing.contains(&pasid) && table.agreed + table.missing.len() == able
}

/// This task switches the device's RID.
fn switches_rid(group: &Group, event: &Event) -> bool {
    let Some(device) = event.device.map(|seen| seen.key) else { return false };
    group.in_flight.of(event.task.tid).last().is_some_and(|call| is_switch_of(call, device))
}

fn is_switch_of(call: &Operation, device: Key) -> bool {
    call.hook == Hook::RidAttach && call.begin.device.is_some_and(|seen| seen.key == device)
}
