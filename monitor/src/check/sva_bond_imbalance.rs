//! `sva-bond-imbalance`: binds and unbinds of a process balance, and exactly the last unbind detaches.

use monitor_ebpf::wire::Hook;

use crate::event::Event;
use crate::model::{Actor, Attachment, Ended, Host, Kind, Operation, Transition};

use super::spec::{Needs, Severity, Spec};
use super::violation::{Confidence, Finding, Read, Standing, Subject, Value};
use super::{Case, Check};

pub(super) struct SvaBondImbalance;

static SPEC: Spec = Spec {
    name: "sva-bond-imbalance",
    section: "Domains and SVA",
    severities: &[Severity::Critical],
    invariant: "For each (group, mm): of the binds that returned a handle, exactly the last unbind detaches; never more \
                unbinds than binds.",
    why: "One unbind too many takes the translation away from a user that is still at work, and follows a pointer to \
          freed memory; one that does not detach leaves a device in the memory of a process for ever.",
    needs: Needs {
        core_pasids: true,
        required: &[Hook::SvaBind, Hook::SvaUnbind, Hook::PasidAttach, Hook::PasidDetach],
        required_if_present: &[],
        any_of: &[],
        degrades: &[],
    },
    judges: &[Kind::UnboundAgain, Kind::Returned(Hook::SvaUnbind)],
    by_look: None,
    implies: &[],
    traps: &[
        "Binding an mm that is bound already raises a count and attaches nothing; a second member's bind takes the \
         first handle.",
        "A bind that returned an error made no bond; a failed attach of a foreign domain in the middle of a bind is \
         normal.",
        "Of a bond from before we watched nobody knows how often it was bound.",
        "The address of a bond is used again by the next one.",
        "Of two calls on one bond that overlap either may have been first: nothing is raised.",
    ],
    seen_in: &["65d4418c5002", "6384c56c99d9", "CVE-2026-64591"],
    what_to_do: &[
        "Look at triggered_by and its stack: that is the driver that unbound out of turn.",
        "Stop the users of that device; after an unbind too many, memory may be damaged: plan a reboot.",
        "Report it to the driver's maintainer with the violation's JSON.",
    ],
};

/// How an unbind was out of turn.
enum Fault {
    /// This many binds were left, without this unbind's.
    Early {
        left: u32,
    },
    Kept,
    Again {
        ended: Ended,
    },
}

impl Check for SvaBondImbalance {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn judge(&self, transition: &Transition, case: &mut Case<'_>) {
        match transition {
            Transition::UnboundAgain { ended, event } => {
                let unknown = Attachment { domain: None, attached_by: None };
                let pasids = ended.pasid.map(|pasid| (pasid, ended.attachment.unwrap_or(unknown)));
                report(Fault::Again { ended: *ended }, pasids.into_iter().collect(), event, event, case);
            }
            Transition::Returned { operation, end, .. } if operation.hook == Hook::SvaUnbind => {
                let Some((fault, pasids)) = fault(operation) else { return };
                report(fault, pasids, &operation.begin, end, case);
            }
            _ => {}
        }
    }

    fn standing(&self, _: &Subject, _: &Host) -> Standing {
        Standing::Happened
    }
}

fn fault(operation: &Operation) -> Option<(Fault, Vec<(u32, Attachment)>)> {
    let (bond, attachment) = operation.bond?;
    let count = bond.count?.get();
    let mm = operation.begin.mm?;
    if !operation.synced || operation.overlap.bonds_of(mm) {
        return None;
    }
    let fault = match (count, operation.detached()) {
        (1, None) => Fault::Kept,
        (2.., Some(_)) => Fault::Early { left: count - 1 },
        _ => return None,
    };
    let unknown = Attachment { domain: None, attached_by: None };
    let pasid = bond.pasid.map(|pasid| (pasid.get(), attachment.unwrap_or(unknown)));
    Some((fault, pasid.into_iter().collect()))
}

fn report(fault: Fault, pasids: Vec<(u32, Attachment)>, begin: &Event, end: &Event, case: &mut Case<'_>) {
    let seen = match &fault {
        Fault::Again { ended } => Some(ended.group),
        _ => begin.group.and_then(|group| case.host.group_by_key(group.key)).map(|group| group.reference()),
    };
    let Some(group) = seen.and_then(|group| case.host.group(group)) else { return };
    let by = Actor::of(begin);
    let (who, id) = (format!("{}[{}]", by.comm, by.tid), group.id);
    let bound = pasids.first().map_or(String::new(), |(pasid, _)| format!(" (PASID {pasid})"));
    let (summary, left, detached) = match fault {
        Fault::Early { left } => (
            format!(
                "{who} unbound a process from group {id}{bound}: it was detached, and {left} more had bound it"
            ),
            left,
            true,
        ),
        Fault::Kept => (
            format!("{who} was the last to unbind a process from group {id}{bound}, and it was not detached"),
            0,
            false,
        ),
        Fault::Again { ended } => (
            format!(
                "{who} unbound a process from group {id}{bound} once more than it was bound: {}[{}] had unbound it for \
                 the last time",
                ended.by.comm, ended.by.tid
            ),
            0,
            false,
        ),
    };
    let domain = pasids.first().and_then(|(_, attachment)| attachment.domain);
    case.findings.push(Finding {
        check: &SPEC,
        severity: SPEC.severity(),
        subject: Subject::Happened { group: group.reference() },
        proved: true,
        mono_ns: end.mono_ns,
        device: begin.device.map(|device| device.name).filter(|_| begin.group.is_some()),
        pasids,
        domain,
        triggered_by: Some(by),
        summary,
        read: vec![
            Read { what: "binds that were left", value: Value::Count(left) },
            Read { what: "the unbind detached", value: Value::Flag(detached) },
        ],
        confidence: Confidence::Observed,
    });
}
