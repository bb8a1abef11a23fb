//! What the checks of flushes have in common.

use monitor_ebpf::wire::Hook;

use crate::coverage::{Coverage, HookState};
use crate::event::{Cache, Flush, TableKind};
use crate::inventory::Inventory;
use crate::model::{Attachment, Flushed, Group, GroupRef};

use super::spec::{CheckState, Needs};
use super::violation::{Read, Subject, Value};

/// What a check needs of one IOMMU driver.
pub(super) struct OfDriver {
    pub driver: &'static str,
    /// The hook whose reads of the driver's tables it relies on, if it does.
    pub entries: Option<Hook>,
    pub needs: Needs,
}

impl OfDriver {
    fn state(&self, coverage: &Coverage) -> CheckState {
        match self.entries.and_then(|hook| coverage.unread(hook)) {
            Some(reason) => CheckState::Unavailable {
                reason: format!("the entries of the {} driver's tables can't be read: {reason}", self.driver),
            },
            None => self.needs.state(coverage),
        }
    }

    /// A kernel without the driver has none of its functions.
    fn is_there(&self, coverage: &Coverage) -> bool {
        let there =
            |hook| !matches!(coverage.get(hook), HookState::Absent | HookState::Idle { .. } | HookState::Off);
        self.needs.required.iter().any(|&hook| there(hook))
    }
}

/// How far the flushes of this host's IOMMU can be judged. Where it isn't known which drivers it has, one that can be
/// judged is enough, and what could not be of another one that the kernel has is said.
pub(super) fn state(coverage: &Coverage, inventory: Option<&Inventory>, drivers: &[OfDriver]) -> CheckState {
    let Some(inventory) = inventory else { return of_any(coverage, drivers) };
    if inventory.groups.is_empty() {
        let reason = "no device of this host is behind an IOMMU".into();
        return CheckState::NotApplicable { reason };
    }
    let ours = drivers.iter().filter(|driver| inventory.has_iommu_driver(driver.driver));
    let states: Vec<CheckState> = ours.map(|driver| driver.state(coverage)).collect();
    let fails = |state: &&CheckState| **state != CheckState::Armed;
    match (states.iter().find(fails), states.first()) {
        (Some(state), _) | (None, Some(state)) => state.clone(),
        (None, None) => {
            let reason = "no IOMMU driver of this host has a command queue that we know".into();
            CheckState::NotApplicable { reason }
        }
    }
}

fn of_any(coverage: &Coverage, drivers: &[OfDriver]) -> CheckState {
    let there: Vec<&OfDriver> = drivers.iter().filter(|driver| driver.is_there(coverage)).collect();
    // Of a kernel with none of them the first says what is missing.
    let of_use = if there.is_empty() { drivers.first().into_iter().collect() } else { there };
    let states: Vec<(&str, CheckState)> =
        of_use.iter().map(|driver| (driver.driver, driver.state(coverage))).collect();
    let best = states.iter().find(|(_, state)| *state == CheckState::Armed);
    let Some((_, best)) = best.or(states.iter().find(|(_, state)| state.judges())).or(states.first()) else {
        return CheckState::NotApplicable { reason: "there is no driver to watch".into() };
    };
    let unseen = states.iter().filter(|(_, state)| best.judges() && !state.judges());
    let unseen: Vec<String> = unseen
        .map(|(driver, state)| {
            format!("behind the {driver} driver it is unavailable: {}", state.reason().unwrap_or_default())
        })
        .collect();
    if unseen.is_empty() {
        return best.clone();
    }
    let reasons: Vec<String> = best.reason().map(str::to_owned).into_iter().chain(unseen).collect();
    CheckState::Degraded { reason: reasons.join("; ") }
}

/// The PASID that it is about, with what is known of its attachment; entry 0 is the RID's own and no PASID.
pub(super) fn pasids(flush: &Flush, group: Option<&Group>) -> Vec<(u32, Attachment)> {
    let pasid = flush.entry.pasid;
    if pasid == 0 {
        return Vec::new();
    }
    let unknown = Attachment { domain: None, attached_by: None };
    let known = group.and_then(|group| group.attachment(pasid)).copied();
    vec![(pasid, known.unwrap_or(unknown))]
}

/// What it is about: the caches of one entry, in one call.
pub(super) fn subject(group: GroupRef, flushed: &Flushed) -> Subject {
    // Without a caller it is the driver's own doing, when an mm exits.
    let call_ns = if flushed.called { flushed.by.mono_ns } else { 0 };
    let device = flushed.event.device.map(|device| device.key);
    Subject::Flushed { group, entry: (device, flushed.flush.entry.pasid), call_ns }
}

/// The entry in words: `PASID 5`, or the RID's own.
pub(super) fn entry(flush: &Flush) -> String {
    match flush.entry.pasid {
        0 => "the RID's own entry".into(),
        pasid => format!("PASID {pasid}"),
    }
}

/// The device in words.
pub(super) fn device(flushed: &Flushed) -> String {
    flushed.event.device.map_or("a device".into(), |device| device.name.to_string())
}

/// When a submission was made, in words.
pub(super) fn window(flushed: &Flushed) -> String {
    // A window names its group, also one that we don't know.
    match (flushed.event.group, flushed.flush.vendor) {
        (None, _) => "outside every window".to_owned(),
        (Some(_), Some(_)) => {
            format!("while {} of {} was torn down", entry(&flushed.flush), device(flushed))
        }
        (Some(_), None) => format!("while the domain of {} was switched", device(flushed)),
    }
}

/// Caches as a list for a person: `PASID cache and device TLB`.
pub(super) fn list(caches: &[Cache]) -> String {
    let names: Vec<&str> = caches.iter().map(|cache| cache.name()).collect();
    match names.as_slice() {
        [] => "nothing".into(),
        [one] => (*one).into(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

pub(super) fn names(what: &'static str, caches: &[Cache]) -> Read {
    Read { what, value: Value::Names(caches.iter().map(|cache| cache.name().to_owned()).collect()) }
}

/// How the hardware had the entry.
pub(super) fn tag(flush: &Flush) -> Read {
    let what = match flush.vendor {
        Some(TableKind::SmmuV3) => "ASID of the entry",
        Some(TableKind::Vtd | TableKind::Amd) | None => "domain id of the entry",
    };
    Read { what, value: Value::Count(flush.entry.tag) }
}
