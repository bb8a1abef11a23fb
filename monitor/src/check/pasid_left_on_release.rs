//! `pasid-left-on-release`: who lets go of a group leaves no PASID behind.

use monitor_ebpf::wire::Hook;

use crate::event::Event;
use crate::model::{Attachment, Group, Host, Kind, Look, Operation, Presence, Transition};

use super::look::{self, Shown};
use super::spec::{Needs, Severity, Spec};
use super::violation::{Confidence, Fault, Finding, Read, Standing, Subject, Value};
use super::{Case, Check};

pub(super) struct PasidLeftOnRelease;

static SPEC: Spec = Spec {
    name: "pasid-left-on-release",
    section: "Ownership",
    severities: &[Severity::Critical],
    invariant: "On entry of the call that would let the last use of a group go (owner_cnt 1: \
                iommu_group_release_dma_owner, iommu_device_release_dma_owner, \
                iommu_device_unuse_default_domain), judged under group->mutex: no index >= 1 is in pasid_array, and \
                no PASID >= 1 is present in a member's hardware table.",
    why: "A PASID that outlives its owner is a translation that nobody answers for: the device can still do DMA \
          through it, into memory that may belong to somebody else by then. The core WARNs, if it looks at all, and \
          returns early: the group is not released either.",
    needs: Needs {
        core_pasids: true,
        required: &[Hook::PasidAttach, Hook::PasidDetach],
        required_if_present: &[Hook::PasidReplace],
        any_of: &[Hook::ReleaseGroup, Hook::ReleaseDevice, Hook::UnuseDefault],
        degrades: &[
            (Hook::ReleaseGroup, "PASIDs left by VFIO's release of a group are missed"),
            (Hook::ReleaseDevice, "PASIDs left by iommufd's release of a device are missed"),
            (Hook::UnuseDefault, "PASIDs left by the unbinding of a driver are missed"),
            (Hook::ClaimGroup, "a claim that races with a release is not seen"),
            (Hook::ClaimDevice, "a claim that races with a release is not seen"),
            (Hook::UseDefault, "a driver's bind that races with an unbind is not seen"),
        ],
    },
    judges: &[
        Kind::Returned(Hook::ReleaseGroup),
        Kind::Returned(Hook::ReleaseDevice),
        Kind::Returned(Hook::UnuseDefault),
    ],
    by_look: Some(Needs { core_pasids: true, ..Needs::LOOK }),
    implies: &[
        "ownership-stuck",
        "ownership-leaked",
        "domain-off-default",
        "ownership-conflict",
        "released-with-pasids",
    ],
    traps: &[
        "PASID 0 is the RID's own: its handle in pasid_array is no leftover.",
        "A reserved entry (XA_ZERO_ENTRY) in the middle of an attach is none either; one that stands under the mutex \
         is an attach without a handle (6.11 to 6.14) and counts.",
        "With several claims on a group only the last release counts.",
        "A member with max_pasids 0 has no PASIDs and is skipped by the core.",
        "An attach or detach of the same PASID that overlaps with the release could have come before or after it: \
         nothing is raised.",
    ],
    seen_in: &[
        "J. Gunthorpe, linux-iommu, 8 Sep 2022 (\"Re: [PATCH v13 09/13] iommu/sva: Refactoring \
         iommu_sva_bind/unbind_device()\"): when ownership of a group is all released, its PASID table must be empty",
        "drivers/iommu/iommu.c from 6.2: __iommu_release_dma_ownership and iommu_device_unuse_default_domain WARN, and \
         return early",
    ],
    what_to_do: &[
        "Treat the device as able to reach memory that it should not: take it out of service, or keep it away from \
         the next tenant.",
        "Look at attached_by: that task, or the driver under it, attached the PASID and didn't detach it. Its stack \
         names the driver.",
        "Look at triggered_by: that is who let the group go.",
        "A PASID goes when its user goes: end the process that holds the bond, or unbind the driver. If \
         ownership-stuck is implied, the group has to be released once more after that; if ownership-leaked is, it \
         can't be claimed again before a reboot or the device's removal.",
        "Report it to the driver's maintainer with the violation's JSON: it names the kernel rule that was broken.",
    ],
};

impl Check for PasidLeftOnRelease {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn judge(&self, transition: &Transition, case: &mut Case<'_>) {
        let Transition::Returned { group: reference, operation, end } = transition else { return };
        let Some(group) = case.host.group(*reference).filter(|_| operation.synced) else { return };
        let Some(count) = lets_go(operation) else { return };
        let left = leftovers(operation, end, group);
        if left.is_empty() {
            return;
        }
        let subjects = left.iter().map(|(pasid, found)| (*pasid, found.domain.map(|domain| domain.key)));
        let numbers: Vec<u32> = left.iter().map(|(pasid, _)| *pasid).collect();
        let actor = operation.actor();
        case.findings.push(Finding {
            check: &SPEC,
            severity: SPEC.severity(),
            subject: Subject::Leftover { group: *reference, pasids: subjects.collect() },
            proved: true,
            mono_ns: end.mono_ns,
            device: None,
            domain: left.first().and_then(|(_, attachment)| attachment.domain),
            summary: format!(
                "{}[{}] {} group {} with {} still attached",
                actor.comm,
                actor.tid,
                verb(operation.hook),
                group.id,
                list(&numbers)
            ),
            triggered_by: Some(actor),
            read: vec![
                Read { what: "owner_cnt on entry", value: Value::Count(count) },
                Read { what: "PASIDs in pasid_array", value: Value::Pasids(numbers) },
                Read { what: "read under group->mutex", value: Value::Flag(operation.locked.is_some()) },
            ],
            pasids: left,
            confidence: Confidence::ReadBack,
        });
    }

    fn look(&self, look: &Look, group: &Group, case: &mut Case<'_>) {
        let left = forsaken(look, group);
        if left.is_empty() {
            return;
        }
        let mut read = look::holder(look);
        read.push(Read { what: "PASIDs in pasid_array", value: Value::Pasids(left.clone()) });
        let shown = Shown {
            check: &SPEC,
            severity: SPEC.severity(),
            fault: Fault::Leftover,
            group,
            look,
            pasids: &left,
            summary: format!(
                "nobody is left who uses group {}, and it has {} attached",
                group.id,
                list(&left)
            ),
            read,
        };
        case.findings.push(shown.finding());
    }

    fn standing(&self, subject: &Subject, host: &Host) -> Standing {
        if let Subject::Looked { group, .. } = subject {
            return look::standing(subject, host, |look, _| {
                host.group(*group).is_some_and(|group| !forsaken(look, group).is_empty())
            });
        }
        let Subject::Leftover { group, pasids } = subject else { return Standing::Cleared };
        let Some(group) = host.group(*group) else { return Standing::Released };
        let mut standing = Standing::Cleared;
        for (pasid, domain) in pasids {
            match group.presence(*pasid) {
                Presence::Attached(now)
                    if now.domain.zip(*domain).is_none_or(|(now, then)| now.key == then) =>
                {
                    return Standing::Stands;
                }
                Presence::Attached(_) | Presence::Absent => {}
                Presence::Unknown => standing = Standing::Unknown,
            }
        }
        standing
    }
}

/// The PASIDs of a group that nobody can be using, of those whose attach was not seen: of the others it was
/// seen who has them, or will be when the call that is under way returns. When the group was read, that is: what a call
/// has detached since is not known any more.
fn forsaken(look: &Look, group: &Group) -> Vec<u32> {
    if group.unseen || !look.free() && (group.seen_free || !look.deserted()) {
        return Vec::new();
    }
    let under_way = group.under_way();
    let seen = |pasid: u32| under_way.pasid(pasid) || group.saw_attached(pasid);
    look.unexplained.iter().copied().filter(|&pasid| !seen(pasid)).collect()
}

/// The uses that were left on entry, if this is the call that lets the last one go.
fn lets_go(operation: &Operation) -> Option<u32> {
    // Under the mutex, in __iommu_release_dma_ownership: nothing comes after it.
    if let Some(locked) = &operation.locked {
        return locked.before.ownership.map(|ownership| ownership.count).filter(|&count| count > 0);
    }
    if operation.overlap.ownership() {
        return None;
    }
    let count = operation.begin.group?.ownership?.count;
    match operation.hook {
        Hook::ReleaseGroup => Some(count).filter(|&count| count > 0),
        Hook::ReleaseDevice | Hook::UnuseDefault => Some(count).filter(|&count| count == 1),
        _ => None,
    }
}

/// The PASIDs that were attached while the call held the mutex, with what is known of them.
pub(super) fn leftovers(operation: &Operation, end: &Event, group: &Group) -> Vec<(u32, Attachment)> {
    if let Some(locked) = operation.locked.as_ref().filter(|locked| locked.before.array.is_some()) {
        return locked.pasids.clone();
    }
    let (Some(before), Some(after)) = (&operation.begin.array, &end.array) else { return Vec::new() };
    let stayed =
        |pasid: u32| !operation.overlap.pasid(pasid) && after.pasids().any(|entry| entry.pasid == pasid);
    let mut left = group.attachments(before);
    left.retain(|(pasid, _)| stayed(*pasid));
    left
}

fn verb(hook: Hook) -> &'static str {
    match hook {
        Hook::ReleaseGroup => "released DMA ownership of",
        Hook::ReleaseDevice => "released its device's DMA ownership of",
        _ => "unbound the last driver of",
    }
}

/// `PASID 5`, `PASIDs 5, 6 and 7`
pub(super) fn list(pasids: &[u32]) -> String {
    match pasids {
        [] => "no PASID".into(),
        [one] => format!("PASID {one}"),
        [first @ .., last] => {
            let first: Vec<String> = first.iter().map(u32::to_string).collect();
            format!("PASIDs {} and {last}", first.join(", "))
        }
    }
}
