//! AMD's guest CR3 table: one to three levels of 512 entries (AMD IOMMU specification 2.2.6.3;
//! `__get_gcr3_pte`, drivers/iommu/amd/iommu.c).

use super::{Level, Memory, PASID_BITS, Shape};

/// log2 of the entries of a table.
const BITS: u32 = 9;
/// `GCR3_VALID`, in entries of every level.
const VALID: u64 = 1;
/// `PAGE_MASK`: what of an entry is the physical address, and the mark of encrypted memory.
const PAGE: u64 = !0xfff;

/// The shape of a table of `glx` + 1 levels, with physical memory mapped from `page_offset` on, whose
/// encrypted pages are marked by the bits of `sme_mask`. Its entries say no tag: all have the domain id
/// `domain_id`. `None` if a table can't have so many levels.
#[inline(always)]
pub fn shape(glx: u32, domain_id: u16, page_offset: u64, sme_mask: u64) -> Option<Shape> {
    let level = |shift: u32| Level {
        valid: VALID,
        // The third level covers more than PASIDs have bits.
        len: (1u32 << (PASID_BITS - shift)).min(1 << BITS),
        shift: shift as u8,
        ..Level::NONE
    };
    (glx <= 2).then(|| Shape {
        levels: [level(0), level(BITS), level(2 * BITS), Level::NONE],
        root: glx,
        address_mask: PAGE & !sme_mask,
        address_base: page_offset,
        tag: u32::from(domain_id),
        ..Shape::NONE
    })
}

/// The entry of a PASID in a table of `glx` + 1 levels; 0 where nothing leads there. `None`: it could not be read, or a
/// table can't have so many levels.
#[inline(always)]
pub fn lookup(
    memory: &impl Memory,
    root: u64,
    glx: u32,
    page_offset: u64,
    sme_mask: u64,
    pasid: u32,
) -> Option<u64> {
    if glx > 2 || root == 0 || pasid >> PASID_BITS != 0 {
        return None;
    }
    let slot = |level: u32| u64::from(pasid >> (BITS * level) & ((1 << BITS) - 1)) * 8;
    let mut table = root;
    for level in [2, 1] {
        if level <= glx {
            let entry = memory.word(table.wrapping_add(slot(level)))?;
            if entry & VALID == 0 {
                return Some(0);
            }
            table = (entry & PAGE & !sme_mask).wrapping_add(page_offset);
        }
    }
    // A table of fewer levels has no room for what its root doesn't reach.
    if pasid >> (BITS * (glx + 1)) != 0 {
        return None;
    }
    memory.word(table.wrapping_add(slot(0)))
}

/// Whether an entry is present.
#[inline(always)]
pub fn is_present(entry: u64) -> bool {
    entry & VALID != 0
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::table::{
        Entry,
        testing::{Ram, walk},
    };

    const PAGE_OFFSET: u64 = 0xffff_8880_0000_0000;
    const ROOT: u64 = PAGE_OFFSET + 0x1000_0000;
    /// The encryption bit (C-bit) of Milan.
    const ENCRYPTED: u64 = 1 << 51;

    /// A table of `levels` levels below `ROOT`: entries above the leaves are physical, and carry the mark.
    fn table(levels: u32, pasids: &[u32]) -> Ram {
        let mut ram = Ram::default();
        ram.zero(ROOT, 4096);
        for &pasid in pasids {
            let mut table = ROOT;
            for level in (1..levels).rev() {
                let below =
                    0x2000_0000 + u64::from(level) * 0x1000_0000 + u64::from(pasid >> (9 * level)) * 4096;
                ram.put(table + u64::from(pasid >> (9 * level) & 511) * 8, below | ENCRYPTED | 1);
                table = PAGE_OFFSET + below;
                ram.zero(table, 4096);
            }
            ram.put(table + u64::from(pasid & 511) * 8, 0x7_7770_0000 | ENCRYPTED | 1);
        }
        ram
    }

    fn pasids(ram: &Ram, glx: u32) -> Vec<u32> {
        let shape = shape(glx, 7, PAGE_OFFSET, ENCRYPTED).expect("three levels at most");
        let found = walk(ram, &shape, ROOT);
        assert!(found.sound);
        assert!(found.entries.iter().all(|entry| *entry == Entry { pasid: entry.pasid, kind: 0, tag: 7 }));
        found.entries.iter().map(|entry| entry.pasid).collect()
    }

    #[test]
    fn tables_of_one_two_and_three_levels_are_read() {
        assert_eq!(pasids(&table(1, &[0, 1, 511]), 0), [0, 1, 511]);
        assert_eq!(pasids(&table(2, &[0, 5, 511, 512, 0x3ffff]), 1), [0, 5, 511, 512, 0x3ffff]);
        assert_eq!(pasids(&table(3, &[1, 0x3ffff, 0x40000, 0xfffff]), 2), [1, 0x3ffff, 0x40000, 0xfffff]);
    }

    #[test]
    fn an_entry_without_its_valid_bit_is_none() {
        let mut ram = table(1, &[3, 4]);
        ram.put(ROOT + 3 * 8, 0x7_7770_0000);
        assert_eq!(pasids(&ram, 0), [4]);
    }

    #[test]
    fn one_entry_is_found_in_tables_of_every_depth() {
        for (glx, there, missing) in [(0, 511, 510), (1, 0x3_ffff, 0x3_fffe), (2, 0xf_ffff, 0x4_0000)] {
            let ram = table(glx + 1, &[5, there]);
            let found = |pasid| lookup(&ram, ROOT, glx, PAGE_OFFSET, ENCRYPTED, pasid);
            assert_eq!([5, there].map(|pasid| found(pasid).is_some_and(is_present)), [true; 2], "{glx}");
            assert_eq!([6, missing].map(|pasid| found(pasid).is_some_and(is_present)), [false; 2], "{glx}");
            assert_eq!(found(6), Some(0), "{glx}");
        }
        let ram = table(1, &[5]);
        assert_eq!(lookup(&ram, ROOT, 0, PAGE_OFFSET, 0, 512 + 5), None, "it is beyond the table");
        assert_eq!(lookup(&ram, ROOT, 3, PAGE_OFFSET, 0, 5), None, "no table is so deep");
        assert_eq!(lookup(&ram, 0, 0, PAGE_OFFSET, 0, 5), None, "there is no table");
        // By a wrong mark the second level is looked for where nothing is.
        assert_eq!(lookup(&table(2, &[5]), ROOT, 1, PAGE_OFFSET, 0, 5), None);
    }

    #[test]
    fn a_mark_of_encryption_is_no_part_of_the_address() {
        let ram = table(2, &[5]);
        let blind = shape(1, 7, PAGE_OFFSET, 0).expect("two levels");
        let found = walk(&ram, &blind, ROOT);
        assert!(found.entries.is_empty() && !found.sound, "and taken for one, the table can't be read");
    }

    #[test]
    fn a_level_count_that_can_not_be_is_refused() {
        assert_eq!(shape(3, 7, PAGE_OFFSET, 0), None);
        assert_eq!(shape(u32::MAX, 7, PAGE_OFFSET, 0), None);
    }
}
