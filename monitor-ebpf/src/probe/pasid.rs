//! PASIDs set and removed by the core, and SVA bonds.

use monitor_ebpf::wire::Hook;

use super::{
    call::{self, Access, call, program},
    emit::Reads,
};

call!(both PasidAttach, "pasid_attach", Reads::STACK.and(Reads::SLOT));
call!(both PasidReplace, "pasid_replace", Reads::STACK.and(Reads::SLOT));
call!(both PasidDetach, "pasid_detach", Reads::STACK.and(Reads::SLOT));
call!(both SvaBind, "sva_bind", Reads::STACK);
call!(both SvaUnbind, "sva_unbind", Reads::STACK);
