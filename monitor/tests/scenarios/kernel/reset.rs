//! What a reset of a PCI device does to its domains and PASIDs, from 7.0 on: drivers/iommu/iommu.c, retold.

use monitor_ebpf::wire::Phase;

use super::plan::{Plan, Step, refused, switch};
use super::{EINVAL, Faults, Grp};

/// `pci_dev_reset_iommu_prepare`: the RID goes to the blocking domain, and the PASIDs leave the hardware; the core's
/// array keeps them.
pub(super) fn prepare(faults: Faults, group: &Grp, name: &str) -> Plan {
    let Some(index) = group.devices.iter().position(|device| device.name == name) else { return refused(0) };
    let device = &group.devices[index];
    let mut steps = Vec::new();
    let blocked = group.recovery_cnt + u32::from(device.resets == 0);
    if device.resets == 0 {
        if group.domain != group.blocking_domain {
            switch(&mut steps, faults, group, index, group.blocking_domain);
        }
        let pasids = device.present.keys().filter(|&&pasid| pasid != 0);
        steps.extend(pasids.map(|&pasid| Step::Hardware { index, pasid, domain: None }));
    }
    steps.push(Step::Reset { index, resets: device.resets + 1, blocked });
    (steps, 0)
}

/// `pci_dev_reset_iommu_done`
pub(super) fn done(faults: Faults, group: &Grp, name: &str) -> Plan {
    let Some(index) = group.devices.iter().position(|device| device.name == name) else { return refused(0) };
    let device = &group.devices[index];
    let Some(resets) = device.resets.checked_sub(1) else { return refused(0) };
    let mut steps = Vec::new();
    if resets == 0 {
        if group.domain != group.blocking_domain && faults.done_is_refused {
            for (phase, ret) in [(Phase::Begin, None), (Phase::End, Some(EINVAL))] {
                steps.push(Step::Rid { index, phase, domain: group.domain, ret });
            }
        } else if group.domain != group.blocking_domain {
            switch(&mut steps, faults, group, index, group.domain);
        }
        if device.max_pasids > 0 && !faults.done_loses_pasids {
            for (&pasid, entry) in group.array.iter().filter(|(pasid, _)| **pasid != 0) {
                steps.push(Step::Hardware { index, pasid, domain: Some(entry.domain.unwrap_or(0)) });
            }
        }
    }
    let blocked = group.recovery_cnt - u32::from(resets == 0);
    steps.push(Step::Reset { index, resets, blocked });
    (steps, 0)
}
