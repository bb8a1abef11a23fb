//! `cache-tag-leaked`: a cache tag goes with its attachment.

use monitor_ebpf::wire::Hook;

use crate::coverage::Coverage;
use crate::inventory::Inventory;
use crate::model::{Host, Kind, Transition};

use super::spec::{CheckState, Needs, Severity, Spec};
use super::violation::{Standing, Subject};
use super::{Case, Check, cache_tag};

pub(super) struct CacheTagLeaked;

static SPEC: Spec = Spec {
    name: "cache-tag-leaked",
    section: "Invalidation",
    severities: &[Severity::Critical],
    invariant: "Where VT-d's driver keeps cache tags (from 6.10), no cache tag outlives its attachment: when a detach, a \
                replace, a switch of a RID or an attach that failed has returned, the domain that was left has no \
                device-TLB tag of the device on that PASID, or on its RID. Whether it goes before or after the flush of \
                the same detach is all the same.",
    why: "The next flush of the domain follows the tag to a device that has left it, or is gone: it uses freed memory, \
          or flushes another's translations. With the domain's end the tag's memory is lost.",
    needs: Needs {
        core_pasids: false,
        required: &[Hook::VtdTagAssign, Hook::VtdTagUnassign, Hook::RidAttach],
        required_if_present: &[],
        any_of: &[],
        degrades: &[
            (Hook::PasidDetach, "the tags of PASIDs are judged when they are replaced alone"),
            (Hook::PasidAttach, "what a failed attach of a PASID leaves is missed"),
            (Hook::PasidReplace, "the tags of PASIDs are judged when they are detached alone"),
        ],
    },
    judges: &[Kind::Tagged],
    by_look: None,
    implies: &[],
    traps: &[
        "Up to 6.13 the driver unassigns the tags before it flushes, later after it: judged is when the detach returns.",
        "A tag that is assigned twice (a replace by the same domain) is one tag with two users, and stays for the one.",
        "A domain attached to several devices and PASIDs keeps the tags of the others.",
        "An IOTLB tag stands for every device behind the IOMMU that has the domain on that PASID: judged are device-TLB \
         tags, which are of one device.",
        "An attach that fails and leaves all as it is, tags and entry, is failed-attach-residue.",
        "A process that exits keeps its tags until it is unbound.",
        "Another task that changes the list of the same domain may lead the reading astray: then nothing is said.",
        "A device that is removed with a PASID attached leaves its tags with it: that is released-with-pasids.",
    ],
    seen_in: &[
        "CVE-2024-56669",
        "drivers/iommu/intel/iommu.c, 6.12: intel_iommu_remove_dev_pasid leaves the device-TLB tag of a PASID where the \
         RID was blocked first, which switches ATS off there",
    ],
    what_to_do: &[
        "Don't unmap from the domain that was left, and don't remove the device: end what uses the domain, so that it is \
         freed. The tag goes with it unseen; nothing follows it any more.",
        "If the device is gone already, plan a reboot: a flush of the domain may have used freed memory.",
        "On 6.12: detach the PASIDs of a device before its RID.",
        "Report it to the maintainers of the Intel IOMMU driver with the violation's JSON.",
    ],
};

impl Check for CacheTagLeaked {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn judge(&self, transition: &Transition, case: &mut Case<'_>) {
        let Transition::Tagged { group, tagged } = transition else { return };
        if tagged.attached || !tagged.tags.is_there() {
            return;
        }
        let name = case.names.domain(tagged.domain);
        let summary = format!(
            "{} is off {} ({}) since {}[{}] had it so, and the device-TLB tag stayed",
            cache_tag::of(tagged),
            name.name,
            name.kind,
            tagged.by.comm,
            tagged.by.tid,
        );
        let finding = cache_tag::finding(&SPEC, *group, tagged, summary, case);
        case.findings.push(finding);
    }

    fn standing(&self, _: &Subject, _: &Host) -> Standing {
        Standing::Happened
    }

    fn state(&self, coverage: &Coverage, inventory: Option<&Inventory>) -> CheckState {
        cache_tag::without_tags(coverage, inventory).unwrap_or_else(|| SPEC.needs.state(coverage))
    }
}
