//! What the command queues of three vendors' IOMMUs are told to forget: each descriptor decoded into its scope, and
//! held against the PASID entry that is being torn down.
//!
//! Pure, so that the same code runs in the programs and in the tests, over descriptors laid out by hand.

pub mod amd;
pub mod range;
pub mod smmuv3;
pub mod timed;
pub mod vtd;
pub mod window;

use crate::wire::TableKind;

/// What a descriptor is counted as. The numbers are indexes of counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Scope {
    /// Translations in the IOMMU: VT-d IOTLB and PASID-based IOTLB, AMD INV_IOMMU_PAGES, SMMUv3 TLBI.
    Iotlb = 0,
    /// PASID entries in the IOMMU: VT-d PASID cache, SMMUv3 CFGI_CD.
    PasidCache = 1,
    /// Translations in devices (ATS).
    DeviceTlb = 2,
    /// What a RID leads to: VT-d context cache, AMD INV_DEV_ENTRY, SMMUv3 CFGI_STE.
    Context = 3,
    /// Page requests are waited for: a wait descriptor of the driver's own.
    Drain = 4,
    /// Something else: interrupts, responses.
    Other = 5,
}

impl Scope {
    /// Those that are shown; [`Scope::Other`] is of no interest.
    pub const ALL: [Scope; 5] =
        [Scope::Iotlb, Scope::PasidCache, Scope::DeviceTlb, Scope::Context, Scope::Drain];

    /// The value of the `scope` label.
    pub const fn name(self) -> &'static str {
        match self {
            Scope::Iotlb => "iotlb",
            Scope::PasidCache => "pasid_cache",
            Scope::DeviceTlb => "device_tlb",
            Scope::Context => "context",
            Scope::Drain => "drain",
            Scope::Other => "other",
        }
    }
}

/// A scope by a type of four bits, four bits each: a lookup without a branch.
const fn pack(scopes: [Scope; 16]) -> u64 {
    let mut packed = 0;
    let mut at = 0;
    while at < scopes.len() {
        packed |= (scopes[at] as u64) << (4 * at);
        at += 1;
    }
    packed
}

/// A PASID entry of a device as the hardware had it: what is to be forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Entry {
    /// The translation type as the hardware has it.
    pub kind: u32,
    /// What its translations are cached under: VT-d DID, AMD domain id, SMMUv3 ASID.
    pub tag: u32,
    pub pasid: u32,
    /// The device's requester id; SMMUv3: StreamID.
    pub source: u32,
}

/// Caches that a descriptor drops an entry from, and that a teardown must have it dropped from.
pub mod cache {
    /// The PASID entry itself.
    pub const PASID: u32 = 1 << 0;
    /// Its translations in the IOMMU.
    pub const IOTLB: u32 = 1 << 1;
    /// Its translations in the device.
    pub const DEVICE_TLB: u32 = 1 << 2;
    /// Its translations in the device, but before those in the IOMMU: the device may have fetched them again since.
    pub const DEVICE_TLB_EARLY: u32 = 1 << 3;
}

/// What decides which caches a teardown must flush.
pub mod condition {
    /// The entry was present.
    pub const PRESENT: u32 = 1 << 0;
    /// The entry had its faults disabled (VT-d FPD).
    pub const FAULTS_DISABLED: u32 = 1 << 1;
    /// The device caches translations, at the begin and at the end.
    pub const ATS: u32 = 1 << 2;
    /// The kernel has marked the device as gone, at the begin or at the end.
    pub const GONE: u32 = 1 << 3;
    /// The IOMMU translates.
    pub const TRANSLATES: u32 = 1 << 4;
    /// The IOMMU takes its commands by a queue, not by registers.
    pub const QUEUED: u32 = 1 << 5;
    /// The IOMMU caches entries that are not present (VT-d caching mode).
    pub const CACHING_MODE: u32 = 1 << 6;
    /// Two teardowns of the same entry were under way at once: either may have found it gone.
    pub const CONTESTED: u32 = 1 << 7;
    /// The returns of the submissions were seen.
    pub const COMPLETIONS: u32 = 1 << 8;
    /// The queue is waited for by a step of its own, and that is seen: what is not waited for is not done.
    pub const WAITS: u32 = 1 << 9;
    /// The kernel had marked the device as disconnected before the teardown began.
    pub const DISCONNECTED: u32 = 1 << 10;
}

/// What a descriptor is counted by: an index below 16.
#[inline(always)]
pub fn index(queue: TableKind, low: u64) -> u64 {
    match queue {
        TableKind::Vtd => vtd::index(low),
        TableKind::Amd => amd::index(low),
        TableKind::SmmuV3 => smmuv3::scope(low),
    }
}

/// The number of the [`Scope`] that an index stands for.
pub fn counted(queue: TableKind, index: u64) -> u64 {
    match queue {
        TableKind::Vtd => vtd::scope(index),
        TableKind::Amd => amd::scope(index << amd::OPCODE_AT),
        TableKind::SmmuV3 => index,
    }
}

/// What a descriptor drops, as the number of a [`Scope`].
#[inline(always)]
pub fn scope(queue: TableKind, low: u64) -> u64 {
    match queue {
        TableKind::Vtd => vtd::scope(low),
        TableKind::Amd => amd::scope(low),
        TableKind::SmmuV3 => smmuv3::scope(low),
    }
}

/// The caches that a descriptor drops an entry from as a whole.
#[inline(always)]
pub fn drops(queue: TableKind, low: u64, high: u64, entry: &Entry) -> u32 {
    match queue {
        TableKind::Vtd => vtd::drops(low, high, entry),
        TableKind::Amd => amd::drops(low, high, entry),
        TableKind::SmmuV3 => smmuv3::drops(low, high, entry),
    }
}

/// The cache from which a device would fetch a translation again that it was made to drop too early.
#[inline(always)]
pub fn behind_device(queue: TableKind) -> u32 {
    match queue {
        TableKind::Vtd | TableKind::Amd => cache::IOTLB,
        TableKind::SmmuV3 => cache::PASID,
    }
}

/// The caches that the teardown of an entry must have flushed before it returns; `None`: not known, or not to be
/// judged.
#[inline(always)]
pub fn required(queue: TableKind, conditions: &Conditions) -> Option<u32> {
    match queue {
        TableKind::Vtd => vtd::required(conditions),
        TableKind::Amd => required_of_present(conditions, cache::IOTLB),
        TableKind::SmmuV3 => required_of_present(conditions, cache::PASID),
    }
}

/// Of a present entry `always`, and the device's cache where it has one.
#[inline(always)]
fn required_of_present(conditions: &Conditions, always: u32) -> Option<u32> {
    if conditions.is_not(condition::PRESENT) {
        return Some(0);
    }
    if !conditions.is(condition::PRESENT) || conditions.is(condition::CONTESTED) {
        return None;
    }
    let device = conditions.is(condition::ATS) && conditions.is_not(condition::GONE);
    Some(always | if device { cache::DEVICE_TLB } else { 0 })
}

/// The conditions of a teardown: which hold, and which are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Conditions {
    /// Bits of [`condition`].
    pub set: u32,
    pub known: u32,
}

impl Conditions {
    /// Whether one holds; `None`: not known.
    #[inline(always)]
    pub fn get(&self, bit: u32) -> Option<bool> {
        if self.known & bit != 0 { Some(self.set & bit != 0) } else { None }
    }

    #[inline(always)]
    pub fn is(&self, bit: u32) -> bool {
        self.known & self.set & bit != 0
    }

    #[inline(always)]
    pub fn is_not(&self, bit: u32) -> bool {
        self.known & !self.set & bit != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUES: [TableKind; 3] = [TableKind::Vtd, TableKind::Amd, TableKind::SmmuV3];

    #[test]
    fn what_is_counted_stands_for_its_scope() {
        for queue in QUEUES {
            for high in 0..16u64 {
                for low in 0..256 {
                    let word = high << 60 | 0x0123_4567_89ab_cd00 | low;
                    let index = index(queue, word);
                    assert!(index < 16, "{queue:?}: {word:#x}");
                    assert_eq!(counted(queue, index), scope(queue, word), "{queue:?}: {word:#x}");
                }
            }
        }
    }

    #[test]
    fn each_vendor_requires_its_own_caches_of_a_present_entry() {
        let (present, ats) = (condition::PRESENT, condition::PRESENT | condition::ATS);
        let known = ats | condition::GONE | condition::CONTESTED;
        let of = |queue, set| required(queue, &Conditions { set, known });
        for (queue, always) in [(TableKind::Amd, cache::IOTLB), (TableKind::SmmuV3, cache::PASID)] {
            assert_eq!(of(queue, present), Some(always));
            assert_eq!(of(queue, ats), Some(always | cache::DEVICE_TLB));
            assert_eq!(of(queue, ats | condition::GONE), Some(always));
            assert_eq!(of(queue, 0), Some(0), "it was not present");
            assert_eq!(of(queue, ats | condition::CONTESTED), None);
            let blind = Conditions { set: ats, known: known & !condition::PRESENT };
            assert_eq!(required(queue, &blind), None, "nobody knows whether it was");
        }
    }
}
