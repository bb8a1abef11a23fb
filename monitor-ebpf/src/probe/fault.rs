//! I/O page faults: counted, and no more. A device that faults may do so as fast as it does DMA.

use aya_ebpf::{
    macros::{btf_tracepoint, raw_tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext},
};

use super::{
    invalidation::{cpu, feed},
    loss,
};

/// `TP_PROTO(struct device *dev, unsigned long iova, int flags)` of `iommu:io_page_fault`. It comes from the driver's
/// thread for its events (AMD), elsewhere from an interrupt: either may come in the middle of the other's addition.
#[inline(always)]
fn fault() -> i32 {
    // SAFETY: this CPU's slot, which is only ever added to.
    unsafe { loss::add(feed!(cpus[cpu()].faults), 1) };
    0
}

#[btf_tracepoint]
pub fn io_page_fault_tp(_: BtfTracePointContext) -> i32 {
    fault()
}

#[raw_tracepoint]
pub fn io_page_fault_raw(_: RawTracePointContext) -> i32 {
    fault()
}
