//! The hooks: every kernel function or tracepoint that the eBPF side listens to, by number.

macro_rules! hooks {
    ($($(#[$doc:meta])* $variant:ident = $number:literal => $name:literal,)*) => {
        /// A place in the kernel that reports. The number is part of the wire format: never renumber. Families
        /// have blocks of numbers, so there are gaps.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum Hook {
            $($(#[$doc])* $variant = $number,)*
        }

        impl Hook {
            /// Every hook.
            pub const ALL: &[Hook] = &[$(Hook::$variant,)*];
            /// One past the greatest number: the length of an array that is indexed by hook.
            pub const COUNT: usize = {
                let (mut greatest, mut at) = (0, 0);
                while at < Self::ALL.len() {
                    if Self::ALL[at] as usize > greatest {
                        greatest = Self::ALL[at] as usize;
                    }
                    at += 1;
                }
                greatest + 1
            };

            /// The stable name, as metrics, recordings and `doctor` show it.
            pub const fn name(self) -> &'static str {
                match self { $(Hook::$variant => $name,)* }
            }

            /// It is attached only where a check that is off by default was asked for: it is on the way of each map or
            /// unmap.
            pub const fn on_demand(self) -> bool {
                matches!(self, Hook::VtdSync | Hook::VtdRangeQueue | Hook::VtdMmFlush)
            }

            /// The hook of a number read from outside; `None` for a number that no hook has.
            pub const fn from_number(number: u16) -> Option<Hook> {
                match number { $($number => Some(Hook::$variant),)* _ => None }
            }
        }
    };
}

hooks! {
    /// A device joins a group (tracepoint `iommu:add_device_to_group`).
    DeviceAdd = 0 => "add_device_to_group",
    /// A device leaves a group, under `group->mutex` (tracepoint `iommu:remove_device_from_group`).
    DeviceRemove = 1 => "remove_device_from_group",
    /// The core lets a device go: `iommu_deinit_device`, up to 6.3 `iommu_release_device`.
    DeviceRelease = 2 => "device_release",
    /// The last reference to a group is gone: `iommu_group_release`.
    GroupRelease = 3 => "group_release",

    /// A RID gets a domain, whoever asked: `__iommu_attach_device`, under `group->mutex`.
    RidAttach = 4 => "rid_attach",
    /// A caller's intent: `iommu_attach_device`.
    AttachDevice = 5 => "attach_device",
    /// A caller's intent: `iommu_detach_device`.
    DetachDevice = 6 => "detach_device",
    /// A caller's intent: `iommu_attach_group` (VFIO).
    AttachGroup = 7 => "attach_group",
    /// A caller's intent: `iommu_detach_group` (VFIO).
    DetachGroup = 8 => "detach_group",
    /// A caller's intent: `iommu_attach_group_handle` (iommufd).
    AttachGroupHandle = 9 => "attach_group_handle",
    /// A caller's intent: `iommu_detach_group_handle` (iommufd).
    DetachGroupHandle = 10 => "detach_group_handle",
    /// A caller's intent: `iommu_replace_group_handle` (iommufd).
    ReplaceGroupHandle = 11 => "replace_group_handle",
    /// A caller's intent: `iommu_group_replace_domain` (iommufd, 6.6 to 6.14).
    ReplaceGroupDomain = 12 => "replace_group_domain",

    /// `iommu_group_claim_dma_owner`.
    ClaimGroup = 13 => "claim_group",
    /// `iommu_group_release_dma_owner`.
    ReleaseGroup = 14 => "release_group",
    /// `iommu_device_claim_dma_owner`.
    ClaimDevice = 15 => "claim_device",
    /// `iommu_device_release_dma_owner`.
    ReleaseDevice = 16 => "release_device",
    /// A driver binds: `iommu_device_use_default_domain`.
    UseDefault = 17 => "use_default_domain",
    /// A driver unbinds: `iommu_device_unuse_default_domain`.
    UnuseDefault = 18 => "unuse_default_domain",
    /// The letting go itself, under `group->mutex`: `__iommu_release_dma_ownership`.
    ReleaseLocked = 19 => "release_ownership_locked",

    /// `iommu_attach_device_pasid`.
    PasidAttach = 20 => "pasid_attach",
    /// `iommu_replace_device_pasid`.
    PasidReplace = 21 => "pasid_replace",
    /// `iommu_detach_device_pasid`.
    PasidDetach = 22 => "pasid_detach",
    /// `iommu_sva_bind_device`.
    SvaBind = 23 => "sva_bind",
    /// `iommu_sva_unbind_device`.
    SvaUnbind = 24 => "sva_unbind",

    /// VT-d writes a PASID entry: `intel_pasid_setup_first_level`.
    VtdSetupFirst = 25 => "vtd_setup_first_level",
    /// VT-d writes a PASID entry: `intel_pasid_setup_second_level`.
    VtdSetupSecond = 26 => "vtd_setup_second_level",
    /// VT-d writes a PASID entry: `intel_pasid_setup_pass_through`.
    VtdSetupPassThrough = 27 => "vtd_setup_pass_through",
    /// VT-d writes a PASID entry: `intel_pasid_setup_nested`.
    VtdSetupNested = 28 => "vtd_setup_nested",
    /// VT-d clears a PASID entry: `intel_pasid_tear_down_entry`.
    VtdTearDown = 29 => "vtd_tear_down",
    /// VT-d gives a device its PASID table: `intel_pasid_alloc_table`.
    VtdTableAlloc = 30 => "vtd_table_alloc",
    /// VT-d takes a device's PASID table away: `intel_pasid_free_table`.
    VtdTableFree = 31 => "vtd_table_free",

    /// Our own read of a group's `reserved_regions` enters the core: `iommu_get_group_resv_regions`.
    SnapshotGroup = 32 => "snapshot_group",
    /// The same read reaches the driver, under `group->mutex`: `intel_iommu_get_resv_regions`.
    SnapshotIntel = 33 => "snapshot_intel",
    /// The same read reaches the driver, under `group->mutex`: `amd_iommu_get_resv_regions`.
    SnapshotAmd = 34 => "snapshot_amd",
    /// The same read reaches a driver that uses `iommu_dma_get_resv_regions`, under `group->mutex`.
    SnapshotDma = 35 => "snapshot_dma",

    /// A PCI device is about to be reset: `pci_dev_reset_iommu_prepare`.
    ResetPrepare = 50 => "reset_prepare",
    /// The reset is over: `pci_dev_reset_iommu_done`.
    ResetDone = 51 => "reset_done",
    /// A PCI device is reset by one of its methods, each of which prepares and is done: `__pci_reset_function_locked`.
    ResetFunction = 96 => "reset_function",
    /// A PCI device is reset by a function-level reset, which a driver may ask for by itself: `pcie_flr`.
    ResetFlr = 97 => "reset_flr",
    /// A device asks for a page with a PASID that its group has not attached: `iommu_report_device_fault`.
    PageRequest = 98 => "page_request",
    /// A device's PASID capability, which was on, is switched off: `pci_disable_pasid`.
    PasidOff = 52 => "pasid_off",
    /// A device's ATS capability, which was on, is switched off: `pci_disable_ats`.
    AtsOff = 53 => "ats_off",
    /// VT-d takes a PASID off a device: `set_dev_pasid` of its blocking domain.
    VtdDetach = 54 => "vtd_detach_pasid",
    /// AMD takes a PASID off a device: `set_dev_pasid` of its blocked domain.
    AmdDetach = 55 => "amd_detach_pasid",
    /// SMMUv3 takes a PASID off a device: `set_dev_pasid` of its blocked domain.
    SmmuDetach = 56 => "smmu_detach_pasid",
    /// AMD clears a PASID's entry: `amd_iommu_clear_gcr3`.
    AmdClear = 57 => "amd_clear_gcr3",
    /// AMD takes a device's guest CR3 table away: `free_gcr3_table`.
    AmdTableFree = 58 => "amd_table_free",
    /// SMMUv3 writes a context descriptor that is not valid: `arm_smmu_write_cd_entry`.
    SmmuClear = 59 => "smmu_clear_cd",
    /// A device's PASID capability is switched on: `pci_enable_pasid`.
    PasidOn = 80 => "pasid_on",
    /// A device's ATS capability is switched on: `pci_enable_ats`.
    AtsOn = 81 => "ats_on",
    /// VT-d gives a domain its cache tags for one device's RID or PASID: `cache_tag_assign_domain`.
    VtdTagAssign = 82 => "vtd_tag_assign",
    /// VT-d takes them away: `cache_tag_unassign_domain`.
    VtdTagUnassign = 83 => "vtd_tag_unassign",
    /// VT-d has switched a RID to a paging domain, and its cache tags are as they will be: `intel_iommu_attach_device`.
    VtdAttach = 84 => "vtd_attach",
    /// A PASID is taken from the global allocator: `iommu_alloc_global_pasid`.
    PasidAlloc = 60 => "pasid_alloc",
    /// A PASID goes back to the global allocator: `iommu_free_global_pasid`.
    PasidFree = 61 => "pasid_free",
    /// An `mm_struct` that has a PASID is let go for good: `__mmdrop`.
    MmDrop = 62 => "mm_drop",
    /// The last user of an `mm_struct` that has a PASID is gone, its process has exited: `exit_mmap`.
    MmExit = 63 => "mm_exit",
    /// A domain is made: `__iommu_paging_domain_alloc_flags`, up to 6.12 `__iommu_domain_alloc`.
    DomainAlloc = 64 => "domain_alloc",
    /// A domain that is not a static one is freed: `iommu_domain_free`.
    DomainFree = 65 => "domain_free",
    /// The same inside VT-d's driver, where the core frees without a call of its own: `intel_iommu_domain_free`.
    VtdDomainFree = 66 => "vtd_domain_free",
    /// The same inside AMD's driver: `amd_iommu_domain_free`.
    AmdDomainFree = 67 => "amd_domain_free",
    /// A descriptor goes to VT-d's invalidation queue (tracepoint `intel_iommu:qi_submit`). Counted; a window keeps
    /// what it needs; nothing is sent.
    VtdQueue = 36 => "vtd_qi_submit",
    /// VT-d's driver gave the queue some descriptors and waited: `qi_submit_sync`. Only failures are sent.
    VtdSubmit = 37 => "vtd_qi_submit_sync",
    /// A device is looked for: `pci_device_is_present`. A window keeps that it is not there; nothing is sent.
    DevicePresent = 38 => "device_present",

    /// A command goes to AMD's command buffer: `__iommu_queue_command_sync`. Counted; a window keeps what it needs; only
    /// failures are sent.
    AmdQueue = 39 => "amd_queue_command",
    /// AMD's driver waited for all commands: `iommu_completion_wait`. Only failures are sent.
    AmdWait = 40 => "amd_completion_wait",
    /// AMD writes a PASID's entry: `amd_iommu_set_gcr3`.
    AmdSet = 41 => "amd_set_gcr3",
    /// AMD takes a device's guest CR3 table away, and PASIDs are in it still: `free_gcr3_table`.
    AmdTableLeft = 42 => "amd_table_left",
    /// Commands go to SMMUv3's command queue: `arm_smmu_cmdq_issue_cmdlist`. Counted; a window keeps what it needs; only
    /// failures are sent.
    SmmuQueue = 43 => "smmu_issue_cmdlist",
    /// SMMUv3 takes a PASID off a device, from the clearing of its descriptor to the flush of the device:
    /// `arm_smmu_blocking_set_dev_pasid`, up to 6.13 `arm_smmu_remove_dev_pasid`.
    SmmuRemove = 44 => "smmu_remove_pasid",
    /// SMMUv3 writes a context descriptor that is valid: `arm_smmu_write_cd_entry`.
    SmmuSet = 45 => "smmu_write_cd",
    /// SMMUv3's device is let go, and PASIDs are in its table still: `iommu_deinit_device`, in which the driver frees it.
    SmmuTableLeft = 46 => "smmu_table_left",

    /// A device's DMA faults, and the IOMMU's driver says so (tracepoint `iommu:io_page_fault`): AMD's, no VT-d's or
    /// SMMUv3's. Counted; nothing is sent.
    IoPageFault = 99 => "io_page_fault",

    /// VT-d flushes what an unmap gathered: `intel_iommu_tlb_sync`. Counted; only a flush that falls short is sent. This
    /// and the next two are for `flush-range-short` alone, and attached on demand.
    VtdSync = 104 => "vtd_tlb_sync",
    /// A descriptor goes to VT-d's invalidation queue while such a flush is under way (tracepoint
    /// `intel_iommu:qi_submit`). Nothing is sent.
    VtdRangeQueue = 105 => "vtd_range_qi_submit",
    /// VT-d flushes what changed in the memory of a process: `intel_arch_invalidate_secondary_tlbs`. As `VtdSync`.
    VtdMmFlush = 106 => "vtd_mm_invalidate",

    /// VT-d takes a device's PASID table away, and PASIDs are in it still: `intel_pasid_free_table`.
    VtdTableLeft = 75 => "vtd_table_left",
}
