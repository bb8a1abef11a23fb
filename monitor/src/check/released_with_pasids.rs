//! `released-with-pasids`: a device and a group that go take no PASID with them.

use monitor_ebpf::wire::Hook;

use crate::event::{Event, Name};
use crate::model::{Actor, Attachment, Group, GroupRef, Host, Kind, Transition};

use super::pasid_left_on_release::list;
use super::spec::{Needs, Severity, Spec};
use super::violation::{Confidence, Finding, Read, Standing, Subject, Value};
use super::{Case, Check};

pub(super) struct ReleasedWithPasids;

static SPEC: Spec = Spec {
    name: "released-with-pasids",
    section: "Tables",
    severities: &[Severity::Critical],
    invariant: "No PASID ≥ 1 present at intel_pasid_free_table (VT-d), at free_gcr3_table (AMD, from 6.9, outside a switch \
                of the RID's domain) or at iommu_deinit_device (SMMUv3, from 6.7), and no index ≥ 1 in the array at \
                iommu_group_release, which never looks.",
    why: "The table goes while a translation is in it, and whoever attached it believes that it stands: his detach comes \
          after the device, and works on memory that is freed. The kernel says nothing of it.",
    needs: Needs {
        core_pasids: false,
        required: &[],
        required_if_present: &[],
        any_of: &[Hook::VtdTableLeft, Hook::AmdTableLeft, Hook::SmmuTableLeft, Hook::GroupRelease],
        degrades: &[
            (Hook::VtdTableLeft, "what VT-d's driver frees with a device is not seen"),
            (Hook::AmdTableLeft, "what AMD's driver frees with a device is not seen"),
            (Hook::SmmuTableLeft, "what SMMUv3's driver frees with a device is not seen"),
            (Hook::GroupRelease, "what is freed with a group is not seen"),
        ],
    },
    judges: &[Kind::TableLeft, Kind::FreedWithPasids],
    by_look: None,
    implies: &[],
    traps: &[
        "PASID 0 is the RID's own: entry 0 of the table, and its handle at index 0 of the array.",
        "Who left the PASIDs when he let go of the group, or lets the hardware have what the core doesn't know, is told \
         already: removing the device is what mends that, and is told with it.",
        "AMD's driver frees the table whenever the RID's domain is switched (6.9 to 7.3): what was in it then is told by \
         pasid-lost-on-detach.",
        "Up to 6.8 AMD's table was the domain's, and SMMUv3's up to 6.6: those go with their domain.",
        "A member that leaves a group whose others have a PASID takes the entry with it: the core doesn't take it off.",
    ],
    seen_in: &["CVE-2024-27079", "CVE-2026-23063", "CVE-2021-46918"],
    what_to_do: &[
        "attached_by is who attached the PASID and still counts on it: end it before it detaches, if you can, and \
         expect a warning or worse from the kernel when it does.",
        "triggered_by took the device away. Unbind its driver before a device is removed.",
        "Report it to the maintainer of the driver that attached the PASID, with the violation's JSON.",
    ],
};

impl Check for ReleasedWithPasids {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn judge(&self, transition: &Transition, case: &mut Case<'_>) {
        match transition {
            Transition::TableLeft { group, event } => {
                let Some(known) = case.host.group(*group) else { return };
                let Some(device) = event.device.map(|device| device.name) else { return };
                let entries = event.table.iter().flat_map(|table| table.pasids());
                let pasids: Vec<u32> = entries.map(|entry| entry.pasid).collect();
                let what = format!("the PASID table of {device}");
                found(*group, known, event, Some(device), &pasids, &what, case);
            }
            Transition::FreedWithPasids { group, event } => {
                let Some(known) = case.host.departed(*group) else { return };
                let array = event.array.iter().flat_map(|array| array.pasids());
                let pasids: Vec<u32> = array.map(|entry| entry.pasid).collect();
                let what = format!("group {}", known.id);
                found(*group, known, event, known.left_last, &pasids, &what, case);
            }
            _ => {}
        }
    }

    fn standing(&self, _: &Subject, _: &Host) -> Standing {
        Standing::Happened
    }
}

fn found(
    reference: GroupRef,
    group: &Group,
    event: &Event,
    device: Option<Name>,
    pasids: &[u32],
    what: &str,
    case: &mut Case<'_>,
) {
    if pasids.is_empty() {
        return;
    }
    let attachment = |pasid: &u32| {
        let known = group.attachment(*pasid).copied();
        (*pasid, known.unwrap_or(Attachment { domain: None, attached_by: None }))
    };
    let actor = Actor::of(event);
    case.findings.push(Finding {
        check: &SPEC,
        severity: SPEC.severity(),
        subject: Subject::Happened { group: reference },
        proved: true,
        mono_ns: event.mono_ns,
        device,
        pasids: pasids.iter().map(attachment).collect(),
        domain: None,
        triggered_by: Some(actor),
        summary: format!("{}[{}] took {what} away with {} in it", actor.comm, actor.tid, list(pasids)),
        read: vec![Read { what: "PASIDs in it", value: Value::Pasids(pasids.to_vec()) }],
        confidence: Confidence::ReadBack,
    });
}
