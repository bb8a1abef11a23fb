//! What the watcher tells: plain data, for every renderer.

use monitor_ebpf::wire::{Hook, Phase};

use crate::check::{CheckState, Pasid, Resolved, Spec, Violation};
use crate::event::{DeviceState, Event, Name, Ownership, Slot, TableReading};
use crate::input::Stage;
use crate::inventory::Inventory;
use crate::model::{Actor, DomainName, Group, Host, Names};

/// One thing to tell.
#[derive(Clone, Debug)]
pub enum Report {
    Violation(Box<Violation>),
    /// It stands still, and is expected, or weighed, otherwise than when it was told last.
    Restated(Box<Violation>),
    Resolved(Box<Resolved>),
    Loss(Loss),
    State(Box<GroupState>),
    CheckState(CheckChange),
    Suppressed(Suppressed),
    Event(Box<EventLine>),
}

impl Report {
    /// When it happened, in CLOCK_MONOTONIC ns.
    pub fn mono_ns(&self) -> u64 {
        match self {
            Report::Violation(violation) | Report::Restated(violation) => violation.mono_ns,
            Report::Resolved(resolved) => resolved.mono_ns,
            Report::Loss(loss) => loss.mono_ns,
            Report::State(state) => state.mono_ns,
            Report::CheckState(change) => change.mono_ns,
            Report::Suppressed(suppressed) => suppressed.mono_ns,
            Report::Event(line) => line.actor.mono_ns,
        }
    }

    pub(super) fn check(mono_ns: u64, check: &'static Spec, state: &CheckState) -> Report {
        Report::CheckState(CheckChange { mono_ns, check, state: state.clone() })
    }
}

/// Events were lost; what they could have told is unknown until it is read again.
#[derive(Clone, Debug)]
pub struct Loss {
    pub mono_ns: u64,
    pub stage: Stage,
    pub count: u64,
    /// Of this stage, since the start.
    pub total: u64,
    /// The numbers of the groups that they were about, of those that were known; `None`: any group.
    pub groups: Option<Vec<u32>>,
}

/// Lines that are missing from the output.
#[derive(Clone, Debug)]
pub struct Suppressed {
    pub mono_ns: u64,
    pub by: SuppressedBy,
    /// Since that was told last.
    pub lines: u64,
    /// For this reason, since the start.
    pub total: u64,
    /// Where checks were bounded: how many of each, since that was told last.
    pub checks: Vec<(&'static str, u64)>,
}

/// What lines are missing for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuppressedBy {
    /// Violations came faster than is let through.
    Rate,
    /// Whoever reads the output did not keep up, and nothing had room for more.
    Output,
    /// What an earlier process had left was damaged.
    Spool,
}

impl SuppressedBy {
    pub fn name(self) -> &'static str {
        match self {
            SuppressedBy::Rate => "rate",
            SuppressedBy::Output => "output",
            SuppressedBy::Spool => "spool",
        }
    }
}

/// A check's state, at the start and when it changes.
#[derive(Clone, Debug)]
pub struct CheckChange {
    pub mono_ns: u64,
    pub check: &'static Spec,
    pub state: CheckState,
}

/// Whether a group's state is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knowledge {
    Synced,
    Unknown,
}

impl Knowledge {
    pub const ALL: [Knowledge; 2] = [Knowledge::Synced, Knowledge::Unknown];

    pub fn name(self) -> &'static str {
        match self {
            Knowledge::Synced => "synced",
            Knowledge::Unknown => "unknown",
        }
    }
}

/// Who holds a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Nobody: owner_cnt is 0.
    Free,
    /// Drivers, through the default domain.
    Kernel,
    /// A claimant: VFIO or iommufd.
    User,
}

impl Owner {
    pub fn of(ownership: Ownership) -> Owner {
        match (ownership.count, ownership.owner) {
            (_, Some(_)) => Owner::User,
            (0, None) => Owner::Free,
            (_, None) => Owner::Kernel,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Owner::Free => "free",
            Owner::Kernel => "kernel",
            Owner::User => "user",
        }
    }
}

/// A group as it is known now.
#[derive(Clone, Debug)]
pub struct GroupState {
    pub mono_ns: u64,
    pub id: u32,
    pub knowledge: Knowledge,
    pub devices: Vec<String>,
    pub iommu_driver: Option<String>,
    pub owner: Option<Owner>,
    pub owner_cnt: Option<u32>,
    pub domain: Option<DomainName>,
    pub default_domain: Option<DomainName>,
    /// `None`: not all of them are known.
    pub pasids: Option<Vec<Pasid>>,
    /// SVA bonds, of those whose bind was seen.
    pub bonds: usize,
}

impl GroupState {
    pub(super) fn new(
        group: &Group,
        host: &Host,
        inventory: Option<&Inventory>,
        names: &mut Names,
        mono_ns: u64,
    ) -> GroupState {
        let entry = inventory.and_then(|inventory| inventory.group(group.id));
        let mut devices = host.names(group);
        devices.extend(entry.iter().flat_map(|entry| &entry.devices).map(|device| device.name.clone()));
        devices.sort_unstable();
        devices.dedup();
        let pasids = group.pasids().map(|pasids| {
            let pasids = pasids.map(|(pasid, attachment)| Pasid {
                pasid,
                domain: attachment.domain.map(|domain| names.domain(domain)),
                attached_by: attachment.attached_by,
            });
            pasids.collect()
        });
        GroupState {
            mono_ns,
            id: group.id,
            knowledge: if group.synced { Knowledge::Synced } else { Knowledge::Unknown },
            devices,
            iommu_driver: entry.and_then(|entry| entry.iommu_driver()).map(str::to_owned),
            owner: group.ownership.map(Owner::of),
            owner_cnt: group.ownership.map(|ownership| ownership.count),
            domain: group.domain.map(|domain| names.domain(domain)),
            default_domain: group.default_domain.map(|domain| names.domain(domain)),
            pasids,
            bonds: group.bonds(),
        }
    }
}

/// The hardware PASID tables of a group's devices, as the last look at it read them. Not part of [`GroupState`], which
/// is made for every scrape: they may have many entries.
#[derive(Clone, Debug)]
pub struct Tables<'a> {
    /// When that look ended, in CLOCK_MONOTONIC ns.
    pub mono_ns: u64,
    /// By device; one that has no table, or whose driver is not known, is not here.
    pub of: Vec<(Name, &'a TableReading)>,
}

impl Tables<'_> {
    /// `None`: there was no look since the group's state is known.
    pub(super) fn of<'a>(group: &'a Group, host: &Host) -> Option<Tables<'a>> {
        let looked = group.looked.as_ref()?;
        let named = group.tables.iter().filter_map(|(key, table)| Some((host.device(*key)?.name, &**table)));
        Some(Tables { mono_ns: looked.mono_ns, of: named.collect() })
    }
}

/// An event, for the live view.
#[derive(Clone, Debug)]
pub struct EventLine {
    pub hook: Hook,
    pub phase: Phase,
    pub actor: Actor,
    pub cpu: u32,
    pub group: Option<u32>,
    pub device: Option<Name>,
    pub domain: Option<DomainName>,
    pub pasid: Option<u32>,
    pub ret: Option<i32>,
    /// The group's ownership as the event read it.
    pub ownership: Option<Ownership>,
    /// Whether the call's PASID is in the group's array, as the event read it.
    pub attached: Option<bool>,
    /// The PASIDs in the group's array as the event read it; the flag: all of them.
    pub pasids: Option<(Vec<u32>, bool)>,
    /// What a snapshot read of its device beside its tables.
    pub state: Option<DeviceState>,
    /// The device's hardware PASID table, as a snapshot read it.
    pub table: Option<Box<TableReading>>,
}

impl EventLine {
    pub(super) fn new(event: &Event, names: &mut Names) -> EventLine {
        let pasids = event.array.as_ref().map(|array| {
            (array.pasids().map(|entry| entry.pasid).collect(), array.complete && !event.incomplete)
        });
        EventLine {
            hook: event.hook,
            phase: event.phase,
            actor: Actor::of(event),
            cpu: event.cpu,
            group: event.group.map(|group| group.id),
            device: event.device.map(|device| device.name),
            domain: event.domain.map(|domain| names.domain(domain)),
            pasid: event.pasid,
            ret: event.ret,
            ownership: event.group.and_then(|group| group.ownership),
            attached: event.slot.filter(|_| !event.incomplete).map(|slot| slot != Slot::Empty),
            pasids,
            state: event.device.and_then(|device| device.state),
            table: event.table.clone(),
        }
    }
}
