//! What the core's calls do under `group->mutex`: drivers/iommu/iommu.c and iommu-sva.c, retold.

use monitor_ebpf::wire::{Encoding, Hook, Phase};

use super::ring::seen;
use super::{Bond, Call, EBUSY, EINVAL, Entry, Era, Kernel, Running, domain};

impl Kernel {
    /// `iommu_device_use_default_domain`
    pub(super) fn use_default(&mut self, id: u32) -> i32 {
        let era = self.era;
        let group = self.group_mut(id);
        let pasids = era.has_pasids() && !group.array.is_empty();
        if group.owner_cnt != 0 && (group.domain != group.default_domain || group.owner != 0 || pasids) {
            return EBUSY;
        }
        group.owner_cnt += 1;
        0
    }

    /// `iommu_device_unuse_default_domain`: WARNs with anything in the array, and keeps the count.
    pub(super) fn unuse_default(&mut self, id: u32) -> i32 {
        let (era, faults) = (self.era, self.faults);
        let group = self.group_mut(id);
        let warns = group.owner_cnt == 0 || (era.has_pasids() && !group.array.is_empty());
        if !warns && !faults.unuse_keeps_count {
            group.owner_cnt -= 1;
        }
        0
    }

    /// `__iommu_take_dma_ownership`
    pub(super) fn take(&mut self, running: &Running, owner: u64) -> i32 {
        let group = &self.groups[&running.group];
        let pasids = self.era.has_pasids() && !group.array.is_empty();
        if group.domain != group.default_domain || pasids {
            return EBUSY;
        }
        let blocking = group.blocking_domain;
        self.set_domain(running, blocking);
        let group = self.group_mut(running.group);
        group.owner = owner;
        group.owner_cnt += 1;
        0
    }

    /// `__iommu_release_dma_ownership`: WARNs with anything in the array, and returns early.
    pub(super) fn release(&mut self, running: &Running) -> i32 {
        let id = running.group;
        if self.era.has_locked_release() {
            self.locked(running, Phase::Begin);
        }
        let faults = self.faults;
        let pasids = self.era.has_pasids() && !self.groups[&id].array.is_empty();
        let group = self.group_mut(id);
        if group.owner_cnt != 0 && group.owner != 0 && !pasids {
            if !faults.release_keeps_owner {
                group.owner_cnt = 0;
                group.owner = 0;
            }
            let default = group.default_domain;
            if !faults.release_keeps_domain {
                self.set_domain(running, default);
            }
        }
        if self.era.has_locked_release() {
            self.locked(running, Phase::End);
        }
        0
    }

    /// `__iommu_group_set_domain`: the group's domain changes after the loop over its devices.
    pub(super) fn set_domain(&mut self, running: &Running, to: u64) {
        for device in self.groups[&running.group].devices.clone() {
            for (phase, ret) in [(Phase::Begin, None), (Phase::End, Some(0))] {
                let mut event = self.event(Hook::RidAttach, phase, running.group, &running.task);
                event.device = Some(seen(&device));
                event.domain = domain(to);
                event.ret = ret;
                event.array = None;
                self.log.push(event);
            }
        }
        self.group_mut(running.group).domain = to;
    }

    pub(super) fn attach(&mut self, id: u32, pasid: u32, domain: u64, handle: bool) -> i32 {
        let (era, faults) = (self.era, self.faults);
        let group = self.group_mut(id);
        if pasid == 0 || group.devices.iter().all(|device| pasid >= device.max_pasids) {
            return EINVAL;
        }
        if group.array.contains_key(&pasid) && !faults.attach_over {
            return EBUSY;
        }
        group.array.insert(pasid, entry(era, domain, handle));
        0
    }

    pub(super) fn replace(&mut self, id: u32, pasid: u32, domain: u64) -> i32 {
        let (era, faults) = (self.era, self.faults);
        let group = self.group_mut(id);
        if !group.array.contains_key(&pasid) && !faults.replace_nothing {
            return EINVAL;
        }
        group.array.insert(pasid, entry(era, domain, true));
        0
    }

    /// `iommu_sva_bind_device`: an mm that is bound already only counts up.
    pub(super) fn bind(&mut self, running: &mut Running, device: &'static str, mm: u64, pasid: u32) -> i32 {
        if let Some(bond) = self.group_mut(running.group).bonds.get_mut(&mm) {
            bond.users += 1;
            running.bond = Some(bond.handle);
            return 0;
        }
        let domain = 4000 + mm;
        let task = running.task;
        let ret = self.call(&task, Call::Attach { device, pasid, domain });
        if ret == 0 {
            let handle = self.pointer();
            running.bond = Some(handle);
            let bond = Bond { handle, pasid, domain, users: 1 };
            self.group_mut(running.group).bonds.insert(mm, bond);
        }
        ret
    }

    pub(super) fn unbind(&mut self, running: &mut Running, device: &'static str, mm: u64) -> i32 {
        let group = self.group_mut(running.group);
        let Some(bond) = group.bonds.get_mut(&mm) else { return 0 };
        bond.users -= 1;
        if bond.users == 0 {
            let (pasid, domain) = (bond.pasid, bond.domain);
            group.bonds.remove(&mm);
            let task = running.task;
            self.call(&task, Call::Detach { device, pasid, domain });
        }
        0
    }
}

fn entry(era: Era, domain: u64, handle: bool) -> Entry {
    match (era, handle) {
        (Era::Domains, _) | (Era::Tagged, false) => {
            Entry { encoding: Encoding::Domain, domain: Some(domain) }
        }
        (Era::Handles, false) => Entry { encoding: Encoding::Reserved, domain: None },
        _ => Entry { encoding: Encoding::Handle, domain: Some(domain) },
    }
}
