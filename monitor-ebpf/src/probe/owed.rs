//! PASID entries that were torn down without the flushes that they needed: until something flushes them, the device may
//! still use what they were, and an entry that is set up in their place would be used half as the one, half as the other.

use core::ffi::c_void;

use aya_ebpf::{helpers::generated, macros::map, maps::HashMap};
use monitor_ebpf::{
    descriptor::{self, window::entry},
    wire::{Flush, Place, TableKind, Teardown},
};

use super::{invalidation::feed, loss, window};

/// Entries that are owed a flush. There are none on a host whose driver is right.
#[map]
static OWED: HashMap<Place, Flush> = HashMap::with_max_entries(64, 0);

/// Teardowns that are under way, by the entry.
#[map]
static TEARDOWNS: HashMap<Place, Teardown> = HashMap::with_max_entries(1024, 0);

/// After this time an entry is watched no more, ns: else each descriptor would pay for it for ever.
const WATCHED_NS: u64 = 300_000_000_000;
/// A teardown that has not returned after this time has returned unseen, ns.
const UNDER_WAY_NS: u64 = 30_000_000_000;

/// A teardown of an entry begins. Returns `true` if it may meet another one of the same entry.
#[inline(always)]
pub fn begins(place: &Place, tid: u32) -> bool {
    // SAFETY: takes nothing.
    let now = unsafe { generated::bpf_ktime_get_ns() };
    if let Some(other) = TEARDOWNS.get_ptr_mut(place) {
        // SAFETY: a live value of the map; a flag that is only ever set.
        let other = unsafe { &mut *other };
        if other.tid == tid {
            // Begun by the other set a moment ago, at a switch, or one that has returned unseen.
            other.began_ns = now;
            return other.contested != 0;
        }
        if now.wrapping_sub(other.began_ns) < UNDER_WAY_NS {
            other.contested = 1;
            return true;
        }
    }
    TEARDOWNS.insert(place, Teardown { began_ns: now, tid, contested: 0 }, 0).is_err()
}

/// It ends. Returns `true` if it met another one.
#[inline(always)]
pub fn ends(place: &Place, tid: u32) -> bool {
    let Some(known) = TEARDOWNS.get_ptr_mut(place) else { return true };
    // SAFETY: a live value of the map.
    let known = unsafe { *known };
    if known.tid != tid {
        return true;
    }
    let _ = TEARDOWNS.remove(place);
    known.contested != 0
}

/// An entry was torn down and is owed this.
#[inline(always)]
pub fn add(place: &Place, flush: &Flush) {
    let known = OWED.get_ptr(place).is_some();
    if OWED.insert(place, flush, 0).is_ok() && !known {
        count(1);
    }
}

#[inline(always)]
fn count(amount: i64) {
    // SAFETY: a global of our own, added to by nothing else.
    unsafe { loss::add(feed!(owed), amount as u64) };
    window::watch(amount);
}

/// What an entry is owed that becomes present again; it is told once.
#[inline(always)]
pub fn take(place: &Place, into: &mut Flush) -> bool {
    // SAFETY: a global of our own.
    if unsafe { feed!(owed).read_volatile() } == 0 {
        return false;
    }
    let Some(owed) = OWED.get_ptr(place) else { return false };
    // SAFETY: a live value of the map.
    *into = unsafe { *owed };
    if OWED.remove(place).is_ok() {
        count(-1);
    }
    into.owed != 0
}

/// A device's table comes or goes: what was owed to the one that was there before is of no account.
#[inline(never)]
pub fn forget(device: u64) {
    // SAFETY: a global of our own.
    if unsafe { feed!(owed).read_volatile() } != 0 {
        let mut visit = Visit { low: 0, high: 0, device, now: 0 };
        each(forget_one, &mut visit);
    }
}

struct Visit {
    low: u64,
    high: u64,
    device: u64,
    now: u64,
}

/// A callback of `bpf_for_each_map_elem`.
type Callback = unsafe extern "C" fn(*mut c_void, *const Place, *mut Flush, *mut Visit) -> i64;

#[inline(always)]
fn each(callback: Callback, visit: &mut Visit) {
    // SAFETY: a live map; the callback has the prototype that the helper calls, and `visit` outlives it.
    unsafe {
        generated::bpf_for_each_map_elem(
            (&raw const OWED).cast_mut().cast(),
            callback as *const () as *mut c_void,
            (visit as *mut Visit).cast(),
            0,
        );
    }
}

/// A descriptor is submitted while entries are owed a flush.
#[inline(never)]
pub fn submitted(low: u64, high: u64) {
    // SAFETY: takes nothing.
    let now = unsafe { generated::bpf_ktime_get_ns() };
    let mut visit = Visit { low, high, device: 0, now };
    each(flush_one, &mut visit);
}

/// # Safety
/// The helper gives a live key and value of the map, and the context that it was given.
unsafe extern "C" fn flush_one(
    _: *mut c_void,
    key: *const Place,
    value: *mut Flush,
    visit: *mut Visit,
) -> i64 {
    // SAFETY: as above.
    let (place, owed, visit) = unsafe { (*key, &mut *value, &*visit) };
    // A host has one vendor's queues.
    if let Some(queue) = TableKind::from_number(owed.vendor) {
        owed.owed &= !descriptor::drops(queue, visit.low, visit.high, &entry(owed));
    }
    let stale = visit.now.wrapping_sub(owed.owed_since_ns) > WATCHED_NS;
    if (owed.owed == 0 || stale) && OWED.remove(place).is_ok() {
        count(-1);
    }
    0
}

/// # Safety
/// As above.
unsafe extern "C" fn forget_one(_: *mut c_void, key: *const Place, _: *mut Flush, visit: *mut Visit) -> i64 {
    // SAFETY: as above.
    let (place, visit) = unsafe { (*key, &*visit) };
    if place.device == visit.device && OWED.remove(place).is_ok() {
        count(-1);
    }
    0
}
