//! Where the kernel has a page request: the one that is being reported, and those of a device that wait for their
//! response.

#[cfg(not(target_arch = "bpf"))]
use zerocopy::{Immutable, IntoBytes};

use super::ABSENT;

/// Byte offsets of page requests' members; [`ABSENT`] where the kernel has no such member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(IntoBytes, Immutable))]
#[repr(C)]
pub struct RequestLayout {
    /// `struct iopf_fault`, up to 6.8 `struct iommu_fault_event`: `fault.prm.flags`.
    pub flags: u32,
    /// Beside it, `fault.prm.pasid`.
    pub pasid: u32,
    /// `struct dev_iommu`: `fault_param`.
    pub param: u32,
    /// `struct iommu_fault_param`: `faults`, the list of what waits.
    pub list: u32,
    /// `struct iopf_group`: `pending_node`, its place in that list (from 6.9; taken for absent before 6.11).
    pub node: u32,
    /// `struct iopf_group`: `fault_param`.
    pub owner: u32,
    /// `struct iopf_group`: `last_fault`, as far as the `fault.prm.flags` in it.
    pub last_flags: u32,
    /// Beside it, `fault.prm.pasid`.
    pub last_pasid: u32,
}

impl RequestLayout {
    pub const UNKNOWN: RequestLayout = RequestLayout {
        flags: ABSENT,
        pasid: ABSENT,
        param: ABSENT,
        list: ABSENT,
        node: ABSENT,
        owner: ABSENT,
        last_flags: ABSENT,
        last_pasid: ABSENT,
    };
}
