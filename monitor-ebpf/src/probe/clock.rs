//! The clock of submissions to the command queues: when it starts and stops, and which of them are told as slow.
//!
//! It runs for one in so many of each type of descriptor, by CPU, and for each in a window, by task: none of this is on the
//! hot path.

use core::ffi::c_void;

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, generated};
use monitor_ebpf::{
    descriptor::timed::{self, Moment},
    wire::{ABSENT, FEED_CPUS, FEED_TYPES, Frame, Hook, LATENCY_BUCKETS, SAMPLED, SLOW_NS},
};

use super::{
    call::{self, Access},
    invalidation::{cpu, feed},
    loss,
    read::{self, layout},
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

/// A member of the running task, which the verifier lets a program read by itself: it holds the place against the
/// kernel's types.
#[inline(always)]
fn of_task(task: *const u8, offset: u32) -> u64 {
    if offset == ABSENT {
        return 0;
    }
    // SAFETY: a member of the task that runs, at the place that the kernel's types give. The kernel makes 0 of what can't
    // be read.
    unsafe { task.wrapping_add(offset as usize).cast::<u64>().read_volatile() }
}

#[inline(always)]
fn this_task() -> *const u8 {
    // SAFETY: takes nothing.
    unsafe { generated::bpf_get_current_task_btf() }.cast::<u8>().cast_const()
}

/// What the running task has done so far, `descriptors` aside.
#[inline(always)]
fn moment(task: *const u8, descriptors: u64) -> Moment {
    Moment {
        descriptors,
        away: timed::away(
            of_task(task, layout!(task_slept)),
            of_task(task, layout!(task_preempted)),
            of_task(task, layout!(task_runs)),
        ),
        delayed_ns: of_task(task, layout!(task_delayed)),
    }
}

/// Where it isn't known whether a task has left its CPU, nothing is told.
#[inline(always)]
fn may_tell() -> bool {
    layout!(task_slept) != ABSENT && layout!(task_preempted) != ABSENT && layout!(task_moved) != ABSENT
}

/// What this CPU and its task have done so far.
#[inline(never)]
fn moment_of_cpu(into: &mut Moment, cpu: usize) {
    let cpu = cpu & (FEED_CPUS - 1);
    let mut sum = 0u64;
    for kind in 0..FEED_TYPES {
        // SAFETY: this CPU's slot.
        sum = sum.wrapping_add(unsafe { feed!(cpus[cpu].descriptors[kind]).read() });
    }
    let task = this_task();
    *into = moment(task, sum);
    into.away = into.away.wrapping_add(of_task(task, layout!(task_moved)));
}

/// This submission is one of the sample.
#[inline(always)]
pub fn start() {
    let cpu = cpu();
    let mut began = Moment::default();
    moment_of_cpu(&mut began, cpu);
    // SAFETY: this CPU's slot, as in `invalidation`.
    unsafe {
        feed!(cpus[cpu].began).write(began);
        feed!(cpus[cpu].began_tid).write(u64::from(bpf_get_current_pid_tgid() as u32));
        feed!(cpus[cpu].began_ns).write(generated::bpf_ktime_get_ns());
    }
}

/// This submission is in a window of its task's, as is each there. The clock stays with the task, which may return on
/// another CPU.
#[inline(always)]
pub fn start_in_window(frame: &mut Frame) {
    let began = moment(this_task(), u64::from(frame.flush.descriptors));
    // SAFETY: takes nothing.
    let now_ns = unsafe { generated::bpf_ktime_get_ns() };
    let clock = &mut frame.clock;
    if clock.began_ns | clock.held_ns != 0 {
        clock.hold(&began, now_ns, limit());
    }
    (clock.began, clock.began_ns) = (began, now_ns);
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

/// A submission has returned on the CPU where one of the sample began: what that took, ns; 0: it was another one's.
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
        loss::add(feed!(latency[bucket(took)]), 1);
        let sum = feed!(cpus[cpu].sum_ns);
        sum.write(sum.read().wrapping_add(took));
        took
    }
}

/// A submission of the sample took long. That is told if it was its waiting, as far as that can be seen.
#[inline(never)]
pub fn slow(context: *mut c_void, access: Access, hook: Hook, cpu: usize, took_ns: u64) {
    let cpu = cpu & (FEED_CPUS - 1);
    // SAFETY: this CPU's slot.
    let began = unsafe { feed!(cpus[cpu].began).read() };
    let mut now = Moment::default();
    moment_of_cpu(&mut now, cpu);
    let spent_ns = timed::spent(&began, &now, own(context, access, hook), took_ns);
    if spent_ns > limit() && may_tell() {
        window::slow(context, access, hook, spent_ns);
    }
}

/// A submission has returned in a window of its task's: if it took long, that is told.
#[inline(always)]
pub fn stop_in_window(context: *mut c_void, access: Access, hook: Hook, frame: &mut Frame) {
    let clock = &mut frame.clock;
    let mut took_ns = 0;
    if clock.began_ns != 0 {
        // SAFETY: takes nothing.
        took_ns = unsafe { generated::bpf_ktime_get_ns() }.wrapping_sub(clock.began_ns);
        clock.began_ns = 0;
    }
    if clock.held_ns != 0 || took_ns > limit() {
        slow_in_window(context, access, hook, frame, took_ns);
    }
}

#[inline(never)]
fn slow_in_window(context: *mut c_void, access: Access, hook: Hook, frame: &mut Frame, took_ns: u64) {
    let own = own(context, access, hook);
    let now = moment(this_task(), u64::from(frame.flush.descriptors));
    let spent_ns = timed::spent(&frame.clock.began, &now, own, took_ns);
    // A kretprobe doesn't know whose return it is.
    let held_ns = match (hook, access) {
        (Hook::VtdSubmit, Access::Trampoline) => frame.clock.let_go(own),
        _ => 0,
    };
    let spent_ns = if held_ns != 0 { held_ns } else { spent_ns };
    if spent_ns > limit() && may_tell() {
        window::slow(context, access, hook, spent_ns);
    }
}

/// Descriptors of the call that returns. One of VT-d's submits several; a kretprobe doesn't know how many.
#[inline(always)]
fn own(context: *mut c_void, access: Access, hook: Hook) -> u64 {
    match (hook, access) {
        (Hook::VtdSubmit, Access::Trampoline) => {
            u64::from(call::argument(context, access, call::positions(hook).count) as u32)
        }
        _ => 1,
    }
}

/// Something is about to be waited for that is timed now and then. A clock that runs already is of one whose end was
/// not seen.
#[inline(always)]
pub fn wait(cpu: usize, count: u64) {
    if count & (SAMPLED - 1) == 0 {
        return start();
    }
    // SAFETY: this CPU's slot, as above.
    unsafe {
        let began = feed!(cpus[cpu].began_ns);
        if began.read() != 0 {
            began.write(0);
        }
    }
}
