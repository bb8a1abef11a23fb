//! What attachments stand on: the allocator of PASIDs, the `mm_struct` of a process, domains.
//! `iommu_alloc_global_pasid`, `iommu_free_global_pasid` (iommu.c), `mm_pasid_drop` in `__mmdrop` (fork.c), `iommu_domain_free`.

use monitor::event::{DomainKind, Event, Key, Task};
use monitor_ebpf::wire::{Hook, Phase};

use super::ring::seen;
use super::{Kernel, domain};

/// What an `mm_struct` has to do with PASIDs.
#[derive(Clone, Copy, Debug)]
pub struct Mm {
    pub pasid: u32,
    /// Its last user is gone.
    pub exited: bool,
}

/// The domain that translates the memory of a process.
pub fn sva_domain(mm: u64) -> u64 {
    4000 + mm
}

impl Kernel {
    /// A driver takes a PASID for its own use.
    pub fn take_pasid(&mut self, task: &Task, device: &str, pasid: u32) {
        self.pasid_taken(task, device, pasid, None);
    }

    fn pasid_taken(&mut self, task: &Task, device: &str, pasid: u32, mm: Option<u64>) {
        let id = self.group_of(device);
        let mut event = self.event(Hook::PasidAlloc, Phase::End, id, task);
        event.device = self.groups[&id].devices.iter().find(|member| member.name == device).map(seen);
        (event.pasid, event.mm) = (Some(pasid), mm.and_then(Key::new));
        self.push(event);
    }

    /// A PASID goes back to the allocator, whoever has it attached.
    pub fn free_pasid(&mut self, task: &Task, pasid: u32) {
        self.pasid_back(task, pasid, None);
    }

    fn pasid_back(&mut self, task: &Task, pasid: u32, mm: Option<u64>) {
        let mut event = self.on_nothing(Hook::PasidFree, Phase::Point, task);
        (event.pasid, event.mm) = (Some(pasid), mm.and_then(Key::new));
        self.push(event);
    }

    /// A process is bound for the first time: it gets a PASID.
    pub(super) fn give_pasid(&mut self, task: &Task, device: &str, mm: u64, pasid: u32) {
        let known = self.mms.len();
        self.mms.entry(mm).or_insert(Mm { pasid, exited: false });
        if self.mms.len() > known {
            self.pasid_taken(task, device, pasid, Some(mm));
        }
    }

    /// `mmput` of the last user. The drivers' notifiers clear its PASID in hardware; the array keeps it.
    pub fn exit(&mut self, task: &Task, mm: u64) {
        let Some(Mm { pasid, .. }) = self.mms.get_mut(&mm).map(|mm| {
            mm.exited = true;
            *mm
        }) else {
            return;
        };
        let event = self.on_mm(Hook::MmExit, Phase::Point, task, mm, pasid);
        self.push(event);
        let group = self.groups.values_mut().filter(|group| group.bonds.contains_key(&mm));
        for device in group.flat_map(|group| &mut group.devices) {
            device.present.remove(&pasid);
        }
        self.put_mm(task, mm);
    }

    /// A bond is gone, or a process: with the last bond its domain goes, and with both the `mm_struct`.
    pub(super) fn put_mm(&mut self, task: &Task, mm: u64) {
        let bound = self.groups.values().any(|group| group.bonds.contains_key(&mm));
        if !bound && self.mms.get(&mm).is_some_and(|mm| mm.exited) {
            self.drop_mm(task, mm, true);
        }
    }

    /// `__mmdrop`, whoever has it bound; `gives_back`: its PASID goes back.
    pub fn drop_mm(&mut self, task: &Task, mm: u64, gives_back: bool) {
        let Some(Mm { pasid, .. }) = self.mms.remove(&mm) else { return };
        let event = self.on_mm(Hook::MmDrop, Phase::Begin, task, mm, pasid);
        self.push(event);
        if gives_back {
            self.pasid_back(task, pasid, Some(mm));
        }
        let event = self.on_mm(Hook::MmDrop, Phase::End, task, mm, pasid);
        self.push(event);
    }

    /// `iommu_domain_free`, whatever is attached to it. A static domain's `free` is NULL: that is not reported.
    pub fn free_domain(&mut self, task: &Task, key: u64) {
        let mut event = self.on_nothing(Hook::DomainFree, Phase::Point, task);
        event.domain = domain(key);
        if event.domain.is_some_and(|domain| domain.kind == DomainKind::Sva) {
            let mm = key - sva_domain(0);
            event.mm = Key::new(mm);
            event.pasid = self.mms.get(&mm).map(|mm| mm.pasid);
        }
        self.push(event);
    }

    /// `iommu_sva_unbind_device` of a bond that is gone: what it reads of it is out of freed memory.
    pub fn unbind_again(&mut self, task: &Task, handle: u64) {
        for phase in [Phase::Begin, Phase::End] {
            let mut event = self.on_nothing(Hook::SvaUnbind, phase, task);
            event.bond = Key::new(handle);
            event.stack = (phase == Phase::Begin).then_some(task.tid);
            self.push(event);
        }
    }

    fn on_mm(&mut self, hook: Hook, phase: Phase, task: &Task, mm: u64, pasid: u32) -> Event {
        let mut event = self.on_nothing(hook, phase, task);
        (event.mm, event.pasid) = (Key::new(mm), Some(pasid));
        event
    }

    /// A record that names no group.
    fn on_nothing(&mut self, hook: Hook, phase: Phase, task: &Task) -> Event {
        let any = *self.groups.keys().next().expect("a group");
        let mut event = self.event(hook, phase, any, task);
        (event.group, event.array) = (None, None);
        event
    }
}
