//! `failed-attach-residue`: an attach that failed leaves the hardware as it was.

use monitor_ebpf::wire::Hook;

use crate::coverage::Coverage;
use crate::event::{Key, TableEntry};
use crate::inventory::Inventory;
use crate::model::{Actor, Attachment, Failed, Failure, Group, Host, Kind, Left, Look, Transition};

use super::look::{self, Shown};
use super::pasid_table_mismatch::judged;
use super::spec::{CheckState, Needs, Severity, Spec};
use super::violation::{Fault, Finding, Read, Standing, Subject, Value};
use super::{Case, Check};

pub(super) struct FailedAttachResidue;

static SPEC: Spec = Spec {
    name: "failed-attach-residue",
    section: "PASID life cycle",
    severities: &[Severity::Critical],
    invariant: "An attach or replace that returned an error left every member at the old entry, or non-present; never at \
                the new domain.",
    why: "The caller was told that there is no attachment, and will free the domain. An entry that stayed in the \
          hardware translates for the device by a page table that is somebody else's memory by then.",
    needs: Needs { required: &[Hook::SnapshotGroup, Hook::PasidAttach], ..Needs::LOOK_AT_TABLES },
    judges: &[Kind::Looked],
    by_look: None,
    implies: &["pasid-table-mismatch", "group-divergence", "released-with-pasids"],
    traps: &[
        "A failed attach of a foreign domain in the middle of an SVA bind is normal, and a second attach of the PASID \
         follows: who touched it since is not judged.",
        "An attach over a PASID that is attached fails and leaves what was there.",
        "A replace that failed leaves the old entry: it is told from the new one by what a look read before, or by the \
         other members behind the same IOMMU.",
        "An entry that is cleared altogether by a failed replace is no residue; pasid-table-mismatch tells that it is \
         missing.",
        "Between prepare and done of a reset (7.0 and later) a member is not judged.",
    ],
    seen_in: &[
        "CVE-2022-48916",
        "rollback paths of the drivers' set_dev_pasid and of __iommu_set_group_pasid",
    ],
    what_to_do: &[
        "Treat the device as able to reach memory that it should not: take it out of service, or keep it away from \
         the next tenant.",
        "triggered_by made the attach that failed; at fault is the IOMMU's driver, or the core's way back, not the \
         caller.",
        "Removing the device (echo 1 to `remove` in sysfs) frees its table; then rescan.",
        "Report it to linux-iommu with the violation's JSON and the kernel's release.",
    ],
};

impl Check for FailedAttachResidue {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn judge(&self, transition: &Transition, case: &mut Case<'_>) {
        let Transition::Looked { group, look } = transition else { return };
        let Some(group) = case.host.group(*group).filter(|_| !look.failed.is_empty()) else { return };
        for failed in &look.failed {
            let residue = residue(failed, look);
            let differ = failed.failure.kept.is_some() && look.diverging.contains(&failed.failure.pasid);
            if !residue.is_empty() || differ {
                case.findings.push(finding(&failed.failure, &residue, look, group));
            }
        }
    }

    fn wants_looks(&self) -> bool {
        true
    }

    fn standing(&self, subject: &Subject, host: &Host) -> Standing {
        if let Subject::Happened { .. } = subject {
            return Standing::Happened;
        }
        look::standing(subject, host, |look, fault| {
            let Fault::Residue(device, pasid) = fault else { return false };
            let mut members = judged(look).filter(|member| member.device == device);
            let has = |entry: &TableEntry| entry.pasid == pasid;
            members.any(|member| member.table.as_ref().is_some_and(|table| table.extra.iter().any(has)))
        })
    }

    fn state(&self, coverage: &Coverage, inventory: Option<&Inventory>) -> CheckState {
        super::pasid_table_shared::without_tables(coverage, inventory, true)
            .unwrap_or_else(|| SPEC.needs.state(coverage))
    }
}

/// The members in whose table the call left something.
fn residue(failed: &Failed, look: &Look) -> Vec<Key> {
    let left = failed.members.iter().filter(|(_, left)| *left == Left::Other).map(|(key, _)| *key);
    left.filter(|key| judged(look).any(|member| member.device == *key)).collect()
}

fn finding(failure: &Failure, residue: &[Key], look: &Look, group: &Group) -> Finding {
    let Failure { pasid, ret, by: Actor { comm, tid, .. }, .. } = failure;
    let (call, left) = match failure.kept {
        None => ("attach", "is in the hardware table of"),
        Some(_) => ("replace", "translates by another domain on"),
    };
    let of = |key: &Key| look.members.iter().find(|member| member.device == *key);
    let names: Vec<String> = residue.iter().filter_map(of).map(|member| member.name.to_string()).collect();
    let whom = if names.is_empty() { "some members, and not on all".into() } else { names.join(", ") };
    let fault = Fault::Residue(residue.first().copied().unwrap_or(group.key), *pasid);
    let shown = Shown {
        check: &SPEC,
        severity: SPEC.severity(),
        fault,
        group,
        look,
        pasids: &[*pasid],
        summary: format!(
            "{comm}[{tid}] failed to {call} PASID {pasid} of group {} ({ret}), and it {left} {whom}",
            group.id
        ),
        read: vec![
            Read { what: "attached, by the core's account", value: Value::Flag(failure.kept.is_some()) },
            Read { what: "members with what the call left", value: Value::Names(names) },
            Read { what: "read under group->mutex", value: Value::Flag(true) },
        ],
    };
    let found = shown.finding();
    // The old entry is there again, or not: no later look can tell whose an entry of a replace is.
    let subject = match failure.kept {
        None => found.subject,
        Some(_) => Subject::Happened { group: group.reference() },
    };
    Finding {
        subject,
        // Read under the mutex, and no call has touched the PASID since that one.
        proved: true,
        mono_ns: failure.mono_ns,
        pasids: vec![(*pasid, failure.kept.unwrap_or(Attachment { domain: None, attached_by: None }))],
        domain: failure.domain,
        triggered_by: Some(failure.by),
        ..found
    }
}
