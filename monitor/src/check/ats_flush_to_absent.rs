//! `ats-flush-to-absent`: a device that the kernel knows to be gone is asked for nothing.

use monitor_ebpf::descriptor::condition;
use monitor_ebpf::wire::Hook;

use crate::coverage::Coverage;
use crate::inventory::Inventory;
use crate::model::{Host, Kind, Transition};

use super::flush::{self, OfDriver};
use super::spec::{CheckState, Needs, Severity, Spec};
use super::violation::{Confidence, Finding, Read, Standing, Subject, Value};
use super::{Case, Check};

pub(super) struct AtsFlushToAbsent;

const NEEDS: Needs = Needs {
    core_pasids: false,
    required: &[Hook::VtdTearDown, Hook::VtdQueue],
    required_if_present: &[],
    any_of: &[],
    degrades: &[],
};

/// The one that looks whether the device is there.
const DRIVERS: [OfDriver; 1] = [OfDriver { driver: "intel", entries: None, needs: NEEDS }];

static SPEC: Spec = Spec {
    name: "ats-flush-to-absent",
    section: "Invalidation",
    severities: &[Severity::Critical],
    invariant: "No device-TLB (ATS) invalidation of the entry that is torn down goes to a device that the kernel had marked \
                as disconnected before the teardown of the PASID entry began (pci_dev::error_state is \
                pci_channel_io_perm_failure: what pci_dev_is_disconnected() looks for). Of VT-d.",
    why: "A device that was pulled out never answers, and VT-d's driver waits for the answer with interrupts off: the CPU \
          is locked up until the hardware gives up, which may take a minute, and each CPU that submits something waits \
          behind it.",
    needs: NEEDS,
    judges: &[Kind::TornDown],
    by_look: None,
    implies: &["flush-slow"],
    traps: &[
        "A device that is marked while the teardown runs: the driver may have looked before.",
        "A device that does not answer and is not marked (its power is off, its link is down): nobody can know.",
        "A virtual function: the driver asks its physical function, which may be marked a moment later. Not judged.",
        "An invalidation of other addresses, or of another PASID, that an interrupt submits meanwhile: an unmap of its own.",
        "Unmaps outside of a teardown don't look for the device on any kernel up to 7.3 (cache_tag_flush_range): not judged.",
        "AMD's and SMMUv3's drivers never look whether a device is there: not applicable behind them.",
        "What is told by pci_device_is_present() alone, which asks the device itself, is no mark.",
    ],
    seen_in: &["CVE-2024-26891", "CVE-2026-43130", "CVE-2026-43161"],
    what_to_do: &[
        "Look at the kernel's log: \"hard LOCKUP\" or \"rcu: INFO: ... stall\" in qi_submit_sync, DMAR \"Invalidation Time-out \
         Error\". If CPUs hang there, the host must be restarted.",
        "Take the kernel's stable update that has \"iommu/vt-d: Don't issue ATS Invalidation request when device is \
         disconnected\" (6.9, and stable releases).",
        "Until then don't pull devices out that have ATS on: unbind the driver and write 1 to `remove` first, or boot with \
         pci=noats.",
    ],
};

impl Check for AtsFlushToAbsent {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn judge(&self, transition: &Transition, case: &mut Case<'_>) {
        let Transition::TornDown { group: reference, flushed } = transition else { return };
        let found = &*flushed.flush;
        if !found.conditions.is(condition::DISCONNECTED) || !found.went_to_device() {
            return;
        }
        let group = case.host.group(*reference);
        let pasids = flush::pasids(found, group);
        let domain = pasids.first().and_then(|(_, attachment)| attachment.domain).or(flushed.domain);
        let [bus, function] = [found.entry.source >> 8 & 0xff, found.entry.source & 0xff];
        case.findings.push(Finding {
            check: &SPEC,
            severity: SPEC.severity(),
            subject: flush::subject(*reference, flushed),
            proved: true,
            mono_ns: flushed.event.mono_ns,
            device: flushed.event.device.map(|device| device.name),
            pasids,
            domain,
            summary: format!(
                "{} is marked as disconnected, and an ATS invalidation was sent to it while {} was torn down",
                flush::device(flushed),
                flush::entry(found),
            ),
            triggered_by: Some(flushed.by),
            read: vec![
                Read { what: "marked as disconnected before", value: Value::Flag(true) },
                Read {
                    what: "requester id of the invalidation",
                    value: Value::Names(vec![format!("{bus:02x}:{:02x}.{}", function >> 3, function & 7)]),
                },
                Read { what: "descriptors submitted meanwhile", value: Value::Count(found.descriptors) },
            ],
            confidence: Confidence::ReadBack,
        });
    }

    fn standing(&self, _: &Subject, _: &Host) -> Standing {
        Standing::Happened
    }

    fn state(&self, coverage: &Coverage, inventory: Option<&Inventory>) -> CheckState {
        match inventory {
            Some(host) if !host.groups.is_empty() && !host.has_iommu_driver("intel") => {
                let reason =
                    "no IOMMU driver of this host looks whether a device is there: VT-d's alone does".into();
                CheckState::NotApplicable { reason }
            }
            _ => flush::state(coverage, inventory, &DRIVERS),
        }
    }
}
