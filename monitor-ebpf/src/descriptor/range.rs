//! Whether what was flushed covers what was asked for: each of VT-d's descriptors as a range of addresses, held against
//! each cache that has translations of the domain.
//!
//! A descriptor more than the flush's own makes a cache count as flushed further than it was, and never as less: what
//! an interrupt submits in between hides a fault at worst.

use crate::wire::{Asked, RANGE_TAGS, Tag};

use super::vtd;

/// `enum cache_tag_type` (drivers/iommu/intel/iommu.h, 6.10 to 7.3).
pub mod kind {
    pub const IOTLB: u32 = 0;
    pub const DEVICE_TLB: u32 = 1;
    pub const NESTED_IOTLB: u32 = 2;
    pub const NESTED_DEVICE_TLB: u32 = 3;
}

/// How a cache fared. The numbers are indexes of counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Covered,
    /// Part of what was asked for was covered by no descriptor.
    Short,
    /// It was covered in pieces of which not each one is kept.
    Undecided,
}

/// Whether a cache is one of a device, which ATS fills.
#[inline(always)]
pub fn is_device(tag: &Tag) -> bool {
    tag.kind == kind::DEVICE_TLB || tag.kind == kind::NESTED_DEVICE_TLB
}

/// Whether a cache is of a kind that we know.
#[inline(always)]
pub fn is_known(tag: &Tag) -> bool {
    tag.kind <= kind::NESTED_DEVICE_TLB
}

/// A descriptor is submitted to the queue of an IOMMU while the flush is under way.
#[inline(always)]
pub fn submitted(asked: &mut Asked, iommu: u64, qw0: u64, qw1: u64) {
    asked.descriptors = asked.descriptors.wrapping_add(1);
    let (first, last) = (asked.first, asked.last);
    for at in 0..RANGE_TAGS {
        if at as u64 >= asked.len {
            return;
        }
        let tag = &mut asked.tags[at];
        if tag.iommu == iommu {
            cover(tag, vtd::span(qw0, qw1, tag), first, last);
        }
    }
}

/// A piece is covered, which may lie outside of what is asked for: then it is longer than 0 and touches nothing of it.
#[inline(always)]
fn cover(tag: &mut Tag, (from, to): (u64, u64), first: u64, last: u64) {
    let from = if from > first { from } else { first };
    let to = if to < last { to } else { last };
    if from > to {
        return;
    }
    if tag.from > tag.to {
        (tag.from, tag.to) = (from, to);
    } else if from <= tag.to.saturating_add(1) && tag.from <= to.saturating_add(1) {
        tag.from = if from < tag.from { from } else { tag.from };
        tag.to = if to > tag.to { to } else { tag.to };
    } else {
        tag.scattered = 1;
    }
}

/// How a cache fared with what was asked for.
#[inline(always)]
pub fn verdict(tag: &Tag, first: u64, last: u64) -> Verdict {
    if tag.from <= first && tag.to >= last {
        Verdict::Covered
    } else if tag.scattered != 0 {
        Verdict::Undecided
    } else {
        Verdict::Short
    }
}

/// The same, of a flush that has ended: nothing falls short whose descriptors may not have been seen.
#[inline(always)]
pub fn judged(asked: &Asked, tag: &Tag) -> Verdict {
    match verdict(tag, asked.first, asked.last) {
        Verdict::Short if asked.watched == 0 => Verdict::Undecided,
        verdict => verdict,
    }
}

/// Whether it is the same cache still: what a tag was freed for, and another one put in its place, is another.
#[inline(always)]
pub fn is_same(one: &Tag, other: &Tag) -> bool {
    one.key == other.key
        && one.iommu == other.iommu
        && one.device == other.device
        && one.kind == other.kind
        && one.did == other.did
        && one.pasid == other.pasid
}

#[cfg(test)]
mod tests {
    use super::*;

    const IOMMU: u64 = 0x1000;
    const PAGE: u64 = 0x1000;

    fn tag(kind: u32, pasid: u32) -> Tag {
        Tag { key: 1, iommu: IOMMU, kind, did: 0x12, pasid, source: 0x0100, ..Tag::NONE }
    }

    fn asked(tags: &[Tag], first: u64, last: u64) -> Asked {
        let mut asked = Asked { first, last, len: tags.len() as u64, ..Asked::NONE };
        asked.tags[..tags.len()].copy_from_slice(tags);
        asked
    }

    /// `qi_desc_iotlb(iommu, did, addr, size_order, type)`: 1 global, 2 domain, 3 page.
    fn iotlb(granularity: u64, did: u64, address: u64, order: u64) -> [u64; 2] {
        [2 | granularity << 4 | did << 16, address | order]
    }

    /// `qi_desc_piotlb(did, pasid, addr, order, ih)`
    fn pasid_iotlb(granularity: u64, did: u64, pasid: u64, address: u64, order: u64) -> [u64; 2] {
        [6 | granularity << 4 | did << 16 | pasid << 32, address | order]
    }

    /// `qi_desc_dev_iotlb(sid, pfsid, qdep, addr, mask)`
    fn device(source: u64, address: u64, order: u32) -> [u64; 2] {
        let ones = if order == 0 { 0 } else { (1u64 << (12 + order - 1)) - 1 };
        [3 | source << 32, ((address | ones) & !0xfff) | u64::from(order != 0)]
    }

    /// `qi_desc_dev_iotlb_pasid(sid, pfsid, pasid, qdep, addr, size_order)`
    fn pasid_device(source: u64, pasid: u64, address: u64, order: u32) -> [u64; 2] {
        let size = if order == 0 { 0 } else { 1 << 11 };
        let ones = if order == 0 { 0 } else { u64::MAX >> (52 - order) & !0xfff };
        let zero = if order == 0 { 0 } else { 1u64 << (12 + order - 1) };
        [8 | source << 16 | pasid << 32, (address & !0xfff | ones) & !zero | size]
    }

    fn fares(tag: Tag, (first, last): (u64, u64), descriptors: &[[u64; 2]]) -> Verdict {
        let mut asked = asked(&[tag], first, last);
        for &[qw0, qw1] in descriptors {
            submitted(&mut asked, IOMMU, qw0, qw1);
        }
        assert_eq!(asked.descriptors, descriptors.len() as u64);
        verdict(&asked.tags[0], first, last)
    }

    /// Four pages from 0x10000 on.
    const FOUR: (u64, u64) = (0x1_0000, 0x1_3fff);

    #[test]
    fn pages_are_covered_by_their_own_number_of_them_and_not_by_half_of_it() {
        let rid = tag(kind::IOTLB, 0);
        assert_eq!(fares(rid, FOUR, &[iotlb(3, 0x12, 0x1_0000, 2)]), Verdict::Covered);
        assert_eq!(fares(rid, FOUR, &[iotlb(3, 0x12, 0x1_0000, 1)]), Verdict::Short);
        assert_eq!(fares(rid, FOUR, &[iotlb(3, 0x12, 0x1_0000, 0)]), Verdict::Short);
        assert_eq!(fares(rid, FOUR, &[]), Verdict::Short, "nothing at all");
        assert_eq!(fares(rid, FOUR, &[iotlb(3, 0x12, 0x1_2000, 1)]), Verdict::Short, "only the end of it");
    }

    #[test]
    fn a_descriptor_that_is_wider_covers_it_too() {
        let rid = tag(kind::IOTLB, 0);
        for wider in [iotlb(2, 0x12, 0, 0), iotlb(1, 0, 0, 0), iotlb(3, 0x12, 0, 9), iotlb(3, 0x12, 0, 52)] {
            assert_eq!(fares(rid, FOUR, &[wider]), Verdict::Covered, "{wider:x?}");
        }
        // Not aligned, it is widened: 0x3000 to 0x4fff takes eight pages from 0 on.
        let across = (3 * PAGE, 5 * PAGE - 1);
        assert_eq!(fares(rid, across, &[iotlb(3, 0x12, 0, 3)]), Verdict::Covered);
        assert_eq!(fares(rid, across, &[iotlb(3, 0x12, 2 * PAGE, 1)]), Verdict::Short);
        // The mask leaves out the low bits of an address.
        assert_eq!(fares(rid, across, &[iotlb(3, 0x12, 3 * PAGE, 3)]), Verdict::Covered);
        // The hint that no table was freed stands at bit 6.
        assert_eq!(fares(rid, FOUR, &[iotlb(3, 0x12, 0x1_0000 | 1 << 6, 2)]), Verdict::Covered);
    }

    #[test]
    fn another_domain_iommu_or_kind_of_cache_does_not_count() {
        let rid = tag(kind::IOTLB, 0);
        assert_eq!(fares(rid, FOUR, &[iotlb(2, 0x13, 0, 0)]), Verdict::Short);
        assert_eq!(fares(rid, FOUR, &[device(0x0100, 0x1_0000, 2)]), Verdict::Short);
        assert_eq!(fares(rid, FOUR, &[[7 | 3 << 4, 0]]), Verdict::Short, "the PASID cache");
        let mut other = asked(&[rid], FOUR.0, FOUR.1);
        let [qw0, qw1] = iotlb(2, 0x12, 0, 0);
        submitted(&mut other, IOMMU + 8, qw0, qw1);
        assert_eq!(verdict(&other.tags[0], FOUR.0, FOUR.1), Verdict::Short);
    }

    #[test]
    fn a_first_stage_is_flushed_by_its_pasid() {
        let sva = tag(kind::IOTLB, 5);
        assert_eq!(fares(sva, FOUR, &[pasid_iotlb(3, 0x12, 5, 0x1_0000, 2)]), Verdict::Covered);
        assert_eq!(fares(sva, FOUR, &[pasid_iotlb(3, 0x12, 5, 0x1_0000, 1)]), Verdict::Short);
        assert_eq!(
            fares(sva, FOUR, &[pasid_iotlb(2, 0x12, 5, 0, 0)]),
            Verdict::Covered,
            "all of the PASID's"
        );
        assert_eq!(fares(sva, FOUR, &[pasid_iotlb(2, 0x12, 6, 0, 0)]), Verdict::Short, "another PASID's");
        assert_eq!(fares(sva, FOUR, &[pasid_iotlb(2, 0x13, 5, 0, 0)]), Verdict::Short, "another domain's");
    }

    #[test]
    fn the_size_of_a_devices_flush_is_its_lowest_zero() {
        let rid = tag(kind::DEVICE_TLB, 0);
        assert_eq!(fares(rid, FOUR, &[device(0x0100, 0x1_0000, 2)]), Verdict::Covered);
        assert_eq!(fares(rid, FOUR, &[device(0x0100, 0x1_0000, 1)]), Verdict::Short);
        assert_eq!(fares(rid, FOUR, &[device(0x0108, 0x1_0000, 2)]), Verdict::Short, "another device's");
        assert_eq!(fares(rid, FOUR, &[device(0x0100, 0, 52)]), Verdict::Covered, "everything");
        assert_eq!(fares(rid, FOUR, &[iotlb(2, 0x12, 0, 0)]), Verdict::Short, "the IOMMU's");
        assert_eq!(fares(rid, (0x1_0000, 0x1_0fff), &[device(0x0100, 0x1_0000, 0)]), Verdict::Covered);
        let pasid = tag(kind::DEVICE_TLB, 5);
        assert_eq!(fares(pasid, FOUR, &[pasid_device(0x0100, 5, 0x1_0000, 2)]), Verdict::Covered);
        assert_eq!(fares(pasid, FOUR, &[pasid_device(0x0100, 5, 0x1_0000, 1)]), Verdict::Short);
        assert_eq!(fares(pasid, FOUR, &[pasid_device(0x0100, 6, 0, 52)]), Verdict::Short, "another PASID's");
        assert_eq!(fares(pasid, FOUR, &[pasid_device(0x0100, 5, 0, 52)]), Verdict::Covered);
        assert_eq!(fares(pasid, FOUR, &[device(0x0100, 0, 52)]), Verdict::Short, "the RID's own");
    }

    #[test]
    fn pieces_that_touch_make_one_and_pieces_that_do_not_decide_nothing() {
        let rid = tag(kind::IOTLB, 0);
        let page = |number: u64| iotlb(3, 0x12, 0x1_0000 + number * PAGE, 0);
        assert_eq!(fares(rid, FOUR, &[page(0), page(1), page(2), page(3)]), Verdict::Covered);
        assert_eq!(fares(rid, FOUR, &[page(3), page(2), page(1), page(0)]), Verdict::Covered);
        assert_eq!(fares(rid, FOUR, &[page(0), page(1), page(2)]), Verdict::Short);
        assert_eq!(fares(rid, FOUR, &[page(0), page(3), page(1), page(2)]), Verdict::Undecided);
        // What an interrupt flushes in between, elsewhere, is no piece of it.
        assert_eq!(fares(rid, FOUR, &[page(0), page(9), page(1), page(2)]), Verdict::Short);
        assert_eq!(fares(rid, FOUR, &[page(9), page(0), page(1), page(2), page(3)]), Verdict::Covered);
    }

    #[test]
    fn large_pages_and_the_ends_of_the_address_space() {
        let rid = tag(kind::IOTLB, 0);
        let large = (0x4000_0000, 0x401f_ffff);
        assert_eq!(fares(rid, large, &[iotlb(3, 0x12, 0x4000_0000, 9)]), Verdict::Covered);
        assert_eq!(fares(rid, large, &[iotlb(3, 0x12, 0x4000_0000, 8)]), Verdict::Short);
        assert_eq!(fares(rid, (0, u64::MAX), &[iotlb(2, 0x12, 0, 0)]), Verdict::Covered);
        assert_eq!(fares(rid, (0, u64::MAX), &[iotlb(3, 0x12, 0, 36)]), Verdict::Short);
        let top = (u64::MAX - 0xfff, u64::MAX);
        assert_eq!(fares(rid, top, &[iotlb(3, 0x12, top.0, 0)]), Verdict::Covered);
    }

    #[test]
    fn each_cache_of_a_domain_is_judged_by_itself() {
        let tags = [tag(kind::IOTLB, 0), tag(kind::DEVICE_TLB, 0), Tag { did: 0x13, ..tag(kind::IOTLB, 0) }];
        let mut asked = asked(&tags, FOUR.0, FOUR.1);
        for [qw0, qw1] in [iotlb(3, 0x12, 0x1_0000, 2), device(0x0100, 0x1_0000, 1)] {
            submitted(&mut asked, IOMMU, qw0, qw1);
        }
        let verdicts = [0, 1, 2].map(|at: usize| verdict(&asked.tags[at], FOUR.0, FOUR.1));
        assert_eq!(verdicts, [Verdict::Covered, Verdict::Short, Verdict::Short]);
    }

    #[test]
    fn what_a_full_list_has_is_judged_and_what_lies_behind_its_end_is_not_touched() {
        let mut full = asked(&[tag(kind::IOTLB, 0); RANGE_TAGS], FOUR.0, FOUR.1);
        let [qw0, qw1] = iotlb(2, 0x12, 0, 0);
        submitted(&mut full, IOMMU, qw0, qw1);
        assert!(full.tags.iter().all(|tag| verdict(tag, FOUR.0, FOUR.1) == Verdict::Covered));
        let mut one = asked(&[tag(kind::IOTLB, 0); RANGE_TAGS], FOUR.0, FOUR.1);
        one.len = 1;
        submitted(&mut one, IOMMU, qw0, qw1);
        assert_eq!(one.tags[1], tag(kind::IOTLB, 0));
    }

    #[test]
    fn a_flush_that_began_before_the_queue_was_watched_is_never_short() {
        let [qw0, qw1] = iotlb(3, 0x12, 0x1_0000, 1);
        for (watched, fares) in [(0, Verdict::Undecided), (1, Verdict::Short)] {
            let mut half = Asked { watched, ..asked(&[tag(kind::IOTLB, 0)], FOUR.0, FOUR.1) };
            assert_eq!(judged(&half, &half.tags[0]), fares, "nothing was seen");
            submitted(&mut half, IOMMU, qw0, qw1);
            assert_eq!(judged(&half, &half.tags[0]), fares, "half of it was seen");
            let [qw0, qw1] = iotlb(2, 0x12, 0, 0);
            submitted(&mut half, IOMMU, qw0, qw1);
            assert_eq!(judged(&half, &half.tags[0]), Verdict::Covered, "what was seen is enough");
        }
    }

    #[test]
    fn a_tag_in_the_place_of_another_is_not_the_same() {
        let one = tag(kind::IOTLB, 5);
        assert!(is_same(&one, &Tag { from: 1, to: 2, scattered: 1, ..one }));
        for other in [
            Tag { key: 2, ..one },
            Tag { iommu: 2, ..one },
            Tag { device: 2, ..one },
            Tag { kind: 1, ..one },
            Tag { did: 2, ..one },
            Tag { pasid: 2, ..one },
        ] {
            assert!(!is_same(&one, &other), "{other:?}");
        }
    }
}
