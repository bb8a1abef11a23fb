//! `pasid-table-mismatch`: the hardware does what the core believes.

use crate::coverage::Coverage;
use crate::inventory::Inventory;
use crate::model::{Group, Host, Look, Member};

use super::look::{self, Shown};
use super::pasid_left_on_release::list;
use super::spec::{CheckState, Needs, Severity, Spec};
use super::violation::{Fault, Read, Standing, Subject, Value};
use super::{Case, Check};

pub(super) struct PasidTableMismatch;

static SPEC: Spec = Spec {
    name: "pasid-table-mismatch",
    section: "Tables",
    severities: &[Severity::Critical],
    invariant: "The hardware PASID table and the core's pasid_array agree, both read under the mutex and again later: no \
                PASID ≥ 1 present that the core doesn't know; none missing that it does (not for SVA after its mm's \
                exit, nor for a member under reset).",
    why: "A PASID that only the hardware knows translates for the device and nobody will ever take it away: the memory \
          behind it may be somebody else's by now. One that only the core knows makes its user's DMA fault.",
    needs: Needs::LOOK_AT_TABLES,
    judges: &[],
    by_look: Some(Needs::LOOK_AT_TABLES),
    implies: &["released-with-pasids"],
    traps: &[
        "Entry 0 of the hardware table is the RID's own translation in scalable mode.",
        "A process that exits has its PASID torn down at once; pasid_array keeps it until it is unbound.",
        "Between prepare and done of a reset (7.0 and later) PASIDs are in the array but not in the hardware.",
        "A member that joined the group later doesn't get its PASIDs: group-divergence tells that.",
        "A member with max_pasids 0 is skipped by the core.",
    ],
    seen_in: &["CVE-2026-45945"],
    what_to_do: &[
        "Treat the device as able to reach memory that it should not: take it out of service, or keep it away from \
         the next tenant.",
        "attached_by, where it was seen, says who attached the PASID; the driver that should have cleared the entry \
         is the IOMMU's, not the device's.",
        "Removing the device (echo 1 to `remove` in sysfs) frees its table; then rescan.",
        "Report it to linux-iommu with the violation's JSON and the kernel's release.",
    ],
};

impl Check for PasidTableMismatch {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn look(&self, look: &Look, group: &Group, case: &mut Case<'_>) {
        // What a call that has not returned left is that call's, which the next look will tell.
        let under_way = group.under_way();
        for member in judged(look) {
            let entries = member.table.iter().flat_map(|table| &table.extra);
            let pasids: Vec<u32> =
                entries.map(|entry| entry.pasid).filter(|&pasid| !under_way.pasid(pasid)).collect();
            if pasids.is_empty() {
                continue;
            }
            let summary = format!(
                "the hardware table of {} has {}, which the core doesn't know",
                member.name,
                list(&pasids)
            );
            show(look, group, Fault::Extra(member.device), &pasids, summary, case);
        }
        let missing = missing(look);
        if !missing.is_empty() {
            let summary = format!(
                "the core has {} attached to group {}, and no hardware table has",
                list(&missing),
                group.id
            );
            show(look, group, Fault::Missing, &missing, summary, case);
        }
    }

    fn standing(&self, subject: &Subject, host: &Host) -> Standing {
        look::standing(subject, host, |look, fault| match fault {
            Fault::Extra(device) => judged(look).any(|member| member.device == device && extra(member)),
            _ => !missing(look).is_empty(),
        })
    }

    fn state(&self, coverage: &Coverage, inventory: Option<&Inventory>) -> CheckState {
        super::pasid_table_shared::without_tables(coverage, inventory, true)
            .unwrap_or_else(|| SPEC.needs.state(coverage))
    }

    fn look_state(&self, coverage: &Coverage, inventory: Option<&Inventory>) -> Option<CheckState> {
        Some(self.state(coverage, inventory))
    }
}

fn show(look: &Look, group: &Group, fault: Fault, pasids: &[u32], summary: String, case: &mut Case<'_>) {
    let known = look.pasids.clone().unwrap_or_default();
    let shown = Shown {
        check: &SPEC,
        severity: SPEC.severity(),
        fault,
        group,
        look,
        pasids,
        summary,
        read: vec![
            Read { what: "PASIDs in pasid_array", value: Value::Pasids(known) },
            Read { what: "PASIDs that differ", value: Value::Pasids(pasids.to_vec()) },
            Read { what: "read under group->mutex", value: Value::Flag(true) },
        ],
    };
    case.findings.push(shown.finding());
}

/// Members whose table can be held against the core's array.
pub(super) fn judged(look: &Look) -> impl Iterator<Item = &Member> {
    look.members
        .iter()
        .filter(|member| look.recovery_cnt == 0 && !member.state.blocked && member.table.is_some())
}

fn extra(member: &Member) -> bool {
    member.table.as_ref().is_some_and(|table| !table.extra.is_empty())
}

/// The PASIDs that every member lacks. If some have it, they differ among themselves, which is
/// `group-divergence`.
fn missing(look: &Look) -> Vec<u32> {
    let takes = |member: &&Member| member.max_pasids > 0;
    if !look.whole || judged(look).count() < look.members.iter().filter(takes).count() {
        return Vec::new();
    }
    let lacks = |pasid: u32| {
        let mut able = judged(look).filter(|member| member.max_pasids > pasid);
        able.all(|member| member.table.as_ref().is_some_and(|table| table.missing.contains(&pasid)))
    };
    let mut missing: Vec<u32> = judged(look)
        .flat_map(|member| member.table.iter().flat_map(|table| table.missing.iter().copied()))
        .filter(|&pasid| lacks(pasid))
        .collect();
    missing.sort_unstable();
    missing.dedup();
    missing
}
