//! A bounded walk of a group's `pasid_array` (lib/xarray.c): PASIDs have 20 bits, so four levels.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use monitor_ebpf::wire::{ABSENT, ARRAY_CAPACITY, ArrayEntry, Encoding, PasidArray};

use super::read::{self, layout};

/// Slots looked at before the walk gives up and says so. An empty subtree is one slot.
const STEPS: u32 = 4096;
/// `XA_CHUNK_SHIFT` and `XA_CHUNK_MASK` without `BASE_SMALL`.
const CHUNK_SHIFT: u32 = 6;
const CHUNK_MASK: u32 = 63;
/// PASIDs have 20 bits (PCIe 6.0, 10.5): no index lies beyond.
const INDEX_BITS: u32 = 20;
/// Levels of nodes that this takes.
const LEVELS: u32 = INDEX_BITS.div_ceil(CHUNK_SHIFT);
/// `XA_ZERO_ENTRY`: `xa_mk_internal(257)`.
const ZERO_ENTRY: u64 = (257 << 2) | 2;
/// Internal entries up to this are special values, above it they point to nodes (`xa_is_node`).
const NODE_LIMIT: u64 = 4096;

/// Where the walk is: about to look at the slot of `index` in `node`.
struct Walk {
    root: u64,
    node: u64,
    index: u32,
    done: u32,
    out: *mut PasidArray,
}

#[inline(always)]
fn is_node(entry: u64) -> bool {
    entry & 3 == 2 && entry > NODE_LIMIT
}

/// The node that an entry points to.
#[inline(always)]
fn node(entry: u64) -> u64 {
    entry - 2
}

/// Walks the array whose `xa_head` is `head`.
#[inline(always)]
pub fn walk(out: *mut PasidArray, head: u64) {
    let mut state = Walk { root: node(head), node: node(head), index: 0, done: 1, out };
    if is_node(head) {
        state.done = 0;
        // SAFETY: `step` matches the callback's prototype and `state` outlives the call.
        unsafe { bpf_loop(STEPS, step as *const () as *mut c_void, (&raw mut state).cast(), 0) };
    } else if head != 0 {
        // A lone entry at index 0 sits in the head itself.
        keep(out, 0, head);
    }
    // SAFETY: `out` is the live record that the caller reserved.
    unsafe { (*out).complete = state.done };
}

/// Looks at one slot: goes down into a node, or keeps what is there and goes on to the next. Returns 1 to
/// end the loop.
unsafe extern "C" fn step(_iteration: u32, context: *mut c_void) -> i64 {
    // SAFETY: bpf_loop passes the `Walk` that `walk` gave it.
    let walk = unsafe { &mut *context.cast::<Walk>() };
    let shift = shift(walk.node);
    let slot = walk.index >> shift & CHUNK_MASK;
    let entry = read::member::<u64>(walk.node.wrapping_add(u64::from(slot * 8)), layout!(xa_node_slots));
    if is_node(entry) {
        walk.node = node(entry);
        return 0;
    }
    // Other internal entries (retry, sibling) are not PASIDs.
    let internal = entry & 3 == 2 && entry != ZERO_ENTRY;
    if entry != 0 && !internal && !keep(walk.out, walk.index, entry) {
        return 1;
    }
    walk.index = ((walk.index >> shift) + 1) << shift;
    if slot == CHUNK_MASK {
        // The end of this node: the next index is found from the root again.
        if walk.index >> INDEX_BITS != 0
            || u64::from(walk.index) >> (self::shift(walk.root) + CHUNK_SHIFT) != 0
        {
            walk.done = 1;
            return 1;
        }
        walk.node = walk.root;
    }
    0
}

/// The entry at one index of the array whose `xa_head` is `head` (`xa_load`).
#[inline(always)]
pub fn slot(head: u64, index: u32) -> ArrayEntry {
    // A lone entry in the head is that of index 0.
    let mut entry = if is_node(head) || index == 0 { head } else { 0 };
    if is_node(head) && u64::from(index) >> (shift(node(head)) + CHUNK_SHIFT) != 0 {
        entry = 0;
    }
    for _ in 0..LEVELS {
        if is_node(entry) {
            let slot = index >> shift(node(entry)) & CHUNK_MASK;
            let address = node(entry).wrapping_add(u64::from(slot * 8));
            entry = read::member(address, layout!(xa_node_slots));
        }
    }
    decode(index, entry)
}

/// What a node's slots are apart, as a power of two.
#[inline(always)]
fn shift(node: u64) -> u32 {
    u32::from(read::member::<u8>(node, layout!(xa_node_shift))) & 31
}

/// Appends an entry; `false` if there is no room.
#[inline(always)]
fn keep(out: *mut PasidArray, pasid: u32, entry: u64) -> bool {
    // SAFETY: `out` is the live record; the index is held against the capacity right before use.
    unsafe {
        let len = (*out).len as usize;
        if len >= ARRAY_CAPACITY {
            return false;
        }
        (&raw mut (*out).entries).cast::<ArrayEntry>().add(len).write(decode(pasid, entry));
        (*out).len = len as u32 + 1;
    }
    true
}

/// What an entry says.
#[inline(always)]
fn decode(pasid: u32, entry: u64) -> ArrayEntry {
    let tagged = layout!(array_tagged) != 0;
    let by_handle = layout!(handle_domain) != ABSENT;
    let internal = entry & 3 == 2 && entry != ZERO_ENTRY;
    let (encoding, domain) = if entry == 0 || internal {
        (Encoding::Empty, 0)
    } else if entry == ZERO_ENTRY {
        (Encoding::Reserved, 0)
    } else if tagged {
        match entry & 3 {
            0 => (Encoding::Domain, entry),
            1 => (Encoding::Handle, read::member(entry & !3, layout!(handle_domain))),
            _ => (Encoding::Other, 0),
        }
    } else if by_handle {
        (Encoding::Handle, read::member(entry, layout!(handle_domain)))
    } else {
        (Encoding::Domain, entry)
    };
    ArrayEntry { domain: read::domain(domain), pasid, encoding: encoding as u16, flags: 0 }
}
