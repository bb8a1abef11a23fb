//! `domain-off-default`: who holds a group says which domain it may sit on.

use monitor_ebpf::wire::Hook;

use crate::event::{Domain, DomainKind, Event, Ownership};
use crate::model::{Group, Host, Kind, Look, Operation, Reading, Transition};

use super::look::{self, Shown};
use super::spec::{Needs, Severity, Spec};
use super::violation::{Confidence, Fault, Finding, Read, Standing, Subject, Value};
use super::{Case, Check};

pub(super) struct DomainOffDefault;

static SPEC: Spec = Spec {
    name: "domain-off-default",
    section: "Ownership",
    severities: &[Severity::Critical],
    invariant: "A FREE group that has a default domain sits on it; a USER group never does; a KERNEL group may sit on \
                either. Not judged while a member is blocked by a reset, is deferred, or is in a switch.",
    why: "A free group that is off its default domain still translates for somebody who is gone: the next driver's \
          DMA goes by a stranger's page table. A claimed group on the default domain leaves the kernel's own mappings \
          open to its claimant.",
    needs: Needs {
        degrades: &[
            (Hook::UnuseDefault, "what the unbinding of a driver leaves is found by looks alone"),
            (Hook::ReleaseGroup, "what VFIO's release of a group leaves is found by looks alone"),
            (Hook::ReleaseDevice, "what iommufd's release of a device leaves is found by looks alone"),
            (Hook::ClaimGroup, "where VFIO's claim of a group leaves it is found by looks alone"),
            (Hook::ClaimDevice, "where iommufd's claim of a device leaves it is found by looks alone"),
        ],
        ..Needs::LOOK
    },
    judges: &[
        Kind::Returned(Hook::UnuseDefault),
        Kind::Returned(Hook::ReleaseGroup),
        Kind::Returned(Hook::ReleaseDevice),
        Kind::Returned(Hook::ClaimGroup),
        Kind::Returned(Hook::ClaimDevice),
    ],
    by_look: Some(Needs::LOOK),
    implies: &["ownership-conflict"],
    traps: &[
        "Between prepare and done of a reset (7.0 and later) a member sits on the blocking domain.",
        "A deferred member (kdump) is not attached before its first DMA.",
        "A group without a default domain has none to sit on; where the default domain is the blocking one, a \
         claimed group sits on it too.",
        "A switch that is under way at one look is over at the next: it takes two. Of a call that takes hold or lets go \
         what it leaves is judged when it returns, unless another one met it.",
    ],
    seen_in: &["0286300e6045", "CVE-2026-52952"],
    what_to_do: &[
        "Don't bind a driver to the devices, and don't hand them to a guest, until the group is right again.",
        "Look for what let the group go last: a failed attach of the default domain leaves a WARN in dmesg.",
        "Removing the group's devices (echo 1 to `remove` in sysfs) and a rescan make a new group.",
        "Report it with the violation's JSON.",
    ],
};

impl Check for DomainOffDefault {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn judge(&self, transition: &Transition, case: &mut Case<'_>) {
        let Transition::Returned { group: reference, operation, end } = transition else { return };
        let Some(group) = case.host.group(*reference).filter(|_| operation.synced) else { return };
        let Some((after, proved)) = afterwards(operation, end) else { return };
        let Some(ownership) = after.ownership.filter(|_| after.recovery_cnt == 0) else { return };
        if !is_astray(ownership, after.domain, after.default_domain) || !settled(group, case.host) {
            return;
        }
        let actor = operation.actor();
        let (did, what) = match ownership.owner {
            None => ("let go of", "is not on its default domain"),
            Some(_) => ("claimed", "is still on its default domain"),
        };
        case.findings.push(Finding {
            check: &SPEC,
            severity: SPEC.severity(),
            subject: Subject::Held {
                group: *reference,
                ownership,
                domain: after.domain.map(|domain| domain.key),
            },
            proved,
            mono_ns: end.mono_ns,
            device: None,
            pasids: Vec::new(),
            domain: after.domain,
            summary: format!("{}[{}] {did} group {}, which {what}", actor.comm, actor.tid, group.id),
            triggered_by: Some(actor),
            read: vec![
                Read { what: "owner", value: Value::Flag(ownership.owner.is_some()) },
                Read { what: "owner_cnt", value: Value::Count(ownership.count) },
                look::domain("domain", after.domain, case.names),
                look::domain("default domain", after.default_domain, case.names),
            ],
            confidence: Confidence::ReadBack,
        });
    }

    fn look(&self, look: &Look, group: &Group, case: &mut Case<'_>) {
        if !astray(look) {
            return;
        }
        let what = match look.free() {
            true => "is free and is not on its default domain",
            false => "is claimed and still on its default domain",
        };
        let mut read = look::holder(look);
        read.push(look::domain("domain", look.domain, case.names));
        read.push(look::domain("default domain", look.default_domain, case.names));
        let shown = Shown {
            check: &SPEC,
            severity: SPEC.severity(),
            fault: Fault::Astray,
            group,
            look,
            pasids: &[],
            summary: format!("group {} {what}", group.id),
            read,
        };
        case.findings.push(shown.finding());
    }

    fn standing(&self, subject: &Subject, host: &Host) -> Standing {
        let Subject::Held { group, ownership: then, domain } = subject else {
            return look::standing(subject, host, |look, _| astray(look));
        };
        let Some(group) = host.group(*group) else { return Standing::Released };
        let (Some(now), Some(on)) = (group.ownership.filter(|_| group.synced), group.domain) else {
            return Standing::Unknown;
        };
        let same = now.owner == then.owner && Some(on.key) == *domain;
        match same && is_astray(now, group.domain, group.default_domain) {
            true => Standing::Stands,
            false => Standing::Cleared,
        }
    }
}

/// What the group is after a call that took hold of it or let the last hold go, and whether nothing can have come in
/// between.
fn afterwards(operation: &Operation, end: &Event) -> Option<(Reading, bool)> {
    if let Some(locked) = &operation.locked
        && let Some(after) = &locked.after
    {
        let held = locked.before.ownership?.count > 0;
        return held.then(|| (after.clone(), true));
    }
    // Who held nothing lets nothing go.
    if !operation.takes_hold() && operation.begin.group?.ownership?.count == 0 {
        return None;
    }
    let alone = !operation.overlap.ownership() && !operation.overlap.domain();
    // A call that failed changed nothing.
    let done = end.ret.is_none_or(|ret| ret == 0);
    (alone && done).then(|| Reading::of(end)).flatten().map(|after| (after, false))
}

/// No member is known to be deferred, or blocked by a reset, and of each it is known.
fn settled(group: &Group, host: &Host) -> bool {
    let state = |key| host.device(key).and_then(|device| device.state);
    group.devices.iter().all(|&key| state(key).is_some_and(|state| !state.deferred && !state.blocked))
}

fn astray(look: &Look) -> bool {
    !look.in_between() && look.whole && is_astray(look.ownership, look.domain, look.default_domain)
}

/// A group that is held so doesn't belong on this domain.
fn is_astray(ownership: Ownership, domain: Option<Domain>, default: Option<Domain>) -> bool {
    let (Some(domain), Some(default)) = (domain, default) else { return false };
    if default.kind == DomainKind::Blocked {
        return false;
    }
    match (ownership.owner, ownership.count) {
        (None, 0) => domain.key != default.key,
        (Some(_), 1..) => domain.key == default.key,
        _ => false,
    }
}
