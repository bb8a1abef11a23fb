//! `capability-off-under-pasids`: what a device's PASIDs rely on stays on while they live.

use monitor_ebpf::wire::Hook;

use crate::event::{Domain, Name};
use crate::model::{Actor, Attachment, Capability, GroupRef, Host, Kind, Transition};

use super::pasid_left_on_release::list;
use super::spec::{Needs, Severity, Spec};
use super::violation::{Confidence, Finding, Read, Standing, Subject, Value};
use super::{Case, Check};

pub(super) struct CapabilityOffUnderPasids;

static SPEC: Spec = Spec {
    name: "capability-off-under-pasids",
    section: "PASID life cycle",
    severities: &[Severity::Critical, Severity::Warning],
    invariant: "PASID (critical) or ATS (warning) of a device isn't switched off while a PASID >= 1 is live on it, \
                outside reset and release.",
    why: "Without the PASID capability a device can't say whose address space a request is for: what was meant for a \
          PASID may go out as the RID's own, into memory of somebody else. Without ATS its I/O page faults can't be \
          resolved, and translations that it holds may outlive the flush that should have reached them.",
    needs: Needs {
        core_pasids: true,
        required: &[Hook::RidAttach, Hook::PasidAttach, Hook::PasidDetach, Hook::DeviceRemove],
        required_if_present: &[Hook::PasidReplace, Hook::ResetPrepare, Hook::ResetDone],
        any_of: &[Hook::PasidOff, Hook::AtsOff],
        degrades: &[
            (Hook::PasidOff, "a PASID capability that is switched off is missed"),
            (Hook::AtsOff, "an ATS capability that is switched off is missed"),
        ],
    },
    judges: &[Kind::Returned(Hook::RidAttach), Kind::CapabilityOff],
    by_look: None,
    implies: &[],
    traps: &[
        "A device that is released, or is reset, has its capabilities switched off with everything else.",
        "A driver may switch them off inside the detach of the last PASID (SMMUv3).",
        "A capability that was off already stays as it is.",
        "A PASID whose process has exited is not live any more, nor is one on a device that joined its group later.",
    ],
    seen_in: &[
        "drivers/iommu/intel/iommu.c, 6.2 to 6.9: device_block_translation switches PASID and ATS off on every switch \
         of a RID's domain; up to 6.14 (6.12 included) ATS",
        "drivers/iommu/amd/iommu.c, 6.9 to 7.3: detach_device switches both off",
    ],
    what_to_do: &[
        "If it is critical, stop the device: what it does for its PASIDs' users may reach the RID's memory.",
        "If it is a warning on VT-d up to 6.14, it is known of that driver: ATS is on again at once, and faults in \
         between are the risk. Don't switch a RID's domain while PASIDs are attached, or move to 6.16 or later.",
        "Look at triggered_by and its stack: that is who switched it off, or who had the RID's domain switched.",
        "Report it to the IOMMU driver's maintainer with the violation's JSON.",
    ],
};

/// What was switched off, and under whom.
struct Off<'a> {
    group: GroupRef,
    device: Name,
    capabilities: &'a [Capability],
    under: Vec<(u32, Attachment)>,
    by: Actor,
    mono_ns: u64,
    /// It was part of a switch of the RID to this domain.
    to: Option<Domain>,
}

impl Check for CapabilityOffUnderPasids {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn judge(&self, transition: &Transition, case: &mut Case<'_>) {
        match transition {
            Transition::Returned { group, operation, end } => {
                let Some(taken) = operation.taken.as_ref().filter(|_| operation.synced) else { return };
                let Some(device) = operation.begin.device else { return };
                let mut under = taken.under.clone();
                under.retain(|(pasid, _)| !operation.overlap.pasid(*pasid));
                let off = Off {
                    group: *group,
                    device: device.name,
                    capabilities: &taken.capabilities,
                    under,
                    by: operation.actor(),
                    mono_ns: end.mono_ns,
                    to: operation.begin.domain,
                };
                judge(off, case);
            }
            Transition::CapabilityOff { group, device, capability, under, event } => {
                let Some(device) = case.host.device(*device).map(|device| device.name) else { return };
                let off = Off {
                    group: *group,
                    device,
                    capabilities: &[*capability],
                    under: under.clone(),
                    by: Actor::of(event),
                    mono_ns: event.mono_ns,
                    to: None,
                };
                judge(off, case);
            }
            _ => {}
        }
    }

    fn standing(&self, _: &Subject, _: &Host) -> Standing {
        Standing::Happened
    }
}

fn judge(off: Off<'_>, case: &mut Case<'_>) {
    let Off { group: reference, device, capabilities, under, by, mono_ns, to } = off;
    let Some(group) = case.host.group(reference) else { return };
    let Some(worst) = capabilities.iter().max().filter(|_| !under.is_empty()) else { return };
    let numbers: Vec<u32> = under.iter().map(|(pasid, _)| *pasid).collect();
    let mut names: Vec<String> = capabilities.iter().map(|one| one.name().to_owned()).collect();
    names.sort_unstable();
    names.dedup();
    let (who, what) = (format!("{}[{}]", by.comm, by.tid), names.join(" and "));
    let how = match to {
        Some(_) => format!("{who} switched the RID of {device} (group {}), and {what} went off", group.id),
        None => format!("{who} switched {what} of {device} (group {}) off", group.id),
    };
    case.findings.push(Finding {
        check: &SPEC,
        severity: match worst {
            Capability::Pasid => Severity::Critical,
            Capability::Ats => Severity::Warning,
        },
        subject: match to {
            Some(_) => Subject::InSwitch { group: reference, began_ns: by.mono_ns },
            None => Subject::Happened { group: reference },
        },
        proved: true,
        mono_ns,
        device: Some(device),
        domain: to,
        summary: format!("{how} under {}", list(&numbers)),
        triggered_by: Some(by),
        read: vec![
            Read { what: "switched off", value: Value::Names(names) },
            Read { what: "live PASIDs", value: Value::Pasids(numbers) },
            Read { what: "inside a switch of the RID's domain", value: Value::Flag(to.is_some()) },
        ],
        pasids: under,
        confidence: Confidence::Observed,
    });
}
