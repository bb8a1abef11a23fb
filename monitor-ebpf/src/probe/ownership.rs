//! DMA ownership: claims, drivers on the default domain, and every way of letting go.

use monitor_ebpf::wire::Hook;

use super::{
    call::{self, Access, call, program},
    emit::Reads,
};

call!(both ClaimGroup, "claim_group", Reads::STACK.and(Reads::ARRAY));
call!(both ReleaseGroup, "release_group", Reads::STACK.and(Reads::ARRAY));
call!(both ClaimDevice, "claim_device", Reads::STACK.and(Reads::ARRAY));
call!(both ReleaseDevice, "release_device", Reads::STACK.and(Reads::ARRAY));
call!(both UseDefault, "use_default_domain", Reads::STACK.and(Reads::ARRAY));
call!(both UnuseDefault, "unuse_default_domain", Reads::STACK.and(Reads::ARRAY));
call!(both ReleaseLocked, "release_ownership_locked", Reads::ARRAY);
