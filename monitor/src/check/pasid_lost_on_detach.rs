//! `pasid-lost-on-detach`: a switch of a RID's domain leaves the device's PASIDs alone.

use monitor_ebpf::wire::Hook;

use crate::coverage::Coverage;
use crate::inventory::Inventory;
use crate::model::{Host, Kind, Transition};

use super::drivers::{self, Seen};
use super::pasid_left_on_release::list;
use super::spec::{CheckState, Needs, Severity, Spec};
use super::violation::{Confidence, Finding, Read, Standing, Subject, Value};
use super::{Case, Check};

pub(super) struct PasidLostOnDetach;

const DRIVERS: [Seen; 3] = [
    ("intel", Hook::VtdTearDown, "clears no entry where it could be seen"),
    ("amd", Hook::AmdTableFree, "keeps PASID tables by domain: a switch of the domain is one of the table"),
    ("arm-smmu-v3", Hook::SmmuClear, "writes its context descriptors where it can't be seen"),
];

static SPEC: Spec = Spec {
    name: "pasid-lost-on-detach",
    section: "PASID life cycle",
    severities: &[Severity::Critical],
    invariant: "Inside a task's window of switching a RID's domain (__iommu_attach_device), that task clears no entry \
                and frees no table that holds a PASID >= 1 of that device, outside reset and release.",
    why: "A RID and a device's PASIDs are address spaces of their own: who detaches the RID's domain, or attaches \
          another, disables the one and must not touch the others. A driver that does takes the memory from under the \
          PASIDs' users: their DMA faults, and the core still has those PASIDs for attached. It is scenario (b).",
    needs: Needs {
        core_pasids: true,
        required: &[Hook::RidAttach, Hook::PasidAttach, Hook::PasidDetach, Hook::DeviceRemove],
        required_if_present: &[Hook::PasidReplace, Hook::ResetPrepare, Hook::ResetDone],
        any_of: &[Hook::VtdTearDown, Hook::VtdTableFree, Hook::AmdClear, Hook::AmdTableFree, Hook::SmmuClear],
        degrades: &[
            (Hook::VtdTearDown, "entries that the intel driver clears are missed"),
            (Hook::VtdTableFree, "tables that the intel driver frees are missed"),
            (Hook::AmdClear, "entries that the amd driver clears are missed"),
            (Hook::AmdTableFree, "tables that the amd driver frees are missed"),
            (Hook::SmmuClear, "entries that the arm-smmu-v3 driver clears are missed"),
        ],
    },
    judges: &[Kind::Returned(Hook::RidAttach)],
    by_look: None,
    implies: &["capability-off-under-pasids", "pasid-table-mismatch", "group-divergence"],
    traps: &[
        "PASID 0 is the RID's own: its entry is torn down with the switch.",
        "Between prepare and done of a reset (7.0 and later) the RID goes to the blocking domain and the PASIDs leave \
         the hardware; a reset that failed keeps them off.",
        "A device that is released loses its table with everything in it.",
        "A PASID whose process has exited was torn down then, and a device that joined its group later never had it: \
         neither can be lost.",
        "A call on the PASID that overlaps with the switch says itself what becomes of it.",
    ],
    seen_in: &[
        "J. Gunthorpe, linux-iommu, 8 Sep 2022 (\"Re: [PATCH v13 09/13] iommu/sva: Refactoring \
         iommu_sva_bind/unbind_device()\"): scenario (b)",
        "drivers/iommu/amd/iommu.c, 6.9 to 7.3: detach_device frees the device's GCR3 table on every switch",
        "drivers/iommu/intel/iommu.c, 5.15: a switch freed the PASID table",
    ],
    what_to_do: &[
        "Restart whatever used the PASIDs (attached_by): their DMA faults from now on, and a detach and a new attach \
         of each is what brings its translation back.",
        "Look at triggered_by and its stack: that is who had the RID's domain switched. Don't do it while PASIDs are \
         attached until the driver is mended.",
        "Treat the IOMMU driver of this kernel as not conforming: don't give PASIDs of its devices to userspace.",
        "Report it to the IOMMU driver's maintainer with the violation's JSON: the events show the switch, and what \
         was cleared inside it.",
    ],
};

impl Check for PasidLostOnDetach {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn judge(&self, transition: &Transition, case: &mut Case<'_>) {
        let Transition::Returned { group: reference, operation, end } = transition else { return };
        let Some(taken) = operation.taken.as_ref().filter(|_| operation.synced) else { return };
        let Some(group) = case.host.group(*reference) else { return };
        let mut pasids = taken.pasids.clone();
        pasids.retain(|(pasid, _)| !operation.overlap.pasid(*pasid));
        let Some(device) = operation.begin.device.filter(|_| !pasids.is_empty()) else { return };
        let numbers: Vec<u32> = pasids.iter().map(|(pasid, _)| *pasid).collect();
        let actor = operation.actor();
        let how = match taken.table {
            true => "and its driver freed the PASID table with",
            false => "and its driver cleared",
        };
        let to = operation.begin.domain;
        case.findings.push(Finding {
            check: &SPEC,
            severity: SPEC.severity(),
            subject: Subject::InSwitch { group: *reference, began_ns: actor.mono_ns },
            proved: true,
            mono_ns: end.mono_ns,
            device: Some(device.name),
            domain: to,
            summary: format!(
                "{}[{}] switched the RID of {} (group {}), {how} {}",
                actor.comm,
                actor.tid,
                device.name,
                group.id,
                list(&numbers)
            ),
            triggered_by: Some(actor),
            read: vec![
                Read { what: "PASIDs lost", value: Value::Pasids(numbers) },
                Read { what: "PASID table freed", value: Value::Flag(taken.table) },
                Read { what: "switched to", value: Value::Domain(to.map(|to| case.names.domain(to))) },
            ],
            pasids,
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
