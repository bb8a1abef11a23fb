//! Looks that are wanted soon, because of what a call did: what it left in the hardware's tables a look tells, and
//! nothing else.

use monitor_ebpf::wire::Hook;

use crate::event::{Domain, Event, Key, Name, TableEntry, TableKind, TableReading};

use super::group::{Actor, Attachment, Group, Presence};
use super::host::Host;
use super::order::Operation;

/// More failures than this on one group that no look has come to, and the oldest is given up.
const MAX_FAILURES: usize = 16;

/// A call failed that was to attach a PASID, or to replace what it has. Nothing else has touched that PASID since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub hook: Hook,
    pub pasid: u32,
    pub device: Option<Name>,
    /// What the PASID was to get.
    pub domain: Option<Domain>,
    /// What it had, and has still; `None`: nothing.
    pub kept: Option<Attachment>,
    pub ret: i32,
    pub by: Actor,
    /// When the call returned, in CLOCK_MONOTONIC ns.
    pub mono_ns: u64,
    /// What the members' tables had of it, where that is known.
    before: Vec<(Key, TableEntry)>,
}

/// A failure, and what it left in the table of each member, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    pub failure: Failure,
    pub members: Vec<(Key, Left)>,
}

/// What stands in a member's hardware table after a call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// No entry is present.
    Nothing,
    /// What stood there before the call.
    Same,
    /// An entry that did not stand there before.
    Other,
    /// It could not be read, or it isn't known what stood there before.
    Unknown,
}

impl Failure {
    /// `None`: the call didn't fail, or what it failed on isn't known.
    fn of(operation: &Operation, end: &Event) -> Option<Failure> {
        let pasid = operation.begin.pasid.filter(|&pasid| pasid != 0)?;
        let ret = end.ret.filter(|&ret| ret < 0)?;
        if !operation.synced || operation.overlap.pasid(pasid) {
            return None;
        }
        let kept = match (operation.hook, operation.presence) {
            (Hook::PasidAttach, Presence::Absent) => None,
            (Hook::PasidReplace, Presence::Attached(kept)) => Some(kept),
            // An attach over what is attached doesn't get to the driver, nor does a replace of nothing.
            _ => return None,
        };
        Some(Failure {
            hook: operation.hook,
            pasid,
            device: operation.begin.device.map(|device| device.name),
            domain: operation.begin.domain,
            kept,
            ret,
            by: operation.actor(),
            mono_ns: end.mono_ns,
            before: operation.entries.clone(),
        })
    }

    /// What it left in the table of a member. `attached`: whether the core has the PASID.
    pub(super) fn left(&self, member: Key, attached: Option<bool>, table: Option<&TableReading>) -> Left {
        let as_expected = attached == Some(self.kept.is_some());
        let Some(table) = table.filter(|_| as_expected) else { return Left::Unknown };
        let Some(now) = table.get(self.pasid) else { return Left::Nothing };
        let before = self.before.iter().find(|(key, _)| *key == member).map(|(_, entry)| entry);
        match (self.kept, before) {
            (None, _) => Left::Other,
            // What it translates to is not in what is read of AMD's entries.
            (Some(_), _) if table.kind == TableKind::Amd => Left::Unknown,
            (Some(_), Some(before)) if before == now => Left::Same,
            (Some(_), Some(_)) => Left::Other,
            (Some(_), None) => Left::Unknown,
        }
    }
}

impl Group {
    /// What the members' tables have of a PASID, where a look has read it and nothing touched it since.
    pub(super) fn entries_of(&self, pasid: u32) -> Vec<(Key, TableEntry)> {
        if self.stirred_since_look.may_have(pasid) {
            return Vec::new();
        }
        let entry = |(key, table): &(Key, Box<TableReading>)| Some((*key, *table.get(pasid)?));
        self.tables.iter().filter(|(_, table)| table.is_whole()).filter_map(entry).collect()
    }

    /// A call on a PASID returned; says whether a look at the group is wanted for it.
    fn failed(&mut self, operation: &Operation, end: &Event) -> bool {
        let Some(failure) = Failure::of(operation, end) else { return false };
        if self.failures.len() >= MAX_FAILURES {
            self.failures.remove(0);
        }
        self.failures.push(failure);
        true
    }
}

impl Host {
    /// A call returned: a look is wanted if it failed to attach a PASID, or did so on several members.
    pub(super) fn want_look(&mut self, key: Key, operation: &Operation, end: &Event) {
        if !matches!(operation.hook, Hook::PasidAttach | Hook::PasidReplace) {
            return;
        }
        let Some(group) = self.group_mut(key) else { return };
        let several = group.devices.len() > 1 && end.ret == Some(0);
        if !(group.failed(operation, end) || several && self.takes_several(key)) {
            return;
        }
        self.look_soon(key);
    }

    /// A look at this group is wanted.
    pub(super) fn look_soon(&mut self, key: Key) {
        let Some(group) = self.group_mut(key) else { return };
        if !std::mem::replace(&mut group.wanted, true) {
            self.wanted.push(key);
        }
    }

    /// A PASID of this group goes to several members.
    fn takes_several(&self, key: Key) -> bool {
        let Some(group) = self.group_by_key(key) else { return false };
        let takes = |key: &&Key| self.device(**key).is_some_and(|device| device.max_pasids.unwrap_or(0) > 0);
        group.devices.iter().filter(takes).nth(1).is_some()
    }

    /// The numbers of the groups at which a look is wanted, the longest wanted first.
    pub fn wanted_looks(&self) -> impl Iterator<Item = u32> {
        let groups = self.wanted.iter().filter_map(|&key| self.group_by_key(key));
        groups.filter(|group| group.wanted).map(|group| group.id)
    }

    /// A look has come to a group's tables, or there are none to read: gives the failures that it is to tell of.
    pub(super) fn look_comes(&mut self, key: Key) -> Vec<Failure> {
        self.wanted.retain(|&wanted| wanted != key);
        let Some(group) = self.group_mut(key) else { return Vec::new() };
        group.wanted = false;
        group.stirred_since_look.clear();
        std::mem::take(&mut group.failures)
    }

    /// The look that had come was not finished when another one began: that is to tell of the failures then, but of
    /// those whose PASID a call has touched since.
    pub(super) fn look_broke_off(&mut self, key: Key, failures: impl Iterator<Item = Failure>) {
        let Some(group) = self.group_mut(key) else { return };
        let untouched: Vec<Failure> =
            failures.filter(|failure| !group.stirred_since_look.may_have(failure.pasid)).collect();
        group.failures.splice(..0, untouched);
    }
}
