//! `attach-imbalance`: attach, replace and detach of a PASID alternate, and each names what is there.

use monitor_ebpf::wire::Hook;

use crate::event::{Domain, Event};
use crate::model::{Attachment, Host, Kind, Operation, Presence, Transition};

use super::spec::{Needs, Severity, Spec};
use super::violation::{Confidence, Finding, Read, Standing, Subject, Value};
use super::{Case, Check};

pub(super) struct AttachImbalance;

static SPEC: Spec = Spec {
    name: "attach-imbalance",
    section: "PASID life cycle",
    severities: &[Severity::Critical],
    invariant: "For each (group, PASID), of the calls that returned 0: attach, replace and detach alternate as the API \
                demands, and a detach names the domain that is attached.",
    why: "A second detach, or one that names another domain, tears down a translation that somebody else relies on, or \
          leaves one that nobody will tear down: references go wrong, and a domain is freed while a device uses it.",
    needs: Needs {
        core_pasids: true,
        required: &[Hook::PasidAttach, Hook::PasidDetach],
        required_if_present: &[Hook::PasidReplace],
        any_of: &[],
        degrades: &[],
    },
    judges: &[
        Kind::Returned(Hook::PasidAttach),
        Kind::Returned(Hook::PasidReplace),
        Kind::Returned(Hook::PasidDetach),
    ],
    by_look: None,
    implies: &[],
    traps: &[
        "An attach that failed attached nothing; a failed attach of a foreign domain in the middle of an SVA bind is \
         normal.",
        "A bind of an mm that is bound already attaches nothing, and its unbind detaches nothing.",
        "A PASID that was attached before we watched may be detached.",
        "A reserved entry (XA_ZERO_ENTRY) names no domain: then only an attach that was seen tells which.",
        "The drivers clear a PASID when its mm exits; the detach that comes later is the first one.",
        "Of two calls on one PASID that overlap either may have been first: nothing is raised.",
    ],
    seen_in: &["CVE-2026-53281", "CVE-2026-52953", "CVE-2022-48916"],
    what_to_do: &[
        "Look at triggered_by and its stack: that is the driver that called out of turn.",
        "Watch for DMA faults of the device, and take it out of service if its domain was another user's.",
        "Report it to the driver's maintainer with the violation's JSON.",
    ],
};

/// How a call was out of turn.
enum Fault {
    NotAttached,
    OtherDomain { attached: Domain, named: Domain },
    AlreadyAttached,
}

impl Check for AttachImbalance {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn judge(&self, transition: &Transition, case: &mut Case<'_>) {
        let Transition::Returned { group: reference, operation, end } = transition else { return };
        let Some(pasid) = operation.begin.pasid.filter(|&pasid| pasid != 0) else { return };
        if !operation.synced || operation.overlap.pasid(pasid) {
            return;
        }
        let Some(fault) = fault(operation, end) else { return };
        let Some(group) = case.host.group(*reference) else { return };
        let actor = operation.actor();
        let (who, id) = (format!("{}[{}]", actor.comm, actor.tid), group.id);
        let call = match operation.hook {
            Hook::PasidReplace => "replaced",
            _ => "detached",
        };
        let summary = match &fault {
            Fault::NotAttached => format!("{who} {call} PASID {pasid} of group {id}, which is not attached"),
            Fault::AlreadyAttached => {
                format!("{who} attached PASID {pasid} of group {id}, which is attached already")
            }
            Fault::OtherDomain { attached, named } => format!(
                "{who} detached PASID {pasid} of group {id} from {}, but {} is attached",
                case.names.domain(*named).name,
                case.names.domain(*attached).name
            ),
        };
        let attachment = match &operation.presence {
            Presence::Attached(attachment) => *attachment,
            Presence::Absent | Presence::Unknown => Attachment { domain: None, attached_by: None },
        };
        let attached = attachment.domain;
        let named = operation.begin.domain.or(end.domain);
        case.findings.push(Finding {
            check: &SPEC,
            severity: SPEC.severity(),
            subject: Subject::Happened { group: *reference },
            proved: true,
            mono_ns: end.mono_ns,
            device: operation.begin.device.map(|device| device.name),
            confidence: confidence(&operation.begin),
            pasids: vec![(pasid, attachment)],
            domain: named,
            summary,
            triggered_by: Some(actor),
            read: vec![
                Read { what: "attached on entry", value: Value::Flag(!matches!(fault, Fault::NotAttached)) },
                Read {
                    what: "domain attached on entry",
                    value: Value::Domain(attached.map(|domain| case.names.domain(domain))),
                },
                Read {
                    what: "domain named by the call",
                    value: Value::Domain(named.map(|domain| case.names.domain(domain))),
                },
            ],
        });
    }

    fn standing(&self, _: &Subject, _: &Host) -> Standing {
        Standing::Happened
    }
}

fn fault(operation: &Operation, end: &Event) -> Option<Fault> {
    let returned_0 = end.ret == Some(0);
    match (operation.hook, &operation.presence) {
        (Hook::PasidDetach, Presence::Absent) => Some(Fault::NotAttached),
        (Hook::PasidDetach, Presence::Attached(Attachment { domain: Some(attached), .. })) => {
            let named = operation.begin.domain?;
            (named.key != attached.key).then_some(Fault::OtherDomain { attached: *attached, named })
        }
        (Hook::PasidReplace, Presence::Absent) if returned_0 => Some(Fault::NotAttached),
        (Hook::PasidAttach, Presence::Attached(_)) if returned_0 => Some(Fault::AlreadyAttached),
        _ => None,
    }
}

/// Whether the kernel's array said so, or only the calls that were seen.
fn confidence(begin: &Event) -> Confidence {
    if begin.slot.is_some() { Confidence::ReadBack } else { Confidence::Observed }
}
