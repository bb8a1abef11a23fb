//! SMMUv3's own side of a PASID: its context descriptor written and made invalid, the PASID taken off a device. The
//! taking off is a window: in it the descriptor is cleared, and after that the device is flushed.

use core::ffi::c_void;

use monitor_ebpf::{
    descriptor::{Conditions, condition},
    wire::{Flush, Hook, Subject, TableKind},
};

use super::{
    call::{self, Access, call, program},
    emit::Reads,
    read::{self, layout},
    tables, teardown, turn, window,
};

/// `CTXDESC_CD_0_V` (drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.h).
const VALID: u64 = 1 << 31;
/// `CTXDESC_CD_0_TCR_EPD0`: it translates nothing any more, for a process that has exited.
const DISABLED: u64 = 1 << 14;
/// Where the first word has the ASID (`CTXDESC_CD_0_ASID`).
const ASID_AT: u32 = 48;

call!(exit SmmuDetach, "smmu_detach_pasid", Reads::PLAIN);

/// A descriptor is written: of interest is one that is not valid any more.
#[inline(always)]
fn written(context: *mut c_void, access: Access) {
    if call::descriptor(context, access, Hook::SmmuClear) & VALID == 0 {
        call::begin(context, access, Hook::SmmuClear, Reads::PLAIN);
        let subject = call::subject(context, access, Hook::SmmuClear);
        cleared(call::entry(context, access, Hook::SmmuClear), &subject);
    }
}

/// What the descriptor is that this task's window is about.
#[inline(never)]
fn cleared(before: u64, subject: &Subject) {
    let Some(flush) = window::of_entry(Hook::SmmuRemove, subject.device, subject.pasid) else { return };
    // SAFETY: a live value of the map, of this task alone.
    let flush = unsafe { &mut *flush };
    let (word, readable) = read::read::<u64>(before, 0);
    flush.tag = (word >> ASID_AT) as u32;
    flush.set |= u32::from(word & VALID != 0) * condition::PRESENT;
    flush.known |= readable * condition::PRESENT;
}

#[inline(always)]
fn device_state(device: u64, into: &mut Conditions) {
    teardown::device_state(device, tables::private(device), layout!(flush.smmu_ats), into);
}

/// What decides which flushes the clearing needs, before it begins. A device may have several StreamIDs: its first one
/// stands for all.
#[inline(never)]
fn conditions(device: u64, out: &mut Flush) {
    let (streams, there) = read::read::<u64>(tables::private(device), layout!(flush.smmu_streams));
    let (stream, named) = read::read::<u32>(streams, layout!(flush.smmu_stream_id));
    if there & named == 0 {
        return;
    }
    let mut now = Conditions { set: 0, known: 0 };
    device_state(device, &mut now);
    out.vendor = TableKind::SmmuV3 as u32;
    out.source = stream;
    // A submission says itself whether it waits.
    (out.set, out.known) = (now.set | condition::WAITS, now.known | condition::WAITS);
}

/// `arm_smmu_blocking_set_dev_pasid` or `arm_smmu_remove_dev_pasid` is entered.
#[inline(always)]
fn remove(context: *mut c_void, access: Access) {
    if !turn::is_ours() {
        return;
    }
    let subject = call::subject(context, access, Hook::SmmuRemove);
    teardown::begins(Hook::SmmuRemove, &subject, 0, |flush| conditions(subject.device, flush));
}

/// It returns. Of the two functions one returns nothing.
#[inline(always)]
fn removed(context: *mut c_void, access: Access) {
    teardown::ends(context, access, Hook::SmmuRemove, Reads::PLAIN, device_state);
}

/// Whether a descriptor is written that translates.
#[inline(always)]
fn sets(context: *mut c_void, access: Access) -> bool {
    call::descriptor(context, access, Hook::SmmuSet) & (VALID | DISABLED) == VALID
}

/// `arm_smmu_write_cd_entry` returns: fexit has its arguments still.
#[inline(always)]
fn set(context: *mut c_void, access: Access) {
    // On entry of a call that sets nothing nothing was kept.
    if matches!(access, Access::Trampoline) && !sets(context, access) {
        return;
    }
    let Some(subject) = call::of_return(context, access, Hook::SmmuSet) else { return };
    teardown::set_up(context, Hook::SmmuSet, &subject, 0, Reads::PLAIN);
}

/// The same is entered, for a kretprobe, which has the arguments no more.
#[inline(always)]
fn setting(context: *mut c_void) {
    if sets(context, Access::Registers) {
        call::keep(context, Hook::SmmuSet);
    }
}

const _: () = assert!(call::is_name_of(Hook::SmmuClear, "smmu_clear_cd"));
program!("fentry", "smmu_clear_cd", context => written(context, Access::Trampoline));
program!("fexit", "smmu_clear_cd", context =>
    call::end(context, Access::Trampoline, Hook::SmmuClear, Reads::PLAIN));
program!("kprobe", "smmu_clear_cd", context => written(context, Access::Registers));
program!("kretprobe", "smmu_clear_cd", context =>
    call::end(context, Access::Registers, Hook::SmmuClear, Reads::PLAIN));

const _: () = assert!(call::is_name_of(Hook::SmmuRemove, "smmu_remove_pasid"));
program!("fentry", "smmu_remove_pasid", context => remove(context, Access::Trampoline));
program!("fexit", "smmu_remove_pasid", context => removed(context, Access::Trampoline));
program!("kprobe", "smmu_remove_pasid", context => remove(context, Access::Registers));
program!("kretprobe", "smmu_remove_pasid", context => removed(context, Access::Registers));

const _: () = assert!(call::is_name_of(Hook::SmmuSet, "smmu_write_cd"));
program!("fexit", "smmu_write_cd", context => set(context, Access::Trampoline));
program!("kprobe", "smmu_write_cd", context => setting(context));
program!("kretprobe", "smmu_write_cd", context => set(context, Access::Registers));
