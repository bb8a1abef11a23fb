//! The walk over a hardware PASID table of any vendor: what differs between them is data, a [`Shape`].

use super::{Memory, Step, WINDOW};

/// The most levels that a table has (AMD's GCR3 table), as a power of two, so that an index can be masked.
const LEVELS: usize = 4;
/// Words that are skipped together when all are zero.
const LINE: usize = 8;

/// One level of a table. Small, so that a [`Shape`] is put together in a few stores: a loop that fills it would be
/// hundreds of instructions to verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Level {
    /// An entry counts if it has one of these bits.
    pub valid: u64,
    /// Entries of a table of this level.
    pub len: u32,
    /// log2 of the 64-bit words of an entry, 0 to 3.
    pub width: u8,
    /// log2 of the PASIDs behind one entry.
    pub shift: u8,
    pub reserved: u16,
}

/// How a table is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Shape {
    /// From the leaves up to the root.
    pub levels: [Level; LEVELS],
    /// What of a pointer to the table below is the address.
    pub address_mask: u64,
    /// What is to be added where that address is physical.
    pub address_base: u64,
    /// The level of the root; 0: the root is a leaf.
    pub root: u32,
    /// Which word of an entry above the leaves is that pointer.
    pub pointer_word: u8,
    /// In the first word of a leaf: the translation type.
    pub kind_shift: u8,
    /// Which word of a leaf has the tag, and where in it.
    pub tag_word: u8,
    pub tag_shift: u8,
    /// How wide the translation type is, and the tag.
    pub kind_mask: u32,
    pub tag_mask: u32,
    /// The tag where it is the same for all entries and not in them.
    pub tag: u32,
    pub reserved: u32,
}

impl Level {
    /// A level that is not there.
    pub const NONE: Level = Level { valid: 0, len: 0, width: 0, shift: 0, reserved: 0 };
}

impl Shape {
    /// A table without entries.
    pub const NONE: Shape = Shape {
        levels: [Level::NONE; LEVELS],
        address_mask: !0,
        address_base: 0,
        root: 0,
        pointer_word: 0,
        kind_shift: 0,
        tag_word: 0,
        tag_shift: 0,
        kind_mask: 0,
        tag_mask: 0,
        tag: 0,
        reserved: 0,
    };
}

/// A present entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub pasid: u32,
    /// The translation type as the hardware has it, where an entry says it.
    pub kind: u32,
    /// What the entry's translations are tagged with in the caches.
    pub tag: u32,
}

/// Where a walk is. Some 2 KiB: in the kernel it lives in a map.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Walk {
    shape: Shape,
    /// The level being looked at.
    level: u32,
    /// 1 if something could not be read.
    failed: u32,
    /// For each level: the table, the next slot in it, and the PASID of its slot 0.
    table: [u64; LEVELS],
    slot: [u32; LEVELS],
    first: [u32; LEVELS],
    /// For each level the one below. It could be reckoned, but a verifier of 6.1 does not see that a number that
    /// is not 0 has a number below it.
    below: [u32; LEVELS],
    window: [[u64; WINDOW]; LEVELS],
}

impl Default for Walk {
    fn default() -> Walk {
        Walk {
            shape: Shape::NONE,
            level: 0,
            failed: 0,
            table: [0; LEVELS],
            slot: [0; LEVELS],
            first: [0; LEVELS],
            below: [0; LEVELS],
            window: [[0; WINDOW]; LEVELS],
        }
    }
}

impl Walk {
    /// Sets out from the root of a table.
    #[inline(always)]
    pub fn start(&mut self, shape: &Shape, root: u64) {
        self.shape = *shape;
        self.level = shape.root;
        self.failed = 0;
        // For every level alike: which one is the root is no constant, and this needs no index.
        self.table = [root; LEVELS];
        self.slot = [0; LEVELS];
        self.first = [0; LEVELS];
        self.below = [0, 0, 1, 2];
    }

    /// Everything so far could be read.
    #[inline(always)]
    pub fn sound(&self) -> bool {
        self.failed == 0
    }

    /// Looks at one entry, or passes over a line of empty ones.
    #[inline(always)]
    pub fn step(&mut self, memory: &impl Memory) -> Step<Entry> {
        let level = self.level as usize % LEVELS;
        let Level { valid, len, width, shift, .. } = self.shape.levels[level];
        let (width, shift) = (u32::from(width & 3), u32::from(shift & 31));
        let slot = self.slot[level];
        if slot >= len {
            if self.level >= self.shape.root {
                return Step::Done;
            }
            self.level += 1;
            return Step::Next;
        }
        let word = u64::from(slot) << width;
        let at = word as usize % WINDOW;
        if at == 0 && !memory.window(self.table[level].wrapping_add(word * 8), &mut self.window[level]) {
            self.failed = 1;
            self.slot[level] = slot + (WINDOW as u32 >> width);
            return Step::Next;
        }
        let window = &self.window[level];
        if at.is_multiple_of(LINE) && (0..LINE).all(|i| window[(at + i) % WINDOW] == 0) {
            self.slot[level] = slot + (LINE as u32 >> width);
            return Step::Next;
        }
        self.slot[level] = slot + 1;
        let entry = window[at];
        let pasid = self.first[level] | slot << shift;
        if level == 0 {
            if entry & valid == 0 {
                return Step::Next;
            }
            let Shape { kind_shift, kind_mask, tag_word, tag_shift, tag_mask, tag, .. } = self.shape;
            let tagged = window[(at + tag_word as usize) % WINDOW];
            return Step::Found(Entry {
                pasid,
                kind: (entry >> (kind_shift & 63)) as u32 & kind_mask,
                tag: (tagged >> (tag_shift & 63)) as u32 & tag_mask | tag,
            });
        }
        let pointer = window[(at + self.shape.pointer_word as usize) % WINDOW];
        if pointer & valid != 0 {
            let below = self.below[level] as usize % LEVELS;
            self.table[below] = (pointer & self.shape.address_mask).wrapping_add(self.shape.address_base);
            self.slot[below] = 0;
            self.first[below] = pasid;
            self.level = below as u32;
        }
        Step::Next
    }
}
