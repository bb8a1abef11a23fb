//! `fault-after-detach`: a device stops using a PASID before it is detached.

use monitor_ebpf::wire::Hook;

use crate::model::{Host, Kind, Transition};

use super::spec::{Needs, Severity, Spec};
use super::violation::{Confidence, Finding, Read, Standing, Subject, Value};
use super::{Case, Check};

pub(super) struct FaultAfterDetach;

/// Requests that were on their way when the PASID was detached come that much later at most, in ns.
const GRACE_NS: u64 = 1_000_000_000;

static SPEC: Spec = Spec {
    name: "fault-after-detach",
    section: "Faults, resets, advisories",
    severities: &[Severity::Warning],
    invariant: "No page request names a PASID that was attached to that device and was detached longer than a grace time \
                (1 s) ago.",
    why: "Who detaches a PASID has told the device to stop using it, and its queue of page requests was drained. A device \
          that asks for a page with it still holds on to an address space that is gone: once the PASID is attached for \
          somebody else, it works on that one's memory.",
    needs: Needs {
        core_pasids: true,
        required: &[Hook::PageRequest, Hook::PasidAttach, Hook::PasidDetach],
        required_if_present: &[Hook::PasidReplace],
        any_of: &[],
        degrades: &[],
    },
    judges: &[Kind::RequestAfterDetach],
    by_look: None,
    implies: &[],
    traps: &[
        "Requests that were on their way when the PASID was detached come shortly after it.",
        "A guest can have its device send any PASID: one that never was attached there is counted, and no more.",
        "What was detached before somebody claimed the group is no business of his, nor are the PASIDs of a guest that \
         has the PASID table itself: the RID is on a nested domain then.",
        "A device that joined the group later never had the group's PASIDs.",
        "A fault that the IOMMU reports (iommu:io_page_fault) carries no PASID.",
        "Of a PASID that was detached before the last 16,384 attaches and detaches of the host nobody knows that it was.",
    ],
    seen_in: &["CVE-2024-35843", "CVE-2025-38594"],
    what_to_do: &[
        "Reset the device, or remove it: its driver did not stop it, or it did not obey.",
        "Don't attach that PASID to it again before that.",
        "Look at the evidence: who detached the PASID is whom the device's driver should have waited for.",
        "Report it to the maintainer of the device's driver with the violation's JSON.",
    ],
};

impl Check for FaultAfterDetach {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn judge(&self, transition: &Transition, case: &mut Case<'_>) {
        let Transition::RequestAfterDetach { group: reference, pasid, detached, event } = transition else {
            return;
        };
        let since = event.mono_ns.saturating_sub(detached.by.mono_ns);
        let Some(group) = case.host.group(*reference).filter(|_| since > GRACE_NS) else { return };
        let Some(device) = event.device.map(|device| device.name) else { return };
        case.findings.push(Finding {
            check: &SPEC,
            severity: SPEC.severity(),
            subject: Subject::Happened { group: *reference },
            proved: true,
            mono_ns: event.mono_ns,
            device: Some(device),
            pasids: vec![(*pasid, detached.attachment)],
            domain: detached.attachment.domain,
            triggered_by: Some(detached.by),
            summary: format!(
                "{device} (group {}) asks for a page with PASID {pasid}, which {}[{}] detached {} s ago",
                group.id,
                detached.by.comm,
                detached.by.tid,
                since / 1_000_000_000
            ),
            read: vec![Read { what: "detached by", value: Value::Task(Some(detached.by)) }],
            confidence: Confidence::Observed,
        });
    }

    fn standing(&self, _: &Subject, _: &Host) -> Standing {
        Standing::Happened
    }
}
