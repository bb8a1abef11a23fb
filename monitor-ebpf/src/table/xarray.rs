//! The walk over an xarray (lib/xarray.c, include/linux/xarray.h), as a group's `pasid_array` is one.

use super::{Memory, PASID_BITS, Step};

/// `XA_CHUNK_SHIFT` without `BASE_SMALL`: log2 of the slots of a node.
pub const CHUNK_SHIFT: u32 = 6;
pub const CHUNK_MASK: u32 = 63;
/// `XA_ZERO_ENTRY`: `xa_mk_internal(257)`.
const ZERO_ENTRY: u64 = (257 << 2) | 2;
/// Internal entries up to this are special values, above it they point to nodes (`xa_is_node`).
const NODE_LIMIT: u64 = 4096;

/// Where the members of `struct xa_node` lie.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    /// `shift`: a byte.
    pub shift: u32,
    /// `slots`.
    pub slots: u32,
}

/// What a slot holds, as it stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    pub index: u32,
    pub entry: u64,
}

/// Where a walk is: about to look at the slot of `index` in `node`. Small, since it lives on the stack.
#[derive(Clone, Copy, Debug, Default)]
pub struct Walk {
    root: u64,
    node: u64,
    root_shift: u32,
    shift: u32,
    index: u32,
    /// 1 if something could not be read.
    failed: u32,
}

/// How an array begins.
pub enum Start {
    /// It is empty, or its one entry, of index 0, is in the head itself.
    Whole(Option<Slot>),
    Walk(Walk),
}

/// Whether an entry is `XA_ZERO_ENTRY`: reserved, with nothing in it yet.
#[inline(always)]
pub fn is_reserved(entry: u64) -> bool {
    entry == ZERO_ENTRY
}

/// Whether an entry points to a node: to [`node`] of it.
#[inline(always)]
pub fn is_node(entry: u64) -> bool {
    entry & 3 == 2 && entry > NODE_LIMIT
}

/// The node that an entry points to.
#[inline(always)]
pub fn node(entry: u64) -> u64 {
    entry - 2
}

/// Whether a slot holds something: neither nothing, nor a mark for those who walk (retry, sibling).
#[inline(always)]
pub fn holds(entry: u64) -> bool {
    entry != 0 && (entry & 3 != 2 || is_reserved(entry))
}

/// Sets out from `xa_head`.
#[inline(always)]
pub fn start(memory: &impl Memory, members: Node, head: u64) -> Start {
    if !is_node(head) {
        return Start::Whole(holds(head).then_some(Slot { index: 0, entry: head }));
    }
    let mut walk = Walk { root: node(head), node: node(head), ..Walk::default() };
    let shift = memory.byte(walk.root.wrapping_add(u64::from(members.shift)));
    walk.failed = u32::from(shift.is_none());
    walk.root_shift = u32::from(shift.unwrap_or(0)) & 31;
    walk.shift = walk.root_shift;
    Start::Walk(walk)
}

impl Walk {
    /// Everything so far could be read.
    #[inline(always)]
    pub fn sound(&self) -> bool {
        self.failed == 0
    }

    /// Looks at one slot: goes down into a node, or gives what is there and goes on to the next.
    #[inline(always)]
    pub fn step(&mut self, memory: &impl Memory, members: Node) -> Step<Slot> {
        if self.index >> PASID_BITS != 0
            || u64::from(self.index) >> (self.root_shift + CHUNK_SHIFT) != 0
            || self.failed != 0
        {
            return Step::Done;
        }
        let shift = self.shift & 31;
        let slot = self.index >> shift & CHUNK_MASK;
        let address = self.node.wrapping_add(u64::from(members.slots)).wrapping_add(u64::from(slot) * 8);
        let Some(entry) = memory.word(address) else {
            self.failed = 1;
            return Step::Done;
        };
        if is_node(entry) && shift >= CHUNK_SHIFT {
            self.node = node(entry);
            self.shift = shift - CHUNK_SHIFT;
            return Step::Next;
        }
        let found = Slot { index: self.index, entry };
        self.index = ((self.index >> shift) + 1) << shift;
        if slot == CHUNK_MASK {
            // The end of this node: the next index is found from the root again.
            self.node = self.root;
            self.shift = self.root_shift;
        }
        if holds(entry) { Step::Found(found) } else { Step::Next }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, vec::Vec};

    use super::*;
    use crate::table::testing::Ram;

    const NODE: Node = Node { shift: 0, slots: 40 };

    /// A tree as lib/xarray.c makes it, with all entries in nodes of shift 0.
    fn array(ram: &mut Ram, entries: &BTreeMap<u32, u64>) -> u64 {
        let last = *entries.keys().last().expect("not empty");
        let mut shift = 0;
        while last >> shift >= 64 {
            shift += CHUNK_SHIFT;
        }
        let mut next = 0xffff_8880_0100_0000;
        let all: Vec<_> = entries.iter().map(|(&index, &entry)| (index, entry)).collect();
        node(ram, &mut next, shift, &all) + 2
    }

    fn node(ram: &mut Ram, next: &mut u64, shift: u32, entries: &[(u32, u64)]) -> u64 {
        let at = *next;
        *next += 1024;
        ram.zero(at, 1024);
        ram.put(at, u64::from(shift));
        for slot in 0..64 {
            let here: Vec<_> =
                entries.iter().copied().filter(|(index, _)| index >> shift & 63 == slot).collect();
            let entry = match (shift, here.as_slice()) {
                (_, []) => continue,
                (0, [(_, entry)]) => *entry,
                (0, _) => unreachable!("two entries in one slot"),
                _ => node(ram, next, shift - CHUNK_SHIFT, &here) + 2,
            };
            ram.put(at + 40 + u64::from(slot) * 8, entry);
        }
        at
    }

    fn walk(ram: &Ram, head: u64) -> (Vec<(u32, u64)>, bool) {
        let mut found = Vec::new();
        let mut walk = match start(ram, NODE, head) {
            Start::Whole(one) => return (one.iter().map(|slot| (slot.index, slot.entry)).collect(), true),
            Start::Walk(walk) => walk,
        };
        loop {
            match walk.step(ram, NODE) {
                Step::Next => {}
                Step::Found(slot) => found.push((slot.index, slot.entry)),
                Step::Done => return (found, walk.sound()),
            }
        }
    }

    fn pointers(indexes: &[u32]) -> BTreeMap<u32, u64> {
        indexes.iter().map(|&index| (index, 0xffff_8880_4000_0000 + u64::from(index) * 8)).collect()
    }

    #[test]
    fn every_depth_of_tree_is_walked() {
        for indexes in
            [&[1][..], &[0, 5, 63], &[0, 64, 4095], &[4096], &[1, 2, 4096, 262_143, 262_144, 0xfffff]]
        {
            let mut ram = Ram::default();
            let entries = pointers(indexes);
            let head = array(&mut ram, &entries);
            assert_eq!(walk(&ram, head), (entries.into_iter().collect(), true), "{indexes:?}");
        }
    }

    #[test]
    fn a_lone_entry_at_index_0_is_in_the_head() {
        let ram = Ram::default();
        assert_eq!(walk(&ram, 0), (Vec::new(), true));
        assert_eq!(walk(&ram, 0xffff_8880_4000_0000), ([(0, 0xffff_8880_4000_0000)].into(), true));
        assert_eq!(walk(&ram, ZERO_ENTRY), ([(0, ZERO_ENTRY)].into(), true));
    }

    #[test]
    fn a_reserved_slot_is_an_entry_and_a_mark_for_walkers_is_none() {
        let mut ram = Ram::default();
        // Reserved; `XA_RETRY_ENTRY`; a sibling; a pointer tagged as a handle.
        let entries = BTreeMap::from([
            (1, 0x406),
            (2, 0x402),
            (3, 0x0a),
            (4, 0xffff_8880_4000_0001),
            (70, 0xffff_8880_4000_0000),
        ]);
        let head = array(&mut ram, &entries);
        let expected = [(1, 0x406), (4, 0xffff_8880_4000_0001), (70, 0xffff_8880_4000_0000)].into();
        assert_eq!(walk(&ram, head), (expected, true));
    }

    #[test]
    fn a_node_that_can_not_be_read_is_not_taken_for_empty() {
        let mut ram = Ram::default();
        let head = array(&mut ram, &pointers(&[1, 70]));
        let lost = 0xffff_8880_0100_0000;
        ram.lose(lost);
        assert_eq!(walk(&ram, head), (Vec::new(), false));
        // Nor is one below the root, which has a page of its own here.
        let mut ram = Ram::default();
        ram.zero(0xffff_8880_0200_0000, 4096);
        ram.put(0xffff_8880_0200_0000, 6);
        ram.put(0xffff_8880_0200_0000 + 40, 0xffff_8880_0300_0002);
        assert_eq!(walk(&ram, 0xffff_8880_0200_0002), (Vec::new(), false));
    }
}
