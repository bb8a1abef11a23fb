//! DMA ownership: claims, drivers on the default domain, and every way of letting go.

use aya_ebpf::EbpfContext;
use monitor_ebpf::wire::Hook;

use super::{
    call::{self, call},
    emit::Reads,
};

call!(
    ClaimGroup,
    Reads::STACK.and(Reads::ARRAY),
    claim_group_fentry,
    claim_group_fexit,
    claim_group_kprobe,
    claim_group_kretprobe
);
call!(
    ReleaseGroup,
    Reads::STACK.and(Reads::ARRAY),
    release_group_fentry,
    release_group_fexit,
    release_group_kprobe,
    release_group_kretprobe
);
call!(
    ClaimDevice,
    Reads::STACK.and(Reads::ARRAY),
    claim_device_fentry,
    claim_device_fexit,
    claim_device_kprobe,
    claim_device_kretprobe
);
call!(
    ReleaseDevice,
    Reads::STACK.and(Reads::ARRAY),
    release_device_fentry,
    release_device_fexit,
    release_device_kprobe,
    release_device_kretprobe
);
call!(
    UseDefault,
    Reads::STACK.and(Reads::ARRAY),
    use_default_domain_fentry,
    use_default_domain_fexit,
    use_default_domain_kprobe,
    use_default_domain_kretprobe
);
call!(
    UnuseDefault,
    Reads::STACK.and(Reads::ARRAY),
    unuse_default_domain_fentry,
    unuse_default_domain_fexit,
    unuse_default_domain_kprobe,
    unuse_default_domain_kretprobe
);
call!(
    ReleaseLocked,
    Reads::ARRAY,
    release_ownership_locked_fentry,
    release_ownership_locked_fexit,
    release_ownership_locked_kprobe,
    release_ownership_locked_kretprobe
);
