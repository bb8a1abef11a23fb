//! `reset-unpaired`: what a reset takes off a device, it gives back.

use monitor_ebpf::wire::Hook;

use crate::coverage::Coverage;
use crate::event::DomainKind;
use crate::inventory::Inventory;
use crate::model::{Actor, AfterReset, Attachment, Group, Host, Kind, Look, Member, Transition};

use super::look::Shown;
use super::pasid_left_on_release::list;
use super::spec::{CheckState, Needs, Severity, Spec};
use super::violation::{Confidence, Fault, Finding, Read, Standing, Subject, Value};
use super::{Case, Check};

pub(super) struct ResetUnpaired;

static SPEC: Spec = Spec {
    name: "reset-unpaired",
    section: "Faults, resets, advisories",
    severities: &[Severity::Warning],
    invariant: "A reset prepare (pci_dev_reset_iommu_prepare) that returned 0 is followed by done, and what was attached \
                before is attached after, less what was detached meanwhile.",
    why: "For its reset a device is parked on the blocking domain. One that is not taken back off it can do no DMA, \
          though the core has its RID and its PASIDs for attached, refuses every attach in its whole group with EBUSY, \
          and tells nobody: who uses the device sees I/O that hangs, until the device is removed.",
    needs: Needs {
        core_pasids: false,
        required: &[Hook::RidAttach, Hook::ResetPrepare, Hook::ResetDone, Hook::SnapshotGroup],
        required_if_present: &[Hook::PasidAttach, Hook::PasidReplace, Hook::PasidDetach],
        any_of: &[Hook::SnapshotIntel, Hook::SnapshotAmd, Hook::SnapshotDma],
        degrades: &[
            (Hook::ResetFunction, "a reset that leaves done out is missed, but for a function-level reset"),
            (
                Hook::ResetFlr,
                "a function-level reset that a driver asks for and that leaves done out is missed",
            ),
        ],
    },
    judges: &[Kind::Looked, Kind::Returned(Hook::RidAttach)],
    by_look: None,
    implies: &["pasid-table-mismatch", "group-divergence"],
    traps: &[
        "A reset that failed may keep the device blocked.",
        "Resets of one device may be nested, and overlap: only the last done takes it off the blocking domain.",
        "A PASID that was detached meanwhile, or whose process has exited, does not come back. A process may exit \
         between two readings: its PASIDs take two looks.",
        "A device that is removed during its reset has nothing to be given back.",
        "Another member of the group that is in a reset of its own is blocked by right.",
        "A device without ATS is not parked at all.",
    ],
    seen_in: &["CVE-2026-53280"],
    what_to_do: &[
        "Remove the device (echo 1 to `remove` in sysfs) and rescan: nothing else takes it off the blocking domain.",
        "Where only PASIDs are missing, detach and attach them again, or reset the device once more.",
        "Look at triggered_by and its stack: that is which function of the kernel reset the device.",
        "Look for the kernel's WARN in pci_dev_reset_iommu_done in dmesg: the IOMMU driver may have refused.",
        "Report it to linux-iommu with the violation's JSON and the kernel's release.",
    ],
};

impl Check for ResetUnpaired {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn judge(&self, transition: &Transition, case: &mut Case<'_>) {
        match transition {
            Transition::Looked { group, look } => {
                let Some(group) = case.host.group(*group) else { return };
                let members = look.members.iter().filter_map(|member| {
                    let after = member.after_reset.as_deref()?;
                    Some(not_given_back(member, after, look, group))
                });
                case.findings.extend(members);
            }
            Transition::Returned { .. } => case.findings.extend(rid_refused(transition, case.host)),
            _ => {}
        }
    }

    fn wants_looks(&self) -> bool {
        true
    }

    fn standing(&self, subject: &Subject, host: &Host) -> Standing {
        let Subject::Looked { group, look: then, fault: Fault::Blocked(device) | Fault::Lacking(device) } =
            subject
        else {
            return Standing::Happened;
        };
        let Some(group) = host.group(*group) else { return Standing::Released };
        let Some(look) = group.looked.as_deref().filter(|look| look.number > *then) else {
            return Standing::Unknown;
        };
        let member = look.members.iter().find(|member| member.device == *device);
        match (member, subject) {
            (None, _) if look.whole => Standing::Released,
            (None, _) => Standing::Unknown,
            (Some(member), Subject::Looked { fault: Fault::Blocked(_), .. }) if member.state.blocked => {
                Standing::Stands
            }
            // It is in another reset: nothing is to be in its table.
            (Some(member), _) if member.state.blocked => Standing::Unknown,
            (Some(member), _) if member.after_reset.is_some() => Standing::Stands,
            (Some(_), _) => Standing::Cleared,
        }
    }

    fn state(&self, coverage: &Coverage, _: Option<&Inventory>) -> CheckState {
        if coverage.is_without(Hook::ResetPrepare) && coverage.attached(Hook::RidAttach) {
            let reason = "this kernel's IOMMU core takes no part in resets (it does from 7.0 on)";
            return CheckState::NotApplicable { reason: reason.into() };
        }
        SPEC.needs.state(coverage)
    }
}

/// A look showed it under the mutex, after the return of what was to give it back.
fn not_given_back(member: &Member, after: &AfterReset, look: &Look, group: &Group) -> Finding {
    let Actor { comm, tid, .. } = after.by;
    let pasids = if after.blocked { &after.parked } else { &after.lacking };
    let numbers = numbers_of(pasids);
    let (fault, found) = match (after.blocked, numbers.is_empty()) {
        (true, true) => (Fault::Blocked(member.device), "it is blocked still".into()),
        (true, false) => (
            Fault::Blocked(member.device),
            format!("it is blocked still, with {} off its table", list(&numbers)),
        ),
        (false, _) => (Fault::Lacking(member.device), format!("{} did not come back", list(&numbers))),
    };
    let how = if after.done { "is done" } else { "returned without pci_dev_reset_iommu_done" };
    let shown = Shown {
        check: &SPEC,
        severity: SPEC.severity(),
        fault,
        group,
        look,
        pasids: &[],
        summary: format!(
            "the reset of {} (group {}) by {comm}[{tid}] {how}, and {found}",
            member.name, group.id
        ),
        read: vec![
            Read { what: "pci_dev_reset_iommu_done was called", value: Value::Flag(after.done) },
            Read { what: "blocked by a reset", value: Value::Flag(after.blocked) },
            Read { what: "members blocked by a reset", value: Value::Count(look.recovery_cnt) },
            Read { what: "PASIDs before the reset", value: Value::Pasids(numbers_of(&after.parked)) },
            Read { what: "read under group->mutex", value: Value::Flag(true) },
        ],
    };
    let proved = after.blocked || after.lacking.iter().all(|(_, attachment)| is_settled(attachment));
    Finding { proved, pasids: pasids.clone(), triggered_by: Some(after.by), ..shown.finding() }
}

/// One reading tells: the entries of a process that exits are cleared without the mutex, and it may do so after the array
/// was read and before the table is.
fn is_settled(attachment: &Attachment) -> bool {
    let kind = attachment.domain.map(|domain| domain.kind);
    kind.is_some_and(|kind| !matches!(kind, DomainKind::Sva | DomainKind::Unknown))
}

fn numbers_of(pasids: &[(u32, Attachment)]) -> Vec<u32> {
    pasids.iter().map(|(pasid, _)| *pasid).collect()
}

/// The driver refused to put a RID back. The core WARNs, and has the device for attached.
fn rid_refused(transition: &Transition, host: &Host) -> Option<Finding> {
    let Transition::Returned { group: reference, operation, end } = transition else { return None };
    let group = host.group(*reference)?;
    let ret = end.ret.filter(|&ret| ret != 0 && operation.synced && group.puts_back(operation))?;
    let device = operation.begin.device?;
    let errno = ret.unsigned_abs();
    let actor = operation.actor();
    Some(Finding {
        check: &SPEC,
        severity: SPEC.severity(),
        subject: Subject::Happened { group: *reference },
        proved: true,
        mono_ns: end.mono_ns,
        device: Some(device.name),
        pasids: Vec::new(),
        domain: operation.begin.domain,
        triggered_by: Some(actor),
        summary: format!(
            "after the reset of {} (group {}) by {}[{}] its driver did not put the RID back on its domain: error {errno}",
            device.name, group.id, actor.comm, actor.tid
        ),
        read: vec![Read { what: "error of the driver's attach_dev", value: Value::Count(errno) }],
        confidence: Confidence::Observed,
    })
}
