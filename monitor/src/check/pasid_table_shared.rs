//! `pasid-table-shared`: every device has a PASID table of its own.

use monitor_ebpf::wire::Hook;

use crate::coverage::Coverage;
use crate::inventory::Inventory;
use crate::model::{Actor, Host, Transition};

use super::spec::{CheckState, Needs, Severity, Spec};
use super::violation::{Confidence, Finding, Read, Standing, Subject, Value};
use super::{Case, Check};

pub(super) struct PasidTableShared;

static SPEC: Spec = Spec {
    name: "pasid-table-shared",
    section: "Tables",
    severities: &[Severity::Critical, Severity::Info],
    invariant: "No two devices (struct device) use one PASID table (VT-d pasid_table, AMD GCR3 root, SMMUv3 CD table); \
                several RIDs or StreamIDs of one device may.",
    why: "Each RID has its own PASID mapping, and there is no API to share a table: with one table for two devices, \
          a PASID that is attached for one of them translates for the other as well.",
    needs: Needs {
        core_pasids: false,
        required: &[Hook::DeviceRemove],
        required_if_present: &[],
        any_of: &[Hook::SnapshotIntel, Hook::VtdTableAlloc],
        degrades: &[
            (Hook::VtdTableFree, "a table that is freed is forgotten only with its device"),
            (Hook::SnapshotIntel, "tables of devices that were there before we watched are not read"),
        ],
    },
    implies: &[],
    traps: &[
        "Several RIDs of one device (DMA aliases, quirks) use its one table, by design.",
        "A device that is gone has no table: its address and its table's are used again.",
        "A device without scalable mode, or a VMD sub-device, has no table at all.",
        "Up to 6.6 SMMUv3 and up to 6.8 AMD hang the table off the domain: sharing is their design.",
    ],
    seen_in: &["4140d77a0221 (5.19): VT-d shared a table between DMA aliases", "10e4968cd511 (6.7)"],
    what_to_do: &[
        "Treat both devices as one: neither may be given to a tenant while the other serves somebody else.",
        "If it is critical, the driver, or something that writes into its memory, has mixed up two devices: keep the \
         violation's JSON and report it.",
        "If it is info, the running driver shares by design: put devices of different tenants behind different IOMMU \
         drivers, or move to a kernel that has the table per device.",
    ],
};

impl Check for PasidTableShared {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn judge(&self, transition: &Transition, case: &mut Case<'_>) {
        let Transition::Table { device: key, event } = transition else { return };
        let Some(device) = case.host.device(*key) else { return };
        let Some(Some(table)) = device.table else { return };
        let sharers =
            case.host.devices().filter(|other| other.key != *key && other.table == Some(Some(table)));
        for other in sharers {
            let mut devices = [device, other];
            devices.sort_by_key(|a| a.name);
            let names = devices.map(|device| device.name.to_string());
            case.findings.push(Finding {
                check: &SPEC,
                severity: SPEC.severity(),
                subject: Subject::Shared {
                    devices: devices.map(|device| (device.key, device.generation)),
                    table,
                },
                proved: true,
                mono_ns: event.mono_ns,
                device: None,
                pasids: Vec::new(),
                domain: None,
                // A snapshot is our own doing.
                triggered_by: (event.hook != Hook::SnapshotIntel).then(|| Actor::of(event)),
                summary: format!("{} and {} use one PASID table", names[0], names[1]),
                read: vec![Read { what: "devices with this table", value: Value::Names(names.to_vec()) }],
                confidence: Confidence::ReadBack,
            });
        }
    }

    fn standing(&self, subject: &Subject, host: &Host) -> Standing {
        let Subject::Shared { devices, table } = subject else { return Standing::Cleared };
        let live = devices
            .map(|(key, generation)| host.device(key).filter(|device| device.generation == generation));
        match live {
            [Some(one), Some(two)] => match (one.table, two.table) {
                (Some(Some(a)), Some(Some(b))) if a == *table && b == *table => Standing::Stands,
                (None, _) | (_, None) => Standing::Unknown,
                (Some(_), Some(_)) => Standing::Cleared,
            },
            _ => Standing::Released,
        }
    }

    fn state(&self, coverage: &Coverage, inventory: Option<&Inventory>) -> CheckState {
        let Some(inventory) = inventory else { return SPEC.needs.state(coverage) };
        if inventory.groups.is_empty() {
            return CheckState::NotApplicable { reason: "no device of this host is behind an IOMMU".into() };
        }
        if inventory.has_iommu_driver("intel") {
            return SPEC.needs.state(coverage);
        }
        for driver in ["amd", "arm-smmu-v3"] {
            if inventory.has_iommu_driver(driver) {
                let reason = format!("the tables of the {driver} driver are not read by this version");
                return CheckState::Unavailable { reason };
            }
        }
        CheckState::NotApplicable {
            reason: "no IOMMU driver of this host has PASID tables that we know".into(),
        }
    }
}
