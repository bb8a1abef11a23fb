//! `pasid-freed-while-attached`: a PASID goes back to the allocator after its last detach.

use monitor_ebpf::wire::Hook;

use crate::model::{Actor, Gone, Host, Kind, Transition};

use super::spec::{Needs, Severity, Spec};
use super::violation::{Confidence, Finding, Read, Standing, Subject, Value};
use super::{Case, Check};

pub(super) struct PasidFreedWhileAttached;

static SPEC: Spec = Spec {
    name: "pasid-freed-while-attached",
    section: "PASID life cycle",
    severities: &[Severity::Critical],
    invariant: "When a PASID goes back to the allocator, no group holds an attachment made from that allocation (the \
                mm's SVA domain, or the allocating driver's). iommufd's user-chosen PASIDs of the same number are \
                unrelated.",
    why: "The next process or driver gets the same number while a device still translates it by the memory of the \
          one before: DMA that names the PASID reaches a stranger's address space.",
    needs: Needs {
        core_pasids: true,
        required: &[Hook::PasidFree, Hook::PasidAttach, Hook::PasidDetach],
        required_if_present: &[Hook::PasidReplace],
        any_of: &[],
        degrades: &[
            (Hook::PasidAlloc, "PASIDs that a driver takes for its own use are not judged"),
            (Hook::MmDrop, "a driver's PASID is told from a process's by its allocation alone"),
        ],
    },
    judges: &[Kind::Gone],
    by_look: None,
    implies: &[],
    traps: &[
        "iommufd's users choose their PASIDs themselves, and so do drivers with a PASID space of their own (GPUs): the \
         same number on another group, or on one that is claimed, is unrelated.",
        "A PASID goes back when the mm is dropped (`__mmdrop`), not at the unbind; the last unbind may itself drop the \
         mm, after its detach.",
        "The drivers clear a PASID in hardware when its process exits; the bond, and with it the PASID, stays until \
         the unbind.",
        "An allocation that was not seen says nothing of a driver's PASIDs.",
    ],
    seen_in: &["\"iommu/sva: Fix PASID use-after-free issue\" (5.18)", "CVE-2026-45931"],
    what_to_do: &[
        "Stop the device's DMA: end its users, or unbind its driver.",
        "Look at triggered_by and its stack for who gave the PASID back; attached_by is who should have detached it.",
        "Until the device is reset, whoever gets this PASID next is exposed: don't start new users of the device.",
        "Report it with the violation's JSON.",
    ],
};

impl Check for PasidFreedWhileAttached {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn judge(&self, transition: &Transition, case: &mut Case<'_>) {
        let Transition::Gone { what: Gone::Pasid(pasid), held, event } = transition else { return };
        let Some(group) = case.host.group(held.group) else { return };
        let by = Actor::of(event);
        let domain = held.pasids.iter().find_map(|(_, attachment)| attachment.domain);
        let name = domain.map(|domain| case.names.domain(domain));
        let to = name.as_ref().map_or(String::new(), |name| format!(" to {} ({})", name.name, name.kind));
        case.findings.push(Finding {
            check: &SPEC,
            severity: SPEC.severity(),
            subject: Subject::Happened { group: held.group },
            proved: true,
            mono_ns: event.mono_ns,
            device: None,
            pasids: held.pasids.clone(),
            domain,
            triggered_by: Some(by),
            summary: format!(
                "{}[{}] gave PASID {pasid} back to the allocator while it is attached in group {}{to}",
                by.comm, by.tid, group.id,
            ),
            read: vec![
                Read { what: "attached when it was freed", value: Value::Flag(true) },
                Read { what: "attached to", value: Value::Domain(name) },
            ],
            confidence: Confidence::Observed,
        });
    }

    fn standing(&self, _: &Subject, _: &Host) -> Standing {
        Standing::Happened
    }
}
