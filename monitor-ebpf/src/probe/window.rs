//! Windows: what a task submits while it clears a PASID entry, or switches a RID's domain.
//!
//! They nest, so each task has a small stack of them. Interrupts are told from nobody: one can only come between the
//! submissions of the task it interrupts (they run with interrupts off), and what it has dropped is dropped.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, generated},
    macros::map,
    maps::HashMap,
};
use monitor_ebpf::{
    descriptor::{self, timed::Clock, window},
    wire::{
        FAILURE_SENT_EVERY_NS, Flush, Frame, Hook, LossKind, NO_ARGUMENT, Phase, Subject, TableKind,
        WINDOW_DEPTH, Windows, known,
    },
};

use super::{
    call::{self, Access},
    emit::{self, Reads},
    invalidation::feed,
    loss, owed, read, turn,
};

/// The windows that are open, by task.
#[map]
static WINDOWS: HashMap<u32, Windows> = HashMap::with_max_entries(1024, 0);

/// What a task's windows begin with: too large for a stack.
static NO_WINDOWS: Windows = Windows::NONE;

/// Descriptors of a failed submission that are looked at.
const LOOKED_AT: u32 = 16;

#[inline(always)]
fn this_task() -> u32 {
    bpf_get_current_pid_tgid() as u32
}

/// The switch that descriptors look at: so many more things to watch.
#[inline(always)]
pub fn watch(amount: i64) {
    // SAFETY: a global of our own, added to by nothing else.
    unsafe { loss::add(feed!(watched), amount as u64) };
}

/// Opens a window of this task. Where there is no room, it is a call that could not be remembered.
#[inline(never)]
pub fn open(hook: Hook, subject: &Subject, flush: &Flush) {
    let task = this_task();
    if WINDOWS.get_ptr_mut(task).is_none() {
        // The loader's own wrapper would copy the value to the stack first.
        // SAFETY: a live map, a key on the stack and a value of its type.
        let failed = unsafe {
            generated::bpf_map_update_elem(
                (&raw const WINDOWS).cast_mut().cast(),
                (&raw const task).cast(),
                (&raw const NO_WINDOWS).cast(),
                0,
            )
        };
        if failed != 0 {
            return loss::count(subject.group, LossKind::Call);
        }
        watch(1);
    }
    let Some(windows) = WINDOWS.get_ptr_mut(task) else { return };
    // SAFETY: a live value of the map, of this task alone.
    let windows = unsafe { &mut *windows };
    // No window is within one of its own kind: what is open of it has ended unseen, and what is within that.
    let mut depth = windows.depth as usize;
    for at in 0..WINDOW_DEPTH {
        if at < depth && windows.frames[at].hook == hook as u32 {
            depth = at;
        }
    }
    windows.depth = depth as u64 + 1;
    if depth >= WINDOW_DEPTH {
        return loss::count(subject.group, LossKind::Call);
    }
    let frame = &mut windows.frames[depth % WINDOW_DEPTH];
    (frame.device, frame.group, frame.hook) = (subject.device, subject.group, hook as u32);
    (frame.pending, frame.pending_scopes, frame.waited) = (0, 0, 0);
    frame.clock = Clock::STOPPED;
    frame.flush = *flush;
    frame.flush.outer = depth as u32;
}

/// Closes this task's window of a kind, and gives what was kept in it to `tell`. What failed in it has failed in the
/// one around it, too.
#[inline(always)]
pub fn close(hook: Hook, tell: impl FnOnce(&Frame)) -> bool {
    let task = this_task();
    let Some(windows) = WINDOWS.get_ptr_mut(task) else { return false };
    // SAFETY: a live value of the map, of this task alone.
    let windows = unsafe { &mut *windows };
    let depth = windows.depth as usize;
    let mut found = WINDOW_DEPTH;
    for at in 0..WINDOW_DEPTH {
        if at < depth && windows.frames[at].hook == hook as u32 {
            found = at;
        }
    }
    let known = found < WINDOW_DEPTH;
    if known {
        tell(&windows.frames[found % WINDOW_DEPTH]);
        windows.depth = found as u64;
    } else {
        // One that was too deep to be kept.
        windows.depth = depth.saturating_sub(1) as u64;
    }
    if windows.depth == 0 && WINDOWS.remove(task).is_ok() {
        watch(-1);
    }
    known
}

/// The innermost window of this task.
#[inline(always)]
pub fn innermost() -> Option<*mut Frame> {
    let windows = WINDOWS.get_ptr_mut(this_task())?;
    // SAFETY: a live value of the map, of this task alone; the index is masked.
    unsafe {
        let depth = (*windows).depth as usize;
        if depth == 0 || depth > WINDOW_DEPTH {
            return None;
        }
        Some((&raw mut (*windows).frames).cast::<Frame>().add((depth - 1) % WINDOW_DEPTH))
    }
}

/// A window is open somewhere, or an entry is owed a flush.
#[inline(always)]
pub fn any() -> bool {
    // SAFETY: a global of our own.
    unsafe { feed!(watched).read_volatile() != 0 }
}

/// A device was found absent in this task's window; 0: it isn't known which.
#[inline(never)]
pub fn gone(device: u64) {
    let Some(frame) = innermost() else { return };
    // SAFETY: as `innermost` says.
    let frame = unsafe { &mut *frame };
    if device == 0 || device == frame.device {
        window::gone(&mut frame.flush);
    }
}

/// A descriptor is submitted, and a window is open somewhere, or an entry is owed a flush.
/// Returns the window if it is this task's.
#[inline(always)]
pub fn submitted(queue: TableKind, low: u64, high: u64) -> Option<*mut Frame> {
    // SAFETY: a global of our own.
    if unsafe { feed!(owed).read_volatile() } != 0 {
        owed::submitted(low, high);
    }
    let frame = innermost()?;
    // SAFETY: as `innermost` says.
    window::submitted(unsafe { &mut *frame }, queue, low, high);
    Some(frame)
}

/// This task asks to be told when what it submitted is done. Returns its window if it is in one.
#[inline(always)]
pub fn waited() -> Option<*mut Frame> {
    let frame = innermost()?;
    // SAFETY: as `innermost` says.
    window::waited(unsafe { &mut *frame });
    Some(frame)
}

/// What this task's innermost window keeps, if it is one of this kind on this entry.
#[inline(always)]
pub fn of_entry(hook: Hook, device: u64, pasid: u32) -> Option<*mut Flush> {
    let frame = innermost()?;
    // SAFETY: as `innermost` says.
    let frame = unsafe { &mut *frame };
    let same = frame.hook == hook as u32 && frame.device == device && frame.flush.pasid == pasid;
    same.then_some(&raw mut frame.flush)
}

/// A submission in this window returned 0: what it submitted is done.
#[inline(always)]
pub fn completed(frame: *mut Frame) {
    // SAFETY: as `innermost` says.
    window::returned(unsafe { &mut *frame }, 0, 0);
}

/// A submission returned an error: that is told at once, with the window that it was in.
#[inline(never)]
pub fn failed(context: *mut c_void, access: Access, hook: Hook, ret: i32) {
    let scopes = scopes(context, access, hook);
    let mut subject = Subject::default();
    let mut flush = Flush { failed: ret, failed_scopes: scopes, ..Flush::NONE };
    if let Some(frame) = innermost() {
        // SAFETY: as `innermost` says.
        let frame = unsafe { &mut *frame };
        // A return by itself doesn't tell; the window has kept what is not done.
        let scopes = if scopes != 0 { scopes } else { frame.pending_scopes };
        window::returned(frame, ret, scopes);
        flush = Flush { failed: ret, failed_scopes: scopes, ..frame.flush };
        subject = of_frame(frame);
    // SAFETY: a global of our own.
    } else if !turn::is_ours() || !may_send(unsafe { feed!(failure_sent_ns) }) {
        return;
    }
    emit::flushing(context, hook, Phase::End, &subject, i64::from(ret), Reads::STACK, &flush, 0);
}

/// A submission took long: that is told at once, with the window that it was in.
#[inline(never)]
pub fn slow(context: *mut c_void, access: Access, hook: Hook, took_ns: u64) {
    let mut scopes = scopes(context, access, hook);
    let (mut subject, mut flush) = (Subject::default(), Flush::NONE);
    if let Some(frame) = innermost() {
        // SAFETY: as `innermost` says.
        let frame = unsafe { &*frame };
        // What it waited for is pending still.
        scopes = if scopes != 0 { scopes } else { frame.pending_scopes };
        flush = frame.flush;
        subject = of_frame(frame);
    // SAFETY: a global of our own.
    } else if !turn::is_ours() || !may_send(unsafe { feed!(slow_sent_ns) }) {
        return;
    }
    if let Access::Trampoline = access {
        flush.iommu = call::iommu(context, access, hook);
    }
    (flush.failed, flush.failed_scopes) = (0, scopes);
    // Of no record 0: less than a microsecond is not slow.
    let took_us = (took_ns / 1000).clamp(1, u64::from(u32::MAX)) as u32;
    emit::flushing(context, hook, Phase::End, &subject, 0, Reads::STACK, &flush, took_us);
}

/// Whose entry a window is about.
#[inline(always)]
fn of_frame(frame: &Frame) -> Subject {
    Subject {
        device: frame.device,
        group: frame.group,
        pasid: frame.flush.pasid,
        known: known::PASID,
        ..Subject::default()
    }
}

/// A dead device may let every flush fail, or be slow: of those that no window is about a few are enough.
#[inline(always)]
fn may_send(sent_ns: *mut u64) -> bool {
    // SAFETY: a global of our own; of two CPUs at once both may send.
    unsafe {
        let now = generated::bpf_ktime_get_ns();
        let last = sent_ns.read_volatile();
        let may = last == 0 || now.wrapping_sub(last) >= FAILURE_SENT_EVERY_NS;
        if may {
            sent_ns.write_volatile(now);
        }
        may
    }
}

/// What the descriptors of a submission ask for, as bits of scopes. A kretprobe has the arguments no more.
#[inline(always)]
fn scopes(context: *mut c_void, access: Access, hook: Hook) -> u32 {
    let at = call::positions(hook);
    if matches!(access, Access::Registers) || at.commands == NO_ARGUMENT {
        return 0;
    }
    let commands = call::argument(context, access, at.commands);
    let (queue, stride) = match hook {
        // `struct qi_desc` is what the hardware reads: four words.
        Hook::VtdSubmit => (TableKind::Vtd, 32),
        Hook::AmdQueue => (TableKind::Amd, 16),
        _ => (TableKind::SmmuV3, 16),
    };
    let count = match hook {
        Hook::AmdQueue => 1,
        _ => call::argument(context, access, at.count) as u32,
    };
    let mut visit = Visit { at: commands, stride, count, queue, scopes: 0 };
    // SAFETY: `look` matches the callback's prototype and `visit` outlives the call.
    unsafe {
        generated::bpf_loop(LOOKED_AT, look as *const () as *mut c_void, (&raw mut visit).cast(), 0);
    }
    visit.scopes
}

struct Visit {
    at: u64,
    stride: u64,
    count: u32,
    queue: TableKind,
    scopes: u32,
}

unsafe extern "C" fn look(iteration: u32, context: *mut c_void) -> i64 {
    // SAFETY: bpf_loop passes the `Visit` that `scopes` gave it.
    let visit = unsafe { &mut *context.cast::<Visit>() };
    if iteration >= visit.count {
        return 1;
    }
    visit.scopes |= 1 << descriptor::scope(visit.queue, read::member(visit.at, 0));
    visit.at = visit.at.wrapping_add(visit.stride);
    0
}

/// Opens the window around a switch of a RID's domain.
#[inline(always)]
pub fn switch_begins(context: *mut c_void, access: Access) {
    if call::begin(context, access, Hook::RidAttach, Reads::STACK) {
        let subject = call::subject(context, access, Hook::RidAttach);
        open(Hook::RidAttach, &subject, &Flush::NONE);
    }
}

/// Closes it.
#[inline(always)]
pub fn switch_ends(context: *mut c_void, access: Access) {
    close(Hook::RidAttach, |_| {});
    call::end(context, access, Hook::RidAttach, Reads::STACK);
}
