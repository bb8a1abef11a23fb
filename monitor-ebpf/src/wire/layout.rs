//! What userspace resolved from the running kernel's BTF and hands to the programs as read-only globals.

#[cfg(not(target_arch = "bpf"))]
use zerocopy::{Immutable, IntoBytes};

/// A member that the running kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// An argument that the running kernel's function does not take.
pub const NO_ARGUMENT: u8 = u8::MAX;

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
    /// `struct dev_iommu`: `priv`, the driver's own data.
    pub dev_iommu_priv: u32,
    /// `struct dev_iommu`: `max_pasids` (from 6.2).
    pub dev_iommu_max_pasids: u32,

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

    /// `struct iommu_domain`: `type`.
    pub domain_type: u32,

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
}

impl Layout {
    /// Nothing is known of the kernel: every read is skipped.
    pub const UNKNOWN: Layout = Layout {
        device_name: ABSENT,
        device_group: ABSENT,
        device_iommu: ABSENT,
        dev_iommu_priv: ABSENT,
        dev_iommu_max_pasids: ABSENT,
        group_id: ABSENT,
        group_owner: ABSENT,
        group_owner_cnt: ABSENT,
        group_recovery_cnt: ABSENT,
        group_domain: ABSENT,
        group_default_domain: ABSENT,
        group_blocking_domain: ABSENT,
        group_pasid_head: ABSENT,
        domain_type: ABSENT,
        handle_domain: ABSENT,
        sva_dev: ABSENT,
        sva_domain: ABSENT,
        xa_node_shift: ABSENT,
        xa_node_slots: ABSENT,
        array_tagged: 0,
        vtd_info_table: ABSENT,
        vtd_table_directory: ABSENT,
    };
}

/// Where a hooked function takes what it is about: the position of each argument in its list, found
/// by name in the function's BTF prototype; [`NO_ARGUMENT`] where it takes none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(IntoBytes, Immutable))]
#[repr(C)]
pub struct Arguments {
    pub group: u8,
    pub device: u8,
    pub domain: u8,
    pub old: u8,
    pub pasid: u8,
    pub owner: u8,
    /// `struct iommu_sva *` for the SVA calls.
    pub handle: u8,
    pub mm: u8,
}

impl Arguments {
    /// A function of which nothing is read.
    pub const NONE: Arguments = Arguments {
        group: NO_ARGUMENT,
        device: NO_ARGUMENT,
        domain: NO_ARGUMENT,
        old: NO_ARGUMENT,
        pasid: NO_ARGUMENT,
        owner: NO_ARGUMENT,
        handle: NO_ARGUMENT,
        mm: NO_ARGUMENT,
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
