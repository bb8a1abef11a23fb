//! The clock of submissions to the command queues: when it starts and stops, and which of them are told as slow.
//!
//! It runs for one in so many of each type of descriptor, and for each in a window: none of this is on the hot path.

use core::ffi::c_void;

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, generated};
use monitor_ebpf::{
    descriptor::timed::{self, Moment},
    wire::{ABSENT, FEED_CPUS, FEED_TYPES, Hook, LATENCY_BUCKETS, SAMPLED, SLOW_NS},
};

use super::{
    call::{self, Access},
    invalidation::{cpu, feed},
    loss,
    read::{self, layout, member},
    window,
};

/// A submission that takes longer is told, ns. Set by userspace before the programs are loaded.
#[unsafe(no_mangle)]
static SLOW: u64 = SLOW_NS;

/// How long one may take, ns.
#[inline(always)]
pub fn limit() -> u64 {
    read::load(&SLOW)
}

/// What this CPU and its task have done so far.
#[inline(never)]
fn moment(into: &mut Moment, cpu: usize) {
    let cpu = cpu & (FEED_CPUS - 1);
    into.descriptors = 0;
    for kind in 0..FEED_TYPES {
        // SAFETY: this CPU's slot.
        into.descriptors =
            into.descriptors.wrapping_add(unsafe { feed!(cpus[cpu].descriptors[kind]).read() });
    }
    // SAFETY: takes nothing.
    let task = unsafe { generated::bpf_get_current_task() };
    into.switches =
        member::<u64>(task, layout!(task_slept)).wrapping_add(member::<u64>(task, layout!(task_preempted)));
}

/// This submission is timed; `sampled`: it goes into the histogram, too.
#[inline(always)]
pub fn start(sampled: bool) {
    let cpu = cpu();
    let mut began = Moment::default();
    moment(&mut began, cpu);
    // SAFETY: this CPU's slot, as in `invalidation`.
    unsafe {
        feed!(cpus[cpu].began).write(began);
        feed!(cpus[cpu].began_sampled).write(u64::from(sampled));
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

/// A submission has returned on the CPU where a timed one began: what that took, ns; 0: it was another one's.
#[inline(never)]
pub fn stop(cpu: usize, began_ns: u64) -> u64 {
    let cpu = cpu & (FEED_CPUS - 1);
    // SAFETY: this CPU's slot, as above; the histogram is shared, and added to atomically.
    unsafe {
        feed!(cpus[cpu].began_ns).write(0);
        // Between the queue's lock and its return a task can be preempted, and another one submit.
        if feed!(cpus[cpu].began_tid).read() != u64::from(bpf_get_current_pid_tgid() as u32) {
            return 0;
        }
        let took = generated::bpf_ktime_get_ns().wrapping_sub(began_ns);
        if feed!(cpus[cpu].began_sampled).read() != 0 {
            loss::add(feed!(latency[bucket(took)]), 1);
            let sum = feed!(cpus[cpu].sum_ns);
            sum.write(sum.read().wrapping_add(took));
        }
        took
    }
}

/// A submission took long. That is told if it was its waiting, as far as that can be seen.
#[inline(never)]
pub fn slow(context: *mut c_void, access: Access, hook: Hook, took_ns: u64) {
    // Where it isn't known whether the task has left its CPU, nothing is.
    if layout!(task_slept) == ABSENT || layout!(task_preempted) == ABSENT {
        return;
    }
    let cpu = cpu();
    let mut now = Moment::default();
    moment(&mut now, cpu);
    // SAFETY: this CPU's slot.
    let began = unsafe { feed!(cpus[cpu].began).read() };
    // One call of VT-d's submits several; a kretprobe doesn't know how many.
    let own = match (hook, access) {
        (Hook::VtdSubmit, Access::Trampoline) => call::argument(context, access, call::positions(hook).count),
        _ => 1,
    };
    if timed::is_of_one(&began, &now, own) {
        window::slow(context, access, hook, took_ns);
    }
}

/// Something is about to be waited for that is timed now and then. A clock that runs already is of one whose end was
/// not seen.
#[inline(always)]
pub fn wait(cpu: usize, count: u64) {
    if count & (SAMPLED - 1) == 0 {
        return start(true);
    }
    // SAFETY: this CPU's slot, as above.
    unsafe {
        let began = feed!(cpus[cpu].began_ns);
        if began.read() != 0 {
            began.write(0);
        }
    }
}

/// In a window each wait is timed; one of the sample is so already.
#[inline(never)]
pub fn wait_in_window() {
    // SAFETY: this CPU's slot.
    if unsafe { feed!(cpus[cpu()].began_ns).read() } == 0 {
        start(false);
    }
}
