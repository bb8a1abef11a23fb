//! What the programs need to know of the running kernel's structures and functions, from its BTF.

pub mod members;
mod vendors;

use monitor_ebpf::wire::{
    ABSENT, Arguments, Bit, FlushLayout, Layout, NO_ARGUMENT, RangeLayout, RequestLayout, TagLayout,
};

use super::btf::{Btf, Error, Parameter};

pub use vendors::{State, Table, tables};

/// Resolves every offset that the programs read. What the kernel does not have is [`ABSENT`].
pub fn layout(btf: &Btf) -> Result<Layout, Error> {
    let offset = |name: &str, path: &str| offset(btf, name, "", path);
    // The handle came to `pasid_array` in 6.11 ("iommu: Introduce attach handle"); tags came with the
    // replace API in 6.15, whose presence tells them.
    let handle_domain = offset("iommu_attach_handle", "domain")?;
    let tagged = btf.parameters("iommu_replace_device_pasid").is_some();
    let sva_domain = match offset("iommu_sva", "handle.domain")? {
        ABSENT => offset("iommu_sva", "domain")?,
        found => found,
    };
    let mm_pasid = match offset("iommu_mm_data", "pasid")? {
        ABSENT => offset("mm_struct", "pasid")?,
        found => found,
    };
    Ok(Layout {
        device_name: offset("device", "kobj.name")?,
        device_group: offset("device", "iommu_group")?,
        device_iommu: offset("device", "iommu")?,
        device_driver: offset("device", "driver")?,
        device_bus: offset("device", "bus")?,
        bus_name: offset("bus_type", "name")?,
        dev_iommu_priv: offset("dev_iommu", "priv")?,
        dev_iommu_max_pasids: offset("dev_iommu", "max_pasids")?,
        dev_iommu_instance: offset("dev_iommu", "iommu_dev")?,
        dev_iommu_deferred: bit(btf, "dev_iommu", "attach_deferred")?,
        instance_device: offset("iommu_device", "dev")?,
        pci_ats: pci_bit(btf, "ats_enabled")?,
        pci_pri: pci_bit(btf, "pri_enabled")?,
        pci_pasid: pci_bit(btf, "pasid_enabled")?,
        group_id: offset("iommu_group", "id")?,
        group_owner: offset("iommu_group", "owner")?,
        group_owner_cnt: offset("iommu_group", "owner_cnt")?,
        group_recovery_cnt: offset("iommu_group", "recovery_cnt")?,
        group_domain: offset("iommu_group", "domain")?,
        group_default_domain: offset("iommu_group", "default_domain")?,
        group_blocking_domain: offset("iommu_group", "blocking_domain")?,
        group_pasid_head: offset("iommu_group", "pasid_array.xa_head")?,
        group_devices: offset("iommu_group", "devices")?,
        list_next: offset("list_head", "next")?,
        member_list: offset("group_device", "list")?,
        member_device: offset("group_device", "dev")?,
        member_blocked: bit(btf, "group_device", "blocked")?,
        domain_type: offset("iommu_domain", "type")?,
        domain_mm: offset("iommu_domain", "mm")?,
        domain_ops: offset("iommu_domain", "ops")?,
        domain_ops_free: offset("iommu_domain_ops", "free")?,
        mm_users: offset("mm_struct", "mm_users.counter")?,
        mm_iommu: offset("mm_struct", "iommu_mm")?,
        mm_pasid,
        handle_domain,
        sva_dev: offset("iommu_sva", "dev")?,
        sva_domain,
        xa_node_shift: offset("xa_node", "shift")?,
        xa_node_slots: offset("xa_node", "slots")?,
        array_tagged: u32::from(tagged),
        vtd_info_table: offset("device_domain_info", "pasid_table")?,
        vtd_table_directory: offset("pasid_table", "table")?,
        vtd_table_max: offset("pasid_table", "max_pasid")?,
        requests: requests(btf)?,
        amd: vendors::amd(btf)?,
        smmu: vendors::smmu(btf)?,
        flush: FlushLayout {
            vtd_info_bus: offset("device_domain_info", "bus")?,
            vtd_info_devfn: offset("device_domain_info", "devfn")?,
            vtd_info_ats: bit(btf, "device_domain_info", "ats_enabled")?,
            vtd_iommu_gcmd: offset("intel_iommu", "gcmd")?,
            vtd_iommu_cap: offset("intel_iommu", "cap")?,
            vtd_iommu_qi: offset("intel_iommu", "qi")?,
            pci_device: offset("pci_dev", "dev")?,
            pci_error: offset("pci_dev", "error_state")?,
            pci_virtual: pci_bit(btf, "is_virtfn")?,
            amd_devid: offset("iommu_dev_data", "devid")?,
            amd_ats: vendors::amd_ats(btf)?,
            smmu_streams: offset("arm_smmu_master", "streams")?,
            smmu_stream_id: offset("arm_smmu_stream", "id")?,
            smmu_ats: bit(btf, "arm_smmu_master", "ats_enabled")?,
        },
        tags: TagLayout {
            domain: offset("dmar_domain", "domain")?,
            list: offset("dmar_domain", "cache_tags")?,
            node: offset("cache_tag", "node")?,
            kind: offset("cache_tag", "type")?,
            device: offset("cache_tag", "dev")?,
            pasid: offset("cache_tag", "pasid")?,
            users: offset("cache_tag", "users")?,
        },
        task_slept: offset("task_struct", "nvcsw")?,
        task_preempted: offset("task_struct", "nivcsw")?,
        task_runs: offset("task_struct", "sched_info.pcount")?,
        task_delayed: offset("task_struct", "sched_info.run_delay")?,
        task_moved: offset("task_struct", "se.nr_migrations")?,
        range: RangeLayout {
            gather_start: offset("iommu_iotlb_gather", "start")?,
            gather_end: offset("iommu_iotlb_gather", "end")?,
            domain_notifier: offset("dmar_domain", "notifier")?,
            domain_devices: offset("dmar_domain", "devices")?,
            domain_pasids: offset("dmar_domain", "dev_pasids")?,
            tag_iommu: offset("cache_tag", "iommu")?,
            tag_did: offset("cache_tag", "domain_id")?,
            info_link: offset("device_domain_info", "link")?,
            info_device: offset("device_domain_info", "dev")?,
            pasid_link: offset("dev_pasid_info", "link_domain")?,
            pasid_device: offset("dev_pasid_info", "dev")?,
        },
    })
}

/// Where page requests have what is read of them.
fn requests(btf: &Btf) -> Result<RequestLayout, Error> {
    let offset = |name: &str, path: &str| offset(btf, name, "", path);
    // "iommu: Merge iommu_fault_event and iopf_fault" (6.9)
    let event = |path: &str| match offset("iopf_fault", path)? {
        ABSENT => offset("iommu_fault_event", path),
        found => Ok(found),
    };
    // Before "iommu: Add attach handle to struct iopf_group" (6.11) a request gets into the list whatever PASID it names.
    let only_attached = offset("iopf_group", "attach_handle")? != ABSENT;
    let group = |path: &str| if only_attached { offset("iopf_group", path) } else { Ok(ABSENT) };
    Ok(RequestLayout {
        flags: event("fault.prm.flags")?,
        pasid: event("fault.prm.pasid")?,
        param: offset("dev_iommu", "fault_param")?,
        list: offset("iommu_fault_param", "faults")?,
        node: group("pending_node")?,
        owner: group("fault_param")?,
        last_flags: group("last_fault.fault.prm.flags")?,
        last_pasid: group("last_fault.fault.prm.pasid")?,
    })
}

/// Where a whole member lies in the struct of a name that also has the member `having`.
fn offset(btf: &Btf, name: &str, having: &str, path: &str) -> Result<u32, Error> {
    let member = btf.member_with(name, having, path)?.filter(|member| member.bits.is_none());
    Ok(member.map_or(ABSENT, |member| member.offset))
}

/// Where a flag lies: a bitfield, or a `bool`.
fn bit(btf: &Btf, name: &str, path: &str) -> Result<Bit, Error> {
    let member = btf.member(name, path)?;
    Ok(member.map_or(Bit::ABSENT, |member| Bit {
        offset: member.offset,
        shift: member.bits.map_or(0, |(shift, _)| shift),
    }))
}

/// A flag of `struct pci_dev`, as it lies from the `struct device` in it on.
fn pci_bit(btf: &Btf, path: &str) -> Result<Bit, Error> {
    let (flag, device) = (bit(btf, "pci_dev", path)?, offset(btf, "pci_dev", "", "dev")?);
    let offset = match (flag.offset, device) {
        (ABSENT, _) | (_, ABSENT) => None,
        (flag, device) => flag.checked_sub(device),
    };
    Ok(offset.map_or(Bit::ABSENT, |offset| Bit { offset, ..flag }))
}

/// Where a function takes what it is about: by the types of its parameters, and for numbers and
/// cookies by their names.
pub fn arguments(btf: &Btf, parameters: &[Parameter]) -> Result<Arguments, Error> {
    let mut found = Arguments::NONE;
    for (position, parameter) in parameters.iter().enumerate() {
        let Ok(position) = u8::try_from(position) else { break };
        if let Some((at, pointed)) = vendors::device_in(btf, parameter)? {
            (found.device, found.device_at, found.device_pointed) = (position, at, u32::from(pointed));
            if parameter.points_to.as_deref() == Some("pci_dev") {
                found.pci = position;
            }
            continue;
        }
        let slot = match (parameter.points_to.as_deref(), parameter.name.as_str()) {
            // `iommu_group_release(struct kobject *kobj)`: the kobject is the group's first member.
            (Some("iommu_group" | "kobject"), _) => &mut found.group,
            (Some("device"), _) => &mut found.device,
            (Some("iommu_domain"), _) if found.domain == NO_ARGUMENT => &mut found.domain,
            (Some("iommu_domain"), _) => &mut found.old,
            (Some("iommu_sva"), _) => &mut found.handle,
            (Some("mm_struct"), _) => &mut found.mm,
            (Some("intel_iommu"), _) => &mut found.iommu,
            (Some("dmar_domain"), _) if found.vtd_domain == NO_ARGUMENT => &mut found.vtd_domain,
            // `u64 *cmds`, from 7.2 on `struct arm_smmu_cmd *cmds`
            (Some("qi_desc" | "iommu_cmd" | "arm_smmu_cmd"), _) | (None, "cmds") => &mut found.commands,
            (Some("pci_dev"), _) => &mut found.pci,
            (Some("iopf_fault" | "iommu_fault_event"), _) => &mut found.fault,
            (None, "count" | "n") => &mut found.count,
            (None, "sync") => &mut found.sync,
            (Some("iommu_iotlb_gather"), _) => &mut found.gather,
            (Some("mmu_notifier"), _) => &mut found.notifier,
            (None, "start") => &mut found.start,
            (None, "end") => &mut found.end,
            // `arm_smmu_write_cd_entry(…, struct arm_smmu_cd *cdptr, const struct arm_smmu_cd *target)`
            (Some("arm_smmu_cd"), _) if found.entry == NO_ARGUMENT => &mut found.entry,
            (Some("arm_smmu_cd"), _) => &mut found.descriptor,
            (None, "pasid" | "ssid") => &mut found.pasid,
            (None, "owner") => &mut found.owner,
            _ => continue,
        };
        *slot = position;
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
