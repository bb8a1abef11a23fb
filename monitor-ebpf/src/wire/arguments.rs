//! Where the hooked functions take what they are about, as userspace found it in the running kernel's BTF.

#[cfg(not(target_arch = "bpf"))]
use zerocopy::{Immutable, IntoBytes};

/// An argument that the running kernel's function does not take.
pub const NO_ARGUMENT: u8 = u8::MAX;

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
    /// The IOMMU instance: `struct intel_iommu *`.
    pub iommu: u8,
    /// The commands or descriptors of a submission, and how many there are.
    pub commands: u8,
    /// `struct pci_dev *`
    pub pci: u8,
    pub count: u8,
    /// `struct arm_smmu_cd *`: what a context descriptor is to become.
    pub descriptor: u8,
    /// `struct arm_smmu_cd *`: the context descriptor itself.
    pub entry: u8,
    /// Whether a submission waits until it is done.
    pub sync: u8,
    /// `struct dmar_domain *`: VT-d's own, around a domain.
    pub vtd_domain: u8,
    /// `struct iopf_fault *`, up to 6.8 `struct iommu_fault_event *`: a page request.
    pub fault: u8,
    /// `struct iommu_iotlb_gather *`
    pub gather: u8,
    /// `struct mmu_notifier *`, and what of the process's memory changed: from, and up to.
    pub notifier: u8,
    pub start: u8,
    pub end: u8,
    pub reserved: [u8; 3],
    /// Where the device is, from what the argument `device` points to: a driver has structures of its own around it.
    pub device_at: i32,
    /// 1 if a pointer to the device lies there, 0 if the device itself does.
    pub device_pointed: u32,
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
        iommu: NO_ARGUMENT,
        commands: NO_ARGUMENT,
        pci: NO_ARGUMENT,
        count: NO_ARGUMENT,
        descriptor: NO_ARGUMENT,
        entry: NO_ARGUMENT,
        sync: NO_ARGUMENT,
        vtd_domain: NO_ARGUMENT,
        fault: NO_ARGUMENT,
        gather: NO_ARGUMENT,
        notifier: NO_ARGUMENT,
        start: NO_ARGUMENT,
        end: NO_ARGUMENT,
        reserved: [0; 3],
        device_at: 0,
        device_pointed: 0,
    };
}
