//! What goes to the command queues: counted by scope, kept where a window is open, timed now and then.
//!
//! The hot path: a descriptor outside a window costs a load of the context, one of the switch, and an addition to this
//! CPU's counter. No map is looked up, nothing is sent. Everything else is behind a branch that is not taken then.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_current_pid_tgid, generated},
    macros::{btf_tracepoint, raw_tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext},
};
use monitor_ebpf::{
    descriptor::vtd,
    wire::{FEED_CPUS, FEED_TYPES, Feed, Hook, LATENCY_BUCKETS, SAMPLED},
};

use super::{
    call::{self, Access, program},
    loss, window,
};

/// What is counted, and the switch. Userspace reads it as the map `.bss`.
#[unsafe(no_mangle)]
pub(super) static mut FEED: Feed = Feed::EMPTY;

/// A member of [`FEED`].
macro_rules! feed {
    ($($member:tt)+) => { &raw mut $crate::probe::invalidation::FEED.$($member)+ };
}
pub(super) use feed;

/// This CPU's index among the counters.
#[inline(always)]
fn cpu() -> usize {
    // SAFETY: takes nothing. The kernel makes it two instructions from 6.10 on, a call before.
    (unsafe { generated::bpf_get_smp_processor_id() }) as usize & (FEED_CPUS - 1)
}

/// An argument of a tracepoint: both kinds of programs find them in an array of words.
///
/// # Safety
/// `context` is the program's own, and the tracepoint has that many arguments.
#[inline(always)]
unsafe fn word(context: *mut c_void, index: usize) -> u64 {
    // SAFETY: as the caller promises.
    unsafe { context.cast::<u64>().add(index).read() }
}

/// A descriptor is about to be given to VT-d's queue: `TP_PROTO(struct intel_iommu *iommu, u64 qw0, u64 qw1, u64 qw2,
/// u64 qw3)`. `qi_submit_sync` holds `q_lock` with interrupts off, so no other descriptor comes in between on this CPU.
#[inline(always)]
fn vtd_queue(context: *mut c_void) {
    let cpu = cpu();
    // SAFETY: a global of our own. This CPU's slot is written by this program alone, which does not run within itself;
    // the switch is read once, and its value may be old by a moment.
    let (count, watched) = unsafe {
        let kind = vtd::index(word(context, 1)) as usize & (FEED_TYPES - 1);
        let slot = feed!(cpus[cpu].descriptors[kind]);
        let count = slot.read().wrapping_add(1);
        slot.write(count);
        (count, feed!(watched).read_volatile())
    };
    // One call at the end, of little: what is kept over a call is kept in registers that each run has to save.
    if watched != 0 || count & (SAMPLED - 1) == 0 {
        rarely(context, count);
    }
}

/// A window is open somewhere, or this submission is timed.
#[inline(never)]
fn rarely(context: *mut c_void, count: u64) {
    if window::any() {
        // SAFETY: the program's own context.
        let (qw0, qw1) = unsafe { (word(context, 1), word(context, 2)) };
        window::submitted(qw0, qw1);
    }
    if count & (SAMPLED - 1) == 0 {
        start_clock();
    }
}

#[btf_tracepoint]
pub fn vtd_qi_submit_tp(context: BtfTracePointContext) -> i32 {
    vtd_queue(context.as_ptr());
    0
}

#[raw_tracepoint]
pub fn vtd_qi_submit_raw(context: RawTracePointContext) -> i32 {
    vtd_queue(context.as_ptr());
    0
}

/// This submission is timed.
#[inline(always)]
fn start_clock() {
    let cpu = cpu();
    // SAFETY: this CPU's slot, as above.
    unsafe {
        feed!(cpus[cpu].began_tid).write(u64::from(bpf_get_current_pid_tgid() as u32));
        feed!(cpus[cpu].began_ns).write(generated::bpf_ktime_get_ns());
    }
}

/// How many bits a number has, as an index of the histogram. Counted one by one, so that a verifier sees the bound.
#[inline(always)]
fn bucket(mut number: u64) -> usize {
    let mut bits = 0;
    while bits < LATENCY_BUCKETS - 1 && number != 0 {
        number >>= 1;
        bits += 1;
    }
    bits
}

/// A submission has returned on the CPU where a timed one began.
#[inline(never)]
fn stop_clock(cpu: usize, began_ns: u64) {
    let cpu = cpu & (FEED_CPUS - 1);
    // SAFETY: this CPU's slot, as above; the histogram is shared, and added to atomically.
    unsafe {
        feed!(cpus[cpu].began_ns).write(0);
        // Between the queue's lock and its return a task can be preempted, and another one submit.
        if feed!(cpus[cpu].began_tid).read() != u64::from(bpf_get_current_pid_tgid() as u32) {
            return;
        }
        let took = generated::bpf_ktime_get_ns().wrapping_sub(began_ns);
        loss::add(feed!(latency[bucket(took)]), 1);
        let sum = feed!(cpus[cpu].sum_ns);
        sum.write(sum.read().wrapping_add(took));
    }
}

/// `qi_submit_sync(iommu, desc, count, options)` returns.
#[inline(always)]
fn vtd_submitted(context: *mut c_void, access: Access) {
    let cpu = cpu();
    // SAFETY: a global of our own.
    let (began_ns, watched) = unsafe { (feed!(cpus[cpu].began_ns).read(), feed!(watched).read_volatile()) };
    if began_ns != 0 {
        stop_clock(cpu, began_ns);
    }
    let ret = call::result(context, access) as i32;
    if ret != 0 {
        // SAFETY: this CPU's slot.
        unsafe {
            let failed = feed!(cpus[cpu].failed);
            failed.write(failed.read().wrapping_add(1));
        }
        window::failed(context, access, Hook::VtdSubmit, ret);
    } else if watched != 0 {
        window::completed();
    }
}

const _: () = assert!(call::is_name_of(Hook::VtdQueue, "vtd_qi_submit"));
const _: () = assert!(call::is_name_of(Hook::VtdSubmit, "vtd_qi_submit_sync"));
program!("fexit", "vtd_qi_submit_sync", context => vtd_submitted(context, Access::Trampoline));
program!("kretprobe", "vtd_qi_submit_sync", context => vtd_submitted(context, Access::Registers));
