//! What a driver flushed while it tore a PASID entry down.

use std::time::Duration;

use monitor_ebpf::descriptor::{self, Conditions, Scope, cache, condition};
use monitor_ebpf::wire;

use super::{Key, TableKind};

/// A cache that holds something of a PASID entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cache {
    /// The entry itself: VT-d's PASID cache, SMMUv3's cached context descriptor.
    Pasid,
    /// Its translations in the IOMMU.
    Iotlb,
    /// Its translations in the device (ATS).
    DeviceTlb,
}

impl Cache {
    const ALL: [(Cache, u32); 3] =
        [(Cache::Pasid, cache::PASID), (Cache::Iotlb, cache::IOTLB), (Cache::DeviceTlb, cache::DEVICE_TLB)];

    /// In words for a person.
    pub fn name(self) -> &'static str {
        match self {
            Cache::Pasid => "PASID cache",
            Cache::Iotlb => "IOTLB",
            Cache::DeviceTlb => "device TLB",
        }
    }

    fn of(bits: u32) -> Vec<Cache> {
        Cache::ALL.iter().filter(|(_, bit)| bits & bit != 0).map(|(cache, _)| *cache).collect()
    }
}

/// What was flushed in a window, and what decides what must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flush {
    /// The IOMMU instance.
    pub iommu: Option<Key>,
    /// Whose hardware it is; `None`: the window was no teardown.
    pub vendor: Option<TableKind>,
    /// The entry as the hardware had it at the begin.
    pub entry: descriptor::Entry,
    pub conditions: Conditions,
    /// Bits of [`cache`].
    submitted: u32,
    completed: u32,
    owed: u32,
    /// When the entry was torn down that is owed a flush still, in CLOCK_MONOTONIC ns.
    pub owed_since_ns: Option<u64>,
    /// What the first failed submission returned.
    pub failed: Option<i32>,
    /// What it asked for, or what the slow one did, as bits of [`Scope`].
    failed_scopes: u32,
    /// The record is about a submission that was slow: it took so long.
    pub took: Option<Duration>,
    /// Descriptors in the window, whatever they were about.
    pub descriptors: u32,
    /// How many windows were around it.
    pub outer: u32,
}

impl Flush {
    /// What a record says.
    pub fn new(record: &wire::Flush) -> Flush {
        Flush {
            iommu: Key::new(record.iommu),
            vendor: wire::TableKind::from_number(record.vendor).map(TableKind::from),
            entry: descriptor::Entry {
                kind: record.kind,
                tag: record.tag,
                pasid: record.pasid,
                source: record.source,
            },
            conditions: Conditions { set: record.set, known: record.known },
            submitted: record.submitted,
            completed: record.completed,
            owed: record.owed,
            owed_since_ns: (record.owed_since_ns != 0).then_some(record.owed_since_ns),
            failed: (record.failed != 0).then_some(record.failed),
            failed_scopes: record.failed_scopes,
            took: None,
            descriptors: record.descriptors,
            outer: record.outer,
        }
    }

    /// The caches that the teardown had to flush; `None`: that can't be told, or isn't to be judged.
    pub fn required(&self) -> Option<Vec<Cache>> {
        self.required_bits().map(Cache::of)
    }

    /// Whether the teardown had to flush anything, as far as that can be told.
    pub fn is_judged(&self) -> bool {
        self.required_bits().is_some_and(|required| required != 0)
    }

    fn required_bits(&self) -> Option<u32> {
        descriptor::required(self.vendor?.into(), &self.conditions)
    }

    /// Of those, the ones that were not flushed before the teardown returned. Where the returns of submissions were
    /// not seen, what was submitted counts as done.
    pub fn missing(&self) -> Vec<Cache> {
        let done = self.done();
        let missing = self.required_bits().unwrap_or(0) & !done;
        // Without the flush of what is behind it the device's came too early: that is no fault of its own.
        let behind = self.vendor.map_or(0, |vendor| descriptor::behind_device(vendor.into()));
        let follows = missing & behind != 0 && done & cache::DEVICE_TLB_EARLY != 0;
        Cache::of(missing & !if follows { cache::DEVICE_TLB } else { 0 })
    }

    /// What descriptors asked for, of the entry, whether they were done or not.
    pub fn submitted(&self) -> Vec<Cache> {
        Cache::of(self.submitted)
    }

    /// The device was told to drop the entry, too early or not, and whether that was done or not.
    pub fn went_to_device(&self) -> bool {
        self.submitted & (cache::DEVICE_TLB | cache::DEVICE_TLB_EARLY) != 0
    }

    /// What an earlier teardown left out, and nothing has flushed since.
    pub fn owed(&self) -> Vec<Cache> {
        Cache::of(self.owed)
    }

    /// What a failed or slow submission asked for; nothing where that wasn't read.
    pub fn failed_scopes(&self) -> Vec<Scope> {
        let all = Scope::ALL.into_iter();
        all.filter(|&scope| self.failed_scopes & 1 << scope as u32 != 0).collect()
    }

    /// It asked for device TLBs, and for nothing else.
    pub fn failed_in_device(&self) -> bool {
        self.failed_scopes == 1 << Scope::DeviceTlb as u32
    }

    /// What was submitted, did not fail and was not waited for: nobody knows when it is done.
    pub fn not_awaited(&self) -> Vec<Cache> {
        let waits = self.conditions.is(condition::WAITS) && self.failed.is_none();
        Cache::of(if waits { self.submitted & !self.completed } else { 0 })
    }

    fn done(&self) -> u32 {
        let seen = self.conditions.is(condition::COMPLETIONS) || self.conditions.is(condition::WAITS);
        if seen { self.completed } else { self.submitted }
    }
}

impl From<TableKind> for wire::TableKind {
    fn from(kind: TableKind) -> wire::TableKind {
        match kind {
            TableKind::Vtd => wire::TableKind::Vtd,
            TableKind::Amd => wire::TableKind::Amd,
            TableKind::SmmuV3 => wire::TableKind::SmmuV3,
        }
    }
}

impl From<wire::TableKind> for TableKind {
    fn from(kind: wire::TableKind) -> TableKind {
        match kind {
            wire::TableKind::Vtd => TableKind::Vtd,
            wire::TableKind::Amd => TableKind::Amd,
            wire::TableKind::SmmuV3 => TableKind::SmmuV3,
        }
    }
}
