//! `iopf-unanswered`: who detaches a PASID leaves no page request of it without a response.

use monitor_ebpf::wire::Hook;

use crate::coverage::Coverage;
use crate::inventory::Inventory;
use crate::model::{Attachment, Group, Host, Kind, Look, Member, Transition, Unanswered};

use super::look::Shown;
use super::spec::{CheckState, Needs, Severity, Spec};
use super::violation::{Fault, Finding, Read, Standing, Subject, Value};
use super::{Case, Check};

pub(super) struct IopfUnanswered;

/// A request may be answered by whoever handles it just after the detach, in ns: not each driver waits for it there.
const GRACE_NS: u64 = 5_000_000_000;

static SPEC: Spec = Spec {
    name: "iopf-unanswered",
    section: "Faults, resets, advisories",
    severities: &[Severity::Warning],
    invariant: "No page request waits for its response on a PASID that was detached longer than a grace time (5 s) ago: \
                what the device asked for with it was answered before, or by whoever handled it then.",
    why: "A device keeps room for each request until the response comes, and waits for it: one without a response may hang \
          the queue, the device, and its driver's next attempt to stop it. And whoever handles the request still has \
          hold of an attachment that is gone, and of memory that may be somebody else's by now.",
    needs: Needs {
        core_pasids: true,
        required: &[Hook::SnapshotGroup, Hook::PasidAttach, Hook::PasidDetach],
        required_if_present: &[Hook::PasidReplace, Hook::PageRequest, Hook::AttachGroupHandle],
        any_of: &[Hook::SnapshotIntel, Hook::SnapshotAmd, Hook::SnapshotDma],
        degrades: &[],
    },
    judges: &[Kind::Looked],
    by_look: None,
    implies: &[],
    traps: &[
        "Only the last request of a group is answered: those before it are in another list.",
        "While its PASID is attached a request may wait as long as the memory that it asks for takes to come.",
        "AMD's driver and SMMUv3's don't wait for requests when they detach a PASID: those are answered shortly after.",
        "Requests that iommufd hands to userspace are taken off the kernel's list: what a virtual machine leaves \
         unanswered is its affair, and a detach answers it.",
        "Who takes the device off its queue, or whose handler fails, answers with an error, and that is a response.",
        "A PASID that is attached again may have asked anew.",
        "Up to 6.10 a request gets into the list whatever PASID it names, for a moment: the check is unavailable there.",
        "The list is read without its lock: what left it meanwhile leads astray, and then nothing is said.",
    ],
    seen_in: &["CVE-2026-74520"],
    what_to_do: &[
        "Look for a task that hangs in iommu_sva_handle_iopf, in /proc/*/stack of the kworkers: the memory that was asked \
         for may be of a file system that does not answer.",
        "Reset the device, or unbind its driver: what turns page requests off answers all that wait.",
        "triggered_by is who detached the PASID; the IOMMU's driver should have waited for its requests.",
        "Report it to linux-iommu with the violation's JSON and the kernel's release.",
    ],
};

impl Check for IopfUnanswered {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn judge(&self, transition: &Transition, case: &mut Case<'_>) {
        let Transition::Looked { group, look } = transition else { return };
        let Some(group) = case.host.group(*group) else { return };
        for member in &look.members {
            if let Some(Some(waits)) = member.unanswered
                && is_late(look, &waits)
            {
                case.findings.push(finding(group, look, member, &waits));
            }
        }
    }

    fn standing(&self, subject: &Subject, host: &Host) -> Standing {
        let Subject::Looked { group, look: then, fault: Fault::Unanswered(device, pasid) } = subject else {
            return Standing::Cleared;
        };
        let Some(group) = host.group(*group) else { return Standing::Released };
        let Some(look) = group.looked.as_deref().filter(|look| look.number > *then) else {
            return Standing::Unknown;
        };
        match look.members.iter().find(|member| member.device == *device) {
            None if look.whole => Standing::Released,
            None => Standing::Unknown,
            Some(member) => match member.unanswered {
                None => Standing::Unknown,
                Some(Some(waits)) if waits.pasid == *pasid && is_late(look, &waits) => Standing::Stands,
                // It may be another one: it was attached again meanwhile.
                Some(Some(waits)) if waits.pasid == *pasid => Standing::Unknown,
                Some(_) => Standing::Cleared,
            },
        }
    }

    fn state(&self, coverage: &Coverage, _: Option<&Inventory>) -> CheckState {
        let state = SPEC.needs.state(coverage);
        if state.judges() && coverage.is_without(Hook::PageRequest) {
            let reason = "this kernel takes no page requests (built without CONFIG_IOMMU_IOPF)".into();
            return CheckState::NotApplicable { reason };
        }
        if state.judges() && coverage.is_without(Hook::AttachGroupHandle) {
            let reason =
                "this kernel has requests in its list whose PASID never was attached (up to 6.10)".into();
            return CheckState::Unavailable { reason };
        }
        state
    }
}

fn is_late(look: &Look, waits: &Unanswered) -> bool {
    look.mono_ns.saturating_sub(waits.since_ns) > GRACE_NS
}

fn finding(group: &Group, look: &Look, member: &Member, waits: &Unanswered) -> Finding {
    let Unanswered { pasid, detached, since_ns } = *waits;
    let by = detached.map(|detached| detached.by);
    let seconds = look.mono_ns.saturating_sub(since_ns) / 1_000_000_000;
    let detach = match by {
        Some(by) => format!("which {}[{}] detached {seconds} s ago", by.comm, by.tid),
        None => format!("which is detached since {seconds} s at least"),
    };
    let shown = Shown {
        check: &SPEC,
        severity: SPEC.severity(),
        fault: Fault::Unanswered(member.device, pasid),
        group,
        look,
        pasids: &[],
        summary: format!(
            "a page request of {} (group {}) got no response: it names PASID {pasid}, {detach}",
            member.name, group.id
        ),
        read: vec![
            Read {
                what: "PASIDs in pasid_array",
                value: Value::Pasids(look.pasids.clone().unwrap_or_default()),
            },
            Read { what: "PASID of the request that waits longest", value: Value::Count(pasid) },
            Read { what: "detached by", value: Value::Task(by) },
            Read { what: "read under group->mutex", value: Value::Flag(true) },
        ],
    };
    let unseen = Attachment { domain: None, attached_by: None };
    let attachment = detached.map_or(unseen, |detached| detached.attachment);
    Finding {
        pasids: vec![(pasid, attachment)],
        domain: attachment.domain,
        triggered_by: by,
        ..shown.finding()
    }
}
