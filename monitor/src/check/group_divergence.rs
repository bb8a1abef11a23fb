//! `group-divergence`: the members of a group translate a PASID alike.

use crate::coverage::Coverage;
use crate::event::{DomainKind, Key};
use crate::inventory::Inventory;
use crate::model::{Group, Host, Look};

use super::look::{self, Shown};
use super::pasid_left_on_release::list;
use super::pasid_table_mismatch::judged;
use super::spec::{CheckState, Needs, Severity, Spec};
use super::violation::{Fault, Finding, Read, Standing, Subject, Value};
use super::{Case, Check};

pub(super) struct GroupDivergence;

static SPEC: Spec = Spec {
    name: "group-divergence",
    section: "PASID life cycle",
    severities: &[Severity::Critical, Severity::Info],
    invariant: "After an operation, all PASID-capable members of a group have the same domain on a PASID. Not for \
                members blocked by a reset, nor an SVA PASID after its mm's exit; a member that joined later is info.",
    why: "The core attaches a PASID to a group, and every member is meant to translate it alike. A member that does \
          not reaches other memory than its user was given, or faults where it should not.",
    needs: Needs::LOOK_AT_TABLES,
    judges: &[],
    by_look: Some(Needs::LOOK_AT_TABLES),
    implies: &[],
    traps: &[
        "A device that joins a group later doesn't get the group's PASIDs: that is info, and so is a group of which it \
         isn't known who came first.",
        "A member with max_pasids 0, or below the PASID, is skipped by the core.",
        "Members behind two IOMMUs have one domain under two domain ids.",
        "Between prepare and done of a reset (7.0 and later) a member is blocked.",
        "A process that exits has its PASID cleared from one member after the other: what is of a process takes two \
         looks.",
        "Each of AMD's tables has a domain id of its own.",
    ],
    seen_in: &["2019, \"Fix bind svm with multiple devices\""],
    what_to_do: &[
        "If it is critical, keep the group away from the next tenant: one of its members is out of the core's hands.",
        "If it is info, a device joined the group after the PASID was attached: attach it again to have it on all.",
        "Report a critical one to linux-iommu with the violation's JSON.",
    ],
};

impl Check for GroupDivergence {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn look(&self, look: &Look, group: &Group, case: &mut Case<'_>) {
        let uneven = uneven(look);
        let (by_right, by_wrong): (Vec<_>, Vec<_>) = uneven
            .into_iter()
            .partition(|(pasid, lacking)| !were_there(look, *pasid, lacking, group, case.host));
        for (severity, uneven) in [(Severity::Critical, by_wrong), (Severity::Info, by_right)] {
            let pasids: Vec<u32> = uneven.iter().map(|(pasid, _)| *pasid).collect();
            let summary = format!("members of group {} differ: not all have {}", group.id, list(&pasids));
            show(look, group, severity, Fault::Uneven, &pasids, summary, case);
        }
        if look.recovery_cnt == 0 {
            let summary =
                format!("members of group {} translate {} differently", group.id, list(&look.diverging));
            show(look, group, Severity::Critical, Fault::Diverging, &look.diverging, summary, case);
        }
    }

    fn wants_looks(&self) -> bool {
        true
    }

    fn standing(&self, subject: &Subject, host: &Host) -> Standing {
        look::standing(subject, host, |look, fault| match fault {
            Fault::Diverging => !look.diverging.is_empty(),
            _ => !uneven(look).is_empty(),
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

fn show(
    look: &Look,
    group: &Group,
    severity: Severity,
    fault: Fault,
    pasids: &[u32],
    summary: String,
    case: &mut Case<'_>,
) {
    if pasids.is_empty() {
        return;
    }
    let without = judged(look).filter(|member| {
        member.table.as_ref().is_some_and(|table| pasids.iter().any(|pasid| table.missing.contains(pasid)))
    });
    let names = without.map(|member| member.name.to_string()).collect();
    let read = vec![
        Read { what: "PASIDs that differ", value: Value::Pasids(pasids.to_vec()) },
        Read { what: "members without one of them", value: Value::Names(names) },
        Read { what: "read under group->mutex", value: Value::Flag(true) },
    ];
    let found = Shown { check: &SPEC, severity, fault, group, look, pasids, summary, read }.finding();
    let proved = severity == Severity::Critical && pasids.iter().all(|&pasid| settled(look, pasid));
    case.findings.push(Finding { proved, ..found });
}

/// PASIDs that some members have and others lack, with those that lack them. What a call under way may have been changing
/// is for the next look to tell.
fn uneven(look: &Look) -> Vec<(u32, Vec<Key>)> {
    let mut pasids: Vec<u32> =
        judged(look).flat_map(|member| member.table.iter().flat_map(|table| table.missing.clone())).collect();
    pasids.retain(|&pasid| look.attachment(pasid).is_some());
    pasids.sort_unstable();
    pasids.dedup();
    let split = |pasid: u32| {
        let able = judged(look).filter(|member| member.max_pasids > pasid);
        let (lack, have): (Vec<_>, Vec<_>) = able
            .partition(|member| member.table.as_ref().is_some_and(|table| table.missing.contains(&pasid)));
        let keys: Vec<Key> = lack.iter().map(|member| member.device).collect();
        (!keys.is_empty() && !have.is_empty()).then_some((pasid, keys))
    };
    pasids.into_iter().filter_map(split).collect()
}

/// One reading under the mutex is enough: it was seen who attached the PASID, so the operation is over; and no process
/// whose exit clears the entries one after the other, without the mutex, is behind it.
fn settled(look: &Look, pasid: u32) -> bool {
    let known = look.attachment(pasid).filter(|known| known.attached_by.is_some());
    let kind = known.and_then(|known| known.domain).map(|domain| domain.kind);
    kind.is_some_and(|kind| !matches!(kind, DomainKind::Sva | DomainKind::Unknown))
}

/// All that lack the PASID were members already when it was attached. Of a call that is told by its return alone it isn't
/// known when that was.
fn were_there(look: &Look, pasid: u32, lacking: &[Key], group: &Group, host: &Host) -> bool {
    let attached = look.attachment(pasid).and_then(|known| known.attached_by.as_ref());
    let Some(attached) = attached.map(|by| by.mono_ns) else { return false };
    if !group.saw_begins(attached) || host.trusted_from().is_none_or(|from| attached < from) {
        return false;
    }
    lacking.iter().all(|&key| host.device(key).is_some_and(|device| device.since_ns < attached))
}
