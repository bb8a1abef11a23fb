//! PASIDs set and removed by the core, and SVA bonds.

use aya_ebpf::EbpfContext;
use monitor_ebpf::wire::Hook;

use super::{
    call::{self, call},
    emit::Reads,
};

call!(
    PasidAttach,
    Reads::STACK.and(Reads::ARRAY),
    pasid_attach_fentry,
    pasid_attach_fexit,
    pasid_attach_kprobe,
    pasid_attach_kretprobe
);
call!(
    PasidReplace,
    Reads::STACK.and(Reads::ARRAY),
    pasid_replace_fentry,
    pasid_replace_fexit,
    pasid_replace_kprobe,
    pasid_replace_kretprobe
);
call!(
    PasidDetach,
    Reads::STACK.and(Reads::ARRAY),
    pasid_detach_fentry,
    pasid_detach_fexit,
    pasid_detach_kprobe,
    pasid_detach_kretprobe
);
call!(
    SvaBind,
    Reads::STACK.and(Reads::ARRAY),
    sva_bind_fentry,
    sva_bind_fexit,
    sva_bind_kprobe,
    sva_bind_kretprobe
);
call!(
    SvaUnbind,
    Reads::STACK.and(Reads::ARRAY),
    sva_unbind_fentry,
    sva_unbind_fexit,
    sva_unbind_kprobe,
    sva_unbind_kretprobe
);
