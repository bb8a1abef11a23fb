//! A bounded walk of a group's `pasid_array` (lib/xarray.c): PASIDs have 20 bits, so four levels.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use monitor_ebpf::wire::{ABSENT, ARRAY_CAPACITY, ArrayEntry, Encoding, PasidArray};

use super::read::{self, layout};

/// Slots looked at before the walk gives up and says so. Empty subtrees cost one step.
const STEPS: u32 = 2048;
/// Levels of 6 bits that hold a 20-bit index.
const LEVELS: u32 = 4;
/// `XA_CHUNK_SHIFT` and `XA_CHUNK_MASK` without `BASE_SMALL`.
const CHUNK_SHIFT: u32 = 6;
const CHUNK_MASK: u32 = 63;
/// `XA_ZERO_ENTRY`: `xa_mk_internal(257)`.
const ZERO_ENTRY: u64 = (257 << 2) | 2;
/// Internal entries up to this are special values, above it they point to nodes (`xa_is_node`).
const NODE_LIMIT: u64 = 4096;

struct Walk {
    head: u64,
    index: u32,
    done: u32,
    out: *mut PasidArray,
}

#[inline(always)]
fn is_node(entry: u64) -> bool {
    entry & 3 == 2 && entry > NODE_LIMIT
}

/// Walks the array whose `xa_head` is `head`.
#[inline(always)]
pub fn walk(out: *mut PasidArray, head: u64) {
    let mut state = Walk { head, index: 0, done: 0, out };
    // SAFETY: `step` matches the callback's prototype and `state` outlives the call.
    unsafe { bpf_loop(STEPS, step as *const () as *mut c_void, (&raw mut state).cast(), 0) };
    // SAFETY: `out` is the live record that the caller reserved.
    unsafe { (*out).complete = state.done };
}

/// Looks at the slot of `index` and moves `index` past what it covers. Returns 1 to end the loop.
unsafe extern "C" fn step(_iteration: u32, context: *mut c_void) -> i64 {
    // SAFETY: bpf_loop passes the `Walk` that `walk` gave it.
    let walk = unsafe { &mut *context.cast::<Walk>() };
    let mut entry = walk.head;
    let mut span = 0;
    if !is_node(entry) {
        // A lone entry at index 0 sits in the head itself.
        if entry != 0 {
            keep(walk.out, 0, entry);
        }
        walk.done = 1;
        return 1;
    }
    for level in 0..LEVELS {
        let node = entry - 2;
        span = u32::from(read::member::<u8>(node, layout!(xa_node_shift))) & 31;
        let slot = walk.index >> span;
        if level == 0 && slot > CHUNK_MASK {
            walk.done = 1;
            return 1;
        }
        let slots = node.wrapping_add(u64::from((slot & CHUNK_MASK) * 8));
        entry = read::member(slots, layout!(xa_node_slots));
        if !is_node(entry) {
            break;
        }
    }
    let index = walk.index;
    // Other internal entries (retry, sibling) are not PASIDs.
    let internal = entry & 3 == 2 && entry != ZERO_ENTRY;
    if entry != 0 && !internal && !keep(walk.out, index, entry) {
        return 1;
    }
    walk.index = ((index >> span) + 1) << span;
    if walk.index >> (CHUNK_SHIFT * LEVELS) != 0 {
        walk.done = 1;
        return 1;
    }
    0
}

/// Appends an entry; `false` if there is no room.
#[inline(always)]
fn keep(out: *mut PasidArray, pasid: u32, entry: u64) -> bool {
    let tagged = layout!(array_tagged) != 0;
    let by_handle = layout!(handle_domain) != ABSENT;
    let (encoding, domain) = if entry == ZERO_ENTRY {
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
    // SAFETY: `out` is the live record; the index is held against the capacity right before use.
    unsafe {
        let len = (*out).len as usize;
        if len >= ARRAY_CAPACITY {
            return false;
        }
        (&raw mut (*out).entries).cast::<ArrayEntry>().add(len).write(ArrayEntry {
            domain: read::domain(domain),
            pasid,
            encoding: encoding as u32,
        });
        (*out).len = len as u32 + 1;
    }
    true
}
