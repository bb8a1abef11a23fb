//! Functions that a kernel has together: of one that isn't found beside its companion it can't be said that nobody calls it.
//! A compiler has inlined it, or a release has named it otherwise. What goes by it is not seen then.

use monitor_ebpf::wire::Hook;

use super::{Coverage, HookState};

/// Each with its companions: where all of these are, it is. Held against the symbols of twenty kernels, 6.1 to 7.3 on two
/// architectures (`kernel/layout/tests.rs`).
pub(crate) const COMPANIONS: [(Hook, &[Hook]); 31] = [
    // drivers/iommu/iommu.c
    (Hook::ReleaseGroup, &[Hook::ClaimGroup]),
    (Hook::ReleaseDevice, &[Hook::ClaimDevice]),
    (Hook::UseDefault, &[Hook::UnuseDefault]),
    (Hook::UnuseDefault, &[Hook::UseDefault]),
    (Hook::PasidAlloc, &[Hook::PasidFree]),
    (Hook::GroupRelease, &[Hook::UseDefault]),
    (Hook::AttachGroupHandle, &[Hook::DetachGroupHandle]),
    (Hook::ResetPrepare, &[Hook::ResetDone]),
    (Hook::ResetDone, &[Hook::ResetPrepare]),
    // drivers/iommu/io-pgfault.c: what shares a process's memory with a device takes its page requests, which are not
    // listened to where the core keeps no account of PASIDs.
    (Hook::PageRequest, &[Hook::SvaBind, Hook::PasidAttach]),
    // kernel/fork.c, mm/mmap.c
    (Hook::MmExit, &[Hook::MmDrop]),
    // drivers/pci/ats.c
    (Hook::PasidOff, &[Hook::PasidOn]),
    (Hook::AtsOff, &[Hook::AtsOn]),
    (Hook::AtsOn, &[Hook::AtsOff]),
    // drivers/iommu/intel/pasid.c
    (Hook::VtdSetupFirst, &[Hook::VtdTearDown]),
    (Hook::VtdSetupSecond, &[Hook::VtdTearDown]),
    (Hook::VtdSetupPassThrough, &[Hook::VtdTearDown]),
    (Hook::VtdTableFree, &[Hook::VtdTableAlloc]),
    (Hook::VtdTableLeft, &[Hook::VtdTableAlloc]),
    // drivers/iommu/intel/cache.c, from 6.10. Nested entries are older, from 6.8, but not as old as the others.
    (Hook::VtdTagAssign, &[Hook::VtdTagUnassign]),
    (Hook::VtdTagUnassign, &[Hook::VtdTagAssign]),
    (Hook::VtdAttach, &[Hook::VtdTagUnassign]),
    (Hook::VtdSetupNested, &[Hook::VtdTagUnassign]),
    // drivers/iommu/amd/iommu.c
    (Hook::AmdSet, &[Hook::AmdClear]),
    (Hook::AmdClear, &[Hook::AmdSet]),
    (Hook::AmdTableFree, &[Hook::AmdClear]),
    (Hook::AmdTableLeft, &[Hook::AmdClear]),
    (Hook::AmdQueue, &[Hook::AmdClear]),
    // drivers/pci/pci.c: the first is there for VT-d's driver.
    (Hook::DevicePresent, &[Hook::VtdTearDown]),
    (Hook::ResetFunction, &[Hook::ResetPrepare]),
    (Hook::ResetFlr, &[Hook::ResetPrepare]),
];

/// No kernel whose core keeps account of PASIDs is without these functions (6.2, "iommu: Add attach/detach_dev_pasid iommu
/// interfaces", "iommu: Add device-centric DMA ownership interfaces"; claims of groups are older).
const WITH_PASIDS: [Hook; 4] = [Hook::PasidAttach, Hook::PasidDetach, Hook::ClaimDevice, Hook::ClaimGroup];

impl Coverage {
    /// The kernel has it, or must have, and it reports nothing.
    pub(crate) fn misses(&self, hook: Hook) -> bool {
        match self.get(hook) {
            HookState::Failed { .. } => true,
            HookState::Absent => self.must_have(hook),
            HookState::Attached { .. } | HookState::Idle { .. } | HookState::Off => false,
        }
    }

    /// The kernel has no such way: of a release before it, or built without it.
    pub(crate) fn is_without(&self, hook: Hook) -> bool {
        *self.get(hook) == HookState::Absent && !self.must_have(hook)
    }

    fn must_have(&self, hook: Hook) -> bool {
        let attached = |companions: &[Hook]| companions.iter().all(|&companion| self.attached(companion));
        COMPANIONS.iter().any(|&(one, companions)| one == hook && attached(companions))
            || self.core_pasids && WITH_PASIDS.contains(&hook)
    }
}
