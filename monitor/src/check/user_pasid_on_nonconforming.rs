//! `user-pasid-on-nonconforming`: userspace was given a PASID behind an IOMMU driver that breaks the API.

use monitor_ebpf::wire::Hook;

use crate::event::{Domain, DomainKind};
use crate::model::{Actor, Attachment, Group, Host, Kind, Transition};

use super::spec::{Needs, Severity, Spec};
use super::violation::{Confidence, Finding, Read, Standing, Subject, Value};
use super::{Case, Check};

pub(super) struct UserPasidOnNonconforming;

static SPEC: Spec = Spec {
    name: "user-pasid-on-nonconforming",
    section: "PASID life cycle",
    severities: &[Severity::Info],
    invariant: "(report) No PASID is attached for userspace (a paging or nested domain, in a group that an owner has \
                claimed) behind an IOMMU driver that was seen to break a rule of the API and whose deviation nobody \
                allowed.",
    why: "Userspace combines the API's calls at will. A driver that loses PASIDs on a switch of the RID's domain, \
          refuses it, or shares tables may be kept out of its reach until it is mended; somebody must tell when it \
          isn't.",
    needs: Needs {
        core_pasids: true,
        required: &[Hook::PasidAttach, Hook::PasidDetach],
        required_if_present: &[Hook::PasidReplace],
        any_of: &[],
        degrades: &[],
    },
    judges: &[Kind::Returned(Hook::PasidAttach), Kind::Returned(Hook::PasidReplace)],
    by_look: None,
    implies: &[],
    traps: &[
        "A driver of which nothing was exercised is not known to break anything, and nothing is held against it.",
        "A PASID of a process (SVA), or one in a group that no owner has claimed, is the kernel's own.",
        "An attach that failed handed nothing out.",
        "A deviation that the configuration allows for this driver, with a reason and until a day, doesn't count.",
        "More PASIDs in the same group are the same report.",
    ],
    seen_in: &[
        "The mail that all of this began with (8 Sep 2022): \"we may want to block SMMU PASID support through \
                iommufd/vfio until it is updated\"",
    ],
    what_to_do: &[
        "Read `iommu-watch conformance report` (or /api/v1/conformance): which rule the driver breaks, with the \
         evidence.",
        "Don't give devices with PASIDs behind this driver to tenants, or move to a kernel whose driver conforms.",
        "If the deviation is harmless to you, allow it in the configuration, with its reason and until when.",
    ],
};

impl Check for UserPasidOnNonconforming {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn judge(&self, transition: &Transition, case: &mut Case<'_>) {
        let Transition::Returned { group, operation, end } = transition else { return };
        if end.ret != Some(0) || !operation.synced || !handed_out(operation.begin.domain) {
            return;
        }
        let Some(pasid) = operation.begin.pasid.filter(|&pasid| pasid != 0) else { return };
        let Some(group) = case.host.group(*group).filter(|group| is_users(group)) else { return };
        let actor = operation.actor();
        let attachment = Attachment { domain: operation.begin.domain, attached_by: Some(actor) };
        report(group, vec![(pasid, attachment)], Some(actor), end.mono_ns, case);
    }

    fn deviates(&self, group: &Group, mono_ns: u64, case: &mut Case<'_>) {
        let pasids = users(group);
        if is_users(group) && !pasids.is_empty() {
            report(group, pasids, None, mono_ns, case);
        }
    }

    fn standing(&self, subject: &Subject, host: &Host) -> Standing {
        let Subject::HandedOut { group } = subject else { return Standing::Cleared };
        match host.group(*group) {
            None => Standing::Released,
            Some(group) if !group.synced => Standing::Unknown,
            Some(group) if is_users(group) && !users(group).is_empty() => Standing::Stands,
            Some(_) => Standing::Cleared,
        }
    }
}

fn report(
    group: &Group,
    pasids: Vec<(u32, Attachment)>,
    triggered_by: Option<Actor>,
    mono_ns: u64,
    case: &mut Case<'_>,
) {
    let Some((driver, rules)) = case.conformance.deviation(group.reference(), mono_ns) else { return };
    let first = pasids.first();
    let number = first.map_or(0, |(pasid, _)| *pasid);
    let domain = first.and_then(|(_, attachment)| attachment.domain);
    case.findings.push(Finding {
        check: &SPEC,
        severity: SPEC.severity(),
        subject: Subject::HandedOut { group: group.reference() },
        proved: true,
        mono_ns,
        device: None,
        domain,
        triggered_by,
        summary: format!(
            "userspace has PASID {number} of group {} behind the IOMMU driver {driver}, which breaks {}",
            group.id,
            rules.join(", ")
        ),
        read: vec![
            Read { what: "IOMMU driver", value: Value::Names(vec![driver]) },
            Read {
                what: "rules that it was seen to break",
                value: Value::Names(rules.iter().map(|&rule| rule.to_owned()).collect()),
            },
            Read {
                what: "PASIDs of userspace",
                value: Value::Pasids(pasids.iter().map(|(pasid, _)| *pasid).collect()),
            },
        ],
        pasids,
        confidence: Confidence::Observed,
    });
}

/// An owner has claimed it: VFIO or iommufd, for userspace.
fn is_users(group: &Group) -> bool {
    group.ownership.is_some_and(|ownership| ownership.owner.is_some())
}

/// What userspace fills: a process's page table is not, and neither is one of the core's.
fn handed_out(domain: Option<Domain>) -> bool {
    domain.is_some_and(|domain| matches!(domain.kind, DomainKind::Unmanaged | DomainKind::Nested))
}

/// The PASIDs that userspace has, in ascending order and at most as many.
fn users(group: &Group) -> Vec<(u32, Attachment)> {
    const MOST: usize = 256;
    let all = group.pasids().into_iter().flatten();
    let users = all.filter(|(pasid, attachment)| *pasid != 0 && handed_out(attachment.domain));
    let mut users: Vec<_> = users.map(|(pasid, attachment)| (pasid, *attachment)).collect();
    users.sort_unstable_by_key(|(pasid, _)| *pasid);
    users.truncate(MOST);
    users
}
