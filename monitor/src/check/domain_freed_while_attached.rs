//! `domain-freed-while-attached`: a domain outlives its attachments.

use monitor_ebpf::wire::Hook;

use crate::model::{Actor, Gone, Held, Host, Kind, Transition};

use super::pasid_left_on_release::list;
use super::spec::{Needs, Severity, Spec};
use super::violation::{Confidence, Finding, Read, Standing, Subject, Value};
use super::{Case, Check};

pub(super) struct DomainFreedWhileAttached;

static SPEC: Spec = Spec {
    name: "domain-freed-while-attached",
    section: "Domains and SVA",
    severities: &[Severity::Critical],
    invariant: "A domain whose `ops->free` is set is freed only when no RID and no PASID is attached to it; a device's \
                removal ends its attachments without a detach event.",
    why: "The device goes on translating by page tables whose memory belongs to somebody else by now: it reads and \
          writes what is there, and the next switch of its domain follows a pointer to freed memory.",
    needs: Needs {
        core_pasids: false,
        required: &[Hook::DomainFree, Hook::RidAttach],
        required_if_present: &[Hook::PasidAttach, Hook::PasidReplace, Hook::PasidDetach],
        any_of: &[],
        degrades: &[
            (Hook::VtdDomainFree, "default domains that the core frees behind VT-d are not judged"),
            (Hook::AmdDomainFree, "default domains that the core frees behind AMD's IOMMU are not judged"),
        ],
    },
    judges: &[Kind::Gone],
    by_look: None,
    implies: &[],
    traps: &[
        "A static blocked or identity domain has no `free` (or, up to 6.6, one that does nothing) and is \"freed\" many \
         times over while every group may be on it: domains of these kinds are not judged.",
        "The same domain may be attached to a RID and to a PASID (idxd's system PASID), and to several groups (VFIO): \
         each attachment counts for itself.",
        "A device that leaves its group takes its attachments with it; with the last member the core frees the \
         group's domains.",
        "A switch or a detach that is under way in another task may have done its work already: nothing is raised.",
        "Where a device is after an attach that failed isn't known.",
        "The address of a domain is used again.",
    ],
    seen_in: &["0286300e6045"],
    what_to_do: &[
        "Stop the device's DMA at once: unbind its driver, or remove the device (echo 1 to its `remove` in sysfs).",
        "Look at triggered_by and its stack: that is who freed the domain; attached_by is who should have detached it.",
        "Memory may be damaged already: plan a reboot.",
        "Report it to the maintainer of the driver that freed it, with the violation's JSON.",
    ],
};

impl Check for DomainFreedWhileAttached {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn judge(&self, transition: &Transition, case: &mut Case<'_>) {
        let Transition::Gone { what: Gone::Domain(domain), held, event } = transition else { return };
        let Some(group) = case.host.group(held.group) else { return };
        let (by, name) = (Actor::of(event), case.names.domain(*domain));
        case.findings.push(Finding {
            check: &SPEC,
            severity: SPEC.severity(),
            subject: Subject::Freed {
                group: held.group,
                attached_by: held.rids.and_then(|rids| rids.attached_by),
            },
            proved: true,
            mono_ns: event.mono_ns,
            device: None,
            pasids: held.pasids.clone(),
            domain: Some(*domain),
            triggered_by: Some(by),
            summary: format!(
                "{}[{}] freed {} ({}) while {} attached to it",
                by.comm,
                by.tid,
                name.name,
                name.kind,
                who(held, group.id),
            ),
            read: vec![
                Read { what: "RIDs attached", value: Value::Flag(held.rids.is_some()) },
                Read { what: "PASIDs attached", value: Value::Pasids(pasids(held)) },
            ],
            confidence: Confidence::Observed,
        });
    }

    fn standing(&self, _: &Subject, _: &Host) -> Standing {
        Standing::Happened
    }
}

fn pasids(held: &Held) -> Vec<u32> {
    held.pasids.iter().map(|&(pasid, _)| pasid).collect()
}

/// `PASID 5 of group 7 is`
fn who(held: &Held, id: u32) -> String {
    match (held.rids, &pasids(held)[..]) {
        (Some(_), []) => format!("the RIDs of group {id} are"),
        (Some(_), pasids) => format!("the RIDs of group {id} and its {} are", list(pasids)),
        (None, [one]) => format!("PASID {one} of group {id} is"),
        (None, pasids) => format!("{} of group {id} are", list(pasids)),
    }
}
