//! A group's `pasid_array`: walked from its head, or looked up at one PASID.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use monitor_ebpf::{
    table::{
        PASID_BITS, STEPS, Step,
        xarray::{self, CHUNK_MASK, CHUNK_SHIFT, Node, Start, Walk, is_node, node},
    },
    wire::{ABSENT, ARRAY_CAPACITY, ArrayEntry, Encoding, PasidArray, SNAPSHOT_CAPACITY, Snapshot, entry},
};

use super::read::{self, Kernel, layout};

/// Slots looked at for a record of fixed size before the walk gives up and says so.
const FEW_STEPS: u32 = 4096;
/// Levels of nodes that a PASID takes.
const LEVELS: u32 = PASID_BITS.div_ceil(CHUNK_SHIFT);
/// `IOMMU_DOMAIN_SVA`: `__IOMMU_DOMAIN_SVA` (include/linux/iommu.h).
pub const SVA: u32 = 1 << 4;

/// A record that takes entries.
pub trait Room: Copy {
    /// Slots looked at before the walk gives up.
    const STEPS: u32;
    /// Appends an entry; `false` if there is no room.
    ///
    /// # Safety
    /// The record is live, and nobody else writes it.
    unsafe fn keep(self, entry: ArrayEntry) -> bool;
}

impl Room for *mut PasidArray {
    const STEPS: u32 = FEW_STEPS;

    #[inline(always)]
    unsafe fn keep(self, entry: ArrayEntry) -> bool {
        // SAFETY: the record is live; the index is held against the capacity right before use.
        unsafe {
            let len = (*self).len as usize;
            if len >= ARRAY_CAPACITY {
                return false;
            }
            (&raw mut (*self).entries).cast::<ArrayEntry>().add(len).write(entry);
            (*self).len = len as u32 + 1;
        }
        true
    }
}

impl Room for *mut Snapshot {
    const STEPS: u32 = STEPS;

    #[inline(always)]
    unsafe fn keep(self, entry: ArrayEntry) -> bool {
        // SAFETY: as above.
        unsafe {
            let len = (*self).head.array.len as usize;
            if len >= SNAPSHOT_CAPACITY {
                return false;
            }
            (&raw mut (*self).entries).cast::<ArrayEntry>().add(len).write(entry);
            (*self).head.array.len = len as u32 + 1;
        }
        true
    }
}

struct Visit<R> {
    place: Place,
    room: R,
}

/// How far it is.
#[derive(Clone, Copy)]
struct Place {
    walk: Walk,
    done: u32,
}

#[inline(always)]
fn members() -> Node {
    Node { shift: layout!(xa_node_shift), slots: layout!(xa_node_slots) }
}

/// Walks the array whose `xa_head` is `head`, for a record of fixed size. Returns 1 if all of it was seen, else 0.
#[unsafe(export_name = "walk_few")]
#[inline(never)]
pub extern "C" fn walk_few(out: *mut PasidArray, head: u64) -> u32 {
    // SAFETY: the caller gives a live array of a record, or null.
    if out.is_null() { 0 } else { unsafe { walk(out, head) } }
}

/// Walks the array whose `xa_head` is `head`. Returns 1 if all of it was seen, else 0.
///
/// # Safety
/// The record is live, and nobody else writes it.
#[inline(always)]
pub unsafe fn walk<R: Room>(room: R, head: u64) -> u32 {
    match xarray::start(&Kernel, members(), head) {
        Start::Whole(one) => {
            if let Some(one) = one {
                // SAFETY: as the caller promises.
                unsafe { room.keep(decode(one.index, one.entry)) };
            }
            1
        }
        Start::Walk(walk) => {
            let mut visit = Visit { place: Place { walk, done: 0 }, room };
            read::forget(&raw mut visit.place);
            // SAFETY: `step` matches the callback's prototype and `visit` outlives the call.
            unsafe { bpf_loop(R::STEPS, step::<R> as *const () as *mut c_void, (&raw mut visit).cast(), 0) };
            visit.place.done & u32::from(visit.place.walk.sound())
        }
    }
}

/// One step of the walk. Returns 1 to end the loop.
unsafe extern "C" fn step<R: Room>(_iteration: u32, context: *mut c_void) -> i64 {
    // SAFETY: bpf_loop passes the `Visit` that `walk` gave it.
    let visit = unsafe { &mut *context.cast::<Visit<R>>() };
    let mut end = 0;
    match visit.place.walk.step(&Kernel, members()) {
        Step::Next => {}
        // SAFETY: as the caller of `walk` promised.
        Step::Found(slot) => end = i64::from(!unsafe { visit.room.keep(decode(slot.index, slot.entry)) }),
        Step::Done => {
            visit.place.done = 1;
            end = 1;
        }
    }
    read::forget(&raw mut visit.place);
    end
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

/// 1 if nothing stands at one index of the array whose `xa_head` is `head`, else 0.
#[unsafe(export_name = "is_empty_at")]
#[inline(never)]
pub extern "C" fn is_empty_at(head: u64, index: u32) -> u32 {
    u32::from(slot(head, index).encoding == Encoding::Empty as u16)
}

/// What a node's slots are apart, as a power of two.
#[inline(always)]
fn shift(node: u64) -> u32 {
    u32::from(read::member::<u8>(node, layout!(xa_node_shift))) & 31
}

/// What an entry says.
#[inline(always)]
fn decode(pasid: u32, entry: u64) -> ArrayEntry {
    let tagged = layout!(array_tagged) != 0;
    let by_handle = layout!(handle_domain) != ABSENT;
    let (encoding, domain) = if !xarray::holds(entry) {
        (Encoding::Empty, 0)
    } else if xarray::is_reserved(entry) {
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
    let exited = mm_exited(domain);
    let domain = read::domain(domain);
    let sva = u32::from(domain.kind == SVA) & domain.kind_known;
    let flags = entry::MM_EXITED * (exited & sva) as u16;
    ArrayEntry { domain, pasid, encoding: encoding as u16, flags }
}

/// 1 if the `mm_struct` of an SVA domain has no user any more. Of another domain, whose union has something
/// else there, it means nothing.
#[inline(always)]
fn mm_exited(domain: u64) -> u32 {
    let mm = read::member::<u64>(domain, layout!(domain_mm));
    let (users, readable) = read::read::<u32>(mm, layout!(mm_users));
    u32::from(users == 0) & readable
}
