//! A RID gets a domain: the choke point that all callers pass, and the callers' own entry points.

use aya_ebpf::EbpfContext;
use monitor_ebpf::wire::Hook;

use super::{
    call::{self, call},
    emit::Reads,
};

call!(RidAttach, Reads::PLAIN, rid_attach_fentry, rid_attach_fexit, rid_attach_kprobe, rid_attach_kretprobe);
call!(
    AttachDevice,
    Reads::STACK,
    attach_device_fentry,
    attach_device_fexit,
    attach_device_kprobe,
    attach_device_kretprobe
);
call!(
    DetachDevice,
    Reads::STACK,
    detach_device_fentry,
    detach_device_fexit,
    detach_device_kprobe,
    detach_device_kretprobe
);
call!(
    AttachGroup,
    Reads::STACK,
    attach_group_fentry,
    attach_group_fexit,
    attach_group_kprobe,
    attach_group_kretprobe
);
call!(
    DetachGroup,
    Reads::STACK,
    detach_group_fentry,
    detach_group_fexit,
    detach_group_kprobe,
    detach_group_kretprobe
);
call!(
    AttachGroupHandle,
    Reads::STACK,
    attach_group_handle_fentry,
    attach_group_handle_fexit,
    attach_group_handle_kprobe,
    attach_group_handle_kretprobe
);
call!(
    DetachGroupHandle,
    Reads::STACK,
    detach_group_handle_fentry,
    detach_group_handle_fexit,
    detach_group_handle_kprobe,
    detach_group_handle_kretprobe
);
call!(
    ReplaceGroupHandle,
    Reads::STACK,
    replace_group_handle_fentry,
    replace_group_handle_fexit,
    replace_group_handle_kprobe,
    replace_group_handle_kretprobe
);
call!(
    ReplaceGroupDomain,
    Reads::STACK,
    replace_group_domain_fentry,
    replace_group_domain_fexit,
    replace_group_domain_kprobe,
    replace_group_domain_kretprobe
);
