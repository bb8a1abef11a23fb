//! VT-d's own side of a PASID: its entry in the table set up and torn down, and the table itself, and the PASID
//! taken off a device. A teardown is a window: what it flushes is kept, and told at its end.

use core::ffi::c_void;

use monitor_ebpf::{
    descriptor::{Conditions, condition},
    table,
    wire::{Flush, Hook, Phase, TableKind},
};

use super::{
    call::{self, Access, call, program},
    emit::{self, Reads},
    read::{self, Kernel, layout, member},
    tables, teardown, turn, window,
};

call!(exit VtdTableAlloc, "vtd_table_alloc", Reads::VTD_TABLE);
call!(exit VtdDetach, "vtd_detach_pasid", Reads::PLAIN);

/// `DMA_GCMD_TE` (intel/iommu.h)
const TRANSLATION_ENABLE: u32 = 1 << 31;
/// `cap_caching_mode`
const CACHING_MODE: u64 = 1 << 7;

/// What of a teardown's conditions may change while it runs.
#[inline(always)]
fn device_state(device: u64, into: &mut Conditions) {
    teardown::device_state(device, tables::private(device), layout!(flush.vtd_info_ats), into);
}

/// The entry as it is, and what decides which flushes it needs.
#[inline(never)]
fn conditions(device: u64, pasid: u32, out: &mut Flush) {
    let mut device_now = Conditions { set: 0, known: 0 };
    device_state(device, &mut device_now);
    // `pci_device_is_present` asks the physical function of a virtual one, which may be marked a moment later.
    let (is_virtual, known_virtual) = teardown::flag(device, layout!(flush.pci_virtual));
    let physical = known_virtual & (is_virtual ^ 1);
    let iommu = out.iommu;
    let (gcmd, has_gcmd) = read::read::<u32>(iommu, layout!(flush.vtd_iommu_gcmd));
    let (cap, has_cap) = read::read::<u64>(iommu, layout!(flush.vtd_iommu_cap));
    let (queue, has_queue) = read::read::<u64>(iommu, layout!(flush.vtd_iommu_qi));
    out.set = device_now.set
        | u32::from(device_now.set & condition::GONE != 0) * condition::DISCONNECTED
        | u32::from(gcmd & TRANSLATION_ENABLE != 0) * condition::TRANSLATES
        | u32::from(queue != 0) * condition::QUEUED
        | u32::from(cap & CACHING_MODE != 0) * condition::CACHING_MODE;
    out.known = device_now.known
        | u32::from(device_now.known & condition::GONE != 0) * physical * condition::DISCONNECTED
        | has_gcmd * condition::TRANSLATES
        | has_queue * condition::QUEUED
        | has_cap * condition::CACHING_MODE;
    let info = tables::private(device);
    let bus = u32::from(member::<u8>(info, layout!(flush.vtd_info_bus)));
    let devfn = u32::from(member::<u8>(info, layout!(flush.vtd_info_devfn)));
    out.source = bus << 8 | devfn;
    out.vendor = TableKind::Vtd as u32;
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
    if !turn::is_ours() {
        return;
    }
    let subject = call::subject(context, access, Hook::VtdTearDown);
    emit::emit(context, Hook::VtdTearDown, Phase::Begin, &subject, 0, Reads::VTD_TABLE);
    let iommu = call::iommu(context, access, Hook::VtdTearDown);
    teardown::begins(Hook::VtdTearDown, &subject, iommu, |flush| {
        conditions(subject.device, subject.pasid, flush);
    });
}

/// A teardown returns.
#[inline(always)]
fn torn_down(context: *mut c_void, access: Access) {
    teardown::ends(context, access, Hook::VtdTearDown, Reads::VTD_TABLE, device_state);
}

/// An entry was set up.
#[inline(always)]
fn set_up(context: *mut c_void, access: Access, hook: Hook) {
    let Some(subject) = call::of_return(context, access, hook) else { return };
    teardown::set_up(context, hook, &subject, call::result(context, access), Reads::VTD_TABLE);
}

/// A device's table is about to be freed, with its device.
#[inline(always)]
fn table_free(context: *mut c_void, access: Access) {
    teardown::table_free(context, access, Hook::VtdTableFree, Reads::VTD_TABLE);
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
        program!("kprobe", $name, context => {
            call::begin(context, Access::Registers, Hook::$hook, Reads::VTD_TABLE);
        });
        program!("kretprobe", $name, context => set_up(context, Access::Registers, Hook::$hook));
    };
}
set_up!(VtdSetupFirst, "vtd_setup_first_level");
set_up!(VtdSetupSecond, "vtd_setup_second_level");
set_up!(VtdSetupPassThrough, "vtd_setup_pass_through");
set_up!(VtdSetupNested, "vtd_setup_nested");
