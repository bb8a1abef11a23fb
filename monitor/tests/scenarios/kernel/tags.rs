//! VT-d's driver and its cache tags: lists that calls of the core change, and what the hooks read of them.

use std::collections::BTreeMap;

use monitor::event::{Domain, DomainKind, Event, Tags, Task};
use monitor_ebpf::wire::{Hook, Phase};

use super::flush::report;
use super::{Kernel, domain};

/// A device's name, and a PASID; 0: its RID.
pub type Place = (&'static str, u32);

/// The driver's side of domains.
#[derive(Default)]
pub struct Lists {
    /// How often a device's device-TLB tag was assigned, by domain and place.
    pub users: BTreeMap<(u64, Place), u32>,
    /// Devices with ATS.
    pub ats: Vec<&'static str>,
    /// Domains that are nested in another.
    pub nested: Vec<u64>,
    /// The list can't be read as a whole.
    pub unreadable: bool,
}

impl Lists {
    fn read(&self, list: u64, place: Place) -> Tags {
        let users = self.users.get(&(list, place)).copied().unwrap_or(0);
        Tags { device_tlb: (!self.unreadable).then_some(users), ats: Some(self.ats.contains(&place.0)) }
    }

    fn domain(&self, key: u64) -> Option<Domain> {
        let nested = self.nested.contains(&key);
        domain(key)
            .map(|domain| Domain { kind: if nested { DomainKind::Nested } else { domain.kind }, ..domain })
    }

    fn report(&self, kernel: &mut Kernel, task: &Task, hook: Hook, phase: Phase, list: u64, place: Place) {
        let tags = (phase == Phase::End).then(|| self.read(list, place));
        let fill = |event: &mut Event| {
            (event.domain, event.tags, event.ret) = (self.domain(list), tags, None);
            event.ret = (phase == Phase::End && hook != Hook::VtdTagUnassign).then_some(0);
        };
        report(kernel, task, place.0, hook, phase, Some(place.1), fill);
    }

    pub fn begins(&self, kernel: &mut Kernel, task: &Task, hook: Hook, list: u64, place: Place) {
        self.report(kernel, task, hook, Phase::Begin, list, place);
    }

    pub fn ends(&self, kernel: &mut Kernel, task: &Task, hook: Hook, list: u64, place: Place) {
        self.report(kernel, task, hook, Phase::End, list, place);
    }

    /// `cache_tag_assign_domain`; `done`: it does its work.
    pub fn assign(&mut self, kernel: &mut Kernel, task: &Task, list: u64, place: Place, done: bool) {
        self.begins(kernel, task, Hook::VtdTagAssign, list, place);
        if done && self.ats.contains(&place.0) {
            *self.users.entry((list, place)).or_default() += 1;
        }
        self.ends(kernel, task, Hook::VtdTagAssign, list, place);
    }

    /// `cache_tag_unassign_domain`, which looks at ATS as it is then.
    pub fn unassign(&mut self, kernel: &mut Kernel, task: &Task, list: u64, place: Place, done: bool) {
        self.begins(kernel, task, Hook::VtdTagUnassign, list, place);
        if done
            && self.ats.contains(&place.0)
            && let Some(users) = self.users.get_mut(&(list, place))
        {
            *users = users.saturating_sub(1);
        }
        self.ends(kernel, task, Hook::VtdTagUnassign, list, place);
    }

    /// `pci_enable_ats` returns.
    pub fn report_ats(&self, kernel: &mut Kernel, task: &Task, name: &'static str) {
        report(kernel, task, name, Hook::AtsOn, Phase::End, None, |event| event.ret = Some(0));
    }

    /// `intel_iommu_attach_device` returns.
    pub fn attached(&self, kernel: &mut Kernel, task: &Task, list: u64, name: &'static str, ret: i32) {
        let tags = self.read(list, (name, 0));
        report(kernel, task, name, Hook::VtdAttach, Phase::End, Some(0), |event| {
            (event.domain, event.tags, event.ret) = (self.domain(list), Some(tags), Some(ret));
        });
    }
}

impl Kernel {
    /// `__iommu_attach_device`, of which the driver's part is told by `driver`.
    pub fn switch_rid(
        &mut self,
        task: &Task,
        name: &'static str,
        to: u64,
        driver: impl FnOnce(&mut Kernel) -> i32,
    ) {
        let id = self.group_of(name);
        let device = self.groups[&id].devices.iter().find(|device| device.name == name).cloned();
        let device = device.expect("a member");
        self.rid(task, id, &device, Phase::Begin, to, None);
        let ret = driver(self);
        self.rid(task, id, &device, Phase::End, to, Some(ret));
    }
}
