//! Keeping account of what is lost, by group, so that no more than need be is unknown afterwards.

use core::arch::asm;

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    macros::map,
    maps::{HashMap, PerCpuArray},
};
use monitor_ebpf::wire::{LOSS_GROUPS, LossKind, Losses, count};

/// What each CPU counts, by the indexes of [`count`](mod@monitor_ebpf::wire::count).
#[map]
pub(super) static COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(count::LEN, 0);

/// What was lost of each group, by its address. An entry stays for good: it counts what happened at that
/// address, whichever group is there.
#[map]
static LOSSES: HashMap<u64, Losses> = HashMap::with_max_entries(LOSS_GROUPS, 0);

/// Counts a loss: at its group first, then in the sum, as userspace relies on. `group` is 0 where the call
/// names none.
#[inline(always)]
pub fn count(group: u64, what: LossKind) {
    count_loss(group, what as u32);
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn count_loss(group: u64, what: u32) -> u32 {
    // Another number than these isn't passed; a verifier doesn't know.
    let what = if what == LossKind::Record as u32 { LossKind::Record } else { LossKind::Call };
    match account(group) {
        // SAFETY: a live value of the map, or a slot of this CPU's; both are only ever added to.
        Some(account) => unsafe { self::add(account.cast::<u64>().add(what as usize), 1) },
        None => bump(count::elsewhere(what)),
    }
    bump(count::lost(what));
    0
}

/// The account of a group; `None` if it is no group, or the map is full.
#[inline(always)]
fn account(group: u64) -> Option<*mut Losses> {
    if group == 0 {
        return None;
    }
    LOSSES.get_ptr_mut(group).or_else(|| {
        // Another CPU may be faster; then its entry is found.
        let _ = LOSSES.insert(group, Losses::default(), u64::from(BPF_NOEXIST));
        LOSSES.get_ptr_mut(group)
    })
}

#[inline(always)]
fn bump(index: u32) {
    if let Some(slot) = COUNTS.get_ptr_mut(index) {
        // SAFETY: a live slot of this CPU.
        unsafe { add(slot, 1) };
    }
}

/// Adds to a number, whoever does so at the same time. An atomic that fetches is fully ordered (the kernel's
/// Documentation/bpf/standardization/instruction-set.rst): what was added to before is seen by whoever sees this.
/// `core` has none for this target.
///
/// # Safety
/// `slot` points into a live value of a map, or a global, and is aligned to 8.
#[inline(always)]
pub unsafe fn add(slot: *mut u64, amount: u64) {
    // SAFETY: as the caller promises; whoever else writes it does so in here.
    unsafe {
        asm!(
            "{amount} = atomic_fetch_add((u64 *)({slot} + 0), {amount})",
            slot = in(reg) slot,
            amount = inout(reg) amount => _,
            options(nostack),
        );
    }
}
