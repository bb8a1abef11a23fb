//! A device behind an IOMMU, as events showed it.

use crate::event::{self, DeviceState, Domain, Key, Name};

use super::group::Actor;
use super::reset::Resets;

/// A live `struct device`. Its address is used again after a hot-unplug: then it is another
/// generation, and nothing of the old one holds for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub key: Key,
    pub name: Name,
    /// The group that it was last seen in.
    pub group: Option<Key>,
    /// `Some(0)`: it takes no PASIDs, and the core skips it. `None`: not known.
    pub max_pasids: Option<u32>,
    /// The root of its hardware PASID table; `Some(None)`: it has none. `None`: not known.
    pub table: Option<Option<Key>>,
    /// What its RID was last attached to; `None`: not known.
    pub domain: Option<Domain>,
    /// The last attach of its RID failed: where it is is its driver's affair, and need not be its group's domain.
    pub(super) astray: bool,
    /// Who attached it there, if that was seen.
    pub attached_by: Option<Actor>,
    pub generation: u64,
    /// What the last look read of it beside its tables.
    pub state: Option<DeviceState>,
    pub(super) resets: Resets,
    /// When it was first seen in its group, in CLOCK_MONOTONIC ns: it was a member from then on at the latest.
    pub since_ns: u64,
}

impl Device {
    /// Between the preparing of a reset and its being done, or kept blocked after one that failed: its PASIDs are
    /// in the core's array, and need not be in its table.
    pub fn in_reset(&self) -> bool {
        self.resets.under_way()
    }

    /// Its state is not known any more.
    pub(super) fn forget(&mut self) {
        self.domain = None;
        self.astray = false;
        self.attached_by = None;
        self.table = None;
        self.state = None;
        self.resets = Resets::default();
    }

    pub(super) fn new(seen: &event::Device, generation: u64, since_ns: u64) -> Device {
        Device {
            key: seen.key,
            name: seen.name,
            group: None,
            max_pasids: seen.max_pasids,
            table: None,
            domain: None,
            astray: false,
            attached_by: None,
            generation,
            state: None,
            resets: Resets::default(),
            since_ns,
        }
    }
}
