//! A RID gets a domain: the choke point that all callers pass, and the callers' own entry points.

use monitor_ebpf::wire::Hook;

use super::{
    call::{self, Access, call, program},
    emit::Reads,
};

call!(both RidAttach, "rid_attach", Reads::PLAIN);
call!(exit AttachDevice, "attach_device", Reads::STACK);
call!(exit DetachDevice, "detach_device", Reads::STACK);
call!(exit AttachGroup, "attach_group", Reads::STACK);
call!(exit DetachGroup, "detach_group", Reads::STACK);
call!(exit AttachGroupHandle, "attach_group_handle", Reads::STACK);
call!(exit DetachGroupHandle, "detach_group_handle", Reads::STACK);
call!(exit ReplaceGroupHandle, "replace_group_handle", Reads::STACK);
call!(exit ReplaceGroupDomain, "replace_group_domain", Reads::STACK);
