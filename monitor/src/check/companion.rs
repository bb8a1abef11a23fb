//! Functions that a kernel has together: of one that isn't found beside its companion it can't be said that nobody calls it.
//! A compiler has inlined it, or a release has named it otherwise. What goes by it is not seen then.

use monitor_ebpf::wire::Hook;

use crate::coverage::{Coverage, HookState};

/// Each with its companion. Held against the symbols of twenty kernels, 6.1 to 7.3 on two architectures
/// (`kernel/layout/tests.rs`).
pub(crate) const COMPANIONS: [(Hook, Hook); 16] = [
    // drivers/iommu/iommu.c
    (Hook::ReleaseGroup, Hook::ClaimGroup),
    (Hook::ReleaseDevice, Hook::ClaimDevice),
    (Hook::UseDefault, Hook::UnuseDefault),
    (Hook::UnuseDefault, Hook::UseDefault),
    (Hook::PasidAlloc, Hook::PasidFree),
    (Hook::GroupRelease, Hook::UseDefault),
    // kernel/fork.c, mm/mmap.c
    (Hook::MmExit, Hook::MmDrop),
    // drivers/pci/ats.c
    (Hook::PasidOff, Hook::PasidOn),
    (Hook::AtsOff, Hook::AtsOn),
    (Hook::AtsOn, Hook::AtsOff),
    // drivers/iommu/intel/pasid.c; setup of nested entries came later than the others, with 6.6.
    (Hook::VtdSetupFirst, Hook::VtdTearDown),
    (Hook::VtdSetupSecond, Hook::VtdTearDown),
    (Hook::VtdSetupPassThrough, Hook::VtdTearDown),
    (Hook::VtdTableFree, Hook::VtdTableAlloc),
    (Hook::VtdTableLeft, Hook::VtdTableAlloc),
    // drivers/pci/pci.c, which VT-d's driver needs.
    (Hook::DevicePresent, Hook::VtdTearDown),
];

/// No kernel whose core keeps account of PASIDs is without these functions (6.2, "iommu: Add attach/detach_dev_pasid iommu
/// interfaces", "iommu: Add device-centric DMA ownership interfaces"; claims of groups are older).
const WITH_PASIDS: [Hook; 4] = [Hook::PasidAttach, Hook::PasidDetach, Hook::ClaimDevice, Hook::ClaimGroup];

/// The kernel has it, or must have, and it reports nothing.
pub(super) fn is_missing(coverage: &Coverage, hook: Hook) -> bool {
    match coverage.get(hook) {
        HookState::Failed { .. } => true,
        HookState::Absent => {
            coverage.core_pasids && WITH_PASIDS.contains(&hook)
                || COMPANIONS.iter().any(|&(one, companion)| one == hook && coverage.attached(companion))
        }
        HookState::Attached { .. } | HookState::Idle { .. } | HookState::Off => false,
    }
}
