//! What userspace resolved from the running kernel's BTF and hands to the programs as read-only globals.

#[cfg(not(target_arch = "bpf"))]
use zerocopy::{Immutable, IntoBytes};

use super::{RangeLayout, RequestLayout};

/// A member that the running kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// A flag: one bit of a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(IntoBytes, Immutable))]
#[repr(C)]
pub struct Bit {
    /// Of its byte; [`ABSENT`]: the kernel has no such flag.
    pub offset: u32,
    /// Within the byte.
    pub shift: u32,
}

impl Bit {
    pub const ABSENT: Bit = Bit { offset: ABSENT, shift: 0 };
}

/// Byte offsets of the members that the programs read; [`ABSENT`] where the kernel has no such member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(IntoBytes, Immutable))]
#[repr(C)]
pub struct Layout {
    /// `struct device`: `kobj.name`.
    pub device_name: u32,
    /// `struct device`: `iommu_group`.
    pub device_group: u32,
    /// `struct device`: `iommu` (`struct dev_iommu *`).
    pub device_iommu: u32,
    /// `struct device`: `driver`.
    pub device_driver: u32,
    /// `struct device`: `bus`.
    pub device_bus: u32,
    /// `struct bus_type`: `name`.
    pub bus_name: u32,
    /// `struct dev_iommu`: `priv`, the driver's own data.
    pub dev_iommu_priv: u32,
    /// `struct dev_iommu`: `max_pasids` (from 6.2).
    pub dev_iommu_max_pasids: u32,
    /// `struct dev_iommu`: `iommu_dev`, the instance that translates for the device.
    pub dev_iommu_instance: u32,
    /// `struct dev_iommu`: `attach_deferred` (from 6.5).
    pub dev_iommu_deferred: Bit,
    /// `struct iommu_device`: `dev`, whose name sysfs shows (`dmar0`).
    pub instance_device: u32,
    /// `struct pci_dev`, from its `dev` on: `ats_enabled`.
    pub pci_ats: Bit,
    /// `struct pci_dev`, from its `dev` on: `pri_enabled`.
    pub pci_pri: Bit,
    /// `struct pci_dev`, from its `dev` on: `pasid_enabled`.
    pub pci_pasid: Bit,

    /// `struct iommu_group`: `id`.
    pub group_id: u32,
    /// `struct iommu_group`: `owner`.
    pub group_owner: u32,
    /// `struct iommu_group`: `owner_cnt` (from 5.19).
    pub group_owner_cnt: u32,
    /// `struct iommu_group`: `recovery_cnt` (from 7.0).
    pub group_recovery_cnt: u32,
    /// `struct iommu_group`: `domain`.
    pub group_domain: u32,
    /// `struct iommu_group`: `default_domain`.
    pub group_default_domain: u32,
    /// `struct iommu_group`: `blocking_domain`.
    pub group_blocking_domain: u32,
    /// `struct iommu_group`: `pasid_array.xa_head` (from 6.2).
    pub group_pasid_head: u32,
    /// `struct iommu_group`: `devices`.
    pub group_devices: u32,
    /// `struct list_head`: `next`.
    pub list_next: u32,
    /// `struct group_device`: `list`.
    pub member_list: u32,
    /// `struct group_device`: `dev`.
    pub member_device: u32,
    /// `struct group_device`: `blocked` (from 7.0).
    pub member_blocked: Bit,

    /// `struct iommu_domain`: `type`.
    pub domain_type: u32,
    /// `struct iommu_domain`: `mm`, of an SVA domain (from 6.2).
    pub domain_mm: u32,
    /// `struct iommu_domain`: `ops`.
    pub domain_ops: u32,
    /// `struct iommu_domain_ops`: `free`; a static domain has none (from 6.7).
    pub domain_ops_free: u32,
    /// `struct mm_struct`: `mm_users`.
    pub mm_users: u32,
    /// `struct mm_struct`: `iommu_mm` (from 6.8).
    pub mm_iommu: u32,
    /// `struct iommu_mm_data`: `pasid`; up to 6.7 `struct mm_struct`: `pasid`.
    pub mm_pasid: u32,

    /// `struct iommu_attach_handle`: `domain` (from 6.11; absent: the array holds the domain itself).
    pub handle_domain: u32,
    /// `struct iommu_sva`: `dev`.
    pub sva_dev: u32,
    /// `struct iommu_sva`: `handle.domain`, up to 6.10 `domain`.
    pub sva_domain: u32,

    /// `struct xa_node`: `shift`.
    pub xa_node_shift: u32,
    /// `struct xa_node`: `slots`.
    pub xa_node_slots: u32,
    /// Entries of `pasid_array` are tagged pointers (from 6.15): 1 if so, else 0.
    pub array_tagged: u32,

    /// `struct device_domain_info` (VT-d): `pasid_table`.
    pub vtd_info_table: u32,
    /// `struct pasid_table` (VT-d): `table`, the directory.
    pub vtd_table_directory: u32,
    /// `struct pasid_table` (VT-d): `max_pasid`.
    pub vtd_table_max: u32,
    pub requests: RequestLayout,
    pub amd: AmdLayout,
    pub smmu: SmmuLayout,
    pub flush: FlushLayout,
    /// `struct task_struct`: `nvcsw`, how often the task has slept.
    pub task_slept: u32,
    /// `struct task_struct`: `nivcsw`, how often it was preempted.
    pub task_preempted: u32,
    /// `struct task_struct`: `sched_info.pcount`, how often it has got a CPU to run on.
    pub task_runs: u32,
    /// Beside it, `sched_info.run_delay`: how long it has waited for one, ns.
    pub task_delayed: u32,
    /// `struct task_struct`: `se.nr_migrations`, how often it was moved to another CPU.
    pub task_moved: u32,
    pub tags: TagLayout,
    pub range: RangeLayout,
}

/// VT-d's cache tags (from 6.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(IntoBytes, Immutable))]
#[repr(C)]
pub struct TagLayout {
    /// `struct dmar_domain`: `domain`.
    pub domain: u32,
    /// `struct dmar_domain`: `cache_tags`, the list of them.
    pub list: u32,
    /// `struct cache_tag`: `node`, its place in that list.
    pub node: u32,
    /// `struct cache_tag`: `type`.
    pub kind: u32,
    /// `struct cache_tag`: `dev`, where the cache is.
    pub device: u32,
    /// `struct cache_tag`: `pasid`.
    pub pasid: u32,
    /// `struct cache_tag`: `users`.
    pub users: u32,
}

/// What decides which caches a driver must flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(IntoBytes, Immutable))]
#[repr(C)]
pub struct FlushLayout {
    /// `struct device_domain_info` (VT-d): `bus`.
    pub vtd_info_bus: u32,
    /// `struct device_domain_info` (VT-d): `devfn`.
    pub vtd_info_devfn: u32,
    /// `struct device_domain_info` (VT-d): `ats_enabled`.
    pub vtd_info_ats: Bit,
    /// `struct intel_iommu`: `gcmd`, the global command register as the driver has set it.
    pub vtd_iommu_gcmd: u32,
    /// `struct intel_iommu`: `cap`, the capability register.
    pub vtd_iommu_cap: u32,
    /// `struct intel_iommu`: `qi`; null: there is no queue.
    pub vtd_iommu_qi: u32,
    /// `struct pci_dev`: `dev`.
    pub pci_device: u32,
    /// `struct pci_dev`: `error_state`.
    pub pci_error: u32,
    /// `struct pci_dev`, from its `dev` on: `is_virtfn`.
    pub pci_virtual: Bit,
    /// `struct iommu_dev_data` (AMD): `devid`, the requester id.
    pub amd_devid: u32,
    /// `struct iommu_dev_data` (AMD): `ats_enabled`, up to 6.6 `ats.enabled`.
    pub amd_ats: Bit,
    /// `struct arm_smmu_master`: `streams`, the array of its StreamIDs.
    pub smmu_streams: u32,
    /// `struct arm_smmu_stream`: `id`.
    pub smmu_stream_id: u32,
    /// `struct arm_smmu_master`: `ats_enabled`.
    pub smmu_ats: Bit,
}

/// AMD's guest CR3 table: of the device from 6.9 on, of its domain before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(IntoBytes, Immutable))]
#[repr(C)]
pub struct AmdLayout {
    /// `struct iommu_dev_data`: `domain`; [`ABSENT`] where the table is the device's.
    pub domain: u32,
    /// In `struct iommu_dev_data`, or in `struct protection_domain` where that has it: `gcr3_tbl`.
    pub table: u32,
    /// Beside it, `glx`.
    pub levels: u32,
    /// Beside it, the domain id (16 bits).
    pub id: u32,
}

/// SMMUv3's table of context descriptors: of the device from 6.7 on, of its domain before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(IntoBytes, Immutable))]
#[repr(C)]
pub struct SmmuLayout {
    /// `struct arm_smmu_master`: `dev`.
    pub master_device: u32,
    /// `struct arm_smmu_master`: `smmu`.
    pub master_smmu: u32,
    /// `struct arm_smmu_device` of SMMUv3: `iommu`.
    pub smmu_instance: u32,
    /// `struct arm_smmu_master`: `domain`; [`ABSENT`] where the table is the device's.
    pub master_domain: u32,
    /// `struct arm_smmu_domain` of SMMUv3: `stage`.
    pub domain_stage: u32,
    /// `struct arm_smmu_ctx_desc_cfg` in the master, or in the domain where that has it.
    pub config: u32,
    /// In that: the array of descriptors, or the first level in hardware.
    pub root: u32,
    /// In that: how many descriptors the array has.
    pub linear_len: u32,
    /// In that: the driver's list of second-level tables.
    pub list: u32,
    /// In that: how long the list is.
    pub list_len: u32,
    /// In that: `s1fmt` (a byte), 0 for an array. Up to 6.6 it stands behind.
    pub format: u32,
    /// log2 of the 64-bit words of an entry of the list; [`ABSENT`]: it is none that this version knows.
    pub list_width: u32,
    /// Which word of it points to the second-level table.
    pub list_pointer: u32,
}

impl FlushLayout {
    pub const UNKNOWN: FlushLayout = FlushLayout {
        vtd_info_bus: ABSENT,
        vtd_info_devfn: ABSENT,
        vtd_info_ats: Bit::ABSENT,
        vtd_iommu_gcmd: ABSENT,
        vtd_iommu_cap: ABSENT,
        vtd_iommu_qi: ABSENT,
        pci_device: ABSENT,
        pci_error: ABSENT,
        pci_virtual: Bit::ABSENT,
        amd_devid: ABSENT,
        amd_ats: Bit::ABSENT,
        smmu_streams: ABSENT,
        smmu_stream_id: ABSENT,
        smmu_ats: Bit::ABSENT,
    };
}

impl AmdLayout {
    pub const UNKNOWN: AmdLayout = AmdLayout { domain: ABSENT, table: ABSENT, levels: ABSENT, id: ABSENT };
}

impl TagLayout {
    pub const UNKNOWN: TagLayout = TagLayout {
        domain: ABSENT,
        list: ABSENT,
        node: ABSENT,
        kind: ABSENT,
        device: ABSENT,
        pasid: ABSENT,
        users: ABSENT,
    };
}

impl SmmuLayout {
    pub const UNKNOWN: SmmuLayout = SmmuLayout {
        master_device: ABSENT,
        master_smmu: ABSENT,
        smmu_instance: ABSENT,
        master_domain: ABSENT,
        domain_stage: ABSENT,
        config: ABSENT,
        root: ABSENT,
        linear_len: ABSENT,
        list: ABSENT,
        list_len: ABSENT,
        format: ABSENT,
        list_width: ABSENT,
        list_pointer: 0,
    };
}

/// A variable of the kernel: by its value, or by where it lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(IntoBytes, Immutable))]
#[repr(C)]
pub struct Variable {
    /// 0: its value is below.
    pub address: u64,
    pub value: u64,
}

impl Variable {
    pub const fn at(address: u64) -> Variable {
        Variable { address, value: 0 }
    }

    pub const fn value(value: u64) -> Variable {
        Variable { address: 0, value }
    }
}

/// Variables of the kernel; 0: not known, or not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(IntoBytes, Immutable))]
#[repr(C)]
pub struct Symbols {
    /// `page_offset_base` (x86): where physical memory is mapped.
    pub page_offset_base: Variable,
    /// `sme_me_mask` (AMD): the mark of encrypted memory in a physical address.
    pub sme_me_mask: Variable,
}

impl Symbols {
    pub const UNKNOWN: Symbols =
        Symbols { page_offset_base: Variable::value(0), sme_me_mask: Variable::value(0) };
}

impl Layout {
    /// Nothing is known of the kernel: every read is skipped.
    pub const UNKNOWN: Layout = Layout {
        device_name: ABSENT,
        device_group: ABSENT,
        device_iommu: ABSENT,
        device_driver: ABSENT,
        device_bus: ABSENT,
        bus_name: ABSENT,
        dev_iommu_priv: ABSENT,
        dev_iommu_max_pasids: ABSENT,
        dev_iommu_instance: ABSENT,
        dev_iommu_deferred: Bit::ABSENT,
        instance_device: ABSENT,
        pci_ats: Bit::ABSENT,
        pci_pri: Bit::ABSENT,
        pci_pasid: Bit::ABSENT,
        group_id: ABSENT,
        group_owner: ABSENT,
        group_owner_cnt: ABSENT,
        group_recovery_cnt: ABSENT,
        group_domain: ABSENT,
        group_default_domain: ABSENT,
        group_blocking_domain: ABSENT,
        group_pasid_head: ABSENT,
        group_devices: ABSENT,
        list_next: ABSENT,
        member_list: ABSENT,
        member_device: ABSENT,
        member_blocked: Bit::ABSENT,
        domain_type: ABSENT,
        domain_mm: ABSENT,
        domain_ops: ABSENT,
        domain_ops_free: ABSENT,
        mm_users: ABSENT,
        mm_iommu: ABSENT,
        mm_pasid: ABSENT,
        handle_domain: ABSENT,
        sva_dev: ABSENT,
        sva_domain: ABSENT,
        xa_node_shift: ABSENT,
        xa_node_slots: ABSENT,
        array_tagged: 0,
        vtd_info_table: ABSENT,
        vtd_table_directory: ABSENT,
        vtd_table_max: ABSENT,
        requests: RequestLayout::UNKNOWN,
        amd: AmdLayout::UNKNOWN,
        smmu: SmmuLayout::UNKNOWN,
        flush: FlushLayout::UNKNOWN,
        task_slept: ABSENT,
        task_preempted: ABSENT,
        task_runs: ABSENT,
        task_delayed: ABSENT,
        task_moved: ABSENT,
        tags: TagLayout::UNKNOWN,
        range: RangeLayout::UNKNOWN,
    };
}

/// A process as its own PID namespace numbers it: in a container that is not the number that the kernel's
/// initial namespace has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(IntoBytes, Immutable))]
#[repr(C)]
pub struct Process {
    /// `st_dev` of the namespace's file.
    pub namespace_device: u64,
    /// `st_ino` of the namespace's file.
    pub namespace_inode: u64,
    pub tgid: u64,
}

impl Process {
    /// No process.
    pub const NONE: Process = Process { namespace_device: 0, namespace_inode: 0, tgid: 0 };
}
