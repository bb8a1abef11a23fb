//! `driver-detach-failed`: a driver takes a PASID off a device when it is told to.

use monitor_ebpf::wire::Hook;

use crate::coverage::Coverage;
use crate::inventory::Inventory;
use crate::model::{Host, Kind, Transition};

use super::drivers::{self, Seen};
use super::spec::{CheckState, Needs, Severity, Spec};
use super::violation::{Confidence, Finding, Read, Standing, Subject, Value};
use super::{Case, Check};

pub(super) struct DriverDetachFailed;

/// Up to 6.13 `remove_dev_pasid` returns nothing.
const VOID: &str =
    "can't say that it failed to take a PASID off a device (up to 6.13 that call returns nothing)";

const DRIVERS: [Seen; 3] = [
    ("intel", Hook::VtdDetach, VOID),
    ("amd", Hook::AmdDetach, VOID),
    ("arm-smmu-v3", Hook::SmmuDetach, VOID),
];

static SPEC: Spec = Spec {
    name: "driver-detach-failed",
    section: "PASID life cycle",
    severities: &[Severity::Critical],
    invariant: "The driver's set_dev_pasid on the blocked domain returned 0; the core only WARNs and forgets the PASID. \
                (remove_dev_pasid is void up to 6.13: not applicable there.)",
    why: "A detach can't fail: whoever asked for it frees the memory next. A driver that didn't take the PASID off \
          leaves the device a translation that nobody knows of any more, into memory that will be somebody else's.",
    needs: Needs {
        core_pasids: true,
        required: &[Hook::PasidAttach, Hook::PasidDetach],
        required_if_present: &[Hook::PasidReplace, Hook::ResetPrepare, Hook::ResetDone],
        any_of: &[Hook::VtdDetach, Hook::AmdDetach, Hook::SmmuDetach],
        degrades: &[
            (Hook::VtdDetach, "detaches of the intel driver are missed"),
            (Hook::AmdDetach, "detaches of the amd driver are missed"),
            (Hook::SmmuDetach, "detaches of the arm-smmu-v3 driver are missed"),
        ],
    },
    judges: &[Kind::DetachFailed],
    by_look: None,
    implies: &["pasid-table-mismatch"],
    traps: &[
        "Who attaches a blocking domain to a PASID himself is told that it failed: that is no detach.",
        "A reset (7.0 and later) takes PASIDs off a device in the same way, and puts them back.",
        "A device that is released has nothing taken off.",
    ],
    seen_in: &["CVE-2026-52953"],
    what_to_do: &[
        "Treat the device as able to reach memory that it should not: take it out of service before the next tenant \
         gets it.",
        "Look for the kernel's WARN in iommu_detach_device_pasid in dmesg: it has the error.",
        "Look at triggered_by: that is who detached the PASID; attached_by is who had attached it.",
        "Report it to the IOMMU driver's maintainer with the violation's JSON.",
    ],
};

impl Check for DriverDetachFailed {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn judge(&self, transition: &Transition, case: &mut Case<'_>) {
        let Transition::DetachFailed { group: reference, pasid, attachment, by, event } = transition else {
            return;
        };
        let Some(group) = case.host.group(*reference) else { return };
        let Some(device) = event.device.map(|device| device.name) else { return };
        let errno = event.ret.unwrap_or_default().unsigned_abs();
        case.findings.push(Finding {
            check: &SPEC,
            severity: SPEC.severity(),
            subject: Subject::Happened { group: *reference },
            proved: true,
            mono_ns: event.mono_ns,
            device: Some(device),
            domain: attachment.domain,
            summary: format!(
                "the driver did not take PASID {pasid} off {device} (group {}) for {}[{}]: error {errno}",
                group.id, by.comm, by.tid
            ),
            triggered_by: Some(*by),
            read: vec![
                Read { what: "error of the driver's set_dev_pasid", value: Value::Count(errno) },
                Read {
                    what: "domain to be taken off",
                    value: Value::Domain(event.old.map(|old| case.names.domain(old))),
                },
            ],
            pasids: vec![(*pasid, *attachment)],
            confidence: Confidence::Observed,
        });
    }

    fn standing(&self, _: &Subject, _: &Host) -> Standing {
        Standing::Happened
    }

    fn state(&self, coverage: &Coverage, inventory: Option<&Inventory>) -> CheckState {
        drivers::unseen(coverage, inventory, &DRIVERS).unwrap_or_else(|| SPEC.needs.state(coverage))
    }
}
