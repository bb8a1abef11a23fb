//! `flush-slow`: the hardware answers an invalidation within a time.

use std::time::Duration;

use monitor_ebpf::wire::Hook;

use crate::coverage::Coverage;
use crate::inventory::Inventory;
use crate::model::{Host, Kind, Transition};

use super::flush::{self, OfDriver};
use super::spec::{CheckState, Needs, Severity, Spec};
use super::violation::{Confidence, Finding, Read, Standing, Subject, Value};
use super::{Case, Check};

pub(super) struct FlushSlow;

/// Beyond it a CPU was as good as dead: VT-d and SMMUv3 wait with interrupts off.
const DEAD: Duration = Duration::from_secs(1);

const IN_TEARDOWN: &str =
    "of the invalidations of a teardown one in 256 is timed, as of all others, and told as one of no group";
const IN_SWITCH: &str = "of the invalidations of a RID's switch one in 256 is timed, as of all others, and told as one of no group";

/// What it needs of each driver: where the clock starts, and where it stops.
const DRIVERS: [OfDriver; 3] = [
    OfDriver {
        driver: "intel",
        entries: None,
        needs: Needs {
            required: &[Hook::VtdQueue, Hook::VtdSubmit],
            degrades: &[(Hook::VtdTearDown, IN_TEARDOWN), (Hook::RidAttach, IN_SWITCH)],
            ..Needs::NOTHING
        },
    },
    OfDriver {
        driver: "amd",
        entries: None,
        needs: Needs {
            required: &[Hook::AmdQueue, Hook::AmdWait],
            degrades: &[(Hook::AmdClear, IN_TEARDOWN), (Hook::RidAttach, IN_SWITCH)],
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

static SPEC: Spec = Spec {
    name: "flush-slow",
    section: "Invalidation",
    severities: &[Severity::Warning, Severity::Critical],
    invariant: "An invalidation completes within 10 ms (`--flush-slow`). One that takes longer twice within a minute, on \
                the same IOMMU where that is known, is a warning; one that takes more than 1 s is critical at once. Timed is from the \
                descriptor's submission to the return of the function that waits for it (VT-d: qi_submit_sync; AMD: \
                iommu_completion_wait; SMMUv3: arm_smmu_cmdq_issue_cmdlist), without the time for which the task was \
                able to run and had no CPU: each inside a window (the teardown of a PASID \
                entry, the switch of a RID's domain), and outside of windows one in 256 of each type of descriptor, by \
                CPU. There a single slow one may be missed; what is slow again and again is not.",
    why: "The drivers wait with interrupts off, and whoever unmaps waits behind them: a device that doesn't answer its ATS \
          invalidations stops a CPU, and then the host.",
    needs: Needs {
        any_of: &[Hook::VtdSubmit, Hook::AmdWait, Hook::SmmuQueue],
        degrades: &[
            (Hook::VtdQueue, "behind VT-d it is unavailable"),
            (Hook::AmdQueue, "behind AMD's IOMMU it is unavailable"),
            (Hook::VtdTearDown, IN_TEARDOWN),
            (Hook::AmdClear, IN_TEARDOWN),
            (Hook::SmmuRemove, IN_TEARDOWN),
            (Hook::RidAttach, IN_SWITCH),
        ],
        ..Needs::NOTHING
    },
    judges: &[Kind::SubmissionSlow],
    by_look: None,
    implies: &[],
    traps: &[
        "A task that is preempted before the function has returned, as one that has waited for long often is as soon as \
         interrupts are on again, is told without the time for which it was preempted, by the scheduler's own account \
         (CONFIG_SCHED_INFO). One that has slept meanwhile isn't told, nor is one that was preempted on a kernel without \
         that account.",
        "Where an interrupt submits an invalidation of its own between the waiting and the function's return, the waiting \
         was over by then: in a window of VT-d's the time until then is told, once the first call has returned, too. By \
         kretprobes, behind the other drivers, and outside of windows it isn't told; there neither is what returns on \
         another CPU.",
        "What the driver submits again after a time-out (VT-d, -EAGAIN) is timed from the last time on, or not at all.",
        "Interrupts that were held up by the waiting run before the function returns, and a hypervisor may take the CPU \
         away: neither can be told from waiting. So a warning needs two within a minute. In a virtual machine look at \
         steal time first.",
        "A queue is worked off in order: it may be what another CPU had asked for that took so long.",
        "What never completes never returns, and is not told: that is the kernel's own watchdog's to say (hard LOCKUP).",
        "A submission that fails is told by invalidation-failed; how long that took is told here, too.",
    ],
    seen_in: &[
        "CVE-2024-26891: hosts locked up hard in qi_submit_sync, waiting for a device that was pulled out",
    ],
    what_to_do: &[
        "In a virtual machine: look at its steal time (`st` of vmstat). The host's CPUs may be overcommitted.",
        "Look at `iommu_watch_invalidation_duration_seconds`: whether all of them have become slow, or a few are.",
        "Where device TLBs are what was asked for: look at that device's link (AER in the kernel's log, lspci -vv). With the \
         window's device in the violation it is known which.",
        "Where it is the IOMMU's own caches: look at the kernel's log for errors of the queue, and report it to the vendor \
         with the histogram.",
    ],
};

impl Check for FlushSlow {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn judge(&self, transition: &Transition, case: &mut Case<'_>) {
        let Transition::SubmissionSlow { group: reference, flushed, again } = transition else { return };
        let found = &*flushed.flush;
        let Some(took) = found.took.filter(|&took| *again || took > DEAD) else { return };
        let window = flushed.event.group.is_some();
        let group = reference.and_then(|reference| case.host.group(reference));
        let scopes: Vec<String> = found.failed_scopes().iter().map(|scope| scope.name().to_owned()).collect();
        let driver = driver(flushed.event.hook);
        let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        case.findings.push(Finding {
            check: &SPEC,
            severity: if took > DEAD { Severity::Critical } else { Severity::Warning },
            subject: reference.map_or(Subject::HappenedToNone, |group| flush::subject(group, flushed)),
            proved: true,
            mono_ns: flushed.event.mono_ns,
            device: flushed.event.device.map(|device| device.name),
            pasids: if window { flush::pasids(found, group) } else { Vec::new() },
            domain: flushed.domain,
            summary: format!(
                "an invalidation of the {driver} driver took {} ms {}",
                took.as_millis(),
                flush::window(flushed)
            ),
            triggered_by: Some(flushed.by),
            read: vec![
                Read { what: "took, in µs", value: Value::Count(micros) },
                Read { what: "asked for", value: Value::Names(scopes) },
                Read { what: "IOMMU driver", value: Value::Names(vec![driver.to_owned()]) },
                Read { what: "another one within the last minute", value: Value::Flag(*again) },
            ],
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

/// Whose queue it is.
fn driver(hook: Hook) -> &'static str {
    match hook {
        Hook::AmdWait => "amd",
        Hook::SmmuQueue => "arm-smmu-v3",
        _ => "intel",
    }
}
