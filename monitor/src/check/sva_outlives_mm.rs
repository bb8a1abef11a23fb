//! `sva-outlives-mm`: the memory of a process is there until the last device has let go of it.

use std::time::Duration;

use monitor_ebpf::wire::Hook;

use crate::model::{Actor, Attachment, Gone, GroupRef, Host, Kind, Presence, Transition};

use super::pasid_left_on_release::list;
use super::spec::{Needs, Severity, Spec};
use super::violation::{Confidence, Finding, Read, Standing, Subject, Value};
use super::{Case, Check};

pub(super) struct SvaOutlivesMm;

static SPEC: Spec = Spec {
    name: "sva-outlives-mm",
    section: "Domains and SVA",
    severities: &[Severity::Critical, Severity::Warning],
    invariant: "The mm_struct and its PASID live until the last `iommu_detach_device_pasid` inside unbind has returned \
                (critical). A bond still there 10 minutes (`--sva-grace`) after its mm's exit is a warning.",
    why: "The page tables of a process are gone while a device still walks them: its DMA goes to whoever has that \
          memory now. A bond that stays long after its process holds the PASID, and the device's place for it.",
    needs: Needs {
        core_pasids: true,
        required: &[Hook::MmDrop, Hook::PasidAttach, Hook::PasidDetach],
        required_if_present: &[],
        any_of: &[],
        degrades: &[(Hook::MmExit, "the exit of a process is seen by the next look at its group")],
    },
    judges: &[Kind::Gone, Kind::Lingering],
    by_look: None,
    implies: &["pasid-freed-while-attached"],
    traps: &[
        "The exit of a process before the unbind is normal: the drivers clear the PASID in their notifier, outside of \
         group->mutex, and the entry in pasid_array stays until the unbind.",
        "The last unbind may itself drop the mm, after its detach.",
        "A device that was removed has nothing attached any more.",
        "A process may be bound to several groups: each unbind ends its own.",
    ],
    seen_in: &["CVE-2026-23429", "CVE-2022-49426", "CVE-2026-45931"],
    what_to_do: &[
        "Critical: stop the device's DMA at once (unbind its driver or remove it), and plan a reboot: memory may be \
         damaged.",
        "Warning: find who holds the device's file open (attached_by is who bound it), and end it.",
        "Look at triggered_by and its stack for who dropped the last reference to the process's memory. After an exit \
         that is whatever task the scheduler ran next: then who bound it (attached_by) is the one to ask.",
        "Report it with the violation's JSON.",
    ],
};

impl Check for SvaOutlivesMm {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn judge(&self, transition: &Transition, case: &mut Case<'_>) {
        match transition {
            Transition::Gone { what: Gone::Mm(pasid), held, event } => {
                let Some(group) = case.host.group(held.group) else { return };
                let by = Actor::of(event);
                let summary = format!(
                    "{}[{}] let the memory of a process go to which PASID {pasid} of group {} is attached",
                    by.comm, by.tid, group.id
                );
                case.findings.push(Finding {
                    subject: Subject::Happened { group: held.group },
                    mono_ns: event.mono_ns,
                    triggered_by: Some(by),
                    summary,
                    ..finding(Severity::Critical, held.group, held.pasids.clone())
                });
            }
            Transition::Lingering { group, pasids, mono_ns } => {
                let since = |since: u64| Duration::from_nanos(mono_ns.saturating_sub(since));
                let old = pasids.iter().filter(|(_, _, from)| since(*from) >= case.host.sva_grace());
                let old: Vec<(u32, Attachment)> =
                    old.map(|&(pasid, attachment, _)| (pasid, attachment)).collect();
                let Some(known) = case.host.group(*group).filter(|_| !old.is_empty()) else { return };
                let numbers: Vec<u32> = old.iter().map(|&(pasid, _)| pasid).collect();
                let longest = pasids.iter().map(|&(_, _, from)| since(from)).max().unwrap_or_default();
                let summary = format!(
                    "{} of group {} {} still bound to a process that has exited, for {} s at least",
                    list(&numbers),
                    known.id,
                    if old.len() == 1 { "is" } else { "are" },
                    longest.as_secs(),
                );
                case.findings.push(Finding {
                    mono_ns: *mono_ns,
                    triggered_by: None,
                    summary,
                    ..finding(Severity::Warning, *group, old)
                });
            }
            _ => {}
        }
    }

    fn standing(&self, subject: &Subject, host: &Host) -> Standing {
        let Subject::Leftover { group, pasids } = subject else { return Standing::Happened };
        let Some(group) = host.group(*group) else { return Standing::Released };
        let mut standing = Standing::Cleared;
        for &(pasid, domain) in pasids {
            match group.presence(pasid) {
                Presence::Attached(now) if now.domain.map(|domain| domain.key) == domain => {
                    return Standing::Stands;
                }
                Presence::Attached(_) | Presence::Absent => {}
                Presence::Unknown => standing = Standing::Unknown,
            }
        }
        standing
    }
}

fn finding(severity: Severity, group: GroupRef, pasids: Vec<(u32, Attachment)>) -> Finding {
    let numbers = pasids.iter().map(|&(pasid, _)| pasid).collect();
    let key = |attachment: &Attachment| attachment.domain.map(|domain| domain.key);
    let left = pasids.iter().map(|(pasid, attachment)| (*pasid, key(attachment))).collect();
    Finding {
        check: &SPEC,
        severity,
        subject: Subject::Leftover { group, pasids: left },
        proved: true,
        mono_ns: 0,
        device: None,
        domain: pasids.iter().find_map(|(_, attachment)| attachment.domain),
        pasids,
        triggered_by: None,
        summary: String::new(),
        read: vec![Read { what: "attached", value: Value::Pasids(numbers) }],
        confidence: Confidence::Observed,
    }
}
