//! `pasid-reused-without-flush`: an entry that was torn down is flushed before it is used again.

use monitor_ebpf::wire::Hook;

use crate::coverage::Coverage;
use crate::inventory::Inventory;
use crate::model::{Attachment, Host, Kind, Transition};

use super::flush::{self, OfDriver};
use super::spec::{CheckState, Needs, Severity, Spec};
use super::teardown_flush_incomplete as teardown;
use super::violation::{Confidence, Finding, Read, Standing, Subject, Value};
use super::{Case, Check};

pub(super) struct PasidReusedWithoutFlush;

/// What it needs beside what a teardown's check needs: where an entry is set up.
const DRIVERS: [OfDriver; 3] = [
    OfDriver {
        driver: "intel",
        entries: Some(Hook::SnapshotIntel),
        needs: Needs {
            required_if_present: &[
                Hook::VtdSetupFirst,
                Hook::VtdSetupSecond,
                Hook::VtdSetupPassThrough,
                Hook::VtdSetupNested,
                Hook::DevicePresent,
            ],
            ..teardown::VTD
        },
    },
    OfDriver {
        driver: "amd",
        entries: Some(Hook::SnapshotAmd),
        needs: Needs { required_if_present: &[Hook::AmdSet], ..teardown::AMD },
    },
    OfDriver {
        driver: "arm-smmu-v3",
        entries: None,
        needs: Needs { required_if_present: &[Hook::SmmuSet], ..teardown::SMMU },
    },
];

static SPEC: Spec = Spec {
    name: "pasid-reused-without-flush",
    section: "Invalidation",
    severities: &[Severity::Critical],
    invariant: "A (device, PASID) entry that was torn down doesn't become present again before an invalidation that covers \
                its last use.",
    why: "The device goes on with what it cached of the PASID's last user: the new one's DMA ends up in the old one's \
          memory, or the other way round.",
    needs: Needs {
        required_if_present: &[
            Hook::VtdSetupFirst,
            Hook::VtdSetupSecond,
            Hook::VtdSetupPassThrough,
            Hook::VtdSetupNested,
            Hook::AmdSet,
            Hook::SmmuSet,
        ],
        ..teardown::NEEDS
    },
    judges: &[Kind::SetUpOwed],
    by_look: None,
    implies: &[],
    traps: &[
        "A replace in place flushes after the entry has changed.",
        "From 6.19 a replace is a teardown and a set-up: the teardown flushes.",
        "Setting an entry up needs no invalidation, unless the IOMMU is in caching mode. AMD's driver and SMMUv3's flush \
         then, too: what an entry is owed is looked for when it has been set up, so that this makes up for it.",
        "Any later invalidation that covers the entry makes up for it, whoever submits it: it is looked for for five \
         minutes.",
        "A device that goes takes with it what was owed to its entries.",
    ],
    seen_in: &["CVE-2026-31462", "\"Fix incomplete cache flush in intel_pasid_tear_down_entry\" (5.15)"],
    what_to_do: &[
        "Take the device out of service: two users of one PASID can reach each other's memory.",
        "Look for the teardown-flush-incomplete of the same device and PASID: it says who left what out.",
        "Keep the violation's JSON and report it to the IOMMU driver's maintainers.",
    ],
};

impl Check for PasidReusedWithoutFlush {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn judge(&self, transition: &Transition, case: &mut Case<'_>) {
        let Transition::SetUpOwed { group: reference, flushed } = transition else { return };
        let found = &*flushed.flush;
        let (owed, event) = (found.owed(), &flushed.event);
        let Some(since) =
            found.owed_since_ns.filter(|_| !owed.is_empty() && event.ret.is_none_or(|ret| ret == 0))
        else {
            return;
        };
        let ago = event.mono_ns.saturating_sub(since) / 1_000_000;
        let pasid = found.entry.pasid;
        let attachment = Attachment { domain: flushed.domain, attached_by: Some(flushed.by) };
        case.findings.push(Finding {
            check: &SPEC,
            severity: SPEC.severity(),
            subject: flush::subject(*reference, flushed),
            proved: true,
            mono_ns: event.mono_ns,
            device: event.device.map(|device| device.name),
            pasids: if pasid == 0 { Vec::new() } else { vec![(pasid, attachment)] },
            domain: flushed.domain,
            summary: format!(
                "{} of {} is in use again, and the {} not flushed since it was torn down {ago} ms ago",
                flush::entry(found),
                flush::device(flushed),
                match owed.as_slice() {
                    [_] => format!("{} was", flush::list(&owed)),
                    _ => format!("{} were", flush::list(&owed)),
                },
            ),
            triggered_by: Some(flushed.by),
            read: vec![
                flush::names("caches not flushed since", &owed),
                flush::tag(found),
                Read {
                    what: "ms since the teardown",
                    value: Value::Count(u32::try_from(ago).unwrap_or(u32::MAX)),
                },
            ],
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
