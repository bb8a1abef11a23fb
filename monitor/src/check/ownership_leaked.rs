//! `ownership-leaked`: a driver that is unbound gives its use of the group back.

use monitor_ebpf::wire::Hook;

use crate::model::{Group, Host, Kind, Look, Transition};

use super::look::{self, Shown};
use super::pasid_left_on_release::{leftovers, list};
use super::spec::{Needs, Severity, Spec};
use super::violation::{Confidence, Fault, Finding, Read, Standing, Subject, Value};
use super::{Case, Check};

pub(super) struct OwnershipLeaked;

static SPEC: Spec = Spec {
    name: "ownership-leaked",
    section: "Ownership",
    severities: &[Severity::Critical],
    invariant: "iommu_device_unuse_default_domain gives its use back. With a PASID left anywhere in the group the core \
                WARNs, keeps the count for ever, and every later claim fails with EPERM, even after the PASID is gone.",
    why: "The group counts a driver that is not there. It can't be given to a guest or to userspace any more, and \
          nothing but the removal of its devices or a reboot mends it.",
    needs: Needs {
        core_pasids: false,
        required: &[Hook::UseDefault, Hook::UnuseDefault],
        required_if_present: &[Hook::ClaimGroup, Hook::ClaimDevice],
        any_of: &[],
        degrades: &[
            (Hook::PasidAttach, "the PASIDs that caused it can't be told"),
            (Hook::PasidDetach, "the PASIDs that caused it can't be told"),
        ],
    },
    judges: &[Kind::Returned(Hook::UnuseDefault)],
    by_look: Some(Needs::LOOK),
    implies: &["ownership-conflict"],
    traps: &[
        "Another driver of the group that binds or unbinds at the same time changes the same count: nothing is raised.",
        "A PASID left in the group by a sibling device leaks the use of the device that is unbound: the violation is \
         the group's, and lists its devices.",
    ],
    seen_in: &["iommu_device_unuse_default_domain, 6.2 to 7.3: if (!WARN_ON(!group->owner_cnt || \
         !xa_empty(&group->pasid_array))) group->owner_cnt--;"],
    what_to_do: &[
        "Don't plan to hand this group to a guest: a claim fails with EPERM from now on.",
        "The PASIDs that are listed were still attached when the driver was unbound: attached_by says by whom.",
        "Remove the group's devices (echo 1 to `remove` in sysfs) and rescan, or reboot, to get a new group.",
        "Report it to the driver's maintainer: its remove function must detach every PASID.",
    ],
};

impl Check for OwnershipLeaked {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn judge(&self, transition: &Transition, case: &mut Case<'_>) {
        let Transition::Returned { group: reference, operation, end } = transition else { return };
        if operation.hook != Hook::UnuseDefault || !operation.synced || operation.overlap.ownership() {
            return;
        }
        let Some(group) = case.host.group(*reference) else { return };
        let before = operation.begin.group.and_then(|group| group.ownership);
        let after = end.group.and_then(|group| group.ownership);
        let (Some(before), Some(after)) = (before, after) else { return };
        if before.count == 0 || after.count < before.count {
            return;
        }
        let left = leftovers(operation, end, group);
        let numbers: Vec<u32> = left.iter().map(|(pasid, _)| *pasid).collect();
        let actor = operation.actor();
        let cause =
            if left.is_empty() { String::new() } else { format!(": {} still attached", list(&numbers)) };
        let proved = !left.is_empty();
        case.findings.push(Finding {
            check: &SPEC,
            severity: SPEC.severity(),
            subject: Subject::Leak { group: *reference, uses: 1 },
            // With a PASID left the core keeps the count. Without one, a bind may have come before the
            // count was read.
            proved: proved && after.count == before.count,
            mono_ns: end.mono_ns,
            device: None,
            pasids: left,
            domain: None,
            summary: format!(
                "{}[{}] unbound a driver, and group {} kept its use{cause}",
                actor.comm, actor.tid, group.id
            ),
            triggered_by: Some(actor),
            read: vec![
                Read { what: "owner_cnt on entry", value: Value::Count(before.count) },
                Read { what: "owner_cnt on return", value: Value::Count(after.count) },
                Read { what: "PASIDs in pasid_array", value: Value::Pasids(numbers) },
            ],
            confidence: Confidence::ReadBack,
        });
    }

    fn look(&self, look: &Look, group: &Group, case: &mut Case<'_>) {
        if group.seen_free || group.unseen || !deserted(look) {
            return;
        }
        let shown = Shown {
            check: &SPEC,
            severity: SPEC.severity(),
            fault: Fault::Deserted,
            group,
            look,
            pasids: &[],
            summary: format!(
                "group {} counts a driver's use, and none of its devices has a driver",
                group.id
            ),
            read: look::holder(look),
        };
        case.findings.push(shown.finding());
    }

    fn standing(&self, subject: &Subject, host: &Host) -> Standing {
        if let Subject::Looked { .. } = subject {
            return look::standing(subject, host, |look, _| deserted(look));
        }
        let Subject::Leak { group, uses } = subject else { return Standing::Cleared };
        let Some(group) = host.group(*group) else { return Standing::Released };
        match group.ownership.filter(|_| group.synced) {
            Some(now) if now.count >= *uses => Standing::Stands,
            Some(_) => Standing::Cleared,
            None => Standing::Unknown,
        }
    }
}

/// The kernel's own drivers hold it, by the count, and it has none.
fn deserted(look: &Look) -> bool {
    look.deserted() && look.ownership.owner.is_none() && look.ownership.count > 0
}
