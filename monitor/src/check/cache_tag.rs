//! What the checks of VT-d's cache tags have in common.

use monitor_ebpf::wire::Hook;

use crate::coverage::Coverage;
use crate::event::{Domain, Tags};
use crate::inventory::Inventory;
use crate::model::{GroupRef, Tagged};

use super::spec::{CheckState, Severity, Spec};
use super::violation::{Confidence, Finding, Read, Subject, Value};
use super::{Case, look};

/// Why there are no cache tags to judge on this host; `None`: there are, or that is not known.
pub(super) fn without_tags(coverage: &Coverage, inventory: Option<&Inventory>) -> Option<CheckState> {
    let inventory = inventory?;
    let reason = if inventory.groups.is_empty() {
        "no device of this host is behind an IOMMU"
    } else if !inventory.has_iommu_driver("intel") {
        "no device of this host is behind VT-d, and only its driver keeps cache tags"
    } else if coverage.is_without(Hook::VtdTagAssign) {
        "the intel driver of this kernel keeps no cache tags (they came with 6.10)"
    } else {
        return None;
    };
    Some(CheckState::NotApplicable { reason: reason.into() })
}

/// What a call left of tags, as a finding.
pub(super) fn finding(
    check: &'static Spec,
    group: GroupRef,
    tagged: &Tagged,
    summary: String,
    case: &mut Case<'_>,
) -> Finding {
    let Tagged { device, domain, pasid, tags, attachment, by, mono_ns, .. } = *tagged;
    Finding {
        check,
        severity: Severity::Critical,
        subject: Subject::Happened { group },
        proved: true,
        mono_ns,
        device: Some(device),
        pasids: if pasid == 0 { Vec::new() } else { vec![(pasid, attachment)] },
        domain: Some(domain),
        triggered_by: Some(by),
        summary,
        read: read(&tags, Some(domain), case),
        confidence: Confidence::ReadBack,
    }
}

/// What was read, as values that a verdict rests on.
pub(super) fn read(tags: &Tags, domain: Option<Domain>, case: &mut Case<'_>) -> Vec<Read> {
    let mut read = vec![look::domain("domain", domain, case.names)];
    read.extend(tags.ats.map(|ats| Read { what: "ATS enabled", value: Value::Flag(ats) }));
    let users = tags.device_tlb;
    read.extend(users.map(|users| Read { what: "users of the device-TLB tag", value: Value::Count(users) }));
    read
}

/// What of a device it is: `PASID 5 of 0000:01:00.0`, or its RID.
pub(super) fn of(tagged: &Tagged) -> String {
    match tagged.pasid {
        0 => format!("the RID of {}", tagged.device),
        pasid => format!("PASID {pasid} of {}", tagged.device),
    }
}
