//! What the daemon makes of each function or tracepoint that 6.12 lacks, as the guest's `each_kind` has them in turn.

use super::{Lack, Says};

const WITHIN: &str = "no check goes by it: that it switched the domain is seen in __iommu_attach_device";
const AROUND: &str = "it is within the releases of a group and of a device, which are seen";
const NO_CHECK: &str = "no check goes by it";
const TABLES: &str = "a table is read by the next look at its group, too";
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
pub(crate) const LACKS: [Lack; 51] = [
    says("iommu_group_claim_dma_owner", &["claim_group"], &[
        "not judged: ownership-stuck, ownership-leaked: this kernel has nothing for hook claim_group",
        "judged in part: ownership-conflict: VFIO's claims of a group are not seen (this kernel has nothing for \
         hook claim_group)",
        "judged in part: pasid-left-on-release: a claim that races with a release is not seen (this kernel has \
         nothing for hook claim_group)",
        "judged in part: domain-off-default: where VFIO's claim of a group leaves it is found by looks alone (this \
         kernel has nothing for hook claim_group)",
    ]),
    says("iommu_group_release_dma_owner", &["release_group"], &[
        "judged in part: pasid-left-on-release: PASIDs left by VFIO's release of a group are missed (this kernel \
         has nothing for hook release_group)",
        "judged in part: ownership-stuck: VFIO's release of a group is not judged (this kernel has nothing for hook \
         release_group)",
        "judged in part: domain-off-default: what VFIO's release of a group leaves is found by looks alone (this \
         kernel has nothing for hook release_group)",
        "judged in part: ownership-conflict: who holds a group is told by the claims that were seen alone (this \
         kernel has nothing for hook release_group)",
    ]),
    says("iommu_device_claim_dma_owner", &["claim_device"], &[
        "not judged: ownership-stuck, ownership-leaked: this kernel has nothing for hook claim_device",
        "judged in part: pasid-left-on-release: a claim that races with a release is not seen (this kernel has \
         nothing for hook claim_device)",
        "judged in part: ownership-conflict: iommufd's claims of a device are not seen (this kernel has nothing for \
         hook claim_device)",
        "judged in part: domain-off-default: where iommufd's claim of a device leaves it is found by looks alone \
         (this kernel has nothing for hook claim_device)",
    ]),
    says("iommu_device_release_dma_owner", &["release_device"], &[
        "judged in part: pasid-left-on-release: PASIDs left by iommufd's release of a device are missed (this \
         kernel has nothing for hook release_device)",
        "judged in part: ownership-stuck: iommufd's release of a device is not judged (this kernel has nothing for \
         hook release_device)",
        "judged in part: domain-off-default: what iommufd's release of a device leaves is found by looks alone \
         (this kernel has nothing for hook release_device)",
        "judged in part: ownership-conflict: who holds a group is told by the claims that were seen alone (this \
         kernel has nothing for hook release_device)",
    ]),
    says("iommu_device_use_default_domain", &["use_default_domain"], &[
        "not judged: ownership-stuck, ownership-leaked: this kernel has nothing for hook use_default_domain",
        "judged in part: pasid-left-on-release: a driver's bind that races with an unbind is not seen (this kernel \
         has nothing for hook use_default_domain)",
        "judged in part: ownership-conflict: binds of drivers are not seen (this kernel has nothing for hook \
         use_default_domain)",
    ]),
    says("iommu_device_unuse_default_domain", &["unuse_default_domain"], &[
        "not judged: ownership-leaked: this kernel has nothing for hook unuse_default_domain",
        "judged in part: pasid-left-on-release: PASIDs left by the unbinding of a driver are missed (this kernel \
         has nothing for hook unuse_default_domain)",
        "judged in part: domain-off-default: what the unbinding of a driver leaves is found by looks alone (this \
         kernel has nothing for hook unuse_default_domain)",
        "judged in part: ownership-conflict: who holds a group is told by the binds that were seen alone (this \
         kernel has nothing for hook unuse_default_domain)",
    ]),
    silent("__iommu_release_dma_ownership", &["release_ownership_locked"], AROUND),
    says("iommu_attach_device_pasid", &["pasid_attach"], &[
        "not judged: pasid-left-on-release, attach-imbalance, pasid-lost-on-detach, rid-switch-refused, user-pasid-\
         on-nonconforming, capability-off-under-pasids, failed-attach-residue, pasid-freed-while-attached, domain-\
         freed-while-attached, sva-bond-imbalance, sva-outlives-mm, fault-after-detach, iopf-unanswered: this \
         kernel has nothing for hook pasid_attach",
        "judged in part: ownership-leaked: the PASIDs that caused it can't be told (this kernel has nothing for \
         hook pasid_attach)",
        "judged in part: devtlb-tag-missing: the tags of PASIDs are not judged (this kernel has nothing for hook \
         pasid_attach)",
        "judged in part: cache-tag-leaked: what a failed attach of a PASID leaves is missed (this kernel has \
         nothing for hook pasid_attach)",
    ]),
    says("iommu_detach_device_pasid", &["pasid_detach"], &[
        "not judged: pasid-left-on-release, attach-imbalance, pasid-lost-on-detach, rid-switch-refused, user-pasid-\
         on-nonconforming, capability-off-under-pasids, pasid-freed-while-attached, domain-freed-while-attached, \
         sva-bond-imbalance, sva-outlives-mm, fault-after-detach, iopf-unanswered: this kernel has nothing for hook \
         pasid_detach",
        "judged in part: ownership-leaked: the PASIDs that caused it can't be told (this kernel has nothing for \
         hook pasid_detach)",
        "judged in part: cache-tag-leaked: the tags of PASIDs are judged when they are replaced alone (this kernel \
         has nothing for hook pasid_detach)",
    ]),
    says("iommu_alloc_global_pasid", &["pasid_alloc"], &[
        "judged in part: pasid-freed-while-attached: PASIDs that a driver takes for its own use are not judged \
         (this kernel has nothing for hook pasid_alloc)",
    ]),
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
    says("exit_mmap", &["mm_exit"], &[
        "judged in part: sva-outlives-mm: the exit of a process is seen by the next look at its group (this kernel \
         has nothing for hook mm_exit)",
    ]),
    says("iommu_report_device_fault", &["page_request"], &[
        "not judged: fault-after-detach, iopf-unanswered: this kernel has nothing for hook page_request",
    ]),
    silent("pci_enable_pasid", &["pasid_on"], NO_CHECK),
    says("pci_disable_pasid", &["pasid_off"], &[
        "judged in part: capability-off-under-pasids: a PASID capability that is switched off is missed (this \
         kernel has nothing for hook pasid_off)",
    ]),
    says("pci_enable_ats", &["ats_on"], &[
        "not judged: devtlb-tag-missing: this kernel has nothing for hook ats_on",
    ]),
    says("pci_disable_ats", &["ats_off"], &[
        "judged in part: capability-off-under-pasids: an ATS capability that is switched off is missed (this kernel \
         has nothing for hook ats_off)",
    ]),
    says("__iommu_attach_device", &["rid_attach"], &[
        "not judged: pasid-lost-on-detach, rid-switch-refused, capability-off-under-pasids, \
         domain-freed-while-attached, reset-unpaired, devtlb-tag-missing, cache-tag-leaked: this kernel has nothing \
         for hook rid_attach",
    ]),
    silent("iommu_attach_device", &["attach_device"], WITHIN),
    silent("iommu_detach_device", &["detach_device"], WITHIN),
    silent("iommu_attach_group", &["attach_group"], WITHIN),
    silent("iommu_detach_group", &["detach_group"], WITHIN),
    says("iommu_attach_group_handle", &["attach_group_handle"], &[
        "not judged: iopf-unanswered: this kernel has nothing for hook attach_group_handle",
    ]),
    silent("iommu_detach_group_handle", &["detach_group_handle"], WITHIN),
    silent("iommu_replace_group_handle", &["replace_group_handle"], WITHIN),
    silent("iommu_group_replace_domain", &["replace_group_domain"], WITHIN),
    silent("__iommu_domain_alloc", &["domain_alloc"], FREED),
    says("iommu_domain_free", &["domain_free"], &[
        "not judged: domain-freed-while-attached: this kernel has nothing for hook domain_free",
    ]),
    says("intel_pasid_setup_first_level", &["vtd_setup_first_level"], &[
        "not judged: pasid-reused-without-flush: this kernel has nothing for hook vtd_setup_first_level",
    ]),
    says("intel_pasid_setup_second_level", &["vtd_setup_second_level"], &[
        "not judged: pasid-reused-without-flush: this kernel has nothing for hook vtd_setup_second_level",
    ]),
    says("intel_pasid_setup_pass_through", &["vtd_setup_pass_through"], &[
        "not judged: pasid-reused-without-flush: this kernel has nothing for hook vtd_setup_pass_through",
    ]),
    says("intel_pasid_setup_nested", &["vtd_setup_nested"], &[
        "not judged: pasid-reused-without-flush: this kernel has nothing for hook vtd_setup_nested",
    ]),
    says("intel_pasid_tear_down_entry", &["vtd_tear_down"], &[
        "not judged: teardown-flush-incomplete, pasid-reused-without-flush, ats-flush-to-absent: this kernel has \
         nothing for hook vtd_tear_down",
    ]),
    silent("intel_pasid_alloc_table", &["vtd_table_alloc"], TABLES),
    says("intel_pasid_free_table", &["vtd_table_free", "vtd_table_left"], &[
        "judged in part: pasid-table-shared: a table that is freed is forgotten only with its device (this kernel \
         has nothing for hook vtd_table_free)",
        "judged in part: pasid-lost-on-detach: tables that the intel driver frees are missed (this kernel has \
         nothing for hook vtd_table_free)",
        "judged in part: released-with-pasids: what VT-d's driver frees with a device is not seen (this kernel has \
         nothing for hook vtd_table_left)",
    ]),
    says("cache_tag_assign_domain", &["vtd_tag_assign"], &[
        "not judged: devtlb-tag-missing, cache-tag-leaked: this kernel has nothing for hook vtd_tag_assign",
    ]),
    says("cache_tag_unassign_domain", &["vtd_tag_unassign"], &[
        "not judged: devtlb-tag-missing, cache-tag-leaked: this kernel has nothing for hook vtd_tag_unassign",
    ]),
    says("intel_iommu_attach_device", &["vtd_attach"], &[
        "judged in part: devtlb-tag-missing: the tags of a RID whose ATS comes on after they were assigned are found \
         by looks alone (this kernel has nothing for hook vtd_attach)",
    ]),
    says("qi_submit", &["vtd_qi_submit"], &[
        "not judged: teardown-flush-incomplete, pasid-reused-without-flush, flush-slow, ats-flush-to-absent: this \
         kernel has nothing for hook vtd_qi_submit",
    ]),
    says("qi_submit_sync", &["vtd_qi_submit_sync"], &[
        "not judged: invalidation-failed, flush-slow: this kernel has nothing for hook vtd_qi_submit_sync",
    ]),
    says("pci_device_is_present", &["device_present"], &[
        "not judged: teardown-flush-incomplete, invalidation-failed, pasid-reused-without-flush: this kernel has \
         nothing for hook device_present",
    ]),
    silent("add_device_to_group", &["add_device_to_group"], JOINS),
    says("remove_device_from_group", &["remove_device_from_group"], &[
        "not judged: pasid-lost-on-detach, capability-off-under-pasids, pasid-table-shared: this kernel has nothing \
         for hook remove_device_from_group",
    ]),
    Lack {
        instead: &["vtd_domain_free"],
        ..silent("iommu_deinit_device", &["device_release"], LEAVES)
    },
    says("iommu_group_release", &["group_release"], &[
        "judged in part: released-with-pasids: what is freed with a group is not seen (this kernel has nothing for \
         hook group_release)",
    ]),
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
