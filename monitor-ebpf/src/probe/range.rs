//! Flushes of a range (VT-d, from 6.10): what an unmap gathered, and what changed in the memory of a process, held
//! against the descriptors that the task submits before the flush returns. Attached for `flush-range-short` alone.
//!
//! The caches are those that the driver's list has at the begin and has at the end still, with nothing attached or
//! detached in between: a tag that came or went meanwhile may have been flushed by its own call. What is in doubt is
//! counted as such and not sent.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_current_pid_tgid, generated},
    macros::{btf_tracepoint, map},
    maps::HashMap,
    programs::BtfTracePointContext,
};
use monitor_ebpf::{
    descriptor::{
        Conditions, condition,
        range::{self, Verdict},
    },
    wire::{ABSENT, Asked, FAILURE_SENT_EVERY_NS, FEED_CPUS, Hook, RANGE_TAGS, Range, Subject, Tag, known},
};

use super::{
    call::{self, Access, program},
    emit::{self, Reads},
    invalidation::{feed, word},
    read::{self, layout, member},
    tables, teardown, turn,
};

/// The flushes that are under way, by who does them.
#[map]
static ASKED: HashMap<u64, Asked> = HashMap::with_max_entries(1024, 0);

/// What a flush begins with: too large for a stack.
static NOTHING: Asked = Asked::NONE;

/// `DMA_GCMD_TE` (intel/iommu.h): device TLBs are flushed only while the IOMMU translates.
const TRANSLATION_ENABLE: u32 = 1 << 31;

#[inline(always)]
fn cpu() -> u64 {
    // SAFETY: takes nothing.
    u64::from(unsafe { generated::bpf_get_smp_processor_id() })
}

/// Who flushes: the task. Each CPU's idle task has number 0, and what comes there, in a softirq, stays on its CPU.
#[inline(always)]
fn flusher() -> u64 {
    match bpf_get_current_pid_tgid() as u32 {
        0 => 1 << 32 | cpu(),
        task => u64::from(task),
    }
}

/// Records so far: nothing is attached or detached without one.
#[inline(always)]
fn records() -> u64 {
    // SAFETY: a global of our own.
    unsafe { feed!(records).read_volatile() }
}

/// A call that flushes: the `struct dmar_domain`, the gather or the notifier, and what is to be flushed.
struct Flushing {
    domain: u64,
    call: u64,
    first: u64,
    last: u64,
}

impl Flushing {
    /// Whether it is this one that is remembered.
    #[inline(always)]
    fn is(&self, asked: &Asked) -> bool {
        asked.domain == self.domain
            && asked.call == self.call
            && asked.first == self.first
            && asked.last == self.last
    }
}

/// It begins. One that it interrupted is given up: its end finds another in its place.
#[inline(never)]
fn begins(call: &Flushing) {
    if call.first > call.last || layout!(tags.list) == ABSENT || !turn::is_ours() {
        return;
    }
    let flusher = flusher();
    // The loader's own wrapper would copy the value to the stack first.
    // SAFETY: a live map, a key on the stack and a value of its type. Where there is no room the end finds nothing.
    unsafe {
        generated::bpf_map_update_elem(
            (&raw const ASKED).cast_mut().cast(),
            (&raw const flusher).cast(),
            (&raw const NOTHING).cast(),
            0,
        )
    };
    let Some(asked) = ASKED.get_ptr_mut(flusher) else { return };
    // SAFETY: a live value of the map, of this task alone.
    let asked = unsafe { &mut *asked };
    (asked.first, asked.last, asked.records) = (call.first, call.last, records());
    // SAFETY: a global of our own.
    asked.watched = unsafe { feed!(range_queue).read_volatile() };
    read_tags(call.domain, asked);
    (asked.domain, asked.call) = (call.domain, call.call);
}

/// The caches of a domain, as the driver's list has them. Without its lock a link may lead astray: what is found is
/// looked for again at the end.
#[inline(always)]
fn read_tags(domain: u64, asked: &mut Asked) {
    let head = domain.wrapping_add(u64::from(layout!(tags.list)));
    let mut at = member::<u64>(head, layout!(list_next));
    for index in 0..RANGE_TAGS {
        if at == head || at == 0 {
            return;
        }
        read_tag(at.wrapping_sub(u64::from(layout!(tags.node))), &mut asked.tags[index]);
        asked.len = index as u64 + 1;
        at = member(at, layout!(list_next));
    }
}

#[inline(never)]
fn read_tag(key: u64, tag: &mut Tag) {
    tag.key = key;
    tag.iommu = member(key, layout!(range.tag_iommu));
    tag.device = member(key, layout!(tags.device));
    tag.kind = member(key, layout!(tags.kind));
    tag.did = u32::from(member::<u16>(key, layout!(range.tag_did)));
    tag.pasid = member(key, layout!(tags.pasid));
    if range::is_device(tag) {
        let info = tables::private(tag.device);
        let bus = u32::from(member::<u8>(info, layout!(flush.vtd_info_bus)));
        let devfn = u32::from(member::<u8>(info, layout!(flush.vtd_info_devfn)));
        tag.source = bus << 8 | devfn;
    }
}

/// Whether a cache had to be flushed all the time, and could be seen to be.
#[inline(never)]
fn stands(domain: u64, tag: &Tag) -> bool {
    let (queue, _) = read::read::<u64>(tag.iommu, layout!(flush.vtd_iommu_qi));
    if queue == 0 || !range::is_known(tag) {
        return false;
    }
    if range::is_device(tag) {
        let (command, _) = read::read::<u32>(tag.iommu, layout!(flush.vtd_iommu_gcmd));
        let mut now = Conditions { set: 0, known: 0 };
        let data = tables::private(tag.device);
        teardown::device_state(tag.device, data, layout!(flush.vtd_info_ats), &mut now);
        let there = now.is(condition::ATS) && now.is_not(condition::GONE);
        if command & TRANSLATION_ENABLE == 0 || !there {
            return false;
        }
    }
    let head = domain.wrapping_add(u64::from(layout!(tags.list)));
    let mut at = member::<u64>(head, layout!(list_next));
    for _ in 0..RANGE_TAGS {
        if at == head || at == 0 {
            return false;
        }
        let key = at.wrapping_sub(u64::from(layout!(tags.node)));
        if key == tag.key {
            let mut now = Tag::NONE;
            read_tag(key, &mut now);
            return range::is_same(tag, &now);
        }
        at = member(at, layout!(list_next));
    }
    false
}

/// A device that is attached to a domain: the one whose cache it is, or the first that has its RID or a PASID on it.
#[inline(always)]
fn device_of(domain: u64, tag: &Tag) -> u64 {
    if range::is_device(tag) {
        return tag.device;
    }
    let head = domain.wrapping_add(u64::from(layout!(range.domain_devices)));
    let at = member::<u64>(head, layout!(list_next));
    if at != head && at != 0 {
        return member(at.wrapping_sub(u64::from(layout!(range.info_link))), layout!(range.info_device));
    }
    let head = domain.wrapping_add(u64::from(layout!(range.domain_pasids)));
    let at = member::<u64>(head, layout!(list_next));
    if at == head || at == 0 {
        return 0;
    }
    member(at.wrapping_sub(u64::from(layout!(range.pasid_link))), layout!(range.pasid_device))
}

/// One more cache that was flushed, or not: by the index of [`Verdict`].
#[inline(always)]
fn count(verdict: Verdict) {
    let cpu = cpu() as usize & (FEED_CPUS - 1);
    // SAFETY: this CPU's slot. Where an interrupt comes in between, one count may be lost.
    unsafe {
        let slot = feed!(cpus[cpu].ranges[verdict as usize]);
        slot.write(slot.read().wrapping_add(1));
    }
}

/// It returns.
#[inline(never)]
fn ends(context: *mut c_void, hook: Hook, call: &Flushing) {
    let flusher = flusher();
    let Some(asked) = ASKED.get_ptr_mut(flusher) else { return };
    // SAFETY: a live value of the map, of this task alone.
    let asked = unsafe { &mut *asked };
    // Another one's, which came in between and whose begin or end was left out.
    if !call.is(asked) {
        return;
    }
    for index in 0..RANGE_TAGS {
        if index as u64 >= asked.len {
            break;
        }
        let verdict = range::judged(asked, &asked.tags[index]);
        if verdict == Verdict::Short {
            short(context, hook, call, index);
        } else {
            count(verdict);
        }
    }
    let _ = ASKED.remove(flusher);
}

/// A cache was not flushed as far as it had to be. What may have another reason is not sent.
#[inline(never)]
fn short(context: *mut c_void, hook: Hook, call: &Flushing, index: usize) {
    let Some(asked) = ASKED.get_ptr_mut(flusher()) else { return count(Verdict::Undecided) };
    // SAFETY: a live value of the map, of this task alone.
    let asked = unsafe { &*asked };
    let (tag, before, descriptors) = (asked.tags[index & (RANGE_TAGS - 1)], asked.records, asked.descriptors);
    // An interrupt's flush takes the place in the map, and what is read there after that is anybody's.
    let still = match ASKED.get_ptr_mut(flusher()) {
        // SAFETY: as above.
        Some(now) => call.is(unsafe { &*now }),
        None => false,
    };
    let device = device_of(call.domain, &tag);
    let subject = Subject {
        group: read::group_of(device),
        device,
        domain: call.domain.wrapping_add(u64::from(layout!(tags.domain))),
        pasid: tag.pasid,
        known: known::DOMAIN | known::PASID,
        ..Subject::default()
    };
    let short = range::verdict(&tag, call.first, call.last) == Verdict::Short;
    if !still || !short || !stands(call.domain, &tag) || records() != before {
        return count(Verdict::Undecided);
    }
    count(Verdict::Short);
    // Whose turn it isn't any more doesn't see what is attached and detached.
    if !turn::is_ours() || !may_send() {
        return;
    }
    let range = Range {
        first: call.first,
        last: call.last,
        covered_first: tag.from,
        covered_last: tag.to,
        kind: tag.kind,
        did: tag.did,
        pasid: tag.pasid,
        source: tag.source,
        descriptors: descriptors as u32,
        reserved: 0,
    };
    emit::ranging(context, hook, &subject, Reads::STACK, &range);
}

/// A driver that flushes too little does so at each unmap: a few of them are enough, and all are counted.
#[inline(always)]
fn may_send() -> bool {
    // SAFETY: a global of our own; of two CPUs at once both may send.
    unsafe {
        let now = generated::bpf_ktime_get_ns();
        let last = feed!(range_sent_ns).read_volatile();
        let may = last == 0 || now.wrapping_sub(last) >= FAILURE_SENT_EVERY_NS;
        if may {
            feed!(range_sent_ns).write_volatile(now);
        }
        may
    }
}

/// `intel_iommu_tlb_sync(domain, gather)`, in which neither changes. A gather that got nothing begins after its end.
#[inline(always)]
fn gathered(context: *mut c_void) -> Flushing {
    let at = call::positions(Hook::VtdSync);
    let domain = call::argument(context, Access::Trampoline, at.domain);
    let gather = call::argument(context, Access::Trampoline, at.gather);
    let (first, has_first) = read::read::<u64>(gather, layout!(range.gather_start));
    let (last, has_last) = read::read::<u64>(gather, layout!(range.gather_end));
    let known = has_first & has_last != 0;
    Flushing {
        domain: domain.wrapping_sub(u64::from(layout!(tags.domain))),
        call: gather,
        first: if known { first } else { u64::MAX },
        last: if known { last } else { 0 },
    }
}

/// `intel_arch_invalidate_secondary_tlbs(mn, mm, start, end)`: memory of a process has changed, up to `end` and without
/// it.
#[inline(always)]
fn notified(context: *mut c_void) -> Flushing {
    let at = call::positions(Hook::VtdMmFlush);
    let notifier = call::argument(context, Access::Trampoline, at.notifier);
    let first = call::argument(context, Access::Trampoline, at.start);
    let end = call::argument(context, Access::Trampoline, at.end);
    let known = end > first && layout!(range.domain_notifier) != ABSENT;
    Flushing {
        domain: notifier.wrapping_sub(u64::from(layout!(range.domain_notifier))),
        call: notifier,
        first: if known { first } else { u64::MAX },
        last: if known { end - 1 } else { 0 },
    }
}

const _: () = assert!(call::is_name_of(Hook::VtdSync, "vtd_tlb_sync"));
const _: () = assert!(call::is_name_of(Hook::VtdMmFlush, "vtd_mm_invalidate"));
const _: () = assert!(call::is_name_of(Hook::VtdRangeQueue, "vtd_range_qi_submit"));
// By trampolines alone: at a kretprobe the arguments are gone that tell one flush from one that came in between.
program!("fentry", "vtd_tlb_sync", context => begins(&gathered(context)));
program!("fexit", "vtd_tlb_sync", context => ends(context, Hook::VtdSync, &gathered(context)));
program!("fentry", "vtd_mm_invalidate", context => begins(&notified(context)));
program!("fexit", "vtd_mm_invalidate", context => ends(context, Hook::VtdMmFlush, &notified(context)));

/// A descriptor is about to be given to VT-d's queue: `TP_PROTO(struct intel_iommu *iommu, u64 qw0, u64 qw1, …)`.
#[btf_tracepoint]
pub fn vtd_range_qi_submit_tp(context: BtfTracePointContext) -> i32 {
    // SAFETY: a global of our own. It is written once, so that the CPUs don't fight for it.
    unsafe {
        let queue = feed!(range_queue);
        if queue.read_volatile() == 0 {
            queue.write_volatile(1);
        }
    }
    if let Some(asked) = ASKED.get_ptr_mut(flusher()) {
        let context = context.as_ptr();
        // SAFETY: the tracepoint has five arguments.
        let (mut iommu, qw0, qw1) = unsafe { (word(context, 0), word(context, 1), word(context, 2)) };
        // To the verifier it is a pointer, and 7.3 refuses what is done with it below: here it becomes a number.
        read::forget(&raw mut iommu);
        // SAFETY: a live value of the map, of this task alone.
        unsafe { range::submitted(&mut *asked, iommu, qw0, qw1) };
    }
    0
}
