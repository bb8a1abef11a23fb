//! What goes to the command queues: counted by scope, kept where a window is open, timed now and then.
//!
//! The hot path: a descriptor outside a window costs a load of the context, one of the switch, and an addition to this
//! CPU's counter. No map is looked up, nothing is sent. Everything else is behind a branch that is not taken then.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext,
    helpers::generated,
    macros::{btf_tracepoint, raw_tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext},
};
use monitor_ebpf::{
    descriptor::{amd, smmuv3, vtd},
    wire::{FEED_CPUS, FEED_TYPES, Feed, Hook, SAMPLED, SUBMIT_ARGUMENTS, TableKind},
};

use super::{
    call::{self, Access, program},
    clock,
    read::member,
    window,
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
pub(super) fn cpu() -> usize {
    // SAFETY: takes nothing. The kernel makes it two instructions from 6.10 on, a call before.
    (unsafe { generated::bpf_get_smp_processor_id() }) as usize & (FEED_CPUS - 1)
}

/// An argument of a tracepoint: both kinds of programs find them in an array of words. So does fexit, and behind the
/// arguments what was returned.
///
/// # Safety
/// `context` is the program's own, and the tracepoint or function has that many arguments.
#[inline(always)]
pub(super) unsafe fn word(context: *mut c_void, index: usize) -> u64 {
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

/// A window is open somewhere, or this submission is timed: one in so many, and each in a window of its task's.
#[inline(never)]
fn rarely(context: *mut c_void, count: u64) {
    if window::any() {
        // SAFETY: the program's own context.
        let (qw0, qw1) = unsafe { (word(context, 1), word(context, 2)) };
        if let Some(frame) = window::submitted(TableKind::Vtd, qw0, qw1) {
            // SAFETY: a live window of this task alone.
            clock::start_in_window(unsafe { &mut *frame });
        }
    }
    if count & (SAMPLED - 1) == 0 {
        clock::start();
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

/// A submission, or the waiting for it, returns: the clock is stopped, what it asked for is done or has failed.
#[inline(always)]
fn returned(context: *mut c_void, access: Access, hook: Hook, ret: i32) {
    let cpu = cpu();
    // SAFETY: a global of our own.
    let began_ns = unsafe { feed!(cpus[cpu].began_ns).read() };
    let took_ns = if began_ns != 0 { clock::stop(cpu, began_ns) } else { 0 };
    let frame = if window::any() { window::innermost() } else { None };
    if let Some(frame) = frame {
        // It has a clock of its own.
        // SAFETY: a live window of this task alone.
        clock::stop_in_window(context, access, hook, unsafe { &mut *frame });
    } else if took_ns > clock::limit() {
        clock::slow(context, access, hook, cpu, took_ns);
    }
    if ret != 0 {
        failed(context, access, hook, ret);
    } else if let Some(frame) = frame {
        window::completed(frame);
    }
}

/// `int qi_submit_sync(iommu, desc, count, options)` returns. One call at the end, as above: what it returned, that no
/// window is open and that nothing is timed on this CPU are looked at together.
#[inline(always)]
fn vtd_submitted(context: *mut c_void, access: Access, ret: i32) {
    let cpu = cpu();
    // SAFETY: a global of our own.
    let (began_ns, watched) = unsafe { (feed!(cpus[cpu].began_ns).read(), feed!(watched).read_volatile()) };
    if began_ns | watched | u64::from(ret as u32) != 0 {
        match access {
            Access::Trampoline => vtd_returned(context, ret),
            Access::Registers => vtd_returned_by_registers(context, ret),
        }
    }
}

/// A window is open somewhere, a timed submission has returned, or this one failed.
#[inline(never)]
fn vtd_returned(context: *mut c_void, ret: i32) {
    returned(context, Access::Trampoline, Hook::VtdSubmit, ret);
}

#[inline(never)]
fn vtd_returned_by_registers(context: *mut c_void, ret: i32) {
    returned(context, Access::Registers, Hook::VtdSubmit, ret);
}

#[inline(always)]
fn failed(context: *mut c_void, access: Access, hook: Hook, ret: i32) {
    // SAFETY: this CPU's slot.
    unsafe {
        let failed = feed!(cpus[cpu()].failed);
        failed.write(failed.read().wrapping_add(1));
    }
    window::failed(context, access, hook, ret);
}

/// Counts a descriptor on this CPU by an index; says how many that makes.
#[inline(always)]
fn count(cpu: usize, index: u64) -> u64 {
    // SAFETY: this CPU's slot. Where an interrupt comes in between, one count may be lost.
    unsafe {
        let slot = feed!(cpus[cpu].descriptors[index as usize & (FEED_TYPES - 1)]);
        let count = slot.read().wrapping_add(1);
        slot.write(count);
        count
    }
}

/// `__iommu_queue_command_sync(iommu, cmd, sync)` has put a command into AMD's buffer, under `iommu->lock`; its return
/// is not known to a kprobe, which runs before.
#[inline(always)]
fn amd_queued(context: *mut c_void, access: Access, ret: i32) {
    let command = call::argument(context, access, call::positions(Hook::AmdQueue).commands);
    let low = member::<u64>(command, 0);
    if ret != 0 {
        return failed(context, access, Hook::AmdQueue, ret);
    }
    let cpu = cpu();
    let count = count(cpu, amd::index(low));
    if amd::is_wait(low) {
        clock::wait(cpu, count);
    }
    if window::any() {
        amd_in_window(low, member(command, 8));
    }
}

#[inline(never)]
fn amd_in_window(low: u64, high: u64) {
    if amd::is_wait(low) {
        if let Some(frame) = window::waited() {
            // SAFETY: a live window of this task alone.
            clock::start_in_window(unsafe { &mut *frame });
        }
    } else {
        window::submitted(TableKind::Amd, low, high);
    }
}

/// `iommu_completion_wait(iommu)` returns: everything that was queued before is done, or the wait timed out. It may have
/// waited for what another CPU had asked for.
#[inline(always)]
fn amd_waited(context: *mut c_void, access: Access) {
    // SAFETY: a global of our own. It is written once, so that the CPUs don't fight for it.
    unsafe {
        let waits = feed!(waits);
        if waits.read_volatile() == 0 {
            waits.write_volatile(1);
        }
    }
    if window::any() {
        window::waited();
    }
    returned(context, access, Hook::AmdWait, call::result(context, access) as i32);
}

const _: () = assert!(call::is_name_of(Hook::AmdQueue, "amd_queue_command"));
const _: () = assert!(call::is_name_of(Hook::AmdWait, "amd_completion_wait"));
program!("fexit", "amd_queue_command", context =>
    amd_queued(context, Access::Trampoline, call::result(context, Access::Trampoline) as i32));
program!("kprobe", "amd_queue_command", context => amd_queued(context, Access::Registers, 0));
program!("kretprobe", "amd_completion_wait", context => amd_waited(context, Access::Registers));

/// Commands of one call that are looked at: `CMDQ_BATCH_ENTRIES`, the queue's own limit.
const BATCH: u32 = 64;
/// `struct arm_smmu_cmd`, up to 7.1 `u64[2]`.
const COMMAND: u64 = 16;
/// Where calls are counted, among the counters of scopes.
const CALLS_AT: u64 = FEED_TYPES as u64 - 1;

struct Batch {
    at: u64,
    count: u32,
    cpu: u32,
}

/// `arm_smmu_cmdq_issue_cmdlist(smmu, cmdq, cmds, n, sync)` is entered.
#[inline(always)]
fn smmu_issuing(context: *mut c_void, access: Access) {
    let at = call::positions(Hook::SmmuQueue);
    let cpu = cpu();
    let commands = call::argument(context, access, at.commands);
    let mut batch =
        Batch { at: commands, count: call::argument(context, access, at.count) as u32, cpu: cpu as u32 };
    // SAFETY: `issue` matches the callback's prototype and `batch` outlives the call.
    unsafe {
        generated::bpf_loop(BATCH, issue as *const () as *mut c_void, (&raw mut batch).cast(), 0);
    }
    clock::wait(cpu, count(cpu, CALLS_AT));
    if window::any()
        && call::argument(context, access, at.sync) as u8 != 0
        && let Some(frame) = window::waited()
    {
        // SAFETY: a live window of this task alone.
        clock::start_in_window(unsafe { &mut *frame });
    }
}

unsafe extern "C" fn issue(iteration: u32, context: *mut c_void) -> i64 {
    // SAFETY: bpf_loop passes the `Batch` that `smmu_issuing` gave it.
    let batch = unsafe { &mut *context.cast::<Batch>() };
    if iteration >= batch.count {
        return 1;
    }
    let low = member::<u64>(batch.at, 0);
    count(batch.cpu as usize & (FEED_CPUS - 1), smmuv3::scope(low));
    if window::any() {
        window::submitted(TableKind::SmmuV3, low, member(batch.at, 8));
    }
    batch.at = batch.at.wrapping_add(COMMAND);
    0
}

const _: () = assert!(call::is_name_of(Hook::SmmuQueue, "smmu_issue_cmdlist"));
program!("fentry", "smmu_issue_cmdlist", context => smmu_issuing(context, Access::Trampoline));
program!("fexit", "smmu_issue_cmdlist", context =>
    returned(context, Access::Trampoline, Hook::SmmuQueue, call::result(context, Access::Trampoline) as i32));
program!("kprobe", "smmu_issue_cmdlist", context => smmu_issuing(context, Access::Registers));
program!("kretprobe", "smmu_issue_cmdlist", context =>
    returned(context, Access::Registers, Hook::SmmuQueue, call::result(context, Access::Registers) as i32));

const _: () = assert!(call::is_name_of(Hook::VtdQueue, "vtd_qi_submit"));
const _: () = assert!(call::is_name_of(Hook::VtdSubmit, "vtd_qi_submit_sync"));
// What a function returned stands behind its arguments: the catalogue takes it only where there are four.
// SAFETY: of such a function, the program's own context.
program!("fexit", "vtd_qi_submit_sync", context =>
    vtd_submitted(context, Access::Trampoline, unsafe { word(context, SUBMIT_ARGUMENTS) } as i32));
program!("kretprobe", "vtd_qi_submit_sync", context =>
    vtd_submitted(context, Access::Registers, call::result(context, Access::Registers) as i32));
