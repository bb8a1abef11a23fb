//! The kernel's own state of a group, read with its mutex held.
//!
//! When userspace reads a group's `reserved_regions`, the core takes `group->mutex` and asks the
//! driver of each member in turn (`iommu_get_group_resv_regions`, drivers/iommu/iommu.c): there
//! nothing of the group can change. Only our own reads are of interest.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext,
    helpers::bpf_get_current_pid_tgid,
    macros::{fentry, kprobe},
    programs::{FEntryContext, ProbeContext},
};
use monitor_ebpf::wire::Hook;

use super::{
    call::{self, Access},
    emit::Reads,
};

/// The process that asks, as the initial PID namespace numbers it; set by userspace.
#[unsafe(no_mangle)]
static OWN_TGID: u32 = 0;

#[inline(always)]
fn look(context: *mut c_void, access: Access, hook: Hook, reads: Reads) {
    // SAFETY: a load from a static of our own; volatile, because userspace sets it.
    let own = unsafe { core::ptr::read_volatile(&raw const OWN_TGID) };
    if (bpf_get_current_pid_tgid() >> 32) as u32 == own {
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
