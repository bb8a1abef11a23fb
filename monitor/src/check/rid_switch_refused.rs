//! `rid-switch-refused`: a driver that won't switch a RID's domain because PASIDs are bound.

use monitor_ebpf::wire::Hook;

use crate::model::{Host, Kind, Transition};

use super::pasid_left_on_release::list;
use super::spec::{Needs, Severity, Spec};
use super::violation::{Confidence, Finding, Read, Standing, Subject, Value};
use super::{Case, Check};

pub(super) struct RidSwitchRefused;

/// `EBUSY` (include/uapi/asm-generic/errno-base.h): "the device is attached to a domain and cannot be changed"
/// (`iommu_domain_ops::attach_dev` in include/linux/iommu.h). Every other error is of the domain, or of the moment.
const BUSY: i32 = -16;

static SPEC: Spec = Spec {
    name: "rid-switch-refused",
    section: "PASID life cycle",
    severities: &[Severity::Info],
    invariant: "(verdict) A driver does not refuse to switch a RID's domain (__iommu_attach_device returning -EBUSY) \
                because PASIDs are bound.",
    why: "A RID and a device's PASIDs are address spaces of their own. A driver that refuses keeps both safe and breaks \
          the API all the same: the RID stays on a domain that its owner has done with, and an owner that must be let \
          go can't be. It is scenario (c).",
    needs: Needs {
        core_pasids: true,
        required: &[Hook::RidAttach, Hook::PasidAttach, Hook::PasidDetach],
        required_if_present: &[Hook::PasidReplace, Hook::ResetPrepare, Hook::ResetDone],
        any_of: &[],
        degrades: &[],
    },
    judges: &[Kind::Returned(Hook::RidAttach)],
    by_look: None,
    implies: &[],
    traps: &[
        "Only -EBUSY is a refusal for the PASIDs' sake: a domain that doesn't fit the device gives -EINVAL with and \
         without them.",
        "Between prepare and done of a reset (7.0 and later) the core itself refuses, and no driver is asked.",
        "A PASID that a call under way may be changing is not counted as bound, nor one of a device that joined its \
         group later.",
    ],
    seen_in: &[
        "J. Gunthorpe, linux-iommu, 8 Sep 2022 (\"Re: [PATCH v13 09/13] iommu/sva: Refactoring \
         iommu_sva_bind/unbind_device()\"): scenario (c), SMMUv3 of that time",
        "drivers/iommu/arm/arm-smmu-v3 up to 6.6: an SVA-enabled master refuses; since then a stage 2 domain is \
         refused while PASIDs are in use",
    ],
    what_to_do: &[
        "Nothing is broken now. Whoever wanted the RID switched got -EBUSY: look at triggered_by.",
        "Detach the PASIDs (attached_by) before the RID's domain is switched.",
        "For the platform's qualification: this driver is of scenario (c).",
    ],
};

impl Check for RidSwitchRefused {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn judge(&self, transition: &Transition, case: &mut Case<'_>) {
        let Transition::Returned { group: reference, operation, end } = transition else { return };
        if operation.hook != Hook::RidAttach || end.ret != Some(BUSY) || !operation.synced {
            return;
        }
        let Some(group) = case.host.group(*reference) else { return };
        let Some(device) = operation.begin.device else { return };
        let mut pasids = case.host.live_pasids(device.key);
        pasids.retain(|(pasid, _)| !operation.overlap.pasid(*pasid));
        if pasids.is_empty() {
            return;
        }
        let numbers: Vec<u32> = pasids.iter().map(|(pasid, _)| *pasid).collect();
        let (actor, to) = (operation.actor(), operation.begin.domain);
        case.findings.push(Finding {
            check: &SPEC,
            severity: SPEC.severity(),
            subject: Subject::Happened { group: *reference },
            proved: true,
            mono_ns: end.mono_ns,
            device: Some(device.name),
            domain: to,
            summary: format!(
                "{}[{}] was refused a switch of the RID of {} (group {}), which has {}",
                actor.comm,
                actor.tid,
                device.name,
                group.id,
                list(&numbers)
            ),
            triggered_by: Some(actor),
            read: vec![
                Read { what: "PASIDs bound", value: Value::Pasids(numbers) },
                Read { what: "refused domain", value: Value::Domain(to.map(|to| case.names.domain(to))) },
            ],
            pasids,
            confidence: Confidence::Observed,
        });
    }

    fn standing(&self, _: &Subject, _: &Host) -> Standing {
        Standing::Happened
    }
}
