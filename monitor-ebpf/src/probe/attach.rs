//! A RID gets a domain: the choke point that all callers pass, and the callers' own entry points.

use monitor_ebpf::wire::Hook;

use super::{
    call::{self, Access, call, program},
    emit::Reads,
    window,
};

const _: () = assert!(call::is_name_of(Hook::RidAttach, "rid_attach"));
program!("fentry", "rid_attach", context => window::switch_begins(context, Access::Trampoline));
program!("fexit", "rid_attach", context => window::switch_ends(context, Access::Trampoline));
program!("kprobe", "rid_attach", context => window::switch_begins(context, Access::Registers));
program!("kretprobe", "rid_attach", context => window::switch_ends(context, Access::Registers));
call!(exit AttachDevice, "attach_device", Reads::STACK);
call!(exit DetachDevice, "detach_device", Reads::STACK);
call!(exit AttachGroup, "attach_group", Reads::STACK);
call!(exit DetachGroup, "detach_group", Reads::STACK);
call!(exit AttachGroupHandle, "attach_group_handle", Reads::STACK);
call!(exit DetachGroupHandle, "detach_group_handle", Reads::STACK);
call!(exit ReplaceGroupHandle, "replace_group_handle", Reads::STACK);
call!(exit ReplaceGroupDomain, "replace_group_domain", Reads::STACK);
