//! `flush-range-short`: what was unmapped is flushed, all of it. Off unless it is asked for.

use monitor_ebpf::wire::Hook;

use crate::coverage::{Coverage, HookState};
use crate::event::Range;
use crate::inventory::Inventory;
use crate::model::{Actor, Attachment, Host, Kind, Transition};

use super::flush::{self, OfDriver};
use super::spec::{CheckState, Needs, Severity, Spec};
use super::violation::{Confidence, Finding, Read, Standing, Subject, Value};
use super::{Case, Check};

pub(super) struct FlushRangeShort;

/// Measured: README.md, "What it costs".
const COST: &str = "some 3,500 instructions more for each unmap that is flushed at once (a map and an unmap of a page take 7,800 without)";

const NEEDS: Needs = Needs {
    core_pasids: false,
    required: &[Hook::VtdSync, Hook::VtdRangeQueue],
    required_if_present: &[Hook::RidAttach, Hook::PasidDetach, Hook::VtdTearDown, Hook::VtdDetach],
    any_of: &[],
    degrades: &[(Hook::VtdMmFlush, "what changes in the memory of a process (SVA) is not judged")],
};

/// VT-d's alone.
const DRIVERS: [OfDriver; 1] = [OfDriver { driver: "intel", entries: None, needs: NEEDS }];

static SPEC: Spec = Spec {
    name: "flush-range-short",
    section: "Invalidation",
    severities: &[Severity::Critical],
    invariant: "When VT-d's driver returns from the sync of a gather (intel_iommu_tlb_sync), each cache that holds \
                translations of the domain (each cache tag: the IOTLB, and the device TLB of a device with ATS) was told \
                to drop all addresses from the gather's start to its end; when it returns from an mm notifier \
                (intel_arch_invalidate_secondary_tlbs), all that the notifier was called for.",
    why: "What was not flushed still translates: the memory has another owner by then, and the device writes to it.",
    needs: NEEDS,
    judges: &[Kind::RangeShort],
    by_look: None,
    implies: &[],
    traps: &[
        "It is off unless it is asked for, by `--enable flush-range-short`, or `[check.flush-range-short] enabled = true` \
         in the configuration file: some 3,500 instructions more for each \
         unmap that is flushed at once (a map and an unmap of a page take 7,800 without).",
        "A flush of a wider kind covers: by alignment, of the whole domain, of the whole PASID, of everything.",
        "Lazy DMA mode (DMA-FQ) doesn't sync at the unmap: its flush of everything comes later, by design.",
        "Many unmaps and one sync: the gather has them all. One that got nothing needs no flush.",
        "A cache that came to the domain or left it meanwhile, or a device that was attached or detached anywhere: the \
         flush is counted as undecided (`iommu_watch_flush_ranges_total`).",
        "A domain that nothing is attached to has no cache to flush.",
        "Device TLBs are not flushed while the IOMMU doesn't translate, with ATS off, or of a device that is gone.",
        "An interrupt that unmaps in the middle of another's flush is a flush of its own; the one that it interrupted may \
         be left undecided.",
        "Without queued invalidation (register-based) nothing is seen, and nothing judged. Of a domain with more than \
         eight caches the first eight are judged.",
        "Whether the gather itself covers what was unmapped is not judged (CVE-2026-31735 is of that kind).",
    ],
    seen_in: &[
        "e7ad6c2a4b1a \"iommu/vt-d: Fix incorrect cache invalidation for mm notification\" (6.7)",
        "the size of device-TLB invalidations, mended in 2020 (5.9)",
    ],
    what_to_do: &[
        "Take the device out of service: it can reach memory that isn't its own any more.",
        "Until there is a mended kernel, boot with `iommu.strict=0` only if you know that the flush of everything is \
         whole, else keep untrusted devices and guests off this host.",
        "Report it with the range that was asked for and the one that was covered, and the kernel stack of the unmap.",
    ],
};

impl Check for FlushRangeShort {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn judge(&self, transition: &Transition, case: &mut Case<'_>) {
        let Transition::RangeShort { group: reference, event, range } = transition else { return };
        let group = reference.and_then(|reference| case.host.group(reference));
        let pasid = event.pasid.filter(|&pasid| pasid != 0);
        let attachment = |pasid| {
            let known = group.and_then(|group| group.attachment(pasid)).copied();
            (pasid, known.unwrap_or(Attachment { domain: None, attached_by: None }))
        };
        let what = if event.hook == Hook::VtdMmFlush { "an mm notifier asked for" } else { "was unmapped" };
        let device = event.device.map(|device| device.name);
        case.findings.push(Finding {
            check: &SPEC,
            severity: SPEC.severity(),
            subject: reference.map_or(Subject::HappenedToNone, |group| Subject::Happened { group }),
            proved: true,
            mono_ns: event.mono_ns,
            device,
            pasids: pasid.map(attachment).into_iter().collect(),
            domain: event.domain,
            summary: format!(
                "of what {what} ({}) the {} was told to drop {}",
                span(range.asked),
                match (range.device, device) {
                    (Some(_), Some(name)) => format!("device TLB of {name}"),
                    (Some(_), None) => "device TLB".into(),
                    (None, _) => "IOTLB".into(),
                },
                range.covered.map_or("nothing".into(), |covered| format!("only {}", span(covered))),
            ),
            triggered_by: Some(Actor::of(event)),
            read: read(range),
            confidence: Confidence::ReadBack,
        });
    }

    fn standing(&self, _: &Subject, _: &Host) -> Standing {
        Standing::Happened
    }

    fn state(&self, coverage: &Coverage, inventory: Option<&Inventory>) -> CheckState {
        if *coverage.get(Hook::VtdSync) == HookState::Off {
            let reason = format!("opt-in, by --enable {} or the configuration file: {COST}", SPEC.name);
            return CheckState::NotAskedFor { reason };
        }
        flush::state(coverage, inventory, &DRIVERS)
    }
}

/// I/O virtual addresses, first and last: no address of the kernel's.
fn span((first, last): (u64, u64)) -> String {
    format!("{first:#x}-{last:#x}")
}

fn read(range: &Range) -> Vec<Read> {
    let names = |what, name: String| Read { what, value: Value::Names(vec![name]) };
    vec![
        names("range to flush", span(range.asked)),
        names("range flushed", range.covered.map_or("nothing".into(), span)),
        Read { what: "domain id of the cache", value: Value::Count(range.did) },
        Read { what: "descriptors submitted meanwhile", value: Value::Count(range.descriptors) },
    ]
}
