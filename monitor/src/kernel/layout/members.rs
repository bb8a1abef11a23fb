//! The members that the programs read, by name: what is shown of a layout, and held against other sources.

use monitor_ebpf::wire::{ABSENT, Bit, Layout};

/// Where a member lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Bytes from the start of its struct.
    Offset(u32),
    /// A flag: bytes, and the bit within.
    Bit(u32, u32),
    Absent,
}

fn offset(at: u32) -> Place {
    if at == ABSENT { Place::Absent } else { Place::Offset(at) }
}

fn bit(at: Bit) -> Place {
    if at.offset == ABSENT { Place::Absent } else { Place::Bit(at.offset, at.shift) }
}

/// A member: its struct and the path in it, and where a layout has it.
pub type Member = (&'static str, fn(&Layout) -> Place);

/// The core's. A flag of `struct pci_dev` lies from its `dev` on.
pub const CORE: &[Member] = &[
    ("device.kobj.name", |l| offset(l.device_name)),
    ("device.iommu_group", |l| offset(l.device_group)),
    ("device.iommu", |l| offset(l.device_iommu)),
    ("device.driver", |l| offset(l.device_driver)),
    ("device.bus", |l| offset(l.device_bus)),
    ("bus_type.name", |l| offset(l.bus_name)),
    ("dev_iommu.priv", |l| offset(l.dev_iommu_priv)),
    ("dev_iommu.max_pasids", |l| offset(l.dev_iommu_max_pasids)),
    ("dev_iommu.iommu_dev", |l| offset(l.dev_iommu_instance)),
    ("dev_iommu.attach_deferred", |l| bit(l.dev_iommu_deferred)),
    ("iommu_device.dev", |l| offset(l.instance_device)),
    ("pci_dev.ats_enabled", |l| bit(l.pci_ats)),
    ("pci_dev.pri_enabled", |l| bit(l.pci_pri)),
    ("pci_dev.pasid_enabled", |l| bit(l.pci_pasid)),
    ("iommu_group.id", |l| offset(l.group_id)),
    ("iommu_group.owner", |l| offset(l.group_owner)),
    ("iommu_group.owner_cnt", |l| offset(l.group_owner_cnt)),
    ("iommu_group.recovery_cnt", |l| offset(l.group_recovery_cnt)),
    ("iommu_group.domain", |l| offset(l.group_domain)),
    ("iommu_group.default_domain", |l| offset(l.group_default_domain)),
    ("iommu_group.blocking_domain", |l| offset(l.group_blocking_domain)),
    ("iommu_group.pasid_array.xa_head", |l| offset(l.group_pasid_head)),
    ("iommu_group.devices", |l| offset(l.group_devices)),
    ("list_head.next", |l| offset(l.list_next)),
    ("group_device.list", |l| offset(l.member_list)),
    ("group_device.dev", |l| offset(l.member_device)),
    ("group_device.blocked", |l| bit(l.member_blocked)),
    ("iommu_domain.type", |l| offset(l.domain_type)),
    ("iommu_domain.mm", |l| offset(l.domain_mm)),
    ("iommu_domain.ops", |l| offset(l.domain_ops)),
    ("iommu_domain_ops.free", |l| offset(l.domain_ops_free)),
    ("mm_struct.iommu_mm", |l| offset(l.mm_iommu)),
    ("mm.pasid", |l| offset(l.mm_pasid)),
    ("mm_struct.mm_users.counter", |l| offset(l.mm_users)),
    ("fault.prm.flags", |l| offset(l.requests.flags)),
    ("fault.prm.pasid", |l| offset(l.requests.pasid)),
    ("dev_iommu.fault_param", |l| offset(l.requests.param)),
    ("iommu_fault_param.faults", |l| offset(l.requests.list)),
    ("iopf_group.pending_node", |l| offset(l.requests.node)),
    ("iopf_group.fault_param", |l| offset(l.requests.owner)),
    ("iopf_group.last_fault.fault.prm.flags", |l| offset(l.requests.last_flags)),
    ("iopf_group.last_fault.fault.prm.pasid", |l| offset(l.requests.last_pasid)),
    ("iommu_attach_handle.domain", |l| offset(l.handle_domain)),
    ("iommu_sva.dev", |l| offset(l.sva_dev)),
    ("iommu_sva.domain", |l| offset(l.sva_domain)),
    ("xa_node.shift", |l| offset(l.xa_node_shift)),
    ("xa_node.slots", |l| offset(l.xa_node_slots)),
    ("task_struct.nvcsw", |l| offset(l.task_slept)),
    ("task_struct.nivcsw", |l| offset(l.task_preempted)),
    ("task_struct.sched_info.pcount", |l| offset(l.task_runs)),
    ("task_struct.sched_info.run_delay", |l| offset(l.task_delayed)),
    ("task_struct.se.nr_migrations", |l| offset(l.task_moved)),
];

/// The drivers' that keep PASID tables.
pub const VENDORS: &[Member] = &[
    ("device_domain_info.pasid_table", |l| offset(l.vtd_info_table)),
    ("pasid_table.table", |l| offset(l.vtd_table_directory)),
    ("pasid_table.max_pasid", |l| offset(l.vtd_table_max)),
    ("iommu_dev_data.domain", |l| offset(l.amd.domain)),
    ("gcr3_tbl", |l| offset(l.amd.table)),
    ("gcr3_tbl.glx", |l| offset(l.amd.levels)),
    ("gcr3_tbl.domid", |l| offset(l.amd.id)),
    ("arm_smmu_master.dev", |l| offset(l.smmu.master_device)),
    ("arm_smmu_master.smmu", |l| offset(l.smmu.master_smmu)),
    ("arm_smmu_device.iommu", |l| offset(l.smmu.smmu_instance)),
    ("arm_smmu_master.domain", |l| offset(l.smmu.master_domain)),
    ("arm_smmu_domain.stage", |l| offset(l.smmu.domain_stage)),
    ("arm_smmu_ctx_desc_cfg", |l| offset(l.smmu.config)),
    ("arm_smmu_ctx_desc_cfg.root", |l| offset(l.smmu.root)),
    ("arm_smmu_ctx_desc_cfg.linear.num_ents", |l| offset(l.smmu.linear_len)),
    ("arm_smmu_ctx_desc_cfg.l2.l2ptrs", |l| offset(l.smmu.list)),
    ("arm_smmu_ctx_desc_cfg.l2.num_l1_ents", |l| offset(l.smmu.list_len)),
    ("arm_smmu_ctx_desc_cfg.s1fmt", |l| offset(l.smmu.format)),
];

/// What decides which caches a driver must flush.
pub const FLUSHES: &[Member] = &[
    ("device_domain_info.bus", |l| offset(l.flush.vtd_info_bus)),
    ("device_domain_info.devfn", |l| offset(l.flush.vtd_info_devfn)),
    ("device_domain_info.ats_enabled", |l| bit(l.flush.vtd_info_ats)),
    ("intel_iommu.gcmd", |l| offset(l.flush.vtd_iommu_gcmd)),
    ("intel_iommu.cap", |l| offset(l.flush.vtd_iommu_cap)),
    ("intel_iommu.qi", |l| offset(l.flush.vtd_iommu_qi)),
    ("pci_dev.dev", |l| offset(l.flush.pci_device)),
    ("pci_dev.error_state", |l| offset(l.flush.pci_error)),
    ("pci_dev.is_virtfn", |l| bit(l.flush.pci_virtual)),
    ("iommu_dev_data.devid", |l| offset(l.flush.amd_devid)),
    ("iommu_dev_data.ats_enabled", |l| bit(l.flush.amd_ats)),
    ("arm_smmu_master.streams", |l| offset(l.flush.smmu_streams)),
    ("arm_smmu_stream.id", |l| offset(l.flush.smmu_stream_id)),
    ("arm_smmu_master.ats_enabled", |l| bit(l.flush.smmu_ats)),
];

/// VT-d's cache tags.
pub const TAGS: &[Member] = &[
    ("dmar_domain.domain", |l| offset(l.tags.domain)),
    ("dmar_domain.cache_tags", |l| offset(l.tags.list)),
    ("cache_tag.node", |l| offset(l.tags.node)),
    ("cache_tag.type", |l| offset(l.tags.kind)),
    ("cache_tag.dev", |l| offset(l.tags.device)),
    ("cache_tag.pasid", |l| offset(l.tags.pasid)),
    ("cache_tag.users", |l| offset(l.tags.users)),
];

/// What is to be flushed of a range, and in which of those caches (VT-d, from 6.10).
pub const RANGES: &[Member] = &[
    ("iommu_iotlb_gather.start", |l| offset(l.range.gather_start)),
    ("iommu_iotlb_gather.end", |l| offset(l.range.gather_end)),
    ("dmar_domain.notifier", |l| offset(l.range.domain_notifier)),
    ("dmar_domain.devices", |l| offset(l.range.domain_devices)),
    ("dmar_domain.dev_pasids", |l| offset(l.range.domain_pasids)),
    ("cache_tag.iommu", |l| offset(l.range.tag_iommu)),
    ("cache_tag.domain_id", |l| offset(l.range.tag_did)),
    ("device_domain_info.link", |l| offset(l.range.info_link)),
    ("device_domain_info.dev", |l| offset(l.range.info_device)),
    ("dev_pasid_info.link_domain", |l| offset(l.range.pasid_link)),
    ("dev_pasid_info.dev", |l| offset(l.range.pasid_device)),
];
