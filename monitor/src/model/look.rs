//! A look at a group: what the kernel's own structures held of it, all of it under one hold of its mutex.
//!
//! Reading a group's `reserved_regions` calls a hook on entry, then one for each member with the mutex
//! held, then one on return. What comes between entry and return is one look. Of the tables only
//! what differs is kept: a host has many PASIDs, and they are mostly right.

use monitor_ebpf::wire::{Hook, Phase};

use crate::event::{DeviceState, Domain, Event, Key, Name, Ownership, TableReading, Tags};

use super::compared::{Compared, compare, diverging};
use super::group::{Attachment, Group};
use super::host::Host;
use super::order::Reading;
use super::reset::AfterReset;
use super::transition::Transition;
use super::unanswered::Unanswered;
use super::wanted::{Failed, Failure};

/// More members than this in one look are left out, and the look says so.
const MAX_MEMBERS: usize = 256;
/// More entries of tables than this in one look, and the rest is not compared.
const MAX_ENTRIES: usize = 262_144;
/// More PASIDs than this in a list of differences are left out.
pub(super) const MAX_LISTED: usize = 256;

/// What one look found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// When it ended, in CLOCK_MONOTONIC ns.
    pub mono_ns: u64,
    /// Counts up with every look at the group.
    pub number: u64,
    pub ownership: Ownership,
    pub domain: Option<Domain>,
    pub default_domain: Option<Domain>,
    /// Members that a reset keeps blocked.
    pub recovery_cnt: u32,
    /// PASIDs in the core's `pasid_array`, at most [`MAX_LISTED`]; index 0 is not one. `None`: the kernel
    /// keeps no such account (up to 6.1), or the array could not be read as a whole.
    pub pasids: Option<Vec<u32>>,
    /// Those of them whose attach was not seen by then, nor a call on them that was under way.
    pub unexplained: Vec<u32>,
    /// What was known then of these, and of those that members lack or translate differently; not of what a call under
    /// way may have been changing.
    pub attached: Vec<(u32, Attachment)>,
    pub members: Vec<Member>,
    /// Every member was looked at.
    pub whole: bool,
    /// PASIDs that two members behind one IOMMU translate differently.
    pub diverging: Vec<u32>,
    /// The driver hangs its tables off the domains, so that devices of one domain share one by design.
    pub tables_by_domain: bool,
    /// Calls that failed before it, and what they left.
    pub failed: Vec<Failed>,
}

/// One member of the group at the time of the look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub device: Key,
    pub name: Name,
    pub state: DeviceState,
    /// 0: it takes no PASIDs, and the core skips it.
    pub max_pasids: u32,
    /// How its hardware table compares with the core's array; `None`: one of the two was not read as a
    /// whole, it has no table, or the table is not its own.
    pub table: Option<Compared>,
    /// It was reset, and that is over: what it was not given back.
    pub after_reset: Option<Box<AfterReset>>,
    /// What its RID has of cache tags in the group's domain; `None`: its driver keeps none, it was not read, or the last
    /// attach of its RID failed.
    pub tags: Option<Tags>,
    /// A page request of its that waits for its response though its PASID is detached; `Some(None)`: there is none.
    pub unanswered: Option<Option<Unanswered>>,
}

impl Look {
    /// A member is between two domains, by a reset or until its first DMA: the group's domain says little.
    pub fn in_between(&self) -> bool {
        let unsettled = |member: &Member| member.state.blocked || member.state.deferred;
        self.recovery_cnt != 0 || self.members.iter().any(unsettled)
    }

    /// No member has a driver, and all of them are PCI devices, whose drivers are bound before the device is
    /// used and let go of it before they are unbound: nobody can be using the group.
    pub fn deserted(&self) -> bool {
        let lone = |member: &Member| !member.state.bound && is_pci(&member.name);
        self.whole && !self.members.is_empty() && self.members.iter().all(lone)
    }

    pub fn free(&self) -> bool {
        self.ownership.count == 0 && self.ownership.owner.is_none()
    }

    /// What was known of a PASID that is of interest when the group was read: by the time the look is over calls may have
    /// changed it.
    pub fn attachment(&self, pasid: u32) -> Option<&Attachment> {
        self.attached.iter().find(|(known, _)| *known == pasid).map(|(_, attachment)| attachment)
    }
}

/// `0000:01:00.0`
fn is_pci(name: &str) -> bool {
    let mut parts = name.split([':', '.']);
    let mut hex = |width: usize| {
        parts
            .next()
            .is_some_and(|part| part.len() >= width && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    hex(4) && hex(2) && hex(2) && hex(1) && parts.next().is_none()
}

/// The hardware tables that were read, by member, whole or not.
pub(super) type Tables = Vec<(Key, Box<TableReading>)>;

/// A look that is under way. On entry and on return of the read each member is reported and then the group,
/// without the mutex; in between, where the driver's hook is known, each member with it.
#[derive(Clone, Debug)]
pub(super) struct Looking {
    pub group: Key,
    /// The task that reads. Several may read one group at once, and what they saw is of different moments.
    reader: u32,
    /// On entry: the members, and at last the group.
    entry: (Vec<Key>, Option<Reading>),
    /// With the mutex held; or on return, where no driver's hook tells.
    members: Vec<(Member, Option<Box<TableReading>>)>,
    entries: usize,
    of_group: Option<OfGroup>,
    whole: bool,
    tables_by_domain: bool,
    /// A driver's hook read with the mutex held.
    locked: bool,
    /// Calls that failed before the mutex was taken, and what they left.
    failed: Vec<Failed>,
    /// When the read returned.
    returned: Option<u64>,
}

/// What is known of a member at this moment beside what was read of it.
struct OfMember {
    after_reset: Option<Box<AfterReset>>,
    unanswered: Option<Option<Unanswered>>,
    astray: bool,
}

#[derive(Clone, Debug)]
struct OfGroup {
    ownership: Ownership,
    domain: Option<Domain>,
    default_domain: Option<Domain>,
    recovery_cnt: u32,
    pasids: Option<Vec<u32>>,
    unexplained: Vec<u32>,
    attached: Vec<(u32, Attachment)>,
}

impl Looking {
    /// `overtaken`: it began before something that was lost, which may be records of it.
    fn new(group: Key, reader: u32, overtaken: bool) -> Looking {
        Looking {
            group,
            reader,
            entry: (Vec::new(), None),
            members: Vec::new(),
            entries: 0,
            of_group: None,
            whole: !overtaken,
            tables_by_domain: false,
            locked: false,
            failed: Vec::new(),
            returned: None,
        }
    }

    /// Its records are this task's on this group.
    fn is_of(&self, group: Key, event: &Event) -> bool {
        self.group == group && self.reader == event.task.tid
    }

    /// Its entry is being reported still.
    fn enters(&self) -> bool {
        self.entry.1.is_none() && !self.locked
    }

    fn has_returned(&self) -> bool {
        self.returned.is_some()
    }

    fn entered(&mut self, event: &Event) {
        match &event.device {
            Some(device) if self.entry.0.len() < MAX_MEMBERS => self.entry.0.push(device.key),
            Some(_) => self.whole = false,
            None => self.entry.1 = Reading::of(event).filter(|_| !event.incomplete),
        }
    }

    fn reads_same(&self, event: &Event) -> bool {
        self.entry.1.is_some() && self.entry.1 == Reading::of(event).filter(|_| !event.incomplete)
    }

    fn left(&mut self, event: &Event, known: &Group) {
        match (&event.device, self.locked) {
            (Some(_), true) => {}
            (Some(_), false) => self.member(event),
            (None, locked) => {
                self.returned = Some(event.mono_ns);
                if !locked {
                    // Nobody held the mutex for us. What reads the same at both ends stood there in between.
                    self.of_group(event, known);
                    self.whole &= self.reads_same(event);
                }
                let mut before = self.entry.0.clone();
                let mut after: Vec<Key> = self.members.iter().map(|(member, _)| member.device).collect();
                before.sort_unstable();
                after.sort_unstable();
                self.whole &= before == after;
            }
        }
    }

    fn member_locked(&mut self, event: &Event, known: &Group, failures: Vec<Failure>, of_member: OfMember) {
        self.locked = true;
        self.failed.extend(failures.into_iter().map(|failure| Failed { failure, members: Vec::new() }));
        self.of_group(event, known);
        let before = self.members.len();
        self.member(event);
        if let Some((member, _)) = self.members.get_mut(before) {
            (member.after_reset, member.unanswered) = (of_member.after_reset, of_member.unanswered);
            member.tags.take_if(|_| of_member.astray);
        }
    }

    /// The first reading of the group, with what is known at this moment of what it shows.
    fn of_group(&mut self, event: &Event, known: &Group) {
        let Some(group) = event.group.as_ref().filter(|_| !event.incomplete) else { return };
        let Some(ownership) = group.ownership else { return };
        let array = event.array.as_ref().filter(|array| array.complete);
        if self.of_group.is_some() {
            return;
        }
        let changing = known.under_way();
        let pasids = || array.iter().flat_map(|array| array.pasids()).map(|entry| entry.pasid);
        let settled = || pasids().filter(|&pasid| !changing.pasid(pasid));
        let unexplained = settled().filter(|&pasid| !known.saw_attached(pasid)).take(MAX_LISTED).collect();
        let attached = settled().filter_map(|pasid| Some((pasid, *known.attachment(pasid)?))).collect();
        self.of_group = Some(OfGroup {
            ownership,
            domain: group.domain,
            default_domain: group.default_domain,
            recovery_cnt: group.recovery_cnt,
            pasids: array.map(|_| pasids().take(MAX_LISTED).collect()),
            unexplained,
            attached,
        });
    }

    fn member(&mut self, event: &Event) {
        let state = event.device.and_then(|device| device.state);
        let (Some(device), Some(state), false) = (&event.device, state, event.incomplete) else {
            self.whole = false;
            return;
        };
        if self.members.len() >= MAX_MEMBERS {
            self.whole = false;
            return;
        }
        self.tables_by_domain |= event.table.as_ref().is_some_and(|table| table.per_domain);
        let room = MAX_ENTRIES.saturating_sub(self.entries);
        let array = event.array.as_ref().filter(|array| array.complete);
        let read = event.table.as_ref().filter(|table| self.locked && table.entries.len() <= room);
        self.entries += read.map_or(0, |table| table.entries.len());
        let table = read.filter(|table| table.is_whole());
        let member = Member {
            device: device.key,
            name: device.name,
            state,
            max_pasids: device.max_pasids.unwrap_or_default(),
            table: array.zip(table).map(|(array, table)| compare(array, table, device.max_pasids)),
            after_reset: None,
            tags: event.tags,
            unanswered: None,
        };
        for Failed { failure, members } in &mut self.failed {
            let attached = array.map(|array| array.has(failure.pasid));
            members.push((device.key, failure.left(device.key, attached, table.map(AsRef::as_ref))));
        }
        self.members.push((member, read.cloned()));
    }

    /// The look is over. `None` if nothing was read of the group.
    fn end(self, number: u64) -> Option<(Look, Tables)> {
        let (of_group, mono_ns) = (self.of_group?, self.returned?);
        let diverging = diverging(&self.members);
        let (members, tables): (Vec<Member>, Vec<_>) = self.members.into_iter().unzip();
        let keys = members.iter().map(|member| member.device);
        let tables = keys.zip(tables).filter_map(|(key, table)| Some((key, table?))).collect();
        let differs = |pasid: u32| {
            let mut compared = members.iter().filter_map(|member| member.table.as_ref());
            diverging.contains(&pasid) || compared.any(|table| table.missing.contains(&pasid))
        };
        let mut attached = of_group.attached;
        attached.retain(|&(pasid, _)| differs(pasid) || of_group.unexplained.contains(&pasid));
        attached.shrink_to_fit();
        let look = Look {
            mono_ns,
            number,
            ownership: of_group.ownership,
            domain: of_group.domain,
            default_domain: of_group.default_domain,
            recovery_cnt: of_group.recovery_cnt,
            pasids: of_group.pasids,
            unexplained: of_group.unexplained,
            attached,
            members,
            whole: self.whole,
            diverging,
            tables_by_domain: self.tables_by_domain,
            failed: self.failed,
        };
        Some((look, tables))
    }
}

impl Host {
    /// One record of a look: its begin on entry of the read, a member with the mutex held, its end on return.
    pub(super) fn look(&mut self, key: Key, event: &Event, transitions: &mut Vec<Transition>) {
        let after = self.look_at_device(key, event);
        let ours = self.looking.as_ref().is_some_and(|looking| looking.is_of(key, event));
        match (event.hook, event.phase) {
            (Hook::SnapshotGroup, Phase::End) => {
                if let Some(looking) = self.looking.as_mut().filter(|_| ours)
                    && let Some(known) = self.groups.get(&key)
                {
                    looking.left(event, known);
                }
                self.end_look(transitions);
            }
            (Hook::SnapshotGroup, _) => {
                let anew = !ours || !self.looking.as_ref().is_some_and(Looking::enters);
                let overtaken = self.overtaken(Some(key), event.mono_ns);
                let begun = || Looking::new(key, event.task.tid, overtaken);
                if anew && let Some(unfinished) = self.looking.replace(begun()) {
                    let failures = unfinished.failed.into_iter().map(|failed| failed.failure);
                    self.look_broke_off(unfinished.group, failures);
                }
                if let Some(looking) = &mut self.looking {
                    looking.entered(event);
                }
            }
            _ => {
                let unanswered =
                    self.groups.get_mut(&key).and_then(|group| group.unanswered(event, &self.former));
                let device = event.device.and_then(|seen| self.device(seen.key));
                let astray = device.is_some_and(|device| device.astray);
                let of_member = OfMember { after_reset: after, unanswered, astray };
                let first = ours && self.looking.as_ref().is_some_and(|looking| !looking.locked);
                let failures = if first { self.look_comes(key) } else { Vec::new() };
                if let Some(looking) = self.looking.as_mut().filter(|_| ours)
                    && let Some(known) = self.groups.get(&key)
                {
                    looking.member_locked(event, known, failures, of_member);
                }
            }
        }
    }

    /// Where no hook of the driver reads the group under its mutex: the same was read on entry and on return, and
    /// no call was under way.
    pub(super) fn reads_again(&self, key: Key, event: &Event) -> bool {
        let same = self.looking.as_ref().filter(|looking| looking.is_of(key, event));
        let same = same.is_some_and(|looking| looking.reads_same(event));
        event.phase == Phase::End && same && self.group_by_key(key).is_some_and(Group::quiescent)
    }

    /// The look is over, if its read has returned.
    fn end_look(&mut self, transitions: &mut Vec<Transition>) {
        let Some(looking) = self.looking.take_if(|looking| looking.has_returned()) else { return };
        if !looking.locked {
            // Its tables can't be read: no look will tell more.
            self.look_comes(looking.group);
        }
        let Some(group) = self.group_mut(looking.group) else { return };
        group.looks += 1;
        let Some((look, tables)) = looking.end(group.looks) else { return };
        group.tables = tables;
        let gone = |key: &&Key| look.whole && !look.members.iter().any(|member| member.device == **key);
        let gone: Vec<Key> = group.devices.iter().filter(gone).copied().collect();
        group.looked = Some(Box::new(look.clone()));
        let (reference, mono_ns) = (group.reference(), look.mono_ns);
        transitions.push(Transition::Looked { group: reference, look: Box::new(look) });
        if !group.exited.is_empty() {
            let pasids = group.lingering();
            transitions.push(Transition::Lingering { group: reference, pasids, mono_ns });
        }
        // It went unseen: a look at the whole group shows every member.
        gone.into_iter().for_each(|device| self.drop_device(device, transitions));
    }
}
