//! AMD's own side of a PASID: its entry written and cleared, its table taken away, the PASID taken off a device. A
//! clearing is a window: what it flushes is kept, and told at its end.

use core::ffi::c_void;

use monitor_ebpf::{
    descriptor::{Conditions, condition},
    table,
    wire::{ABSENT, Flush, Hook, Phase, TableKind},
};

use super::{
    call::{self, Access, call, program},
    emit::{self, Reads},
    invalidation::feed,
    read::{self, Kernel, layout, member},
    tables, teardown, turn,
};

call!(exit AmdDetach, "amd_detach_pasid", Reads::PLAIN);

#[inline(always)]
fn device_state(device: u64, into: &mut Conditions) {
    teardown::device_state(device, tables::private(device), layout!(flush.amd_ats), into);
}

/// The entry as it is, and what decides which flushes it needs. The commands are told by the domain id that the device's
/// table has (`gcr3_tbl_info.domid`) and by its requester id (`devid`).
#[inline(never)]
fn conditions(device: u64, pasid: u32, out: &mut Flush) {
    if layout!(amd.table) == ABSENT || layout!(flush.amd_devid) == ABSENT || layout!(amd.domain) != ABSENT {
        return;
    }
    let at = layout!(amd);
    let mut now = Conditions { set: 0, known: 0 };
    device_state(device, &mut now);
    // SAFETY: a global of our own. Where no return was ever seen, none will be.
    let waits = u32::from(unsafe { feed!(waits).read_volatile() } != 0) * condition::WAITS;
    (out.set, out.known) = (now.set | waits, now.known | waits);
    let data = tables::private(device);
    out.vendor = TableKind::Amd as u32;
    out.source = u32::from(member::<u16>(data, layout!(flush.amd_devid)));
    let (domain, tagged) = read::read::<u16>(data, at.id);
    out.tag = u32::from(domain);
    let (glx, counted) = read::read::<u32>(data, at.levels);
    let page_offset = tables::page_offset();
    if page_offset == 0 || tagged & counted == 0 {
        return;
    }
    let root = member(data, at.table);
    if let Some(entry) = table::amd::lookup(&Kernel, root, glx, page_offset, tables::encrypted(), pasid) {
        out.set |= u32::from(table::amd::is_present(entry)) * condition::PRESENT;
        out.known |= condition::PRESENT;
    }
}

/// `amd_iommu_clear_gcr3` is entered.
#[inline(always)]
fn clear(context: *mut c_void, access: Access) {
    if !turn::is_ours() {
        return;
    }
    let subject = call::subject(context, access, Hook::AmdClear);
    emit::emit(context, Hook::AmdClear, Phase::Begin, &subject, 0, Reads::PLAIN);
    teardown::begins(Hook::AmdClear, &subject, 0, |flush| conditions(subject.device, subject.pasid, flush));
}

/// It returns.
#[inline(always)]
fn cleared(context: *mut c_void, access: Access) {
    teardown::ends(context, access, Hook::AmdClear, Reads::PLAIN, device_state);
}

/// `amd_iommu_set_gcr3` returns.
#[inline(always)]
fn set(context: *mut c_void, access: Access) {
    let Some(subject) = call::of_return(context, access, Hook::AmdSet) else { return };
    teardown::set_up(context, Hook::AmdSet, &subject, call::result(context, access), Reads::PLAIN);
}

/// A device's table is about to be freed: at a switch of its RID's domain, or with the device.
#[inline(always)]
fn table_free(context: *mut c_void, access: Access) {
    teardown::table_free(context, access, Hook::AmdTableFree, Reads::PLAIN);
}

const _: () = assert!(call::is_name_of(Hook::AmdClear, "amd_clear_gcr3"));
program!("fentry", "amd_clear_gcr3", context => clear(context, Access::Trampoline));
program!("fexit", "amd_clear_gcr3", context => cleared(context, Access::Trampoline));
program!("kprobe", "amd_clear_gcr3", context => clear(context, Access::Registers));
program!("kretprobe", "amd_clear_gcr3", context => cleared(context, Access::Registers));

const _: () = assert!(call::is_name_of(Hook::AmdSet, "amd_set_gcr3"));
program!("fexit", "amd_set_gcr3", context => set(context, Access::Trampoline));
program!("kprobe", "amd_set_gcr3", context => call::keep(context, Hook::AmdSet));
program!("kretprobe", "amd_set_gcr3", context => set(context, Access::Registers));

const _: () = assert!(call::is_name_of(Hook::AmdTableFree, "amd_table_free"));
program!("fentry", "amd_table_free", context => table_free(context, Access::Trampoline));
program!("kprobe", "amd_table_free", context => table_free(context, Access::Registers));
