//! `invalidation-failed`: what is told to the hardware to be dropped is dropped.

use monitor_ebpf::descriptor::{Scope, condition};
use monitor_ebpf::wire::Hook;

use crate::coverage::Coverage;
use crate::errno::errno_name;
use crate::event::TableKind;
use crate::inventory::Inventory;
use crate::model::{Flushed, Host, Kind, Transition};

use super::flush::{self, OfDriver};
use super::spec::{CheckState, Needs, Severity, Spec};
use super::violation::{Confidence, Finding, Read, Standing, Subject, Value};
use super::{Case, Check};

pub(super) struct InvalidationFailed;

const IN_TEARDOWN: &str = "a failure while an entry is torn down is told as one of no group";
const IN_SWITCH: &str = "a failure while a RID's domain is switched is told as one of no group";

/// What it needs of each driver: where the end of a submission is seen.
const DRIVERS: [OfDriver; 3] = [
    OfDriver {
        driver: "intel",
        entries: None,
        needs: Needs {
            required: &[Hook::VtdSubmit],
            required_if_present: &[Hook::DevicePresent],
            degrades: &[(Hook::VtdTearDown, IN_TEARDOWN), (Hook::RidAttach, IN_SWITCH)],
            ..Needs::NOTHING
        },
    },
    OfDriver {
        driver: "amd",
        entries: None,
        needs: Needs {
            required: &[Hook::AmdWait],
            degrades: &[
                (
                    Hook::AmdQueue,
                    "commands that don't get into the buffer are missed, and what a failed wait was for",
                ),
                (Hook::AmdClear, IN_TEARDOWN),
                (Hook::RidAttach, IN_SWITCH),
            ],
            ..Needs::NOTHING
        },
    },
    OfDriver {
        driver: "arm-smmu-v3",
        entries: None,
        needs: Needs {
            required: &[Hook::SmmuQueue],
            degrades: &[(Hook::SmmuRemove, IN_TEARDOWN), (Hook::RidAttach, IN_SWITCH)],
            ..Needs::NOTHING
        },
    },
];

/// What VT-d's driver returns for a device that doesn't answer (7.3, `qi_check_fault`).
const ETIMEDOUT: i32 = -110;

static SPEC: Spec = Spec {
    name: "invalidation-failed",
    section: "Invalidation",
    severities: &[Severity::Critical, Severity::Warning],
    invariant: "No invalidation inside a window (the teardown of a PASID entry, the switch of a RID's domain) fails. \
                -ETIMEDOUT is excused only for a device-TLB invalidation whose own device is gone. Failed: VT-d's \
                qi_submit_sync returned an error; AMD's command buffer stayed full, or iommu_completion_wait timed out; \
                SMMUv3's arm_smmu_cmdq_issue_cmdlist returned an error (CMD_SYNC timed out).",
    why: "The drivers drop the error: the kernel goes on as if the hardware had forgotten the old translations, and it \
          has not.",
    needs: Needs {
        required_if_present: &[Hook::DevicePresent],
        any_of: &[Hook::VtdSubmit, Hook::AmdWait, Hook::SmmuQueue],
        degrades: &[
            (Hook::VtdTearDown, IN_TEARDOWN),
            (Hook::AmdClear, IN_TEARDOWN),
            (Hook::SmmuRemove, IN_TEARDOWN),
            (Hook::RidAttach, IN_SWITCH),
        ],
        ..Needs::NOTHING
    },
    judges: &[Kind::SubmissionFailed],
    by_look: None,
    implies: &["teardown-flush-incomplete", "pasid-reused-without-flush"],
    traps: &[
        "-ETIMEDOUT of a device-TLB invalidation whose own device was found absent, or is marked as disconnected.",
        "AMD's driver waits for the IOMMU and the device at once: a wait that timed out with a device-TLB invalidation \
         before it is excused where that device is gone.",
        "-EAGAIN never leaves the driver: it submits the same descriptors again.",
        "Outside a window it is a warning: of what, is known by the descriptors alone.",
    ],
    seen_in: &[
        "CVE-2026-68329",
        "qi_flush_*(), 5.15 to 7.3: void functions that drop what qi_submit_sync() returned",
    ],
    what_to_do: &[
        "Look at the kernel's log: the driver writes why (DMAR, \"Invalidation Queue Error\", \"Invalidation Time-out\"; \
         AMD-Vi, \"Completion-Wait loop timed out\"; arm-smmu-v3, \"CMD_SYNC timeout\").",
        "In a window: take the device out of service, its old translations may still be in use.",
        "If it comes again, the IOMMU or a device behind it is broken, or the driver submits what the hardware doesn't \
         know: report it with the descriptors from the kernel's log.",
    ],
};

impl Check for InvalidationFailed {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn judge(&self, transition: &Transition, case: &mut Case<'_>) {
        let Transition::SubmissionFailed { group: reference, flushed } = transition else { return };
        let found = &*flushed.flush;
        let Some(errno) = found.failed.filter(|_| !excused(flushed)) else { return };
        // A window names its group, also one that we don't know.
        let window = flushed.event.group.is_some();
        let group = reference.and_then(|reference| case.host.group(reference));
        let scopes: Vec<String> = found.failed_scopes().iter().map(|scope| scope.name().to_owned()).collect();
        let what = flush::window(flushed);
        let mut read = vec![
            Read { what: "errno", value: Value::Names(vec![errno_name(errno).to_owned()]) },
            Read { what: "asked for", value: Value::Names(scopes) },
        ];
        if window && found.vendor.is_some() {
            read.push(flush::tag(found));
        }
        let severity = if window { Severity::Critical } else { Severity::Warning };
        case.findings.push(Finding {
            check: &SPEC,
            severity,
            subject: reference.map_or(Subject::HappenedToNone, |group| flush::subject(group, flushed)),
            proved: true,
            mono_ns: flushed.event.mono_ns,
            device: flushed.event.device.map(|device| device.name),
            pasids: if window { flush::pasids(found, group) } else { Vec::new() },
            domain: flushed.domain,
            summary: format!("an invalidation failed with {} {what}", errno_name(errno)),
            triggered_by: Some(flushed.by),
            read,
            confidence: Confidence::Observed,
        });
    }

    fn standing(&self, _: &Subject, _: &Host) -> Standing {
        Standing::Happened
    }

    fn state(&self, coverage: &Coverage, inventory: Option<&Inventory>) -> CheckState {
        flush::state(coverage, inventory, &DRIVERS)
    }
}

/// A device that is gone does not answer.
fn excused(flushed: &Flushed) -> bool {
    let found = &*flushed.flush;
    let timed_out = match found.vendor {
        // One wait is for both, and says -EIO of each.
        Some(TableKind::Amd) => found.failed_scopes().contains(&Scope::DeviceTlb),
        _ => found.failed == Some(ETIMEDOUT) && found.failed_in_device(),
    };
    timed_out && found.conditions.is(condition::GONE)
}
