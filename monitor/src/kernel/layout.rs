//! What the programs need to know of the running kernel's structures and functions, from its BTF.

use monitor_ebpf::wire::{ABSENT, Arguments, Layout, NO_ARGUMENT};

use super::btf::{Btf, Error, Parameter};

/// Resolves every offset that the programs read. What the kernel does not have is [`ABSENT`].
pub fn layout(btf: &Btf) -> Result<Layout, Error> {
    let offset = |name: &str, path: &str| -> Result<u32, Error> {
        Ok(btf
            .member(name, path)?
            .filter(|member| member.bits.is_none())
            .map_or(ABSENT, |member| member.offset))
    };
    let first = |name: &str, paths: &[&str]| -> Result<u32, Error> {
        for path in paths {
            let found = offset(name, path)?;
            if found != ABSENT {
                return Ok(found);
            }
        }
        Ok(ABSENT)
    };
    // The handle came to `pasid_array` in 6.11 ("iommu: Introduce attach handle"); tags came with the
    // replace API in 6.15, whose presence tells them.
    let handle_domain = offset("iommu_attach_handle", "domain")?;
    let tagged = btf.parameters("iommu_replace_device_pasid").is_some();
    Ok(Layout {
        device_name: offset("device", "kobj.name")?,
        device_group: offset("device", "iommu_group")?,
        device_iommu: offset("device", "iommu")?,
        dev_iommu_priv: offset("dev_iommu", "priv")?,
        dev_iommu_max_pasids: offset("dev_iommu", "max_pasids")?,
        group_id: offset("iommu_group", "id")?,
        group_owner: offset("iommu_group", "owner")?,
        group_owner_cnt: offset("iommu_group", "owner_cnt")?,
        group_recovery_cnt: offset("iommu_group", "recovery_cnt")?,
        group_domain: offset("iommu_group", "domain")?,
        group_default_domain: offset("iommu_group", "default_domain")?,
        group_blocking_domain: offset("iommu_group", "blocking_domain")?,
        group_pasid_head: offset("iommu_group", "pasid_array.xa_head")?,
        domain_type: offset("iommu_domain", "type")?,
        handle_domain,
        sva_dev: offset("iommu_sva", "dev")?,
        sva_domain: first("iommu_sva", &["handle.domain", "domain"])?,
        xa_node_shift: offset("xa_node", "shift")?,
        xa_node_slots: offset("xa_node", "slots")?,
        array_tagged: u32::from(tagged),
        vtd_info_table: offset("device_domain_info", "pasid_table")?,
        vtd_table_directory: offset("pasid_table", "table")?,
    })
}

/// Where a function takes what it is about: by the types of its parameters, and for numbers and
/// cookies by their names.
pub fn arguments(parameters: &[Parameter]) -> Arguments {
    let mut found = Arguments::NONE;
    for (position, parameter) in parameters.iter().enumerate() {
        let Ok(position) = u8::try_from(position) else { break };
        let slot = match (parameter.points_to.as_deref(), parameter.name.as_str()) {
            // `iommu_group_release(struct kobject *kobj)`: the kobject is the group's first member.
            (Some("iommu_group" | "kobject"), _) => &mut found.group,
            (Some("device"), _) => &mut found.device,
            (Some("iommu_domain"), _) if found.domain == NO_ARGUMENT => &mut found.domain,
            (Some("iommu_domain"), _) => &mut found.old,
            (Some("iommu_sva"), _) => &mut found.handle,
            (Some("mm_struct"), _) => &mut found.mm,
            (None, "pasid") => &mut found.pasid,
            (None, "owner") => &mut found.owner,
            _ => continue,
        };
        *slot = position;
    }
    found
}
