//! `teardown-flush-incomplete`: a PASID entry that is torn down is dropped from every cache before that returns.

use monitor_ebpf::descriptor::condition;
use monitor_ebpf::wire::Hook;

use crate::coverage::Coverage;
use crate::inventory::Inventory;
use crate::model::{Host, Kind, Transition};

use super::flush::{self, OfDriver};
use super::spec::{CheckState, Needs, Severity, Spec};
use super::violation::{Confidence, Finding, Read, Standing, Subject, Value};
use super::{Case, Check};

pub(super) struct TeardownFlushIncomplete;

/// What it needs of VT-d's driver, of AMD's and of SMMUv3's.
pub(super) const VTD: Needs = Needs {
    required: &[Hook::VtdTearDown, Hook::VtdQueue],
    required_if_present: &[Hook::DevicePresent],
    degrades: &[(
        Hook::VtdSubmit,
        "a flush that was submitted and failed counts as done, because the returns of submissions are not seen",
    )],
    ..Needs::NOTHING
};
pub(super) const AMD: Needs = Needs {
    required: &[Hook::AmdClear, Hook::AmdQueue],
    degrades: &[(
        Hook::AmdWait,
        "a flush that failed, or that nobody waited for, counts as done, because the returns of waiting are not seen",
    )],
    ..Needs::NOTHING
};
pub(super) const SMMU: Needs =
    Needs { required: &[Hook::SmmuRemove, Hook::SmmuClear, Hook::SmmuQueue], ..Needs::NOTHING };

const DRIVERS: [OfDriver; 3] = [
    OfDriver { driver: "intel", entries: Some(Hook::SnapshotIntel), needs: VTD },
    OfDriver { driver: "amd", entries: Some(Hook::SnapshotAmd), needs: AMD },
    OfDriver { driver: "arm-smmu-v3", entries: None, needs: SMMU },
];

/// The same for its page: that of one driver is enough.
pub(super) const NEEDS: Needs = Needs {
    required_if_present: VTD.required_if_present,
    any_of: &[Hook::VtdTearDown, Hook::AmdClear, Hook::SmmuRemove],
    degrades: &[
        (Hook::VtdQueue, "behind VT-d it is unavailable"),
        VTD.degrades[0],
        (Hook::AmdQueue, "behind AMD's IOMMU it is unavailable"),
        AMD.degrades[0],
        (Hook::SmmuQueue, "behind SMMUv3 it is unavailable"),
        (Hook::SmmuClear, "behind SMMUv3 it is unavailable"),
    ],
    ..Needs::NOTHING
};

static SPEC: Spec = Spec {
    name: "teardown-flush-incomplete",
    section: "Invalidation",
    severities: &[Severity::Critical],
    invariant: "Before the teardown of a present PASID entry returns, the driver told the hardware to drop it and waited: \
                on VT-d the PASID cache, the IOTLB covering the entry's domain id and PASID, then the device TLB if ATS is \
                on; on AMD (no PASID cache) the IOTLB of the PASID, then the device TLB if ATS is on; on SMMUv3 the context \
                descriptor (CFGI_CD), then the device TLB if ATS is on. On VT-d not judged with translation off or \
                without queued invalidation; the device TLB nowhere for a device that is gone.",
    why: "Until it is dropped the device goes on translating by the entry that the kernel takes for gone: it reads and \
          writes memory that was freed and belongs to somebody else by now.",
    needs: NEEDS,
    judges: &[Kind::TornDown],
    by_look: None,
    implies: &["pasid-reused-without-flush"],
    traps: &[
        "An entry that was not present needs no flush: after its mm's exit (VT-d leaves it with faults disabled), or when \
         another task has just torn it down.",
        "A device that the kernel found absent, or has marked as disconnected, gets no device-TLB invalidation.",
        "Caching mode: up to 6.1 the device's invalidation is left out.",
        "A flush by domain, or a global one, covers the entry as well as one by PASID.",
        "VT-d's drain of the page-request queue flushes the PASID under the RID's domain id: that is another's.",
        "SMMUv3 tags translations with an ASID and flushes those when that is used again (up to 7.0), or when its last user \
         goes: the teardown of a PASID needs no TLBI. Of a device with several StreamIDs the first stands for all.",
        "AMD: another CPU may have asked the IOMMU already to tell the end of what this one queued; then the driver waits \
         for that and queues no COMPLETION_WAIT of its own.",
        "A process that exits: AMD's driver clears the entry then and flushes it; SMMUv3's disables the descriptor, which \
         stays valid until the PASID is detached.",
        "Lazy DMA mode defers flushes of unmaps, never those of a teardown.",
        "An invalidation that an interrupt submits meanwhile has dropped what it covers all the same.",
    ],
    seen_in: &[
        "\"Fix incomplete cache flush in intel_pasid_tear_down_entry\" (5.15)",
        "c362f32a59a8",
        "CVE-2026-53057",
        "CVE-2026-68329",
    ],
    what_to_do: &[
        "Take the device out of service before its memory is used again: unbind its driver, or remove it (echo 1 to \
         `remove` in sysfs).",
        "Look at the kernel's log for errors of the invalidation queue (DMAR, \"Invalidation Queue Error\"; AMD-Vi, \
         \"Completion-Wait loop timed out\"; arm-smmu-v3, \"CMD_SYNC timeout\").",
        "If nothing failed there, the driver forgot a flush: keep the violation's JSON and report it to the IOMMU \
         driver's maintainers.",
    ],
};

impl Check for TeardownFlushIncomplete {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn judge(&self, transition: &Transition, case: &mut Case<'_>) {
        let Transition::TornDown { group: reference, flushed } = transition else { return };
        let found = &*flushed.flush;
        let missing = found.missing();
        let Some(required) = found.required().filter(|_| !missing.is_empty()) else { return };
        let group = case.host.group(*reference);
        let pasids = flush::pasids(found, group);
        let domain = pasids.first().and_then(|(_, attachment)| attachment.domain).or(flushed.domain);
        let done: Vec<_> = required.iter().copied().filter(|cache| !missing.contains(cache)).collect();
        let mut read = vec![
            Read {
                what: "entry present on entry",
                value: Value::Flag(found.conditions.is(condition::PRESENT)),
            },
            flush::tag(found),
            Read { what: "ATS enabled", value: Value::Flag(found.conditions.is(condition::ATS)) },
            flush::names("caches to flush", &required),
            flush::names("caches flushed", &done),
            Read { what: "descriptors submitted meanwhile", value: Value::Count(found.descriptors) },
        ];
        let not_awaited = found.not_awaited();
        if !not_awaited.is_empty() {
            read.push(flush::names("submitted and not waited for", &not_awaited));
        }
        if let Some(errno) = found.failed {
            read.push(Read {
                what: "errno of a failed submission",
                value: Value::Count(errno.unsigned_abs()),
            });
        }
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
                "{} of {} was torn down, and the {} not flushed before that returned",
                flush::entry(found),
                flush::device(flushed),
                match missing.as_slice() {
                    [_] => format!("{} was", flush::list(&missing)),
                    _ => format!("{} were", flush::list(&missing)),
                },
            ),
            triggered_by: Some(flushed.by),
            read,
            confidence: Confidence::ReadBack,
        });
    }

    fn standing(&self, _: &Subject, _: &Host) -> Standing {
        Standing::Happened
    }

    fn state(&self, coverage: &Coverage, inventory: Option<&Inventory>) -> CheckState {
        flush::state(coverage, inventory, &DRIVERS)
    }
}
