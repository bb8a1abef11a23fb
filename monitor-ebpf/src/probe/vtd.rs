//! VT-d's own side of a PASID: its entry in the table set up and torn down, and the table itself, and the PASID
//! taken off a device. A teardown is a window: what it flushes is kept, and told at its end.

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use monitor_ebpf::{
    descriptor::{self, Conditions, condition},
    table,
    wire::{Bit, Flush, Hook, Phase, Place, TableKind},
};

use super::{
    call::{self, Access, call, program},
    emit::{self, Reads},
    owed,
    read::{self, Kernel, layout, member},
    tables, window,
};

call!(exit VtdTableAlloc, "vtd_table_alloc", Reads::VTD_TABLE);
call!(exit VtdDetach, "vtd_detach_pasid", Reads::PLAIN);

/// `DMA_GCMD_TE` (intel/iommu.h)
const TRANSLATION_ENABLE: u32 = 1 << 31;
/// `cap_caching_mode`
const CACHING_MODE: u64 = 1 << 7;
/// `pci_channel_io_perm_failure`: what `pci_dev_is_disconnected` looks for.
const DISCONNECTED: u32 = 3;

/// What of a teardown's conditions may change while it runs.
#[inline(always)]
fn device_state(device: u64, into: &mut Conditions) {
    let info = tables::private(device);
    let (ats, known_ats) = flag(info, layout!(flush.vtd_info_ats));
    let pci_device = layout!(flush.pci_device);
    // `error_state` stands before `dev` in `struct pci_dev`.
    let pdev = device.wrapping_sub(u64::from(pci_device));
    let (state, known_state) = read::read::<u32>(pdev, layout!(flush.pci_error));
    into.set = ats * condition::ATS | u32::from(state == DISCONNECTED) * condition::GONE;
    into.known = known_ats * condition::ATS | known_state * condition::GONE;
}

#[inline(always)]
fn flag(base: u64, at: Bit) -> (u32, u32) {
    let (byte, readable) = read::read::<u8>(base, at.offset);
    (u32::from(byte) >> (at.shift & 7) & 1, readable)
}

/// The entry as it is, and what decides which flushes it needs.
#[inline(never)]
fn conditions(device: u64, pasid: u32, out: &mut Flush) {
    let mut device_now = Conditions { set: 0, known: 0 };
    device_state(device, &mut device_now);
    let iommu = out.iommu;
    let (gcmd, has_gcmd) = read::read::<u32>(iommu, layout!(flush.vtd_iommu_gcmd));
    let (cap, has_cap) = read::read::<u64>(iommu, layout!(flush.vtd_iommu_cap));
    let (queue, has_queue) = read::read::<u64>(iommu, layout!(flush.vtd_iommu_qi));
    out.set = device_now.set
        | u32::from(gcmd & TRANSLATION_ENABLE != 0) * condition::TRANSLATES
        | u32::from(queue != 0) * condition::QUEUED
        | u32::from(cap & CACHING_MODE != 0) * condition::CACHING_MODE;
    out.known = device_now.known
        | has_gcmd * condition::TRANSLATES
        | has_queue * condition::QUEUED
        | has_cap * condition::CACHING_MODE;
    let info = tables::private(device);
    let bus = u32::from(member::<u8>(info, layout!(flush.vtd_info_bus)));
    let devfn = u32::from(member::<u8>(info, layout!(flush.vtd_info_devfn)));
    out.source = bus << 8 | devfn;
    out.vendor = TableKind::Vtd as u32;
    out.pasid = pasid;
    let table = member(info, layout!(vtd_info_table));
    let directory = member(table, layout!(vtd_table_directory));
    let max = member(table, layout!(vtd_table_max));
    let page_offset = tables::page_offset();
    if page_offset == 0 {
        return;
    }
    if let Some(words) = table::vtd::lookup(&Kernel, directory, max, page_offset, pasid) {
        let (present, disabled, kind, tag) = table::vtd::decode(words);
        out.set |= u32::from(present) * condition::PRESENT | u32::from(disabled) * condition::FAULTS_DISABLED;
        out.known |= condition::PRESENT | condition::FAULTS_DISABLED;
        (out.kind, out.tag) = (kind, tag);
    }
}

/// A teardown begins.
#[inline(always)]
fn tear_down(context: *mut c_void, access: Access) {
    let subject = call::subject(context, access, Hook::VtdTearDown);
    emit::emit(context, Hook::VtdTearDown, Phase::Begin, &subject, 0, Reads::VTD_TABLE);
    call::remember(Hook::VtdTearDown, &subject);
    let place = Place { device: subject.device, pasid: u64::from(subject.pasid) };
    let contested = owed::begins(&place, bpf_get_current_pid_tgid() as u32);
    let mut flush = Flush { iommu: call::iommu(context, access, Hook::VtdTearDown), ..Flush::NONE };
    // After it is known who else is at it: what is read now is not older than that.
    conditions(subject.device, subject.pasid, &mut flush);
    flush.set |= u32::from(contested) * condition::CONTESTED;
    window::open(Hook::VtdTearDown, &subject, &flush);
}

/// A teardown returns.
#[inline(always)]
fn torn_down(context: *mut c_void, access: Access) {
    let Some(subject) = call::recall(Hook::VtdTearDown) else { return };
    let mut flush = Flush::NONE;
    let kept = window::close(Hook::VtdTearDown, |frame| {
        if frame.device == subject.device {
            flush = descriptor::window::closed(frame);
        }
    });
    let place = Place { device: subject.device, pasid: u64::from(subject.pasid) };
    let contested = owed::ends(&place, bpf_get_current_pid_tgid() as u32);
    if !kept || flush.vendor == 0 {
        return emit::emit(context, Hook::VtdTearDown, Phase::End, &subject, 0, Reads::VTD_TABLE);
    }
    settle(subject.device, contested, &mut flush);
    if flush.owed != 0 {
        owed::add(&place, &flush);
    }
    emit::flushing(
        context,
        Hook::VtdTearDown,
        Phase::End,
        &subject,
        call::result(context, access),
        Reads::VTD_TABLE,
        &flush,
    );
}

/// What a teardown is owed, now that it is over.
#[inline(never)]
fn settle(device: u64, contested: bool, flush: &mut Flush) {
    let mut now = Conditions { set: 0, known: 0 };
    device_state(device, &mut now);
    // SAFETY: takes nothing.
    let now_ns = unsafe { aya_ebpf::helpers::generated::bpf_ktime_get_ns() };
    descriptor::window::settle(flush, &now, contested, now_ns);
}

/// An entry was set up. If its predecessor is owed a flush, that is told.
#[inline(always)]
fn set_up(context: *mut c_void, access: Access, hook: Hook) {
    let subject = match access {
        Access::Trampoline => call::subject(context, access, hook),
        Access::Registers => match call::recall(hook) {
            Some(subject) => subject,
            None => return,
        },
    };
    let ret = call::result(context, access);
    let place = Place { device: subject.device, pasid: u64::from(subject.pasid) };
    let mut flush = Flush::NONE;
    if ret as i32 == 0 && owed::take(&place, &mut flush) {
        emit::flushing(context, hook, Phase::End, &subject, ret, Reads::VTD_TABLE, &flush);
    } else {
        emit::emit(context, hook, Phase::End, &subject, ret, Reads::VTD_TABLE);
    }
}

/// A device's table is about to be freed, with its device.
#[inline(always)]
fn table_free(context: *mut c_void, access: Access) {
    call::point(context, access, Hook::VtdTableFree, Reads::VTD_TABLE);
    owed::forget(call::subject(context, access, Hook::VtdTableFree).device);
}

const _: () = assert!(call::is_name_of(Hook::VtdTearDown, "vtd_tear_down"));
program!("fentry", "vtd_tear_down", context => tear_down(context, Access::Trampoline));
program!("fexit", "vtd_tear_down", context => torn_down(context, Access::Trampoline));
program!("kprobe", "vtd_tear_down", context => tear_down(context, Access::Registers));
program!("kretprobe", "vtd_tear_down", context => torn_down(context, Access::Registers));

/// `pci_device_is_present(pdev)` returns. Where it says no, the driver leaves out what the device would have to answer.
#[inline(always)]
fn looked_for(context: *mut c_void, access: Access) {
    if window::any() && call::result(context, access) as u8 == 0 {
        // A kretprobe has the argument no more: then any device that is not there counts.
        let pdev = match access {
            Access::Trampoline => call::argument(context, access, call::positions(Hook::DevicePresent).pci),
            Access::Registers => 0,
        };
        let device = pdev.wrapping_add(u64::from(layout!(flush.pci_device)));
        window::gone(if pdev == 0 { 0 } else { device });
    }
}

const _: () = assert!(call::is_name_of(Hook::DevicePresent, "device_present"));
program!("fexit", "device_present", context => looked_for(context, Access::Trampoline));
program!("kretprobe", "device_present", context => looked_for(context, Access::Registers));

const _: () = assert!(call::is_name_of(Hook::VtdTableFree, "vtd_table_free"));
program!("fentry", "vtd_table_free", context => table_free(context, Access::Trampoline));
program!("kprobe", "vtd_table_free", context => table_free(context, Access::Registers));

macro_rules! set_up {
    ($hook:ident, $name:literal) => {
        const _: () = assert!(call::is_name_of(Hook::$hook, $name));
        program!("fexit", $name, context => set_up(context, Access::Trampoline, Hook::$hook));
        // On return the registers hold the arguments no more: the entry has to keep them.
        program!("kprobe", $name, context => call::begin(context, Access::Registers, Hook::$hook, Reads::VTD_TABLE));
        program!("kretprobe", $name, context => set_up(context, Access::Registers, Hook::$hook));
    };
}
set_up!(VtdSetupFirst, "vtd_setup_first_level");
set_up!(VtdSetupSecond, "vtd_setup_second_level");
set_up!(VtdSetupPassThrough, "vtd_setup_pass_through");
set_up!(VtdSetupNested, "vtd_setup_nested");
