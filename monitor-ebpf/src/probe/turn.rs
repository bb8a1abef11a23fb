//! Whose turn it is: at an upgrade the programs of two sets are attached to the same functions, and a call is told by one.
//!
//! One word, which the sets share, has a bit for each that records. Its entry decides of a call: what a set has begun to
//! record, it ends. So a set whose turn it isn't has no call under way and no window open, and whatever goes on in those
//! need not ask. At a switch both have their turn for a moment, since between two programs on one function there is time,
//! and none of them knows what the other one read: what they tell twice, userspace takes once (`kernel/twins.rs`).

use aya_ebpf::{macros::map, maps::Array};

use super::read;

/// The sets that record, a bit for each.
#[map]
static RECORDING: Array<u64> = Array::with_max_entries(1, 0);

/// Which of them this one is. Set by userspace before the programs are loaded.
#[unsafe(no_mangle)]
static SET: u64 = 0;

/// The number of this set.
#[inline(always)]
pub fn number() -> u8 {
    read::load(&SET) as u8
}

/// This set is to record a call that begins now.
#[inline(always)]
pub fn is_ours() -> bool {
    let Some(word) = RECORDING.get_ptr(0) else { return false };
    // SAFETY: a live value of the map, which userspace writes.
    let recording = unsafe { word.read_volatile() };
    recording >> (read::load(&SET) & 63) & 1 != 0
}
