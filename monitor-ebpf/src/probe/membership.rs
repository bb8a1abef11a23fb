//! Devices join and leave groups; devices and groups are let go.

use aya_ebpf::{
    EbpfContext,
    macros::{btf_tracepoint, raw_tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext},
};
use aya_log_ebpf::warn;
use monitor_ebpf::wire::{Hook, Phase, Subject};

use super::{
    call::{self, Access, call, program},
    emit::{self, Reads},
    read, turn,
};

call!(entry DeviceRelease, "device_release", Reads::STACK.and(Reads::ARRAY));
call!(entry GroupRelease, "group_release", Reads::STACK.and(Reads::ARRAY));

/// `TP_PROTO(int group_id, struct device *dev)` of `iommu:add_device_to_group` and its twin. The arguments are read from
/// the context, as numbers: what tp_btf gives is a pointer of a type, which no function takes that is verified for any
/// numbers.
///
/// The one family that writes diagnostics: a log line is hundreds of instructions, which every program
/// that has one pays for when it is verified.
#[inline(always)]
fn member(context: &impl EbpfContext, hook: Hook) {
    if !turn::is_ours() {
        return;
    }
    let arguments = context.as_ptr() as u64;
    let group_id: i32 = read::member(arguments, 0);
    let device: u64 = read::member(arguments, 8);
    let subject = Subject { device, group: read::group_of(device), ..Subject::default() };
    if subject.group == 0 {
        warn!(context, "a device of group {} does not point to its group (yet)", group_id);
    }
    emit::emit(context.as_ptr(), hook, Phase::Point, &subject, 0, Reads::PLAIN);
}

#[btf_tracepoint]
pub fn add_device_to_group_tp(context: BtfTracePointContext) -> i32 {
    member(&context, Hook::DeviceAdd);
    0
}

#[btf_tracepoint]
pub fn remove_device_from_group_tp(context: BtfTracePointContext) -> i32 {
    member(&context, Hook::DeviceRemove);
    0
}

#[raw_tracepoint]
pub fn add_device_to_group_raw(context: RawTracePointContext) -> i32 {
    member(&context, Hook::DeviceAdd);
    0
}

#[raw_tracepoint]
pub fn remove_device_from_group_raw(context: RawTracePointContext) -> i32 {
    member(&context, Hook::DeviceRemove);
    0
}
