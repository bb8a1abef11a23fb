//! The record of a snapshot: what is read of a group and of one of its devices for the reading's sake. Only the
//! hooks of snapshots make it, and it is as long as what was found.

#[cfg(not(target_arch = "bpf"))]
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{ArrayEntry, Hook, Operation};

/// How many entries of the array and of the hardware table together fit into one record.
pub const SNAPSHOT_CAPACITY: usize = 8192;

/// Whether a hook makes records of this shape.
pub const fn is_snapshot(hook: Hook) -> bool {
    matches!(hook, Hook::SnapshotGroup | Hook::SnapshotIntel | Hook::SnapshotAmd | Hook::SnapshotDma)
}

/// Whether the record of a hook is laid out as a snapshot's.
pub const fn is_shaped_so(hook: Hook) -> bool {
    is_snapshot(hook) || matches!(hook, Hook::VtdTableLeft | Hook::AmdTableLeft | Hook::SmmuTableLeft)
}

/// What a snapshot reads of a device beside its tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[repr(C)]
pub struct State {
    /// Identity of the IOMMU that translates for it.
    pub iommu: u64,
    /// Bits of [`state`].
    pub set: u32,
    /// Which of those were read; the others mean nothing.
    pub known: u32,
}

/// The flags of a device.
pub mod state {
    /// `device.driver` is set.
    pub const BOUND: u32 = 1 << 0;
    /// `dev_iommu.attach_deferred`.
    pub const DEFERRED: u32 = 1 << 1;
    /// `group_device.blocked` (from 7.0).
    pub const BLOCKED: u32 = 1 << 2;
    /// `pci_dev.ats_enabled`.
    pub const ATS: u32 = 1 << 3;
    /// `pci_dev.pri_enabled`.
    pub const PRI: u32 = 1 << 4;
    /// `pci_dev.pasid_enabled`.
    pub const PASID: u32 = 1 << 5;
}

/// By whose format a hardware PASID table is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum TableKind {
    Vtd = 1,
    Amd = 2,
    SmmuV3 = 3,
}

impl TableKind {
    pub const fn from_number(number: u32) -> Option<TableKind> {
        match number {
            1 => Some(TableKind::Vtd),
            2 => Some(TableKind::Amd),
            3 => Some(TableKind::SmmuV3),
            _ => None,
        }
    }
}

/// A part of a snapshot that was walked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[repr(C)]
pub struct Part {
    /// How many entries it has in the record.
    pub len: u32,
    /// 1 if all was seen, 0 if something could not be read, or there was no room or time for it.
    pub complete: u32,
}

/// A present entry of a hardware PASID table; as large as an [`ArrayEntry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[repr(C)]
pub struct TableEntry {
    pub pasid: u32,
    /// The translation type as the hardware has it.
    pub kind: u32,
    /// What its translations are cached under.
    pub tag: u32,
    pub reserved: [u32; 3],
}

/// What a [`Snapshot`] begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[repr(C)]
pub struct SnapshotHead {
    pub operation: Operation,
    pub state: State,
    /// The group's members, each of which has a record of its own before this one.
    pub members: Part,
    /// The group's `pasid_array`: the first of the entries behind this, each an [`ArrayEntry`].
    pub array: Part,
    /// The device's hardware table: the entries behind those, each a [`TableEntry`].
    pub table: Part,
    /// A [`TableKind`] by number.
    pub table_kind: u32,
    /// 1 if the table hangs off the domain, 0 if off the device.
    pub table_per_domain: u32,
}

/// The state of a group and of one device, read for the reading's sake. The record ends behind the last entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Snapshot {
    pub head: SnapshotHead,
    pub entries: [ArrayEntry; SNAPSHOT_CAPACITY],
}

/// Without padding, a record's size is the sum of its members'.
const _: () = {
    assert!(size_of::<TableEntry>() == size_of::<ArrayEntry>());
    assert!(size_of::<SnapshotHead>() == size_of::<Operation>() + 16 + 3 * 8 + 2 * 4);
    assert!(size_of::<Snapshot>() == size_of::<SnapshotHead>() + SNAPSHOT_CAPACITY * 24);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_in_a_table_is_laid_out_as_a_snapshot() {
        let left = Hook::ALL.iter().filter(|hook| hook.name().ends_with("_table_left"));
        assert_eq!(left.clone().count(), 3);
        assert!(left.copied().all(is_shaped_so));
        assert!(!is_shaped_so(Hook::AmdTableFree) && !is_shaped_so(Hook::AmdQueue));
    }
}
