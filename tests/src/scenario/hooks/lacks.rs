//! What the daemon makes of each function or tracepoint that 6.12 lacks, as the guest's `each_kind` has them in turn.

use super::{Lack, Says};

const NO_SUCH_WAY: &str =
    "a kernel without it is taken for one on which nobody can do that; `doctor` names the hook";
const WITHIN: &str = "no check goes by it: that it switched the domain is seen in __iommu_attach_device";
const AROUND: &str = "it is within the releases of a group and of a device, which are seen";
const LOOKS: &str = "that a process exits is seen by the next look at its group";
const NO_CHECK: &str = "no check goes by it";
const TABLES: &str = "a table is read by the next look at its group, too";
const NO_TAGS: &str = "a kernel without it is taken for one whose driver keeps no cache tags (up to 6.9)";
const JOINS: &str = "who joins a group is found by the next look at it";
const LEAVES: &str =
    "that a device leaves is seen at remove_device_from_group; what 6.3 has instead is listened to";
const INTEL: &str = "every group here is behind the intel driver, whose own function is seen";
const FREED: &str = "a domain is known from where it is attached, and forgotten where it is freed";

const fn says(name: &'static str, lost: &'static [&'static str], lines: &'static [&'static str]) -> Lack {
    Lack { name, lost, instead: &[], says: Says::Lines(lines) }
}

const fn silent(name: &'static str, lost: &'static [&'static str], why: &'static str) -> Lack {
    Lack { name, lost, instead: &[], says: Says::Nothing(why) }
}

#[rustfmt::skip]
pub(super) const LACKS: [Lack; 51] = [
    says("iommu_group_claim_dma_owner", &["claim_group"], &[
        "not judged: ownership-stuck, ownership-leaked: this kernel has nothing for hook claim_group",
    ]),
    silent("iommu_group_release_dma_owner", &["release_group"], NO_SUCH_WAY),
    says("iommu_device_claim_dma_owner", &["claim_device"], &[
        "not judged: ownership-stuck, ownership-leaked: this kernel has nothing for hook claim_device",
    ]),
    silent("iommu_device_release_dma_owner", &["release_device"], NO_SUCH_WAY),
    says("iommu_device_use_default_domain", &["use_default_domain"], &[
        "not judged: ownership-stuck, ownership-leaked: this kernel has nothing for hook use_default_domain",
    ]),
    says("iommu_device_unuse_default_domain", &["unuse_default_domain"], &[
        "not judged: ownership-leaked: this kernel has nothing for hook unuse_default_domain",
    ]),
    silent("__iommu_release_dma_ownership", &["release_ownership_locked"], AROUND),
    says("iommu_attach_device_pasid", &["pasid_attach"], &[
        "not judged: pasid-left-on-release, attach-imbalance, pasid-lost-on-detach, rid-switch-refused, \
         user-pasid-on-nonconforming, capability-off-under-pasids, failed-attach-residue, \
         pasid-freed-while-attached, domain-freed-while-attached, sva-bond-imbalance, sva-outlives-mm, \
         fault-after-detach, iopf-unanswered: this kernel has nothing for hook pasid_attach",
    ]),
    says("iommu_detach_device_pasid", &["pasid_detach"], &[
        "not judged: pasid-left-on-release, attach-imbalance, pasid-lost-on-detach, rid-switch-refused, \
         user-pasid-on-nonconforming, capability-off-under-pasids, pasid-freed-while-attached, \
         domain-freed-while-attached, sva-bond-imbalance, sva-outlives-mm, fault-after-detach, iopf-unanswered: this \
         kernel has nothing for hook pasid_detach",
    ]),
    silent("iommu_alloc_global_pasid", &["pasid_alloc"], NO_SUCH_WAY),
    says("iommu_free_global_pasid", &["pasid_free"], &[
        "not judged: pasid-freed-while-attached, pasid-leaked: this kernel has nothing for hook pasid_free",
    ]),
    says("iommu_sva_bind_device", &["sva_bind"], &[
        "not judged: sva-bond-imbalance: this kernel has nothing for hook sva_bind",
    ]),
    says("iommu_sva_unbind_device", &["sva_unbind"], &[
        "not judged: sva-bond-imbalance: this kernel has nothing for hook sva_unbind",
    ]),
    says("__mmdrop", &["mm_drop"], &[
        "not judged: pasid-leaked, sva-outlives-mm: this kernel has nothing for hook mm_drop",
    ]),
    silent("exit_mmap", &["mm_exit"], LOOKS),
    says("iommu_report_device_fault", &["page_request"], &[
        "not judged: fault-after-detach: this kernel has nothing for hook page_request",
    ]),
    silent("pci_enable_pasid", &["pasid_on"], NO_CHECK),
    silent("pci_disable_pasid", &["pasid_off"], NO_SUCH_WAY),
    silent("pci_enable_ats", &["ats_on"], NO_SUCH_WAY),
    silent("pci_disable_ats", &["ats_off"], NO_SUCH_WAY),
    says("__iommu_attach_device", &["rid_attach"], &[
        "not judged: reset-unpaired: this kernel has nothing for hook reset_prepare",
        "not judged: pasid-lost-on-detach, rid-switch-refused, capability-off-under-pasids, \
         domain-freed-while-attached, devtlb-tag-missing, cache-tag-leaked: this kernel has nothing for hook \
         rid_attach",
    ]),
    silent("iommu_attach_device", &["attach_device"], WITHIN),
    silent("iommu_detach_device", &["detach_device"], WITHIN),
    silent("iommu_attach_group", &["attach_group"], WITHIN),
    silent("iommu_detach_group", &["detach_group"], WITHIN),
    says("iommu_attach_group_handle", &["attach_group_handle"], &[
        "not judged: iopf-unanswered: this kernel has requests in its list whose PASID never was attached (up to \
         6.10)",
    ]),
    silent("iommu_detach_group_handle", &["detach_group_handle"], WITHIN),
    silent("iommu_replace_group_handle", &["replace_group_handle"], WITHIN),
    silent("iommu_group_replace_domain", &["replace_group_domain"], WITHIN),
    silent("__iommu_domain_alloc", &["domain_alloc"], FREED),
    says("iommu_domain_free", &["domain_free"], &[
        "not judged: domain-freed-while-attached: this kernel has nothing for hook domain_free",
    ]),
    silent("intel_pasid_setup_first_level", &["vtd_setup_first_level"], NO_SUCH_WAY),
    silent("intel_pasid_setup_second_level", &["vtd_setup_second_level"], NO_SUCH_WAY),
    silent("intel_pasid_setup_pass_through", &["vtd_setup_pass_through"], NO_SUCH_WAY),
    silent("intel_pasid_setup_nested", &["vtd_setup_nested"], NO_SUCH_WAY),
    says("intel_pasid_tear_down_entry", &["vtd_tear_down"], &[
        "not judged: teardown-flush-incomplete, pasid-reused-without-flush, ats-flush-to-absent: this kernel has \
         nothing for hook vtd_tear_down",
    ]),
    silent("intel_pasid_alloc_table", &["vtd_table_alloc"], TABLES),
    silent("intel_pasid_free_table", &["vtd_table_free", "vtd_table_left"], NO_SUCH_WAY),
    silent("cache_tag_assign_domain", &["vtd_tag_assign"], NO_TAGS),
    says("cache_tag_unassign_domain", &["vtd_tag_unassign"], &[
        "not judged: devtlb-tag-missing, cache-tag-leaked: this kernel has nothing for hook vtd_tag_unassign",
    ]),
    silent("intel_iommu_attach_device", &["vtd_attach"], NO_SUCH_WAY),
    says("qi_submit", &["vtd_qi_submit"], &[
        "not judged: teardown-flush-incomplete, pasid-reused-without-flush, flush-slow, ats-flush-to-absent: this \
         kernel has nothing for hook vtd_qi_submit",
    ]),
    says("qi_submit_sync", &["vtd_qi_submit_sync"], &[
        "not judged: invalidation-failed, flush-slow: this kernel has nothing for hook vtd_qi_submit_sync",
    ]),
    silent("pci_device_is_present", &["device_present"], NO_SUCH_WAY),
    silent("add_device_to_group", &["add_device_to_group"], JOINS),
    says("remove_device_from_group", &["remove_device_from_group"], &[
        "not judged: pasid-lost-on-detach, capability-off-under-pasids, pasid-table-shared: this kernel has nothing \
         for hook remove_device_from_group",
    ]),
    Lack {
        instead: &["vtd_domain_free"],
        ..silent("iommu_deinit_device", &["device_release"], LEAVES)
    },
    silent("iommu_group_release", &["group_release"], NO_SUCH_WAY),
    says("iommu_get_group_resv_regions", &["snapshot_group"], &[
        "not judged: domain-off-default, failed-attach-residue, group-divergence, pasid-table-mismatch, \
         iopf-unanswered: this kernel has nothing for hook snapshot_group",
    ]),
    says("intel_iommu_get_resv_regions", &["snapshot_intel"], &[
        "not judged: failed-attach-residue, group-divergence, pasid-table-shared, pasid-table-mismatch: hook \
         snapshot_intel is not attached: the tables of the intel driver are not read",
    ]),
    silent("iommu_dma_get_resv_regions", &["snapshot_dma"], INTEL),
];
