//! The kernel's own state of a group, read with its mutex held.
//!
//! When userspace reads a group's `reserved_regions`, the core takes `group->mutex` and asks the
//! driver of each member in turn (`iommu_get_group_resv_regions`, drivers/iommu/iommu.c): there
//! nothing of the group can change. Only our own reads are of interest.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext,
    bindings::bpf_pidns_info,
    helpers::generated::bpf_get_ns_current_pid_tgid,
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};
use monitor_ebpf::wire::{Hook, Process};

use super::{
    call::{self, Access},
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
    ($hook:ident, $reads:expr, $fentry:ident, $kprobe:ident) => {
        #[fentry]
        pub fn $fentry(context: FEntryContext) -> i32 {
            look(context.as_ptr(), Access::Trampoline, Hook::$hook, $reads);
            0
        }

        #[kprobe]
        pub fn $kprobe(context: ProbeContext) -> u32 {
            look(context.as_ptr(), Access::Registers, Hook::$hook, $reads);
            0
        }
    };
}

look!(SnapshotGroup, Reads::ARRAY, snapshot_group_fentry, snapshot_group_kprobe);
look!(SnapshotIntel, Reads::ARRAY.and(Reads::VTD_TABLE), snapshot_intel_fentry, snapshot_intel_kprobe);
look!(SnapshotAmd, Reads::ARRAY, snapshot_amd_fentry, snapshot_amd_kprobe);
look!(SnapshotDma, Reads::ARRAY, snapshot_dma_fentry, snapshot_dma_kprobe);
