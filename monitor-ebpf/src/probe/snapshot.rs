//! The kernel's own state of a group, read with its mutex held.
//!
//! When userspace reads a group's `reserved_regions`, the core takes `group->mutex` and asks the
//! driver of each member in turn (`iommu_get_group_resv_regions`, drivers/iommu/iommu.c): there
//! nothing of the group can change. Only our own reads are of interest.

use core::ffi::c_void;

use aya_ebpf::{bindings::bpf_pidns_info, helpers::generated::bpf_get_ns_current_pid_tgid};
use monitor_ebpf::wire::{Hook, Process};

use super::{
    call::{self, Access, program},
    emit::Reads,
    read,
};

/// The process whose reads are of interest; set by userspace before the programs are loaded.
#[unsafe(no_mangle)]
static OWN_PROCESS: Process = Process::NONE;

#[inline(always)]
fn look(context: *mut c_void, access: Access, hook: Hook, reads: Reads) {
    let own = read::load(&OWN_PROCESS);
    let mut current = bpf_pidns_info { pid: 0, tgid: 0 };
    // SAFETY: the destination is a live local of the size given. It fails for a task of another namespace.
    let failed = unsafe {
        bpf_get_ns_current_pid_tgid(
            own.namespace_device,
            own.namespace_inode,
            &raw mut current,
            size_of::<bpf_pidns_info>() as u32,
        )
    };
    if failed == 0 && u64::from(current.tgid) == own.tgid {
        call::point(context, access, hook, reads);
    }
}

macro_rules! look {
    ($hook:ident, $name:literal, $reads:expr) => {
        const _: () = assert!(call::is_name_of(Hook::$hook, $name));
        program!("fentry", $name, context => look(context, Access::Trampoline, Hook::$hook, $reads));
        program!("kprobe", $name, context => look(context, Access::Registers, Hook::$hook, $reads));
    };
}

look!(SnapshotGroup, "snapshot_group", Reads::ARRAY);
look!(SnapshotIntel, "snapshot_intel", Reads::ARRAY.and(Reads::VTD_TABLE));
look!(SnapshotAmd, "snapshot_amd", Reads::ARRAY);
look!(SnapshotDma, "snapshot_dma", Reads::ARRAY);
