//! SMMUv3's context descriptors: one array, or tables of 1,024 below a first level (specification IHI 0070,
//! 5.4; drivers/iommu/arm/arm-smmu-v3). The driver keeps virtual addresses of all of them.

use super::{Level, PASID_BITS, Shape};

/// `CTXDESC_SPLIT`: log2 of the descriptors of a second-level table.
const SPLIT: u32 = 10;
/// `CTXDESC_CD_0_V`.
const VALID: u64 = 1 << 31;

/// A shape of which only the lengths are missing: what a descriptor says is the same in each form, and the ASID
/// is its tag.
const DESCRIPTORS: Shape = Shape {
    levels: [Level { valid: VALID, width: 3, ..Level::NONE }, Level::NONE, Level::NONE, Level::NONE],
    tag_shift: 48,
    tag_mask: 0xffff,
    ..Shape::NONE
};

/// An array of `len` descriptors, itself the root.
#[inline(always)]
pub fn linear(len: u32) -> Shape {
    let mut shape = DESCRIPTORS;
    shape.levels[0].len = len.min(1 << PASID_BITS);
    shape
}

/// Two levels; the root is the driver's own list of second-level tables, `len` of them. An entry of the list
/// has `1 << width` words, and the word `pointer_word` of it is the table's address: up to 6.10 the list is of
/// `struct arm_smmu_l1_ctx_desc`, since then of pointers.
#[inline(always)]
pub fn two_level(len: u32, width: u8, pointer_word: u8) -> Shape {
    let mut shape = DESCRIPTORS;
    shape.levels[0].len = 1 << SPLIT;
    shape.levels[1] = Level {
        valid: !0,
        len: len.min(1 << (PASID_BITS - SPLIT)),
        width,
        shift: SPLIT as u8,
        ..Level::NONE
    };
    shape.root = 1;
    shape.pointer_word = pointer_word;
    shape
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{
        Entry,
        testing::{Found, Ram, walk},
    };

    const ROOT: u64 = 0xffff_0008_4000_0000;
    const SECOND: u64 = 0xffff_0008_5000_0000;

    /// A descriptor by 5.4 of the specification: V in bit 31, the ASID in bits 63:48 of the first word.
    fn descriptor(ram: &mut Ram, at: u64, asid: u64, valid: bool) {
        ram.put(at, asid << 48 | u64::from(valid) << 31 | 0x1234);
        ram.put(at + 8, 0xffff_ffff_ffff_fff0);
    }

    const fn entry(pasid: u32, tag: u32) -> Entry {
        Entry { pasid, kind: 0, tag }
    }

    fn tables(width: u8, pointer_word: u8) -> Found {
        let mut ram = Ram::default();
        ram.zero(ROOT, 4096);
        for (pasid, asid) in [(0u64, 1), (1, 2), (1023, 3), (1024, 4), (0xfffff, 0xffff)] {
            let second = SECOND + (pasid >> 10) * 0x10000;
            ram.zero(second, 0x10000);
            ram.put(ROOT + (((pasid >> 10) << width) + u64::from(pointer_word)) * 8, second);
            descriptor(&mut ram, second + (pasid & 1023) * 64, asid, true);
        }
        walk(&ram, &two_level(1024, width, pointer_word), ROOT)
    }

    const EXPECTED: [Entry; 5] =
        [entry(0, 1), entry(1, 2), entry(1023, 3), entry(1024, 4), entry(0xfffff, 0xffff)];

    #[test]
    fn an_array_of_descriptors_is_read() {
        let mut ram = Ram::default();
        ram.zero(ROOT, 1024 * 64);
        for (pasid, valid) in [(0, true), (7, false), (8, true), (1023, true)] {
            descriptor(&mut ram, ROOT + pasid * 64, pasid + 1, valid);
        }
        let found = walk(&ram, &linear(1024), ROOT);
        assert_eq!(found.entries, [entry(0, 1), entry(8, 9), entry(1023, 1024)]);
        assert!(found.sound);
    }

    #[test]
    fn two_levels_are_read_by_a_list_of_pointers() {
        let found = tables(0, 0);
        assert_eq!(found.entries, EXPECTED);
        assert!(found.sound);
    }

    #[test]
    fn two_levels_are_read_by_the_older_list_of_first_level_descriptors() {
        assert_eq!(tables(1, 0).entries, EXPECTED);
        assert_eq!(tables(1, 1).entries, EXPECTED, "wherever the pointer lies in one");
    }
}
