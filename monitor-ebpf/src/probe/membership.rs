//! Devices join and leave groups; devices and groups are let go.

use aya_ebpf::{
    EbpfContext,
    macros::{btf_tracepoint, raw_tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext},
};
use monitor_ebpf::wire::{Hook, Phase};

use super::{
    call::{self, call},
    emit::{self, Reads, Subject},
    read,
};

call!(DeviceRelease, Reads::STACK.and(Reads::ARRAY), device_release_fentry, device_release_kprobe);
call!(GroupRelease, Reads::STACK.and(Reads::ARRAY), group_release_fentry, group_release_kprobe);

/// `TP_PROTO(int group_id, struct device *dev)` of `iommu:add_device_to_group` and its twin.
#[inline(always)]
fn member(context: *mut core::ffi::c_void, hook: Hook, device: u64) {
    let subject = Subject { device, group: read::group_of(device), ..Subject::default() };
    emit::emit(context, hook, Phase::Point, &subject, 0, Reads::PLAIN);
}

#[btf_tracepoint]
pub fn add_device_to_group_tp(context: BtfTracePointContext) -> i32 {
    member(context.as_ptr(), Hook::DeviceAdd, context.arg(1));
    0
}

#[btf_tracepoint]
pub fn remove_device_from_group_tp(context: BtfTracePointContext) -> i32 {
    member(context.as_ptr(), Hook::DeviceRemove, context.arg(1));
    0
}

#[raw_tracepoint]
pub fn add_device_to_group_raw(context: RawTracePointContext) -> i32 {
    member(context.as_ptr(), Hook::DeviceAdd, context.arg(1));
    0
}

#[raw_tracepoint]
pub fn remove_device_from_group_raw(context: RawTracePointContext) -> i32 {
    member(context.as_ptr(), Hook::DeviceRemove, context.arg(1));
    0
}
