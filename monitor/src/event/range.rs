//! How far a flush of a range of addresses went.

use monitor_ebpf::descriptor::range;
use monitor_ebpf::wire;

/// A flush that fell short, in one of the caches that hold translations of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// What was to be flushed: its first byte and its last one.
    pub asked: (u64, u64),
    /// What of it descriptors covered; `None`: nothing.
    pub covered: Option<(u64, u64)>,
    /// It is the cache of a device (ATS), with this requester id; `None`: the IOMMU's.
    pub device: Option<u16>,
    /// What translations in it are tagged with.
    pub did: u32,
    /// Descriptors that were submitted meanwhile.
    pub descriptors: u32,
}

impl Range {
    /// What a record says.
    pub fn new(record: &wire::Range) -> Range {
        let is_device = matches!(record.kind, range::kind::DEVICE_TLB | range::kind::NESTED_DEVICE_TLB);
        Range {
            asked: (record.first, record.last),
            covered: (record.covered_first <= record.covered_last)
                .then_some((record.covered_first, record.covered_last)),
            device: is_device.then_some(record.source as u16),
            did: record.did,
            descriptors: record.descriptors,
        }
    }
}
