//! From a call to a record in the ring.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, generated},
    macros::map,
    maps::{RingBuf, StackTrace},
};
use monitor_ebpf::wire::{
    ABSENT, Flush, Flushing, Hook, Inventory, LossKind, Operation, Phase, Range, Ranging, Subject, count,
    known,
};

use super::{
    array,
    invalidation::feed,
    loss::{self, COUNTS},
    read::{self, layout},
    tables, turn,
};

/// Rare events only: some 10 records for an attach.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(4 << 20, 0);

/// Kernel stacks by id. Old ones are overwritten: userspace reads a stack when it takes the event.
#[map]
static STACKS: StackTrace = StackTrace::with_max_entries(4096, 0);

/// What a hook reads beside the call itself.
#[derive(Clone, Copy)]
pub struct Reads(u32);

impl Reads {
    pub const PLAIN: Reads = Reads(0);
    /// The kernel stack.
    pub const STACK: Reads = Reads(1);
    /// The group's `pasid_array`.
    pub const ARRAY: Reads = Reads(2);
    /// The device's VT-d PASID table.
    pub const VTD_TABLE: Reads = Reads(4);
    /// The entry of the group's `pasid_array` at the call's PASID.
    pub const SLOT: Reads = Reads(8);

    pub const fn and(self, other: Reads) -> Reads {
        Reads(self.0 | other.0)
    }

    pub const fn without(self, other: Reads) -> Reads {
        Reads(self.0 & !other.0)
    }

    const fn has(self, other: Reads) -> bool {
        self.0 & other.0 != 0
    }
}

/// The number of the next record of this CPU, of something that is attached, detached or the like: whoever flushes a
/// range meanwhile looks at whether there was any.
#[inline(always)]
fn next() -> u64 {
    // SAFETY: a global of our own, added to by nothing else.
    unsafe { loss::add(feed!(records), 1) };
    number()
}

/// The number of the next record of this CPU.
#[inline(always)]
fn number() -> u64 {
    match COUNTS.get_ptr_mut(count::TRIED) {
        // SAFETY: a per-CPU slot. A program that preempts this one may take the same number: a repeated
        // one is no gap, so it hides no loss.
        Some(slot) => unsafe {
            let before = *slot;
            *slot = before + 1;
            before
        },
        None => 0,
    }
}

/// Fills the head of a record that is not made in the ring, and was cleared: a group, and a device (0: none).
#[inline(always)]
pub fn head(record: &mut Operation, hook: u32, phase: u32, group: u64, device: u64) {
    let mut bits = 0;
    if group != 0 {
        bits |= read::group(&mut record.group, group);
    }
    if device != 0 {
        bits |= read::device(&mut record.device, device);
    }
    record.header.known = bits;
    begin(record, hook as u16, phase as u8, next(), -1);
}

/// Puts such a record into the ring.
#[inline(always)]
pub fn output(record: *const c_void, size: u64, group: u64) {
    // SAFETY: a live map, and memory that the caller has filled to that size.
    let failed = unsafe {
        generated::bpf_ringbuf_output((&raw const EVENTS).cast_mut().cast(), record.cast_mut(), size, 0)
    };
    if failed != 0 {
        loss::count(group, LossKind::Record);
    }
}

/// Reports one moment of a call.
#[inline(always)]
pub fn emit(context: *mut c_void, hook: Hook, phase: Phase, subject: &Subject, ret: i64, reads: Reads) {
    let stack = stack(context, reads);
    let sequence = next();
    if reads.has(Reads::ARRAY) {
        let Some(mut slot) = EVENTS.reserve::<Inventory>(0) else {
            loss::count(subject.group, LossKind::Record);
            return;
        };
        let record = slot.as_mut_ptr();
        read::clear(record);
        // SAFETY: the reserved memory is ours until it is submitted, as large as the type, and zero.
        unsafe {
            fill(&mut (*record).operation, subject, ret, reads);
            begin(&mut (*record).operation, hook as u16, phase as u8, sequence, stack);
            if layout!(group_pasid_head) != ABSENT {
                let head = read::member((*record).operation.group.key, layout!(group_pasid_head));
                (*record).array.complete = array::walk_few(&raw mut (*record).array, head);
                (*record).operation.header.known |= known::ARRAY;
            }
        }
        slot.submit(0);
    } else {
        let Some(mut slot) = EVENTS.reserve::<Operation>(0) else {
            loss::count(subject.group, LossKind::Record);
            return;
        };
        let record = slot.as_mut_ptr();
        read::clear(record);
        // SAFETY: the reserved memory is ours until it is submitted, as large as the type, and zero.
        unsafe {
            fill(&mut *record, subject, ret, reads);
            begin(&mut *record, hook as u16, phase as u8, sequence, stack);
            if reads.has(Reads::SLOT) && layout!(group_pasid_head) != ABSENT {
                let head = read::member((*record).group.key, layout!(group_pasid_head));
                (*record).slot = array::slot(head, subject.pasid);
                (*record).header.known |= known::SLOT;
            }
        }
        slot.submit(0);
    }
}

/// Reports one moment of a call with what was flushed in it; `took_us`: and that a submission took so long, 0 for none.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "they are one record's members, and it is inlined")]
pub fn flushing(
    context: *mut c_void,
    hook: Hook,
    phase: Phase,
    subject: &Subject,
    ret: i64,
    reads: Reads,
    flush: &Flush,
    took_us: u32,
) {
    let stack = stack(context, reads);
    let sequence = next();
    let Some(mut slot) = EVENTS.reserve::<Flushing>(0) else {
        loss::count(subject.group, LossKind::Record);
        return;
    };
    let record = slot.as_mut_ptr();
    read::clear(record);
    // SAFETY: the reserved memory is ours until it is submitted, as large as the type, and zero.
    unsafe {
        fill(&mut (*record).operation, subject, ret, reads);
        begin(&mut (*record).operation, hook as u16, phase as u8, sequence, stack);
        (*record).flush = *flush;
        (*record).operation.header.known |= known::FLUSH;
        if took_us != 0 {
            (*record).operation.device.took_us = took_us;
            (*record).operation.header.known |= known::TOOK;
        }
    }
    slot.submit(0);
}

/// Reports the return of a call on VT-d's domains with what was read of cache tags: bits of [`monitor_ebpf::wire::tags`].
#[inline(always)]
pub fn tagged(hook: Hook, subject: &Subject, ret: i64, tags: u32) {
    let sequence = next();
    let Some(mut slot) = EVENTS.reserve::<Operation>(0) else {
        loss::count(subject.group, LossKind::Record);
        return;
    };
    let record = slot.as_mut_ptr();
    read::clear(record);
    // SAFETY: the reserved memory is ours until it is submitted, as large as the type, and zero.
    unsafe {
        fill(&mut *record, subject, ret, Reads::PLAIN);
        begin(&mut *record, hook as u16, Phase::End as u8, sequence, -1);
        (*record).tags = tags;
        (*record).header.known |= known::TAGS;
    }
    slot.submit(0);
}

/// Reports the return of a call in which too little was flushed.
#[inline(always)]
pub fn ranging(context: *mut c_void, hook: Hook, subject: &Subject, reads: Reads, range: &Range) {
    let stack = stack(context, reads);
    let sequence = number();
    let Some(mut slot) = EVENTS.reserve::<Ranging>(0) else {
        loss::count(subject.group, LossKind::Record);
        return;
    };
    let record = slot.as_mut_ptr();
    read::clear(record);
    // SAFETY: the reserved memory is ours until it is submitted, as large as the type, and zero.
    unsafe {
        fill(&mut (*record).operation, subject, 0, reads);
        begin(&mut (*record).operation, hook as u16, Phase::End as u8, sequence, stack);
        (*record).range = *range;
        (*record).operation.header.known |= known::RANGE;
    }
    slot.submit(0);
}

/// The id of the kernel stack, where it is to be read.
#[inline(always)]
pub fn stack(context: *mut c_void, reads: Reads) -> i32 {
    if !reads.has(Reads::STACK) {
        return -1;
    }
    // SAFETY: the program's own context and a live map.
    (unsafe { generated::bpf_get_stackid(context, (&raw const STACKS).cast_mut().cast(), 0) }) as i32
}

/// The head of a record, less what of it is known.
#[inline(always)]
fn begin(record: &mut Operation, hook: u16, phase: u8, sequence: u64, stack: i32) {
    let ids = bpf_get_current_pid_tgid();
    let header = &mut record.header;
    header.sequence = sequence;
    header.task.tid = ids as u32;
    header.task.tgid = (ids >> 32) as u32;
    header.stack = stack;
    header.hook = hook;
    header.phase = phase;
    header.set = turn::number();
    let comm = &mut header.task.comm;
    // SAFETY: the destination is a member of the live record; the others take no pointer.
    unsafe {
        generated::bpf_get_current_comm(comm.as_mut_ptr().cast(), comm.len() as u32);
        header.cpu = generated::bpf_get_smp_processor_id();
        header.time_ns = generated::bpf_ktime_get_ns();
    }
}

/// What the call is about, and what the kernel's structures hold of it.
#[inline(never)]
fn fill(record: &mut Operation, subject: &Subject, ret: i64, reads: Reads) {
    let mut bits = subject.known;
    if subject.group != 0 {
        bits |= read::group(&mut record.group, subject.group);
    }
    if subject.device != 0 {
        bits |= read::device(&mut record.device, subject.device);
        if reads.has(Reads::VTD_TABLE) {
            bits |= tables::vtd_root(&mut record.device, subject.device);
        }
    }
    record.domain = read::domain(subject.domain);
    record.old = read::domain(subject.old);
    record.owner = subject.owner;
    record.handle = subject.handle;
    record.mm = subject.mm;
    record.pasid = subject.pasid;
    record.ret = ret;
    record.header.known = bits;
}
