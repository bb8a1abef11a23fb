//! `pasid-table-shared`: every device has a PASID table of its own.

use monitor_ebpf::wire::{Hook, is_snapshot};

use crate::coverage::Coverage;
use crate::inventory::Inventory;
use crate::model::{Group, Host, Kind, Look, Transition};

use super::spec::{CheckState, Needs, Severity, Spec};
use super::violation::{Confidence, Finding, Read, Standing, Subject, Value};
use super::{Case, Check};

pub(super) struct PasidTableShared;

/// Tables are read when a group is looked at, and when the driver sets a device up.
const NEEDS: Needs = Needs {
    core_pasids: false,
    required: &[Hook::DeviceRemove],
    required_if_present: &[],
    any_of: &[Hook::SnapshotIntel, Hook::SnapshotAmd, Hook::SnapshotDma, Hook::VtdTableAlloc],
    degrades: &[
        (Hook::VtdTableFree, "a table that is freed is forgotten only with its device"),
        (Hook::SnapshotIntel, "tables of devices that were there before we watched are not read"),
    ],
};

static SPEC: Spec = Spec {
    name: "pasid-table-shared",
    section: "Tables",
    severities: &[Severity::Critical, Severity::Info],
    invariant: "No two devices (struct device) use one PASID table (VT-d pasid_table, AMD GCR3 root, SMMUv3 CD table); \
                several RIDs or StreamIDs of one device may.",
    why: "Each RID has its own PASID mapping, and there is no API to share a table: with one table for two devices, \
          a PASID that is attached for one of them translates for the other as well.",
    needs: NEEDS,
    judges: &[Kind::Table],
    by_look: Some(NEEDS),
    implies: &["pasid-table-mismatch"],
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
        let Transition::Table { device: key, hook, actor } = transition else { return };
        let Some(device) = case.host.device(*key) else { return };
        let Some(Some(table)) = device.table else { return };
        let sharers =
            case.host.devices().filter(|other| other.key != *key && other.table == Some(Some(table)));
        for other in sharers {
            let mut devices = [device, other];
            devices.sort_by_key(|device| device.name);
            let names = devices.map(|device| device.name.to_string());
            case.findings.push(Finding {
                check: &SPEC,
                severity: SPEC.severity(),
                subject: Subject::Shared {
                    devices: devices.map(|device| (device.key, device.generation)),
                    table,
                },
                proved: true,
                mono_ns: actor.mono_ns,
                device: None,
                pasids: Vec::new(),
                domain: None,
                // A snapshot is our own doing.
                triggered_by: (!is_snapshot(*hook)).then_some(*actor),
                summary: format!("{} and {} use one PASID table", names[0], names[1]),
                read: vec![Read { what: "devices with this table", value: Value::Names(names.to_vec()) }],
                confidence: Confidence::ReadBack,
            });
        }
    }

    /// Where tables hang off domains, sharing is the design: that is told once.
    fn look(&self, look: &Look, _: &Group, case: &mut Case<'_>) {
        if !look.tables_by_domain {
            return;
        }
        case.findings.push(Finding {
            check: &SPEC,
            severity: Severity::Info,
            subject: Subject::SharedByDesign,
            proved: true,
            mono_ns: look.mono_ns,
            device: None,
            pasids: Vec::new(),
            domain: None,
            triggered_by: None,
            summary:
                "this kernel's IOMMU driver keeps PASID tables by domain: devices of one domain share one"
                    .into(),
            read: vec![Read { what: "tables hang off domains", value: Value::Flag(true) }],
            confidence: Confidence::ReadBack,
        });
    }

    fn standing(&self, subject: &Subject, host: &Host) -> Standing {
        let (devices, table) = match subject {
            Subject::Shared { devices, table } => (devices, table),
            // It is what the driver is like.
            Subject::SharedByDesign => return Standing::Stands,
            _ => return Standing::Cleared,
        };
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
        without_tables(coverage, inventory, false).unwrap_or_else(|| SPEC.needs.state(coverage))
    }

    fn look_state(&self, coverage: &Coverage, inventory: Option<&Inventory>) -> Option<CheckState> {
        Some(self.state(coverage, inventory))
    }
}

/// The drivers that have PASID tables, each with the hook that reads them.
const DRIVERS: [(&str, Hook); 3] =
    [("intel", Hook::SnapshotIntel), ("amd", Hook::SnapshotAmd), ("arm-smmu-v3", Hook::SnapshotDma)];

/// Why a check of PASID tables can't do its work on this host; `None`: it can, or that is not known yet. `entries`: it
/// goes by what is in the tables, and not by their roots alone.
pub(super) fn without_tables(
    coverage: &Coverage,
    inventory: Option<&Inventory>,
    entries: bool,
) -> Option<CheckState> {
    let inventory = inventory?;
    if inventory.groups.is_empty() {
        let reason = "no device of this host is behind an IOMMU".into();
        return Some(CheckState::NotApplicable { reason });
    }
    let ours: Vec<_> = DRIVERS.iter().filter(|(driver, _)| inventory.has_iommu_driver(driver)).collect();
    if ours.is_empty() {
        let reason = "no IOMMU driver of this host has PASID tables that we know".into();
        return Some(CheckState::NotApplicable { reason });
    }
    let reason = ours.iter().find_map(|(driver, hook)| match coverage.attached(*hook) {
        false => Some(format!(
            "hook {} is not attached: the tables of the {driver} driver are not read",
            hook.name()
        )),
        true if entries => {
            let reason = coverage.unread(*hook)?;
            Some(format!("the entries of the {driver} driver's tables can't be read: {reason}"))
        }
        true => None,
    })?;
    Some(CheckState::Unavailable { reason })
}
