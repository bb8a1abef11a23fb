//! What a record of the wire says, typed. Pure: no I/O, no clock, no kernel.
//!
//! An [`Event`] is one moment of one call: who made it, what it was about, what the kernel's own
//! structures held at that moment, and, at the end of the call, what came of it.

mod decode;
mod flush;
mod identities;
mod range;
mod snapshot;
mod tags;
mod text;

use std::{fmt, num::NonZeroU64};

use monitor_ebpf::wire::{Encoding, Hook, NAME_LEN, Phase};
use serde::{Deserialize, Serialize};

pub use decode::{Malformed, decode};
pub use flush::{Cache, Flush};
pub use identities::Identities;
pub use range::Range;
pub use tags::Tags;
pub use text::Text;

/// The name of a task.
pub type Comm = Text<16>;
/// The name of a device.
pub type Name = Text<NAME_LEN>;

/// Identity of a kernel object, stable while the object lives and reused after. It never prints as an
/// address: that would undo KASLR. (It is serialized into the kernel's own memory alone, `kernel/journal.rs`.)
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key(NonZeroU64);

impl Key {
    /// `None` for the null pointer.
    pub fn new(raw: u64) -> Option<Key> {
        NonZeroU64::new(raw).map(Key)
    }

    /// The pointer, for what never leaves the host's memory.
    pub(crate) fn raw(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// What a domain is for: `iommu_domain::type` (include/linux/iommu.h; values the same from 6.1 to 7.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DomainKind {
    Blocked,
    Unmanaged,
    Dma,
    DmaFq,
    Identity,
    Sva,
    Platform,
    Nested,
    /// A type that this version does not know.
    Other,
    /// The type could not be read.
    Unknown,
}

impl DomainKind {
    pub fn from_type(value: u32) -> DomainKind {
        match value {
            0 => DomainKind::Blocked,
            1 => DomainKind::Unmanaged,
            3 => DomainKind::Dma,
            0xb => DomainKind::DmaFq,
            4 => DomainKind::Identity,
            0x10 => DomainKind::Sva,
            0x20 => DomainKind::Platform,
            0x40 => DomainKind::Nested,
            _ => DomainKind::Other,
        }
    }

    /// The name in output and labels; a closed set.
    pub fn name(self) -> &'static str {
        match self {
            DomainKind::Blocked => "blocked",
            DomainKind::Unmanaged => "unmanaged",
            DomainKind::Dma => "dma",
            DomainKind::DmaFq => "dma-fq",
            DomainKind::Identity => "identity",
            DomainKind::Sva => "sva",
            DomainKind::Platform => "platform",
            DomainKind::Nested => "nested",
            DomainKind::Other => "other",
            DomainKind::Unknown => "unknown",
        }
    }
}

/// A `struct iommu_domain` as an event saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Domain {
    pub key: Key,
    pub kind: DomainKind,
}

/// A `struct iommu_group` as the kernel had it at the moment of the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    pub key: Key,
    /// The number under /sys/kernel/iommu_groups.
    pub id: u32,
    /// `owner` and `owner_cnt`; `None` before 5.19, or if they could not be read.
    pub ownership: Option<Ownership>,
    pub domain: Option<Domain>,
    pub default_domain: Option<Domain>,
    pub blocking_domain: Option<Domain>,
    /// Members blocked by a reset (from 7.0), else 0.
    pub recovery_cnt: u32,
}

/// Who holds a group: FREE is count 0, KERNEL a count without an owner, USER a count with one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ownership {
    pub owner: Option<Key>,
    pub count: u32,
}

/// A `struct device` as an event saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    pub key: Key,
    /// `kobj.name`; for a PCI device its address, `0000:01:00.0`.
    pub name: Name,
    /// `dev->iommu->max_pasids` (from 6.2); `None` if it could not be read.
    pub max_pasids: Option<u32>,
    /// The root of its hardware PASID table, where the hook knows the driver; `Some(None)`: it has none.
    pub table: Option<Option<Key>>,
    /// What a snapshot reads of it.
    pub state: Option<DeviceState>,
}

/// What a snapshot reads of a device beside its tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceState {
    /// A driver is bound to it (`device::driver`), or is about to be.
    pub bound: bool,
    /// Its attach to the default domain is put off until its first DMA (`dev_iommu::attach_deferred`).
    pub deferred: bool,
    /// A reset keeps it on the blocking domain (`group_device::blocked`, from 7.0).
    pub blocked: bool,
    /// The IOMMU that translates for it (`dev_iommu::iommu_dev`).
    pub iommu: Option<Key>,
    /// `pci_dev::ats_enabled`, `pri_enabled`, `pasid_enabled`; `None`: no PCI device, or built without.
    pub ats: Option<bool>,
    pub pri: Option<bool>,
    pub pasid: Option<bool>,
}

/// By whose format a hardware PASID table is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TableKind {
    /// Intel VT-d, scalable mode: PASID directory and tables.
    Vtd,
    /// AMD IOMMU: GCR3 table.
    Amd,
    /// Arm SMMUv3: context descriptor table.
    SmmuV3,
}

impl TableKind {
    pub fn name(self) -> &'static str {
        match self {
            TableKind::Vtd => "vt-d",
            TableKind::Amd => "amd",
            TableKind::SmmuV3 => "smmuv3",
        }
    }
}

/// The entries that are present in a device's hardware PASID table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableReading {
    pub kind: TableKind,
    /// The driver hangs the table off the domain: every device of a domain shares it, by design.
    pub per_domain: bool,
    /// In ascending order of PASID. Entry 0 is the RID's own.
    pub entries: Vec<TableEntry>,
    /// The whole table was walked. If not, an entry that is not in `entries` is unknown, not absent.
    pub complete: bool,
}

/// One present entry of a hardware PASID table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableEntry {
    pub pasid: u32,
    /// How it translates, as the hardware has it: VT-d PGTT (1 first level, 2 second level, 3 nested, 4 pass-through).
    pub kind: u32,
    /// What its translations are cached under: VT-d DID, AMD domain id, SMMUv3 ASID.
    pub tag: u32,
}

impl TableReading {
    /// It is the device's own, and all of it was read: what is not in it is not there.
    pub fn is_whole(&self) -> bool {
        self.complete && !self.per_domain
    }

    /// The entries of PASIDs proper: entry 0 is the RID's.
    pub fn pasids(&self) -> impl Iterator<Item = &TableEntry> {
        self.entries.iter().filter(|entry| entry.pasid != 0)
    }

    pub fn get(&self, pasid: u32) -> Option<&TableEntry> {
        let index = self.entries.binary_search_by_key(&pasid, |entry| entry.pasid).ok()?;
        self.entries.get(index)
    }
}

/// One entry of `pasid_array`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArrayEntry {
    pub pasid: u32,
    pub encoding: Encoding,
    /// `None` where the encoding names none.
    pub domain: Option<Domain>,
    /// The process whose memory the domain translates has exited (`mm_struct::mm_users` is 0).
    pub mm_exited: bool,
}

/// What stands in `pasid_array` at one PASID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    Empty,
    Taken(ArrayEntry),
}

/// A group's `pasid_array` at the moment of the event; index 0 is the RID's own handle and no PASID.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PasidArray {
    /// In ascending order of PASID.
    pub entries: Vec<ArrayEntry>,
    /// The whole array was walked. If not, a PASID that is not in `entries` is unknown, not absent.
    pub complete: bool,
}

impl PasidArray {
    /// The entries of PASIDs proper: index 0 is the RID's.
    pub fn pasids(&self) -> impl Iterator<Item = &ArrayEntry> {
        self.entries.iter().filter(|entry| entry.pasid != 0)
    }

    /// Something stands there.
    pub fn has(&self, pasid: u32) -> bool {
        self.entries.binary_search_by_key(&pasid, |entry| entry.pasid).is_ok()
    }
}

/// The task that made the call; in interrupt context the one that was interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Task {
    pub tid: u32,
    pub tgid: u32,
    pub comm: Comm,
}

/// One moment of one call in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// CLOCK_MONOTONIC, ns.
    pub mono_ns: u64,
    pub cpu: u32,
    /// Of this CPU; a gap is a loss.
    pub sequence: u64,
    pub task: Task,
    /// Id of the kernel stack, where one was taken.
    pub stack: Option<u32>,
    pub hook: Hook,
    pub phase: Phase,
    pub group: Option<Group>,
    pub device: Option<Device>,
    /// The domain that the call names.
    pub domain: Option<Domain>,
    /// The domain that the call says is to be replaced.
    pub old: Option<Domain>,
    pub pasid: Option<u32>,
    /// The cookie of a claim.
    pub owner: Option<Key>,
    /// The bond (`struct iommu_sva`): of an unbind from its start, of a bind from its successful end.
    pub bond: Option<Key>,
    pub mm: Option<Key>,
    /// At [`Phase::End`] of a call that can fail: 0 or a negative errno. `None` for void functions and
    /// for other phases.
    pub ret: Option<i32>,
    /// The group's `pasid_array` at this moment, where the hook reads it and the kernel has it.
    pub array: Option<PasidArray>,
    /// The entry of `pasid_array` at `pasid`, of a call on a PASID, where the kernel has the array.
    pub slot: Option<Slot>,
    /// The device's hardware PASID table at this moment, where a snapshot knows the driver.
    pub table: Option<Box<TableReading>>,
    /// What was flushed in the call, or what an entry is owed, where a hook keeps it.
    pub flush: Option<Box<Flush>>,
    /// The device's cache tags on the PASID in the domain that the call names; of a snapshot, those of its RID in the
    /// group's domain.
    pub tags: Option<Tags>,
    /// Of a snapshot of a device: the PASID of a page request that waits for its response though the group has not attached
    /// that PASID; `Some(None)`: there is none.
    pub unanswered: Option<Option<u32>>,
    /// How far a flush of a range went that fell short.
    pub range: Option<Box<Range>>,
    /// A read from kernel memory failed: what is missing here is unknown, not absent.
    pub incomplete: bool,
}
