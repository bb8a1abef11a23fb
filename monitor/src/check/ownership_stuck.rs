//! `ownership-stuck`: a release that was the last one leaves the group free.

use monitor_ebpf::wire::Hook;

use crate::event::{Event, Key, Ownership};
use crate::model::{Group, Host, Kind, Look, Operation, Reading, Transition};

use super::look::{self, Shown};
use super::pasid_left_on_release::leftovers;
use super::spec::{Needs, Severity, Spec};
use super::violation::{Confidence, Fault, Finding, Read, Standing, Subject, Value};
use super::{Case, Check};

pub(super) struct OwnershipStuck;

static SPEC: Spec = Spec {
    name: "ownership-stuck",
    section: "Ownership",
    severities: &[Severity::Critical],
    invariant: "After a release that was the last one, and unless another claim or use has begun, owner is NULL and \
                owner_cnt 0; a USER release has also re-attached the default domain. (A release with owner_cnt > 1 \
                only counts down; unuse never switches domains.)",
    why: "The owner is gone and the group is still its: no driver can bind to its devices and nobody can claim it, and \
          its devices sit on the blocking domain, or, worse, still on a domain of the owner that is gone.",
    needs: Needs {
        core_pasids: false,
        required: &[Hook::ClaimGroup, Hook::UseDefault],
        required_if_present: &[Hook::ClaimDevice],
        any_of: &[Hook::ReleaseGroup, Hook::ReleaseDevice],
        degrades: &[
            (Hook::ReleaseGroup, "VFIO's release of a group is not judged"),
            (Hook::ReleaseDevice, "iommufd's release of a device is not judged"),
        ],
    },
    judges: &[Kind::Returned(Hook::ReleaseGroup), Kind::Returned(Hook::ReleaseDevice)],
    by_look: Some(Needs::LOOK),
    implies: &["domain-off-default", "ownership-conflict"],
    traps: &[
        "A release while other claims stand (owner_cnt > 1) only counts down.",
        "Another claim, or a driver's bind, that has begun before the group was looked at: nothing is raised.",
        "A group without a default domain has none to go back to.",
        "While a member is blocked by a reset (7.0 and later) the domain is not judged.",
    ],
    seen_in: &[
        "the early return of __iommu_release_dma_ownership (6.2 and later)",
        "2380f1e8195e",
        "CVE-2026-52952",
        "CVE-2025-39958",
        "CVE-2024-53232",
    ],
    what_to_do: &[
        "The group can't be used again: expect EBUSY on the bind of a driver and EPERM on a claim.",
        "Look for the kernel's WARN at __iommu_release_dma_ownership at that time: it names the condition.",
        "If PASIDs are still attached, end their users first and release again; else removing the device (echo 1 to \
         its `remove` in sysfs) and a rescan make a new group.",
        "Report it with the violation's JSON.",
    ],
};

impl Check for OwnershipStuck {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn judge(&self, transition: &Transition, case: &mut Case<'_>) {
        let Transition::Returned { group: reference, operation, end } = transition else { return };
        let Some(group) = case.host.group(*reference).filter(|_| operation.synced) else { return };
        if !was_last(operation) {
            return;
        }
        let Some((after, proved)) = afterwards(operation, end) else { return };
        let Some(ownership) = after.ownership else { return };
        let kept = ownership.owner.is_some() || ownership.count != 0;
        let judged = after.recovery_cnt == 0 && after.default_domain.is_some();
        let astray = judged
            && (operation.locked_after() || !operation.overlap.domain())
            && after.domain.map(|domain| domain.key) != after.default_domain.map(|domain| domain.key);
        if !kept && !astray {
            return;
        }
        let left = leftovers(operation, end, group);
        let actor = operation.actor();
        let what = match (kept, astray) {
            (true, true) => "the group still has its owner and is not on its default domain",
            (true, false) => "the group still has its owner",
            (false, _) => "the group is not on its default domain",
        };
        case.findings.push(Finding {
            check: &SPEC,
            severity: SPEC.severity(),
            subject: Subject::Held {
                group: *reference,
                ownership,
                domain: after.domain.filter(|_| astray).map(|domain| domain.key),
            },
            proved,
            mono_ns: end.mono_ns,
            device: None,
            pasids: left,
            domain: after.domain,
            summary: format!("{}[{}] released group {}, and {what}", actor.comm, actor.tid, group.id),
            triggered_by: Some(actor),
            read: vec![
                Read { what: "owner after the release", value: Value::Flag(ownership.owner.is_some()) },
                Read { what: "owner_cnt after the release", value: Value::Count(ownership.count) },
                Read {
                    what: "domain after the release",
                    value: Value::Domain(after.domain.map(|domain| case.names.domain(domain))),
                },
                Read {
                    what: "default domain",
                    value: Value::Domain(after.default_domain.map(|domain| case.names.domain(domain))),
                },
            ],
            confidence: Confidence::ReadBack,
        });
    }

    fn look(&self, look: &Look, group: &Group, case: &mut Case<'_>) {
        if group.seen_free || group.unseen || !deserted(look) {
            return;
        }
        let mut read = look::holder(look);
        read.push(look::domain("domain", look.domain, case.names));
        let shown = Shown {
            check: &SPEC,
            severity: SPEC.severity(),
            fault: Fault::Deserted,
            group,
            look,
            pasids: &[],
            summary: format!(
                "group {} is claimed, and none of its devices has a driver that could have claimed it",
                group.id
            ),
            read,
        };
        case.findings.push(shown.finding());
    }

    fn standing(&self, subject: &Subject, host: &Host) -> Standing {
        if let Subject::Looked { .. } = subject {
            return look::standing(subject, host, |look, _| deserted(look));
        }
        let Subject::Held { group, ownership: then, domain } = subject else { return Standing::Cleared };
        let Some(group) = host.group(*group) else { return Standing::Released };
        let Some(now) = group.ownership.filter(|_| group.synced) else { return Standing::Unknown };
        if held(*then) {
            let same = now.owner == then.owner && now.count > 0;
            return if same { Standing::Stands } else { Standing::Cleared };
        }
        match (held(now), group.domain) {
            // Somebody has claimed it since: where it sits is the new owner's affair.
            (true, _) => Standing::Cleared,
            (false, None) => Standing::Unknown,
            (false, Some(now)) if Some(now.key) == *domain && !default(group.default_domain, now.key) => {
                Standing::Stands
            }
            (false, Some(_)) => Standing::Cleared,
        }
    }
}

fn held(ownership: Ownership) -> bool {
    ownership.owner.is_some() || ownership.count != 0
}

fn default(default_domain: Option<crate::event::Domain>, domain: Key) -> bool {
    default_domain.is_some_and(|known| known.key == domain)
}

/// A release that lets the last claim go. Where nobody had claimed the group (the drivers' uses have no
/// owner) there is nothing to let go: the core warns of such a release, and rightly keeps the count.
pub(crate) fn was_last(operation: &Operation) -> bool {
    let on_entry = match &operation.locked {
        Some(locked) => locked.before.ownership,
        None => operation.begin.group.and_then(|group| group.ownership),
    };
    let Some(ownership) = on_entry.filter(|ownership| ownership.owner.is_some()) else { return false };
    match operation.hook {
        // A group is claimed once; both ways of the core end here.
        Hook::ReleaseGroup => ownership.count > 0,
        Hook::ReleaseDevice => operation.locked.is_some() || ownership.count == 1,
        _ => false,
    }
}

/// What the group was after the release, and whether nothing can have come in between.
fn afterwards(operation: &Operation, end: &Event) -> Option<(Reading, bool)> {
    if let Some(after) = operation.locked.as_ref().and_then(|locked| locked.after.clone()) {
        return Some((after, true));
    }
    // The reading was made after the mutex was dropped: another claim may have come before it.
    (!operation.overlap.ownership()).then(|| Reading::of(end)).flatten().map(|after| (after, false))
}

/// It is claimed, and nobody is there.
fn deserted(look: &Look) -> bool {
    look.deserted() && look.ownership.owner.is_some()
}
