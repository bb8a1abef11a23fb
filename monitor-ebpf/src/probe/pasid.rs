//! PASIDs set and removed by the core, and SVA bonds.

use monitor_ebpf::wire::Hook;

use super::{
    call::{self, Access, call, program},
    emit::Reads,
};

call!(both PasidAttach, "pasid_attach", Reads::STACK.and(Reads::ARRAY));
call!(both PasidReplace, "pasid_replace", Reads::STACK.and(Reads::ARRAY));
call!(both PasidDetach, "pasid_detach", Reads::STACK.and(Reads::ARRAY));
call!(exit SvaBind, "sva_bind", Reads::STACK.and(Reads::ARRAY));
call!(both SvaUnbind, "sva_unbind", Reads::STACK.and(Reads::ARRAY));
