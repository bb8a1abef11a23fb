//! A range that had to be flushed, and how far it was: the part of a record that says so, and what the kernel side
//! remembers between the begin and the end of a flush.

#[cfg(not(target_arch = "bpf"))]
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{ABSENT, Operation};

/// What was asked to be flushed of a domain's translations, and what of it was not, in one of the caches that hold
/// them. A record that has this part is an [`Operation`] followed by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[repr(C)]
pub struct Range {
    /// The first byte of what was to be flushed, and the last one: I/O virtual addresses.
    pub first: u64,
    pub last: u64,
    /// The same of what descriptors covered of it; after `covered_last`: nothing.
    pub covered_first: u64,
    pub covered_last: u64,
    /// The cache: an `enum cache_tag_type` of VT-d's driver.
    pub kind: u32,
    /// What its translations are tagged with, and the PASID (0: the RID's own).
    pub did: u32,
    pub pasid: u32,
    /// Requester id of the device whose cache it is; 0: it is the IOMMU's.
    pub source: u32,
    /// Descriptors that were submitted meanwhile, whatever they covered.
    pub descriptors: u32,
    pub reserved: u32,
}

/// A flush that fell short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(FromBytes, IntoBytes, Immutable, KnownLayout))]
#[repr(C)]
pub struct Ranging {
    pub operation: Operation,
    pub range: Range,
}

/// Where the kernel has what is to be flushed at a gather's sync and in an mm notifier, and in which caches (VT-d, from
/// 6.10); the rest of it is in [`super::TagLayout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(IntoBytes, Immutable))]
#[repr(C)]
pub struct RangeLayout {
    /// `struct iommu_iotlb_gather`: `start`.
    pub gather_start: u32,
    /// `struct iommu_iotlb_gather`: `end`, the last byte.
    pub gather_end: u32,
    /// `struct dmar_domain`: `notifier`.
    pub domain_notifier: u32,
    /// `struct dmar_domain`: `devices`, whose RIDs are on it.
    pub domain_devices: u32,
    /// `struct dmar_domain`: `dev_pasids`.
    pub domain_pasids: u32,
    /// `struct cache_tag`: `iommu`.
    pub tag_iommu: u32,
    /// `struct cache_tag`: `domain_id`.
    pub tag_did: u32,
    /// `struct device_domain_info`: `link`.
    pub info_link: u32,
    /// `struct device_domain_info`: `dev`.
    pub info_device: u32,
    /// `struct dev_pasid_info`: `link_domain`.
    pub pasid_link: u32,
    /// `struct dev_pasid_info`: `dev`.
    pub pasid_device: u32,
}

impl RangeLayout {
    pub const UNKNOWN: RangeLayout = RangeLayout {
        gather_start: ABSENT,
        gather_end: ABSENT,
        domain_notifier: ABSENT,
        domain_devices: ABSENT,
        domain_pasids: ABSENT,
        tag_iommu: ABSENT,
        tag_did: ABSENT,
        info_link: ABSENT,
        info_device: ABSENT,
        pasid_link: ABSENT,
        pasid_device: ABSENT,
    };
}

/// Caches of a domain that a flush is held against; of a domain with more these are.
pub const RANGE_TAGS: usize = 8;

/// One cache that holds translations of a domain: VT-d's `struct cache_tag` (from 6.10), and how far it was flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Tag {
    /// Where the driver has it, and whose descriptors count.
    pub key: u64,
    pub iommu: u64,
    /// The device whose cache it is; of an IOTLB the IOMMU's own.
    pub device: u64,
    pub kind: u32,
    pub did: u32,
    pub pasid: u32,
    pub source: u32,
    /// What descriptors covered so far of what is asked for, in one piece; `from` after `to`: nothing.
    pub from: u64,
    pub to: u64,
    /// They covered more, in pieces that don't touch.
    pub scattered: u64,
}

/// A flush that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Asked {
    /// The domain, and what names this one flush of it: the gather, or the notifier's.
    pub domain: u64,
    pub call: u64,
    pub first: u64,
    pub last: u64,
    /// [`super::Feed::records`] at its begin.
    pub records: u64,
    /// [`super::Feed::range_queue`] at its begin: 0, and its descriptors may not have been seen.
    pub watched: u64,
    pub descriptors: u64,
    /// How many of `tags` are filled.
    pub len: u64,
    pub tags: [Tag; RANGE_TAGS],
}

impl Tag {
    pub const NONE: Tag = Tag {
        key: 0,
        iommu: 0,
        device: 0,
        kind: 0,
        did: 0,
        pasid: 0,
        source: 0,
        from: u64::MAX,
        to: 0,
        scattered: 0,
    };
}

impl Asked {
    pub const NONE: Asked = Asked {
        domain: 0,
        call: 0,
        first: 0,
        last: 0,
        records: 0,
        watched: 0,
        descriptors: 0,
        len: 0,
        tags: [Tag::NONE; RANGE_TAGS],
    };
}

/// Without padding, their sizes are the sums of their members'.
const _: () = {
    assert!(size_of::<Range>() == 4 * 8 + 6 * 4);
    assert!(size_of::<Ranging>() == size_of::<Operation>() + size_of::<Range>());
    assert!(size_of::<Tag>() == 3 * 8 + 4 * 4 + 3 * 8);
    assert!(size_of::<Asked>() == 8 * 8 + RANGE_TAGS * size_of::<Tag>());
    assert!(RANGE_TAGS.is_power_of_two());
};
