//! SMMUv3's own side of a PASID: its context descriptor made invalid, the PASID taken off a device.

use core::ffi::c_void;

use monitor_ebpf::wire::Hook;

use super::{
    call::{self, Access, call, program},
    emit::Reads,
};

/// `CTXDESC_CD_0_V` (drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.h).
const VALID: u64 = 1 << 31;

call!(exit SmmuDetach, "smmu_detach_pasid", Reads::PLAIN);

/// A descriptor is written: of interest is one that is not valid any more.
#[inline(always)]
fn written(context: *mut c_void, access: Access) {
    if call::descriptor(context, access, Hook::SmmuClear) & VALID == 0 {
        call::begin(context, access, Hook::SmmuClear, Reads::PLAIN);
    }
}

const _: () = assert!(call::is_name_of(Hook::SmmuClear, "smmu_clear_cd"));
program!("fentry", "smmu_clear_cd", context => written(context, Access::Trampoline));
program!("fexit", "smmu_clear_cd", context =>
    call::end(context, Access::Trampoline, Hook::SmmuClear, Reads::PLAIN));
program!("kprobe", "smmu_clear_cd", context => written(context, Access::Registers));
program!("kretprobe", "smmu_clear_cd", context =>
    call::end(context, Access::Registers, Hook::SmmuClear, Reads::PLAIN));
