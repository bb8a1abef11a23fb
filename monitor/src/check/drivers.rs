//! Checks of what an IOMMU driver does by itself: on a host without such a driver, or with a release of it that has
//! no such function, there is nothing to see.

use monitor_ebpf::wire::Hook;

use crate::coverage::{Coverage, HookState};
use crate::inventory::Inventory;

use super::spec::CheckState;

/// An IOMMU driver, the hook that shows what it does, and what it is like where it has no such function.
pub(super) type Seen = (&'static str, Hook, &'static str);

/// Why nothing can be seen of this host's IOMMU drivers; `None`: something can, or that is not known yet.
pub(super) fn unseen(
    coverage: &Coverage,
    inventory: Option<&Inventory>,
    drivers: &[Seen],
) -> Option<CheckState> {
    let inventory = inventory?;
    if inventory.groups.is_empty() {
        let reason = "no device of this host is behind an IOMMU".into();
        return Some(CheckState::NotApplicable { reason });
    }
    let ours: Vec<&Seen> = drivers.iter().filter(|(driver, ..)| inventory.has_iommu_driver(driver)).collect();
    if ours.iter().any(|(_, hook, _)| coverage.attached(*hook)) {
        return None;
    }
    let failed = ours.iter().find_map(|(driver, hook, _)| match coverage.get(*hook) {
        HookState::Failed { reason } => {
            Some(format!("what the {driver} driver does is not seen: hook {}: {reason}", hook.name()))
        }
        HookState::Attached { .. } | HookState::Absent | HookState::Idle { .. } | HookState::Off => None,
    });
    if let Some(reason) = failed {
        return Some(CheckState::Unavailable { reason });
    }
    let reason = match ours.first() {
        Some((driver, _, like)) => format!("the {driver} driver of this kernel {like}"),
        None => "no IOMMU driver of this host is one whose PASIDs we know".into(),
    };
    Some(CheckState::NotApplicable { reason })
}
