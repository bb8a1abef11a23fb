//! VT-d's scalable-mode PASID table: a directory, and leaves of 64 entries (specification 9.4 and 9.6;
//! drivers/iommu/intel/pasid.h).

use super::{Level, Memory, PASID_BITS, Shape};

/// `PASID_PDE_SHIFT`: log2 of the entries of a leaf.
const LEAF_BITS: u32 = 6;
/// Present, in a directory entry and in a PASID entry.
const PRESENT: u64 = 1;
/// What of a directory entry is the leaf's physical address. The high bits are reserved and zero.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// The shape of a table that has room for `max_pasid` PASIDs (`struct pasid_table::max_pasid`), with physical
/// memory mapped from `page_offset` on. Its directory is the root.
#[inline(always)]
pub fn shape(max_pasid: u32, page_offset: u64) -> Shape {
    let leaf = Level { valid: PRESENT, len: 1 << LEAF_BITS, width: 3, ..Level::NONE };
    let directory = Level {
        valid: PRESENT,
        len: (max_pasid >> LEAF_BITS).min(1 << (PASID_BITS - LEAF_BITS)),
        shift: LEAF_BITS as u8,
        ..Level::NONE
    };
    Shape {
        levels: [leaf, directory, Level::NONE, Level::NONE],
        root: 1,
        address_mask: ADDRESS,
        address_base: page_offset,
        // PGTT: 1 first stage, 2 second stage, 3 nested, 4 pass-through.
        kind_shift: 6,
        kind_mask: 7,
        // The domain id (DID).
        tag_word: 1,
        tag_mask: 0xffff,
        ..Shape::NONE
    }
}

/// The first two words of one entry; `None` if they can't be read. Where its leaf isn't there, they are 0.
#[inline(always)]
pub fn lookup(
    memory: &impl Memory,
    directory: u64,
    max_pasid: u32,
    page_offset: u64,
    pasid: u32,
) -> Option<[u64; 2]> {
    if pasid >= max_pasid || directory == 0 {
        return None;
    }
    let leaf = memory.word(directory.wrapping_add(u64::from(pasid >> LEAF_BITS) * 8))?;
    if leaf & PRESENT == 0 {
        return Some([0; 2]);
    }
    let slot = u64::from(pasid & ((1 << LEAF_BITS) - 1)) * 64;
    let entry = (leaf & ADDRESS).wrapping_add(page_offset).wrapping_add(slot);
    Some([memory.word(entry)?, memory.word(entry.wrapping_add(8))?])
}

/// What the words of an entry say: present, faults disabled, the translation type, the domain id.
#[inline(always)]
pub fn decode(words: [u64; 2]) -> (bool, bool, u32, u32) {
    let [low, high] = words;
    (low & PRESENT != 0, low & 2 != 0, (low >> 6) as u32 & 7, high as u32 & 0xffff)
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::table::{
        Entry,
        testing::{Ram, walk},
    };

    const PAGE_OFFSET: u64 = 0xffff_9180_0000_0000;
    const DIRECTORY: u64 = PAGE_OFFSET + 0x4000_0000;
    const MAX_PASID: u32 = 1 << 20;

    /// A directory of 128 KiB, each entry below it by the specification's figures 9-35 and 9-36.
    fn table(pasids: &[(u32, u64, u64)]) -> Ram {
        let mut ram = Ram::default();
        ram.zero(DIRECTORY, 128 << 10);
        for &(pasid, kind, did) in pasids {
            let leaf = 0x1_2340_0000 + u64::from(pasid >> 6) * 4096;
            // Fault processing disable (bit 1) says nothing of presence.
            ram.put(DIRECTORY + u64::from(pasid >> 6) * 8, leaf | 3);
            let entry = PAGE_OFFSET + leaf + u64::from(pasid & 63) * 64;
            ram.zero(PAGE_OFFSET + leaf, 4096);
            ram.put(entry, 0xabcd_e000 | kind << 6 | 1);
            ram.put(entry + 8, 0x5_0000 | did);
        }
        ram
    }

    fn entry(pasid: u32, kind: u32, tag: u32) -> Entry {
        Entry { pasid, kind, tag }
    }

    #[test]
    fn every_present_entry_is_found_with_its_type_and_domain() {
        let ram = table(&[(0, 2, 3), (5, 1, 9), (63, 4, 1), (64, 3, 0xffff), (0xfffff, 1, 2)]);
        let found = walk(&ram, &shape(MAX_PASID, PAGE_OFFSET), DIRECTORY);
        let expected =
            [entry(0, 2, 3), entry(5, 1, 9), entry(63, 4, 1), entry(64, 3, 0xffff), entry(0xfffff, 1, 2)];
        assert_eq!(found.entries, expected);
        assert!(found.sound);
    }

    #[test]
    fn an_entry_that_is_torn_down_is_gone_though_its_other_bits_stand() {
        let mut ram = table(&[(5, 1, 9), (6, 1, 9)]);
        ram.put(PAGE_OFFSET + 0x1_2340_0000 + 5 * 64, 0xabcd_e000 | 1 << 6);
        let found = walk(&ram, &shape(MAX_PASID, PAGE_OFFSET), DIRECTORY);
        assert_eq!(found.entries, [entry(6, 1, 9)]);
    }

    #[test]
    fn a_leaf_that_can_not_be_read_makes_the_walk_unsound_and_hides_no_other() {
        let mut ram = table(&[(5, 1, 9), (64, 1, 9), (128, 1, 9)]);
        ram.lose(PAGE_OFFSET + 0x1_2340_0000 + 4096);
        let found = walk(&ram, &shape(MAX_PASID, PAGE_OFFSET), DIRECTORY);
        assert_eq!(found.entries, [entry(5, 1, 9), entry(128, 1, 9)]);
        assert!(!found.sound);
    }

    #[test]
    fn one_entry_is_looked_up() {
        let mut ram = table(&[(0, 2, 3), (5, 1, 9), (64, 4, 0xffff)]);
        let entry = |ram: &Ram, pasid| lookup(ram, DIRECTORY, MAX_PASID, PAGE_OFFSET, pasid).map(decode);
        assert_eq!(entry(&ram, 0), Some((true, false, 2, 3)));
        assert_eq!(entry(&ram, 5), Some((true, false, 1, 9)));
        assert_eq!(entry(&ram, 64), Some((true, false, 4, 0xffff)));
        assert_eq!(entry(&ram, 6), Some((false, false, 0, 0)));
        assert_eq!(entry(&ram, 128), Some((false, false, 0, 0)), "its leaf was never made");
        assert_eq!(entry(&ram, MAX_PASID), None);
        // `intel_mm_release` leaves it with its faults disabled.
        ram.put(PAGE_OFFSET + 0x1_2340_0000 + 5 * 64, 2);
        assert_eq!(entry(&ram, 5), Some((false, true, 0, 9)));
        ram.lose(PAGE_OFFSET + 0x1_2340_0000);
        assert_eq!(entry(&ram, 5), None);
    }

    #[test]
    fn a_small_table_is_not_read_beyond_its_end() {
        // 4,096 PASIDs: 64 directory entries. What lies behind them is another's.
        let mut ram = table(&[(4095, 1, 9)]);
        ram.put(DIRECTORY + 64 * 8, 0x1_2340_0000 | 1);
        let found = walk(&ram, &shape(4096, PAGE_OFFSET), DIRECTORY);
        assert_eq!(found.entries, [entry(4095, 1, 9)]);
    }

    #[test]
    fn an_empty_table_of_a_million_pasids_takes_few_steps() {
        assert!(walk(&table(&[]), &shape(MAX_PASID, PAGE_OFFSET), DIRECTORY).steps <= 2048);
    }

    #[test]
    fn a_full_table_of_eight_thousand_fits_the_bound() {
        let pasids: Vec<_> = (0..8192).map(|pasid| (pasid, 1, 9)).collect();
        let found = walk(&table(&pasids), &shape(MAX_PASID, PAGE_OFFSET), DIRECTORY);
        assert_eq!(found.entries.len(), 8192);
        assert!(found.steps < crate::table::STEPS as usize);
    }
}
