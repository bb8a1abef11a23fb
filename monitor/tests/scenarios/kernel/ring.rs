//! The ring: what the hooks report, with the group as it is read back.

use monitor::event::{ArrayEntry, Device, DeviceState, Event, Group, Key, Ownership, PasidArray, Slot, Task};
use monitor::kernel::catalogue::{CATALOGUE, Ends, Target};
use monitor_ebpf::wire::{Hook, Phase};

use super::{Call, Dev, Entry, Grp, Kernel, Running, domain, task};

impl Kernel {
    pub(super) fn locked(&mut self, running: &Running, phase: Phase) {
        let event = self.event(Hook::ReleaseLocked, phase, running.group, &running.task);
        self.log.push(event);
    }

    pub(super) fn report(&mut self, running: &Running, phase: Phase, ret: Option<i32>) {
        if phase == Phase::Begin && seen_by_its_return(running.hook) {
            return;
        }
        let mut event = self.event(running.hook, phase, running.group, &running.task);
        let name = match running.call {
            Call::ClaimDevice { device, .. }
            | Call::ReleaseDevice { device }
            | Call::Use { device }
            | Call::Unuse { device }
            | Call::Attach { device, .. }
            | Call::AttachBare { device, .. }
            | Call::Replace { device, .. }
            | Call::Detach { device, .. }
            | Call::Bind { device, .. }
            | Call::Unbind { device, .. } => Some(device),
            Call::Claim { .. }
            | Call::Release { .. }
            | Call::AttachGroup { .. }
            | Call::DetachGroup { .. } => None,
        };
        let devices = &self.groups[&running.group].devices;
        event.device = devices.iter().find(|device| Some(device.name) == name).map(seen);
        match running.call {
            Call::Attach { pasid, domain: to, .. }
            | Call::AttachBare { pasid, domain: to, .. }
            | Call::Replace { pasid, domain: to, .. }
            | Call::Detach { pasid, domain: to, .. } => {
                event.pasid = Some(pasid);
                event.domain = domain(to);
            }
            Call::AttachGroup { domain: to, .. } | Call::DetachGroup { domain: to, .. } => {
                event.domain = domain(to)
            }
            Call::Claim { owner, .. } | Call::ClaimDevice { owner, .. } => event.owner = Key::new(owner),
            Call::Bind { mm, .. } => event.mm = Key::new(mm),
            _ => {}
        }
        event.bond = running.bond.and_then(Key::new);
        let void = matches!(
            running.hook,
            Hook::ReleaseGroup
                | Hook::ReleaseDevice
                | Hook::UnuseDefault
                | Hook::DetachGroup
                | Hook::PasidDetach
                | Hook::SvaUnbind
        );
        event.ret = ret.filter(|_| !void);
        if let Some(pasid) = event.pasid.filter(|_| self.era.has_pasids() && reads_slot(running.hook)) {
            event.slot = Some(read_slot(&self.groups[&running.group], pasid));
        }
        event.stack = (phase == Phase::Begin).then_some(running.task.tid);
        self.log.push(event);
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

    /// The record at this place of the ring was reserved, and is filled only now: what it read of its group
    /// is of this moment.
    pub fn fill_late(&mut self, index: usize) {
        let id = self.log[index].group.expect("a record that names a group").id;
        let group = &self.groups[&id];
        let view = view(id, group);
        let event = &mut self.log[index];
        event.group = Some(view);
        event.array = event.array.as_ref().map(|_| read_array(group));
        event.slot = event.slot.zip(event.pasid).map(|(_, pasid)| read_slot(group, pasid));
    }

    /// Somebody reads the group's `reserved_regions`: its entry, a snapshot of each device under the mutex,
    /// its return.
    pub fn snapshot(&mut self, id: u32) {
        let reader = task(1, "iommu-watch");
        let begin = self.event(Hook::SnapshotGroup, Phase::Begin, id, &reader);
        self.log.push(begin);
        for device in self.groups[&id].devices.clone() {
            let mut event = self.event(Hook::SnapshotIntel, Phase::Point, id, &reader);
            let state = DeviceState { bound: true, ..DeviceState::default() };
            let table = Some(Key::new(device.table));
            event.device = Some(Device { table, state: Some(state), ..seen(&device) });
            self.log.push(event);
        }
        let end = self.event(Hook::SnapshotGroup, Phase::End, id, &reader);
        self.log.push(end);
    }

    pub fn snapshot_all(&mut self) {
        for id in self.groups.keys().copied().collect::<Vec<_>>() {
            self.snapshot(id);
        }
    }

    /// A device leaves its group; with the last one the group goes.
    pub fn unplug(&mut self, name: &'static str) {
        let id = self.group_of(name);
        let kworker = task(2, "kworker/u8:0");
        let index = self.groups[&id].devices.iter().position(|device| device.name == name).expect("a member");
        let device = self.group_mut(id).devices.remove(index);
        for hook in [Hook::DeviceRemove, Hook::VtdTableFree] {
            let mut event = self.event(hook, Phase::Point, id, &kworker);
            event.device = Some(Device { table: Some(Key::new(device.table)), ..seen(&device) });
            self.log.push(event);
        }
        if self.groups[&id].devices.is_empty() {
            let event = self.event(Hook::GroupRelease, Phase::Point, id, &kworker);
            self.log.push(event);
            self.groups.remove(&id);
        }
    }

    /// A device joins a group that is there. The group's PASIDs are not replayed to it.
    pub fn plug(&mut self, id: u32, device: Dev) {
        let kworker = task(2, "kworker/u8:0");
        let mut add = self.event(Hook::DeviceAdd, Phase::Point, id, &kworker);
        add.device = Some(seen(&device));
        add.group = None;
        self.log.push(add);
        let to = self.groups[&id].domain;
        for (phase, ret) in [(Phase::Begin, None), (Phase::End, Some(0))] {
            let mut event = self.event(Hook::RidAttach, phase, id, &kworker);
            event.device = Some(seen(&device));
            event.domain = domain(to);
            event.ret = ret;
            self.log.push(event);
        }
        self.group_mut(id).devices.push(device);
    }

    /// A hook of a driver reports on a device.
    pub fn hardware(&mut self, hook: Hook, task: &Task, name: &'static str, pasid: u32) {
        let id = self.group_of(name);
        let device =
            self.groups[&id].devices.iter().find(|device| device.name == name).cloned().expect("a member");
        for phase in [Phase::Begin, Phase::End] {
            let mut event = self.event(hook, phase, id, task);
            event.device = Some(Device { table: Some(Key::new(device.table)), ..seen(&device) });
            event.pasid = Some(pasid);
            self.log.push(event);
        }
    }

    /// An event of this moment, with the group as it is read back.
    pub(super) fn event(&mut self, hook: Hook, phase: Phase, id: u32, task: &Task) -> Event {
        self.now += 1_000;
        let cpu = task.tid % 4;
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
            array: (self.era.has_pasids() && reads_array(hook)).then(|| read_array(group)),
            slot: None,
            table: None,
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
fn read_array(group: &Grp) -> PasidArray {
    const CAPACITY: usize = monitor_ebpf::wire::ARRAY_CAPACITY;
    let entries = group.array.iter().take(CAPACITY).map(|(&pasid, &entry)| array_entry(pasid, entry));
    PasidArray { entries: entries.collect(), complete: group.array.len() <= CAPACITY }
}

fn read_slot(group: &Grp, pasid: u32) -> Slot {
    group.array.get(&pasid).map_or(Slot::Empty, |&entry| Slot::Taken(array_entry(pasid, entry)))
}

fn array_entry(pasid: u32, entry: Entry) -> ArrayEntry {
    ArrayEntry { pasid, encoding: entry.encoding, domain: entry.domain.and_then(domain), mm_exited: false }
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
    CATALOGUE
        .iter()
        .any(|row| row.hook == hook && matches!(row.target, Target::Call { ends: Ends::Exit, .. }))
}
