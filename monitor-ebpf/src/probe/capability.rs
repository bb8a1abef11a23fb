//! A device's PASID and ATS capabilities switched on and off, by whoever does it.

use core::ffi::c_void;

use monitor_ebpf::wire::{Bit, Hook};

use super::{
    call::{self, Access, call, program},
    emit::Reads,
    read::{self, layout},
};

call!(exit PasidOn, "pasid_on", Reads::PLAIN);
call!(exit AtsOn, "ats_on", Reads::PLAIN);

/// A capability that is off already stays as it is (`pci_disable_pasid`, `pci_disable_ats` in drivers/pci/ats.c).
#[inline(always)]
fn off(context: *mut c_void, access: Access, hook: Hook, enabled: Bit) {
    let device = call::subject(context, access, hook).device;
    if read::bit(device, enabled) != 0 {
        call::point(context, access, hook, Reads::STACK);
    }
}

macro_rules! off {
    ($hook:ident, $name:literal, $bit:ident) => {
        const _: () = assert!(call::is_name_of(Hook::$hook, $name));
        program!("fentry", $name, context =>
            off(context, Access::Trampoline, Hook::$hook, layout!($bit)));
        program!("kprobe", $name, context =>
            off(context, Access::Registers, Hook::$hook, layout!($bit)));
    };
}

off!(PasidOff, "pasid_off", pci_pasid);
off!(AtsOff, "ats_off", pci_ats);
