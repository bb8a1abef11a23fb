//! `pasid-leaked`: with the `mm_struct` its PASID goes back.

use monitor_ebpf::wire::Hook;

use crate::model::{Actor, Host, Kind, Transition};

use super::spec::{Needs, Severity, Spec};
use super::violation::{Confidence, Finding, Read, Standing, Subject, Value};
use super::{Case, Check};

pub(super) struct PasidLeaked;

static SPEC: Spec = Spec {
    name: "pasid-leaked",
    section: "PASID life cycle",
    severities: &[Severity::Warning],
    invariant: "When `__mmdrop(mm)` returns, the mm's PASID went back.",
    why: "The number is lost until the next boot. PASIDs have at most 20 bits, and on many devices fewer: when they are \
          used up, no process can be bound any more.",
    needs: Needs {
        core_pasids: true,
        required: &[Hook::MmDrop, Hook::PasidFree],
        required_if_present: &[],
        any_of: &[],
        degrades: &[],
    },
    judges: &[Kind::PasidLeaked],
    by_look: None,
    implies: &[],
    traps: &[
        "A PASID is the process's for as long as the mm_struct lives: it does not go back at the unbind, nor at the \
         exit.",
        "A process that never had a PASID has none to give back.",
        "A driver's own PASID (idxd's system PASID) is no process's.",
    ],
    seen_in: &["\"iommu/vt-d: Fix PASID leak in intel_svm_unbind_mm()\" (5.15)"],
    what_to_do: &[
        "Nothing is at stake now. Watch whether it comes again: each one costs a PASID until the next boot.",
        "Plan a reboot before binds begin to fail with ENOSPC.",
        "Report it with the violation's JSON.",
    ],
};

impl Check for PasidLeaked {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn judge(&self, transition: &Transition, case: &mut Case<'_>) {
        let Transition::PasidLeaked { pasid, group, by, event } = transition else { return };
        let group = group.and_then(|group| case.host.group(group));
        let of = group.map_or(String::new(), |group| format!("; it was bound to group {}", group.id));
        case.findings.push(Finding {
            check: &SPEC,
            severity: SPEC.severity(),
            subject: group.map_or(Subject::HappenedToNone, |group| Subject::Happened {
                group: group.reference(),
            }),
            proved: true,
            mono_ns: event.mono_ns,
            device: None,
            pasids: vec![(*pasid, crate::model::Attachment { domain: None, attached_by: None })],
            domain: None,
            triggered_by: Some(*by),
            summary: format!(
                "{} let the memory of a process go, and its PASID {pasid} did not go back to the allocator{of}",
                who(by),
            ),
            read: vec![Read { what: "given back inside __mmdrop", value: Value::Flag(false) }],
            confidence: Confidence::Observed,
        });
    }

    fn standing(&self, _: &Subject, _: &Host) -> Standing {
        Standing::Happened
    }
}

fn who(actor: &Actor) -> String {
    format!("{}[{}]", actor.comm, actor.tid)
}
