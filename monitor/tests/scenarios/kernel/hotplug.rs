//! What others do than the callers: snapshots, devices that come and go, a driver's hooks.

use monitor::event::{Device, DeviceState, Key, TableEntry, TableKind, TableReading, Task};
use monitor_ebpf::wire::{Hook, Phase};

use super::ring::{phases, seen};
use super::{Dev, Era, Kernel, Sight, domain, sva_domain, task};

/// The parts of a read of `reserved_regions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    Entry,
    /// Under the mutex.
    Devices,
    Return,
}

impl Look {
    pub const ALL: [Look; 3] = [Look::Entry, Look::Devices, Look::Return];
}

/// What a look reads of a device beside its table. All are behind the only IOMMU that there is.
fn state(device: &Dev) -> DeviceState {
    let (bound, blocked) = (device.bound, device.resets > 0);
    DeviceState { bound, blocked, iommu: Key::new(0x10), ..DeviceState::default() }
}

/// What its hardware table holds; a domain is its own tag. Entry 0 is the RID's.
fn table_of(device: &Dev) -> Option<Box<TableReading>> {
    let entry = |(&pasid, &domain): (&u32, &u64)| TableEntry { pasid, kind: 1, tag: domain as u32 };
    let entries = [(&0, &1)].into_iter().chain(&device.present).map(entry).collect();
    let table = TableReading { kind: TableKind::Vtd, per_domain: false, entries, complete: true };
    (device.table != 0).then(|| Box::new(table))
}

impl Kernel {
    /// Somebody reads the group's `reserved_regions`: its entry, a snapshot of each device under the mutex,
    /// its return.
    pub fn snapshot(&mut self, id: u32) {
        self.snapshot_by(&task(1, "iommu-watch"), id);
    }

    pub fn snapshot_by(&mut self, reader: &Task, id: u32) {
        for part in Look::ALL {
            self.look(reader, id, part);
        }
    }

    /// A part of such a read.
    pub fn look(&mut self, reader: &Task, id: u32, part: Look) {
        let phase = match part {
            Look::Entry => Phase::Begin,
            Look::Return => Phase::End,
            Look::Devices => {
                let devices = self.groups[&id].devices.clone();
                let at = self.history.len();
                let (group, state_of_group) = (id, self.state(id));
                let exited =
                    self.mms.iter().filter(|(_, mm)| mm.exited).map(|(&mm, _)| sva_domain(mm)).collect();
                self.looks.push(Sight {
                    group,
                    state: state_of_group,
                    devices: devices.clone(),
                    exited,
                    at,
                    reader: reader.tid,
                });
                for device in devices {
                    let mut event = self.event(Hook::SnapshotIntel, Phase::Point, id, reader);
                    let root = Some(Key::new(device.table));
                    event.device = Some(Device { table: root, state: Some(state(&device)), ..seen(&device) });
                    event.table = table_of(&device);
                    event.unanswered = self.unanswered(id, &device);
                    self.push(event);
                }
                return;
            }
        };
        // Each member, and then the group.
        for device in self.groups[&id].devices.clone() {
            let mut event = self.event(Hook::SnapshotGroup, phase, id, reader);
            event.device = Some(Device { state: Some(state(&device)), ..seen(&device) });
            event.array = None;
            self.push(event);
        }
        let event = self.event(Hook::SnapshotGroup, phase, id, reader);
        self.push(event);
    }

    /// The request that waits longest, of those whose PASID isn't attached; a kernel that has others in its list as well
    /// isn't asked.
    fn unanswered(&self, id: u32, device: &Dev) -> Option<Option<u32>> {
        let lost = |pasid: &&u32| !self.groups[&id].array.contains_key(pasid);
        (self.era >= Era::Handles).then(|| device.waiting.iter().find(lost).copied())
    }

    /// Nobody holds the group's mutex.
    pub fn is_free(&self, id: u32) -> bool {
        self.groups[&id].holder.is_none()
    }

    pub fn snapshot_all(&mut self) {
        for id in self.groups.keys().copied().collect::<Vec<_>>() {
            self.snapshot(id);
        }
    }

    /// A device leaves its group; with the last one the group goes.
    pub fn unplug(&mut self, name: &'static str) {
        let id = self.remove(name);
        if self.groups[&id].devices.is_empty() {
            self.release_group(id);
        }
    }

    /// A device leaves its group, which somebody still refers to.
    pub fn remove(&mut self, name: &'static str) -> u32 {
        let id = self.group_of(name);
        let kworker = task(2, "kworker/u8:0");
        let index = self.groups[&id].devices.iter().position(|device| device.name == name).expect("a member");
        self.table_left(self.table_hook, id, index, &kworker);
        let device = self.group_mut(id).devices.remove(index);
        for hook in [Hook::DeviceRemove, Hook::AtsOff, Hook::PasidOff, Hook::VtdTableFree] {
            let mut event = self.event(hook, Phase::Point, id, &kworker);
            event.device = Some(Device { table: Some(Key::new(device.table)), ..seen(&device) });
            self.push(event);
        }
        id
    }

    /// A driver is about to free a device's table: a hook of its own says what is left in it.
    pub(super) fn table_left(&mut self, hook: Hook, id: u32, index: usize, task: &Task) {
        let device = &self.groups[&id].devices[index];
        if device.table == 0 || device.present.is_empty() {
            return;
        }
        let (seen, table) = (seen(device), table_of(device));
        let mut event = self.event(hook, Phase::Point, id, task);
        (event.device, event.table) = (Some(seen), table);
        self.push(event);
    }

    /// The last reference to a group without devices is gone.
    pub fn release_group(&mut self, id: u32) {
        let kworker = task(2, "kworker/u8:0");
        let event = self.event(Hook::GroupRelease, Phase::Point, id, &kworker);
        self.push(event);
        self.groups.remove(&id);
    }

    /// A device joins a group that is there. The group's PASIDs are not replayed to it.
    pub fn plug(&mut self, id: u32, device: Dev) {
        let kworker = task(2, "kworker/u8:0");
        let mut add = self.event(Hook::DeviceAdd, Phase::Point, id, &kworker);
        add.device = Some(seen(&device));
        add.group = None;
        self.push(add);
        let to = self.groups[&id].domain;
        for (phase, ret) in [(Phase::Begin, None), (Phase::End, Some(0))] {
            self.rid(&kworker, id, &device, phase, to, ret);
        }
        self.group_mut(id).devices.push(device);
    }

    /// A hook of a driver reports on a device.
    pub fn hardware(&mut self, hook: Hook, task: &Task, name: &'static str, pasid: u32) {
        self.driver_says(hook, task, name, Some(pasid), 0);
    }

    /// The same, with what the driver's function returns, if it returns something.
    pub fn driver_says(&mut self, hook: Hook, task: &Task, name: &'static str, pasid: Option<u32>, ret: i32) {
        let id = self.group_of(name);
        let device =
            self.groups[&id].devices.iter().find(|device| device.name == name).cloned().expect("a member");
        let void = matches!(
            hook,
            Hook::VtdTearDown | Hook::VtdTableFree | Hook::AmdTableFree | Hook::AtsOff | Hook::PasidOff
        );
        for phase in phases(hook) {
            let mut event = self.event(hook, phase, id, task);
            event.device = Some(Device { table: Some(Key::new(device.table)), ..seen(&device) });
            event.pasid = pasid;
            event.ret = (phase == Phase::End && !void).then_some(ret);
            if matches!(hook, Hook::VtdDetach | Hook::AmdDetach | Hook::SmmuDetach) {
                event.domain = domain(self.groups[&id].blocking_domain);
            }
            self.push(event);
        }
    }
}
