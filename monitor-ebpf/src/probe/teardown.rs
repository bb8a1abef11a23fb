//! The teardown of a PASID entry, of any vendor's: a window from its begin to its end, what decides which flushes it
//! needs, and what it is owed in the end. And the set-up of an entry, whose predecessor may be owed something.

use core::ffi::c_void;

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, generated};
use monitor_ebpf::{
    descriptor::{self, Conditions, condition},
    wire::{Bit, Flush, Hook, Phase, Place, Subject},
};

use super::{
    call::{self, Access},
    emit::{self, Reads},
    owed,
    read::{self, layout},
    window,
};

/// `pci_channel_io_perm_failure`: what `pci_dev_is_disconnected` looks for.
const DISCONNECTED: u32 = 3;

/// A flag of the object at `base`, and 1 if it could be read.
#[inline(always)]
pub fn flag(base: u64, at: Bit) -> (u32, u32) {
    let (byte, readable) = read::read::<u8>(base, at.offset);
    (u32::from(byte) >> (at.shift & 7) & 1, readable)
}

/// What of a teardown's conditions may change while it runs: whether the device caches translations, by this flag of
/// its driver's, and whether it is still there.
#[inline(always)]
pub fn device_state(device: u64, data: u64, ats: Bit, into: &mut Conditions) {
    let (ats, known_ats) = flag(data, ats);
    let pci_device = layout!(flush.pci_device);
    // `error_state` stands before `dev` in `struct pci_dev`.
    let pdev = device.wrapping_sub(u64::from(pci_device));
    let (state, known_state) = read::read::<u32>(pdev, layout!(flush.pci_error));
    into.set = ats * condition::ATS | u32::from(state == DISCONNECTED) * condition::GONE;
    into.known = known_ats * condition::ATS | known_state * condition::GONE;
}

#[inline(always)]
fn place(subject: &Subject) -> Place {
    Place { device: subject.device, pasid: u64::from(subject.pasid) }
}

/// A teardown begins. `conditions` reads the entry as it is, and what decides which flushes it needs: after it is known
/// who else is at it, so that what is read is not older than that.
#[inline(always)]
pub fn begins(hook: Hook, subject: &Subject, iommu: u64, conditions: impl FnOnce(&mut Flush)) {
    call::remember(hook, subject);
    let contested = owed::begins(&place(subject), bpf_get_current_pid_tgid() as u32);
    let mut flush = Flush { iommu, pasid: subject.pasid, ..Flush::NONE };
    conditions(&mut flush);
    flush.set |= u32::from(contested) * condition::CONTESTED;
    window::open(hook, subject, &flush);
}

/// It returns. `state` reads what [`device_state`] does, at the end.
#[inline(always)]
pub fn ends(
    context: *mut c_void,
    access: Access,
    hook: Hook,
    reads: Reads,
    state: impl FnOnce(u64, &mut Conditions),
) {
    let Some(subject) = call::recall(hook) else { return };
    let mut flush = Flush::NONE;
    let kept = window::close(hook, |frame| {
        if frame.device == subject.device {
            flush = descriptor::window::closed(frame);
        }
    });
    let place = place(&subject);
    let contested = owed::ends(&place, bpf_get_current_pid_tgid() as u32);
    let ret = call::result(context, access);
    if !kept || flush.vendor == 0 {
        return emit::emit(context, hook, Phase::End, &subject, ret, reads);
    }
    let mut now = Conditions { set: 0, known: 0 };
    state(subject.device, &mut now);
    settle(&now, contested, &mut flush);
    if flush.owed != 0 {
        owed::add(&place, &flush);
    }
    emit::flushing(context, hook, Phase::End, &subject, ret, reads, &flush, 0);
}

/// What a teardown is owed, now that it is over.
#[inline(never)]
fn settle(now: &Conditions, contested: bool, flush: &mut Flush) {
    // SAFETY: takes nothing.
    let now_ns = unsafe { generated::bpf_ktime_get_ns() };
    descriptor::window::settle(flush, now, contested, now_ns);
}

/// A device's table is about to be freed, and what its entries are owed with it.
#[inline(always)]
pub fn table_free(context: *mut c_void, access: Access, hook: Hook, reads: Reads) {
    call::point(context, access, hook, reads);
    owed::forget(call::subject(context, access, hook).device);
}

/// An entry was set up. If its predecessor is owed a flush, that is told.
#[inline(always)]
pub fn set_up(context: *mut c_void, hook: Hook, subject: &Subject, ret: i64, reads: Reads) {
    let mut flush = Flush::NONE;
    if ret as i32 == 0 && owed::take(&place(subject), &mut flush) {
        emit::flushing(context, hook, Phase::End, subject, ret, reads, &flush, 0);
    } else {
        emit::emit(context, hook, Phase::End, subject, ret, reads);
    }
}
