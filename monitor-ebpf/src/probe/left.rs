//! What is left in a hardware PASID table that its driver is about to free. A table without a PASID is no news.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    macros::map,
    maps::{Array, HashMap},
};
use monitor_ebpf::wire::{Hook, LossKind, Phase, Subject};

use super::{
    call::{self, Access, program},
    emit, loss, snapshot,
    tables::{self, Scratch, Vendor},
    turn,
};

/// Where the record is made: not where our own reads make theirs, which may be under way.
#[map]
static LEFT: Array<Scratch> = Array::with_max_entries(1, 0);

/// Holds an entry while that is in use: two devices may go at once.
#[map]
static FREEING: HashMap<u32, u32> = HashMap::with_max_entries(1, 0);

#[inline(always)]
fn freed(context: *mut c_void, access: Access, hook: Hook, vendor: Vendor) {
    if !turn::is_ours() {
        return;
    }
    let Subject { group, device, .. } = call::subject(context, access, hook);
    if FREEING.insert(0, 0, u64::from(BPF_NOEXIST)).is_err() {
        return loss::count(group, LossKind::Record);
    }
    if let Some(scratch) = LEFT.get_ptr_mut(0) {
        // SAFETY: a live value of a map, which the entry in FREEING keeps for us.
        unsafe {
            tables::set_out(scratch, hook, Phase::Point, group);
            snapshot::read_member(scratch, device, 0);
            tables::read(scratch, vendor, device);
            if tables::has_pasids(scratch) {
                (*scratch).record.head.operation.header.stack = emit::stack(context, emit::Reads::STACK);
                snapshot::send(scratch);
            }
        }
    }
    let _ = FREEING.remove(0);
}

const _: () = assert!(call::is_name_of(Hook::VtdTableLeft, "vtd_table_left"));
program!("fentry", "vtd_table_left", context =>
    freed(context, Access::Trampoline, Hook::VtdTableLeft, Vendor::Vtd));
program!("kprobe", "vtd_table_left", context =>
    freed(context, Access::Registers, Hook::VtdTableLeft, Vendor::Vtd));

const _: () = assert!(call::is_name_of(Hook::AmdTableLeft, "amd_table_left"));
program!("fentry", "amd_table_left", context =>
    freed(context, Access::Trampoline, Hook::AmdTableLeft, Vendor::Amd));
program!("kprobe", "amd_table_left", context =>
    freed(context, Access::Registers, Hook::AmdTableLeft, Vendor::Amd));

// SMMUv3's driver frees it in `arm_smmu_release_device`, a name that SMMUv2's has, too; the core's caller has one of its
// own, and there the table is still whole.
const _: () = assert!(call::is_name_of(Hook::SmmuTableLeft, "smmu_table_left"));
program!("fentry", "smmu_table_left", context =>
    freed(context, Access::Trampoline, Hook::SmmuTableLeft, Vendor::PerhapsSmmu));
program!("kprobe", "smmu_table_left", context =>
    freed(context, Access::Registers, Hook::SmmuTableLeft, Vendor::PerhapsSmmu));
