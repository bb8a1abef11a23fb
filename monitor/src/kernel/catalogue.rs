//! The catalogue of hooks: one row each. It says what the kernel calls the place; by what means it is
//! reached on a running kernel is decided in `attach`.

use monitor_ebpf::wire::{Hook, SUBMIT_ARGUMENTS};

/// What a hook listens to.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// A function, by the names it has had; the first that the kernel has is taken.
    Call { symbols: &'static [&'static str], ends: Ends },
    /// A function from which the compiler took arguments away, which its symbol shows: `NAME.isra.0`. The kernel's types
    /// don't have it, and only that it returns, and what, can be seen, by a kretprobe. It is there where `beside` is.
    Reduced { symbols: &'static [&'static str], beside: &'static str },
    /// A kernel tracepoint.
    Tracepoint { name: &'static str },
}

/// An IOMMU driver, by the name that [`crate::inventory`] has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    Intel,
    Amd,
    Smmu,
}

impl Driver {
    pub const ALL: [Driver; 3] = [Driver::Intel, Driver::Amd, Driver::Smmu];

    pub const fn name(self) -> &'static str {
        match self {
            Driver::Intel => "intel",
            Driver::Amd => "amd",
            Driver::Smmu => "arm-smmu-v3",
        }
    }
}

/// Which ends of a call are of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    Entry,
    Exit,
    Both,
    /// The return, by what it returns alone: no argument is kept for it.
    Return,
}

/// Some of the drivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drivers([bool; Driver::ALL.len()]);

impl Drivers {
    pub const EVERY: Drivers = Drivers([true; Driver::ALL.len()]);

    pub fn of(has: impl Fn(Driver) -> bool) -> Drivers {
        Drivers(Driver::ALL.map(has))
    }

    pub fn has(self, driver: Driver) -> bool {
        self.0.get(driver as usize).is_some_and(|&has| has)
    }
}

/// One hook. Its programs are named after the hook: `pasid_attach_fentry`, `…_fexit`, `…_kprobe`,
/// `…_kretprobe`, or for a tracepoint `…_tp`, `…_raw`.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub hook: Hook,
    pub target: Target,
    /// The releases that have it, where 5.15 to 7.3 do not all: for `doctor`, to say why it is absent.
    pub since: &'static str,
    pub given: Given,
    /// The IOMMU driver that it is in. On a host without its hardware it would only cost time at the start.
    pub driver: Option<Driver>,
}

/// On which kernels a function is of interest, of those that have it.
#[derive(Clone, Copy, Debug)]
pub enum Given {
    Always,
    /// Each of these structs has one of its members.
    Members(&'static [(&'static str, &'static [&'static str])]),
    /// The kernel has another function.
    With(&'static str),
    /// The kernel lacks a function.
    Without(&'static str),
    /// The function has so many arguments: its program counts on it.
    Arguments(usize),
}

const fn both(hook: Hook, symbols: &'static [&'static str], since: &'static str) -> Row {
    Row {
        hook,
        target: Target::Call { symbols, ends: Ends::Both },
        since,
        given: Given::Always,
        driver: None,
    }
}

const fn entry(hook: Hook, symbols: &'static [&'static str], since: &'static str) -> Row {
    Row {
        hook,
        target: Target::Call { symbols, ends: Ends::Entry },
        since,
        given: Given::Always,
        driver: None,
    }
}

const fn exit(hook: Hook, symbols: &'static [&'static str], since: &'static str) -> Row {
    Row {
        hook,
        target: Target::Call { symbols, ends: Ends::Exit },
        since,
        given: Given::Always,
        driver: None,
    }
}

const fn result(hook: Hook, symbols: &'static [&'static str], since: &'static str) -> Row {
    Row {
        hook,
        target: Target::Call { symbols, ends: Ends::Return },
        since,
        given: Given::Always,
        driver: None,
    }
}

const fn tracepoint(hook: Hook, name: &'static str, since: &'static str) -> Row {
    Row { hook, target: Target::Tracepoint { name }, since, given: Given::Always, driver: None }
}

impl Row {
    const fn given(self, given: Given) -> Row {
        Row { given, ..self }
    }

    const fn of(self, driver: Driver) -> Row {
        Row { driver: Some(driver), ..self }
    }
}

/// SMMUv3's table of descriptors is the device's (from 6.7), which the driver frees with it.
const SMMU_HAS_TABLE: Given = Given::Members(&[("arm_smmu_master", &["cd_table"])]);

/// The core keeps account of PASIDs, and a process can have one: in `mm_struct` up to 6.7, then in memory of its own.
const MM_HAS_PASID: Given =
    Given::Members(&[("iommu_group", &["pasid_array.xa_head"]), ("mm_struct", &["iommu_mm", "pasid"])]);
/// Up to 6.3 the compiler put `iommu_domain_free` into its callers in the core. (The function that came with 6.4 tells.)
const FREED_INLINE: Given = Given::Without("iommu_deinit_device");

/// The core keeps account of PASIDs.
const CORE_HAS_PASIDS: Given = Given::Members(&[("iommu_group", &["pasid_array.xa_head"])]);

/// Before that a reset was no affair of the IOMMU core's.
const RESET_PREPARES: Given = Given::With("pci_dev_reset_iommu_done");
/// VT-d's domains keep cache tags (from 6.10, "iommu/vt-d: Add cache tag assignment interface").
const VTD_HAS_TAGS: Given = Given::Members(&[
    ("dmar_domain", &["cache_tags"]),
    ("dmar_domain", &["domain"]),
    ("cache_tag", &["type"]),
    ("cache_tag", &["dev"]),
    ("cache_tag", &["pasid"]),
    ("cache_tag", &["users"]),
]);

/// Every hook. Prototypes and releases: drivers/iommu/iommu.c, iommu-sva.c, intel/, amd/,
/// arm/arm-smmu-v3/ there, and drivers/pci/ats.c and pci.c, 5.15 to 7.3.
pub const CATALOGUE: &[Row] = &[
    tracepoint(Hook::DeviceAdd, "add_device_to_group", ""),
    tracepoint(Hook::DeviceRemove, "remove_device_from_group", ""),
    entry(Hook::DeviceRelease, &["iommu_deinit_device", "iommu_release_device"], ""),
    entry(Hook::GroupRelease, &["iommu_group_release"], ""),
    both(Hook::RidAttach, &["__iommu_attach_device"], ""),
    exit(Hook::AttachDevice, &["iommu_attach_device"], ""),
    exit(Hook::DetachDevice, &["iommu_detach_device"], ""),
    exit(Hook::AttachGroup, &["iommu_attach_group"], ""),
    exit(Hook::DetachGroup, &["iommu_detach_group"], ""),
    exit(Hook::AttachGroupHandle, &["iommu_attach_group_handle"], "from 6.11"),
    exit(Hook::DetachGroupHandle, &["iommu_detach_group_handle"], "from 6.11"),
    exit(Hook::ReplaceGroupHandle, &["iommu_replace_group_handle"], "from 6.11"),
    exit(Hook::ReplaceGroupDomain, &["iommu_group_replace_domain"], "6.6 to 6.14"),
    both(Hook::ClaimGroup, &["iommu_group_claim_dma_owner"], "from 5.19"),
    both(Hook::ReleaseGroup, &["iommu_group_release_dma_owner"], "from 5.19"),
    both(Hook::ClaimDevice, &["iommu_device_claim_dma_owner"], "from 6.2"),
    both(Hook::ReleaseDevice, &["iommu_device_release_dma_owner"], "from 6.2"),
    both(Hook::UseDefault, &["iommu_device_use_default_domain"], "from 5.19"),
    both(Hook::UnuseDefault, &["iommu_device_unuse_default_domain"], "from 5.19"),
    both(Hook::ReleaseLocked, &["__iommu_release_dma_ownership"], "from 6.2"),
    both(Hook::PasidAttach, &["iommu_attach_device_pasid"], "from 6.2"),
    both(Hook::PasidReplace, &["iommu_replace_device_pasid"], "from 6.15"),
    both(Hook::PasidDetach, &["iommu_detach_device_pasid"], "from 6.2"),
    both(Hook::SvaBind, &["iommu_sva_bind_device"], ""),
    both(Hook::SvaUnbind, &["iommu_sva_unbind_device"], ""),
    exit(Hook::VtdSetupFirst, &["intel_pasid_setup_first_level"], "with CONFIG_INTEL_IOMMU")
        .of(Driver::Intel),
    exit(Hook::VtdSetupSecond, &["intel_pasid_setup_second_level"], "with CONFIG_INTEL_IOMMU")
        .of(Driver::Intel),
    exit(Hook::VtdSetupPassThrough, &["intel_pasid_setup_pass_through"], "with CONFIG_INTEL_IOMMU")
        .of(Driver::Intel),
    exit(Hook::VtdSetupNested, &["intel_pasid_setup_nested"], "from 6.8, with CONFIG_INTEL_IOMMU")
        .of(Driver::Intel),
    both(Hook::VtdTearDown, &["intel_pasid_tear_down_entry"], "with CONFIG_INTEL_IOMMU").of(Driver::Intel),
    exit(Hook::VtdTableAlloc, &["intel_pasid_alloc_table"], "with CONFIG_INTEL_IOMMU").of(Driver::Intel),
    entry(Hook::VtdTableFree, &["intel_pasid_free_table"], "with CONFIG_INTEL_IOMMU").of(Driver::Intel),
    entry(Hook::VtdTableLeft, &["intel_pasid_free_table"], "with CONFIG_INTEL_IOMMU").of(Driver::Intel),
    tracepoint(Hook::VtdQueue, "qi_submit", "with CONFIG_INTEL_IOMMU").of(Driver::Intel),
    result(Hook::VtdSubmit, &["qi_submit_sync"], "with CONFIG_INTEL_IOMMU")
        .given(Given::Arguments(SUBMIT_ARGUMENTS))
        .of(Driver::Intel),
    both(Hook::VtdSync, &["intel_iommu_tlb_sync"], "from 6.10, with CONFIG_INTEL_IOMMU")
        .given(VTD_HAS_TAGS)
        .of(Driver::Intel),
    tracepoint(Hook::VtdRangeQueue, "qi_submit", "with CONFIG_INTEL_IOMMU").of(Driver::Intel),
    both(
        Hook::VtdMmFlush,
        &["intel_arch_invalidate_secondary_tlbs"],
        "from 6.10, with CONFIG_INTEL_IOMMU_SVM",
    )
    .given(VTD_HAS_TAGS)
    .of(Driver::Intel),
    result(Hook::DevicePresent, &["pci_device_is_present"], "with CONFIG_PCI"),
    both(Hook::SnapshotGroup, &["iommu_get_group_resv_regions"], ""),
    entry(Hook::SnapshotIntel, &["intel_iommu_get_resv_regions"], "with CONFIG_INTEL_IOMMU")
        .of(Driver::Intel),
    entry(Hook::SnapshotAmd, &["amd_iommu_get_resv_regions"], "with CONFIG_AMD_IOMMU").of(Driver::Amd),
    entry(Hook::SnapshotDma, &["iommu_dma_get_resv_regions"], "with CONFIG_IOMMU_DMA"),
    both(Hook::ResetPrepare, &["pci_dev_reset_iommu_prepare"], "from 7.0"),
    both(Hook::ResetDone, &["pci_dev_reset_iommu_done"], "from 7.0"),
    both(Hook::ResetFunction, &["__pci_reset_function_locked"], "from 7.0").given(RESET_PREPARES),
    both(Hook::ResetFlr, &["pcie_flr"], "from 7.0").given(RESET_PREPARES),
    tracepoint(Hook::IoPageFault, "io_page_fault", "").of(Driver::Amd),
    entry(Hook::PageRequest, &["iommu_report_device_fault"], "with CONFIG_IOMMU_IOPF").given(CORE_HAS_PASIDS),
    entry(Hook::PasidOff, &["pci_disable_pasid"], "with CONFIG_PCI_PASID"),
    entry(Hook::AtsOff, &["pci_disable_ats"], "with CONFIG_PCI_ATS"),
    exit(Hook::PasidOn, &["pci_enable_pasid"], "with CONFIG_PCI_PASID"),
    exit(Hook::AtsOn, &["pci_enable_ats"], "with CONFIG_PCI_ATS"),
    both(Hook::VtdTagAssign, &["cache_tag_assign_domain"], "from 6.10, with CONFIG_INTEL_IOMMU")
        .given(VTD_HAS_TAGS)
        .of(Driver::Intel),
    both(Hook::VtdTagUnassign, &["cache_tag_unassign_domain"], "from 6.10, with CONFIG_INTEL_IOMMU")
        .given(VTD_HAS_TAGS)
        .of(Driver::Intel),
    exit(Hook::VtdAttach, &["intel_iommu_attach_device"], "from 6.10, with CONFIG_INTEL_IOMMU")
        .given(VTD_HAS_TAGS)
        .of(Driver::Intel),
    exit(Hook::VtdDetach, &["blocking_domain_set_dev_pasid"], "from 6.14, with CONFIG_INTEL_IOMMU")
        .of(Driver::Intel),
    exit(Hook::AmdDetach, &["blocked_domain_set_dev_pasid"], "from 6.14, with CONFIG_AMD_IOMMU")
        .of(Driver::Amd),
    exit(Hook::SmmuDetach, &["arm_smmu_blocking_set_dev_pasid"], "from 6.14, with CONFIG_ARM_SMMU_V3")
        .of(Driver::Smmu),
    both(Hook::AmdClear, &["amd_iommu_clear_gcr3"], "from 6.9, with CONFIG_AMD_IOMMU").of(Driver::Amd),
    entry(Hook::AmdTableFree, &["free_gcr3_table"], "from 6.9, with CONFIG_AMD_IOMMU").of(Driver::Amd),
    both(Hook::SmmuClear, &["arm_smmu_write_cd_entry"], "from 6.10, with CONFIG_ARM_SMMU_V3")
        .of(Driver::Smmu),
    exit(Hook::AmdQueue, &["__iommu_queue_command_sync"], "with CONFIG_AMD_IOMMU").of(Driver::Amd),
    Row {
        hook: Hook::AmdWait,
        target: Target::Reduced {
            symbols: &["iommu_completion_wait.isra.0", "iommu_completion_wait"],
            beside: "__iommu_queue_command_sync",
        },
        since: "with CONFIG_AMD_IOMMU",
        given: Given::Always,
        driver: Some(Driver::Amd),
    },
    exit(Hook::AmdSet, &["amd_iommu_set_gcr3"], "from 6.9, with CONFIG_AMD_IOMMU").of(Driver::Amd),
    entry(Hook::AmdTableLeft, &["free_gcr3_table"], "from 6.9, with CONFIG_AMD_IOMMU").of(Driver::Amd),
    // From 7.3 the one calls the other, and nested guests' commands come by the other alone.
    both(
        Hook::SmmuQueue,
        &["__arm_smmu_cmdq_issue_cmdlist", "arm_smmu_cmdq_issue_cmdlist"],
        "with CONFIG_ARM_SMMU_V3",
    )
    .of(Driver::Smmu),
    both(
        Hook::SmmuRemove,
        &["arm_smmu_blocking_set_dev_pasid", "arm_smmu_remove_dev_pasid"],
        "from 6.2, with CONFIG_ARM_SMMU_V3",
    )
    .of(Driver::Smmu),
    exit(Hook::SmmuSet, &["arm_smmu_write_cd_entry"], "from 6.10, with CONFIG_ARM_SMMU_V3").of(Driver::Smmu),
    entry(Hook::SmmuTableLeft, &["iommu_deinit_device"], "from 6.7, with CONFIG_ARM_SMMU_V3")
        .given(SMMU_HAS_TABLE)
        .of(Driver::Smmu),
    exit(Hook::PasidAlloc, &["iommu_alloc_global_pasid"], "from 6.6"),
    entry(Hook::PasidFree, &["iommu_free_global_pasid"], "from 6.6"),
    both(Hook::MmDrop, &["__mmdrop"], "from 6.2, with CONFIG_IOMMU_SVA").given(MM_HAS_PASID),
    entry(Hook::MmExit, &["exit_mmap"], "from 6.2, with CONFIG_IOMMU_SVA").given(MM_HAS_PASID),
    exit(Hook::DomainAlloc, &["__iommu_paging_domain_alloc_flags", "__iommu_domain_alloc"], ""),
    entry(Hook::DomainFree, &["iommu_domain_free"], ""),
    entry(Hook::VtdDomainFree, &["intel_iommu_domain_free"], "up to 6.3, with CONFIG_INTEL_IOMMU")
        .given(FREED_INLINE)
        .of(Driver::Intel),
    entry(Hook::AmdDomainFree, &["amd_iommu_domain_free"], "up to 6.3, with CONFIG_AMD_IOMMU")
        .given(FREED_INLINE)
        .of(Driver::Amd),
];
