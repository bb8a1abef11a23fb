//! VT-d's invalidation queue (specification 6.5.2; drivers/iommu/intel/iommu.h, `QI_*`).

use crate::wire::Tag;

use super::{Conditions, Entry, Scope, cache, condition, pack, range};

const CONTEXT: u64 = 1;
const IOTLB: u64 = 2;
const DEVICE_TLB: u64 = 3;
const WAIT: u64 = 5;
const PASID_IOTLB: u64 = 6;
const PASID_CACHE: u64 = 7;
const PASID_DEVICE_TLB: u64 = 8;

const SCOPES: u64 = {
    let mut scopes = [Scope::Other; 16];
    scopes[CONTEXT as usize] = Scope::Context;
    scopes[IOTLB as usize] = Scope::Iotlb;
    scopes[DEVICE_TLB as usize] = Scope::DeviceTlb;
    scopes[WAIT as usize] = Scope::Drain;
    scopes[PASID_IOTLB as usize] = Scope::Iotlb;
    scopes[PASID_CACHE as usize] = Scope::PasidCache;
    scopes[PASID_DEVICE_TLB as usize] = Scope::DeviceTlb;
    pack(scopes)
};

/// PGTT of a PASID entry.
const FIRST_STAGE: u32 = 1;
const PASS_THROUGH: u32 = 4;

/// What a descriptor is counted by: an index below 16. Its type as it is, so that the hot path looks nothing up.
#[inline(always)]
pub fn index(qw0: u64) -> u64 {
    qw0 & 0xf
}

/// What a descriptor drops, as the number of a [`Scope`]. An index tells as much as a descriptor.
#[inline(always)]
pub fn scope(qw0: u64) -> u64 {
    SCOPES >> (index(qw0) << 2) & 7
}

/// The caches that a descriptor drops an entry from as a whole.
#[inline(always)]
pub fn drops(qw0: u64, qw1: u64, entry: &Entry) -> u32 {
    let granularity = qw0 >> 4 & 3;
    let did = (qw0 >> 16) as u32 & 0xffff == entry.tag;
    let pasid = (qw0 >> 32) as u32 & 0xf_ffff == entry.pasid;
    match qw0 & 0xf {
        // 1 global, 2 domain, 3 page.
        IOTLB => cache::IOTLB * u32::from(granularity == 1 || granularity == 2 && did),
        // 2 PASID, 3 page. Second-stage translations are not tagged with a PASID.
        PASID_IOTLB => {
            let tagged = entry.kind == FIRST_STAGE || entry.kind == PASS_THROUGH;
            cache::IOTLB * u32::from(granularity == 2 && did && pasid && tagged)
        }
        // 0 domain, 1 PASID, 3 global.
        PASID_CACHE => {
            let covers = granularity == 3 || did && (granularity == 0 || granularity == 1 && pasid);
            cache::PASID * u32::from(covers)
        }
        DEVICE_TLB => {
            let source = (qw0 >> 32) as u32 & 0xffff == entry.source;
            cache::DEVICE_TLB * u32::from(source && entry.pasid == 0 && qw1 & 1 != 0 && is_whole(qw1))
        }
        // The requester's id is where the others have the domain's.
        PASID_DEVICE_TLB => {
            let source = (qw0 >> 16) as u32 & 0xffff == entry.source;
            cache::DEVICE_TLB * u32::from(source && pasid && qw1 & 1 << 11 != 0 && is_whole(qw1))
        }
        _ => 0,
    }
}

/// The range of a device-TLB invalidation is every address: its lowest clear bit above the page's tells how long it
/// is, and user addresses have at most 57 bits.
#[inline(always)]
fn is_whole(qw1: u64) -> bool {
    let ones = 0x00ff_ffff_ffff_f000;
    // With the size bit of a PASID-based one at 11, some releases count the address from 11 on.
    qw1 & ones == ones
}

/// Nothing.
const NOWHERE: (u64, u64) = (u64::MAX, 0);
const EVERYWHERE: (u64, u64) = (0, u64::MAX);

/// The addresses, first and last, whose translations a descriptor drops from a cache of a domain.
#[inline(always)]
pub fn span(qw0: u64, qw1: u64, tag: &Tag) -> (u64, u64) {
    let granularity = qw0 >> 4 & 3;
    let did = (qw0 >> 16) as u32 & 0xffff == tag.did;
    let pasid = (qw0 >> 32) as u32 & 0xf_ffff == tag.pasid;
    match (qw0 & 0xf, range::is_device(tag)) {
        (IOTLB, false) if granularity == 1 || granularity == 2 && did => EVERYWHERE,
        (IOTLB, false) if granularity == 3 && did => masked(qw1),
        (PASID_IOTLB, false) if did && pasid && granularity == 2 => EVERYWHERE,
        (PASID_IOTLB, false) if did && pasid && granularity == 3 => masked(qw1),
        (DEVICE_TLB, true) if (qw0 >> 32) as u32 & 0xffff == tag.source && tag.pasid == 0 => {
            sized(qw1, qw1 & 1 != 0)
        }
        (PASID_DEVICE_TLB, true) if (qw0 >> 16) as u32 & 0xffff == tag.source && pasid && tag.pasid != 0 => {
            sized(qw1, qw1 & 1 << 11 != 0)
        }
        _ => NOWHERE,
    }
}

/// Pages whose numbers differ in `low` bits at most.
#[inline(always)]
fn pages(number: u64, low: u64) -> (u64, u64) {
    ((number & !low) << 12, (number | low) << 12 | 0xfff)
}

/// An address with so many of its bits masked: AM, in the low six.
#[inline(always)]
fn masked(qw1: u64) -> (u64, u64) {
    let order = qw1 & 0x3f;
    if order >= 52 { EVERYWHERE } else { pages(qw1 >> 12, (1 << order) - 1) }
}

/// An address whose lowest zero says how many pages are meant, where `many` are.
#[inline(always)]
fn sized(qw1: u64, many: bool) -> (u64, u64) {
    let number = qw1 >> 12;
    let low = if many { (number ^ (number + 1)) & (u64::MAX >> 12) } else { 0 };
    pages(number, low)
}

/// The caches that the teardown of an entry must have flushed before it returns; `None`: not known, or not to be
/// judged. KERNEL: `intel_pasid_tear_down_entry`, `devtlb_invalidation_with_pasid` (intel/pasid.c, 5.15 to 7.3).
#[inline(always)]
pub fn required(conditions: &Conditions) -> Option<u32> {
    if conditions.is_not(condition::PRESENT) {
        return Some(0);
    }
    let judged = condition::PRESENT | condition::QUEUED | condition::TRANSLATES;
    if conditions.known & conditions.set & judged != judged || conditions.is(condition::CONTESTED) {
        return None;
    }
    // Up to 6.1 the device's is left out in caching mode.
    let device = conditions.is(condition::ATS)
        && conditions.is_not(condition::GONE)
        && conditions.is_not(condition::CACHING_MODE);
    Some(cache::PASID | cache::IOTLB | if device { cache::DEVICE_TLB } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: Entry = Entry { kind: FIRST_STAGE, tag: 0x12, pasid: 0x5_4321, source: 0x0100 };
    const SECOND: Entry = Entry { kind: 2, ..ENTRY };
    const RID: Entry = Entry { pasid: 0, kind: 2, ..ENTRY };

    /// `QI_PC_GRAN(gran) | QI_PC_DID(did) | QI_PC_PASID(pasid) | QI_PC_TYPE`, and alike.
    fn tagged(kind: u64, granularity: u64, did: u64, pasid: u64) -> u64 {
        kind | granularity << 4 | did << 16 | pasid << 32
    }

    #[test]
    fn every_type_has_its_scope() {
        let scopes = [
            (1, Scope::Context),
            (2, Scope::Iotlb),
            (3, Scope::DeviceTlb),
            (4, Scope::Other),
            (5, Scope::Drain),
            (6, Scope::Iotlb),
            (7, Scope::PasidCache),
            (8, Scope::DeviceTlb),
            (9, Scope::Other),
            (15, Scope::Other),
        ];
        for (kind, expected) in scopes {
            assert_eq!(scope(0xffff_ffff_ffff_fff0 | kind), expected as u64, "type {kind}");
        }
    }

    #[test]
    fn the_pasid_cache_is_dropped_by_pasid_by_domain_or_whole() {
        let drops = |granularity, did, pasid| drops(tagged(7, granularity, did, pasid), 0, &ENTRY);
        assert_eq!(drops(1, 0x12, 0x5_4321), cache::PASID);
        assert_eq!(drops(1, 0x12, 0x5_4322), 0);
        assert_eq!(drops(1, 0x13, 0x5_4321), 0);
        assert_eq!(drops(0, 0x12, 0), cache::PASID);
        assert_eq!(drops(0, 0x13, 0), 0);
        assert_eq!(drops(3, 0, 0), cache::PASID);
    }

    #[test]
    fn a_first_stage_entry_is_dropped_by_its_pasid_or_by_its_domain() {
        assert_eq!(drops(tagged(6, 2, 0x12, 0x5_4321), 0, &ENTRY), cache::IOTLB);
        assert_eq!(drops(tagged(6, 2, 0x12, 0x5_4322), 0, &ENTRY), 0);
        assert_eq!(drops(tagged(6, 2, 0x13, 0x5_4321), 0, &ENTRY), 0);
        assert_eq!(drops(tagged(6, 3, 0x12, 0x5_4321), 0x1000, &ENTRY), 0, "a page of it");
        assert_eq!(drops(tagged(2, 2, 0x12, 0), 0, &ENTRY), cache::IOTLB);
        assert_eq!(drops(tagged(2, 1, 0, 0), 0, &ENTRY), cache::IOTLB);
        assert_eq!(drops(tagged(2, 3, 0x12, 0), 0x1000, &ENTRY), 0, "a page of it");
    }

    #[test]
    fn a_second_stage_entry_is_dropped_by_its_domain_alone() {
        assert_eq!(drops(tagged(6, 2, 0x12, 0x5_4321), 0, &SECOND), 0);
        assert_eq!(drops(tagged(2, 2, 0x12, 0), 0, &SECOND), cache::IOTLB);
        assert_eq!(drops(tagged(2, 2, 0x13, 0), 0, &SECOND), 0);
    }

    /// `qi_desc_dev_iotlb_pasid(sid, pfsid, pasid, qdep, 0, 64 - VTD_PAGE_SHIFT)`
    const ALL_OF_PASID: u64 = 0x7fff_ffff_ffff_f800;
    /// `qi_desc_dev_iotlb(sid, pfsid, qdep, 0, 64 - VTD_PAGE_SHIFT)`
    const ALL_OF_RID: u64 = 0x7fff_ffff_ffff_f001;

    #[test]
    fn the_device_of_a_pasid_has_its_requester_id_where_others_have_the_domain() {
        let whole = |source, pasid| drops(tagged(8, 0, source, pasid), ALL_OF_PASID, &ENTRY);
        assert_eq!(whole(0x0100, 0x5_4321), cache::DEVICE_TLB);
        assert_eq!(whole(0x0108, 0x5_4321), 0);
        assert_eq!(whole(0x0100, 0x5_4322), 0);
        assert_eq!(drops(tagged(8, 0, 0x0100, 0x5_4321), 0x1000, &ENTRY), 0, "a page of it");
        assert_eq!(drops(tagged(8, 0, 0x0100, 0x5_4321), 0x1f_f800, &ENTRY), 0, "2 MiB of it");
    }

    #[test]
    fn the_device_of_a_rid_is_flushed_without_a_pasid() {
        let rid = 3 | 0x0100 << 32;
        assert_eq!(drops(rid, ALL_OF_RID, &RID), cache::DEVICE_TLB);
        assert_eq!(drops(rid, ALL_OF_RID, &ENTRY), 0, "a PASID's is not meant");
        assert_eq!(drops(3 | 0x0108 << 32, ALL_OF_RID, &RID), 0);
        assert_eq!(drops(rid, 0x1000, &RID), 0, "a page of it");
    }

    #[test]
    fn a_drain_of_page_requests_drops_nothing_of_another_domain() {
        // `intel_iommu_drain_pasid_prq` flushes the PASID under the DID of the RID's domain.
        assert_eq!(drops(tagged(6, 2, 0x01, 0x5_4321), 0, &ENTRY), 0);
        assert_eq!(drops(tagged(5, 0, 0x12, 0x5_4321), 0, &ENTRY), 0);
    }

    const ALL: u32 = condition::PRESENT
        | condition::ATS
        | condition::GONE
        | condition::TRANSLATES
        | condition::QUEUED
        | condition::CACHING_MODE
        | condition::CONTESTED;
    const LIVE: u32 = condition::PRESENT | condition::TRANSLATES | condition::QUEUED;

    fn with(set: u32) -> Option<u32> {
        required(&Conditions { set, known: ALL })
    }

    #[test]
    fn a_present_entry_takes_its_flushes_and_an_absent_one_none() {
        assert_eq!(with(LIVE), Some(cache::PASID | cache::IOTLB));
        assert_eq!(with(LIVE | condition::ATS), Some(cache::PASID | cache::IOTLB | cache::DEVICE_TLB));
        assert_eq!(with(LIVE | condition::ATS | condition::GONE), Some(cache::PASID | cache::IOTLB));
        assert_eq!(with(LIVE | condition::ATS | condition::CACHING_MODE), Some(cache::PASID | cache::IOTLB));
        assert_eq!(with(LIVE & !condition::PRESENT), Some(0));
    }

    #[test]
    fn what_is_not_known_is_not_judged() {
        for bit in [condition::PRESENT, condition::TRANSLATES, condition::QUEUED] {
            assert_eq!(required(&Conditions { set: LIVE, known: ALL & !bit }), None, "{bit}");
        }
        assert_eq!(with(LIVE & !condition::TRANSLATES), None);
        assert_eq!(with(LIVE & !condition::QUEUED), None);
        assert_eq!(with(LIVE | condition::CONTESTED), None);
        let unknown = Conditions { set: LIVE | condition::ATS, known: ALL & !condition::GONE };
        assert_eq!(required(&unknown), Some(cache::PASID | cache::IOTLB), "the device may be gone");
    }
}
