//! What the command queues of three vendors' IOMMUs are told to forget: each descriptor decoded into its scope, and
//! held against the PASID entry that is being torn down.
//!
//! Pure, so that the same code runs in the programs and in the tests, over descriptors laid out by hand.

pub mod amd;
pub mod smmuv3;
pub mod vtd;
pub mod window;

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
