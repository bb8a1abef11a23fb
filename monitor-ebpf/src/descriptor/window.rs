//! What a window keeps: each descriptor held against the entry, each return, and what is owed in the end.

use crate::wire::{Flush, Frame, TableKind};

use super::{Conditions, Entry, cache, condition};

#[inline(always)]
pub fn entry(flush: &Flush) -> Entry {
    Entry { kind: flush.kind, tag: flush.tag, pasid: flush.pasid, source: flush.source }
}

/// A descriptor is submitted to a queue.
#[inline(always)]
pub fn submitted(frame: &mut Frame, queue: TableKind, low: u64, high: u64) {
    frame.flush.descriptors = frame.flush.descriptors.wrapping_add(1);
    let mut drops = super::drops(queue, low, high, &entry(&frame.flush));
    // A device that is flushed before the IOMMU fetches the old translation again.
    if drops == cache::DEVICE_TLB && frame.flush.submitted & super::behind_device(queue) == 0 {
        drops = cache::DEVICE_TLB_EARLY;
    }
    frame.flush.submitted |= drops;
    frame.pending |= drops;
    frame.pending_scopes |= 1 << super::scope(queue, low);
}

/// The driver asks to be told when all that was submitted so far is done: AMD's COMPLETION_WAIT, SMMUv3's CMD_SYNC. A
/// submission of VT-d's has its own.
#[inline(always)]
pub fn waited(frame: &mut Frame) {
    frame.waited |= frame.pending;
}

/// Of what is submitted and not done: what is being waited for.
#[inline(always)]
fn awaited(frame: &Frame) -> u32 {
    if frame.flush.known & condition::WAITS != 0 { frame.pending & frame.waited } else { frame.pending }
}

/// A submission returned: what it waited for is done, or has failed. `scopes`: what a failed one asked for, 0 where that
/// isn't known.
#[inline(always)]
pub fn returned(frame: &mut Frame, ret: i32, scopes: u32) {
    frame.flush.set |= condition::COMPLETIONS;
    frame.flush.known |= condition::COMPLETIONS;
    if ret == 0 {
        let done = awaited(frame);
        frame.flush.completed |= done;
        frame.pending &= !done;
        frame.waited = 0;
    } else {
        if frame.flush.failed == 0 {
            let scopes = if scopes != 0 { scopes } else { frame.pending_scopes };
            (frame.flush.failed, frame.flush.failed_scopes) = (ret, scopes);
        }
        (frame.pending, frame.waited) = (0, 0);
    }
    frame.pending_scopes = 0;
}

/// What a window has kept, at its end. A submission whose return was not seen counts as done: what fails is told by its
/// return, and a program can be left out at a return where the same one runs already on that CPU. One that nobody waits
/// for does not.
#[inline(always)]
pub fn closed(frame: &Frame) -> Flush {
    Flush { completed: frame.flush.completed | awaited(frame), ..frame.flush }
}

/// Of the caches that descriptors covered: those that are sure to be flushed. Where neither returns nor waits are seen,
/// what was submitted counts.
#[inline(always)]
pub fn done(flush: &Flush) -> u32 {
    let seen = flush.known & (condition::COMPLETIONS | condition::WAITS) != 0;
    if seen { flush.completed } else { flush.submitted }
}

/// The device of a window was found absent.
#[inline(always)]
pub fn gone(flush: &mut Flush) {
    flush.set |= condition::GONE;
    flush.known |= condition::GONE;
}

/// A teardown is over: what it is owed still. `now`: the device's conditions at its end; `contested`: another task was
/// at the same entry meanwhile.
#[inline(always)]
pub fn settle(flush: &mut Flush, now: &Conditions, contested: bool, now_ns: u64) {
    // The device's cache counts if it was there all the time, and so was the device.
    flush.set &= now.set | !condition::ATS;
    flush.set |= now.set & condition::GONE;
    flush.known &= now.known | !(condition::ATS | condition::GONE);
    if contested {
        flush.set |= condition::CONTESTED;
    }
    flush.known |= condition::CONTESTED;
    let conditions = Conditions { set: flush.set, known: flush.known };
    let queue = TableKind::from_number(flush.vendor);
    let required = queue.and_then(|queue| super::required(queue, &conditions)).unwrap_or(0);
    flush.owed = required & !done(flush);
    flush.owed_since_ns = if flush.owed != 0 { now_ns } else { 0 };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Windows;

    /// The entry of PASID 5 of 01:00.0, in domain 0x12, first-stage, with ATS.
    fn window() -> Frame {
        let live = condition::PRESENT | condition::TRANSLATES | condition::QUEUED | condition::ATS;
        let known = live | condition::GONE | condition::CACHING_MODE;
        let vendor = TableKind::Vtd as u32;
        let flush =
            Flush { vendor, kind: 1, tag: 0x12, pasid: 5, source: 0x100, set: live, known, ..Flush::NONE };
        Frame { flush, ..Windows::NONE.frames[0] }
    }

    const PASID_CACHE: [u64; 2] = [7 | 1 << 4 | 0x12 << 16 | 5 << 32, 0];
    const IOTLB: [u64; 2] = [6 | 2 << 4 | 0x12 << 16 | 5 << 32, 0];
    const DEVICE: [u64; 2] = [8 | 0x100 << 16 | 5 << 32, 0x7fff_ffff_ffff_f800];
    const HERE: Conditions = Conditions { set: condition::ATS, known: condition::ATS | condition::GONE };

    /// Each descriptor with the return of its submission; `None`: that isn't seen.
    fn torn_down(steps: &[([u64; 2], Option<i32>)]) -> Frame {
        let mut frame = window();
        for &([qw0, qw1], ret) in steps {
            submitted(&mut frame, TableKind::Vtd, qw0, qw1);
            if let Some(ret) = ret {
                returned(&mut frame, ret, 1);
            }
        }
        frame
    }

    fn owed(frame: Frame, now: Conditions) -> u32 {
        let mut flush = closed(&frame);
        settle(&mut flush, &now, false, 7);
        assert_eq!(flush.owed_since_ns, if flush.owed == 0 { 0 } else { 7 });
        flush.owed
    }

    #[test]
    fn a_whole_teardown_owes_nothing_and_each_flush_that_is_left_out_is_owed() {
        let all = [(PASID_CACHE, Some(0)), (IOTLB, Some(0)), (DEVICE, Some(0))];
        assert_eq!(owed(torn_down(&all), HERE), 0);
        assert_eq!(owed(torn_down(&all[1..]), HERE), cache::PASID);
        assert_eq!(owed(torn_down(&[all[0], all[2]]), HERE), cache::IOTLB | cache::DEVICE_TLB);
        assert_eq!(owed(torn_down(&all[..2]), HERE), cache::DEVICE_TLB);
        assert_eq!(owed(torn_down(&[]), HERE), cache::PASID | cache::IOTLB | cache::DEVICE_TLB);
    }

    #[test]
    fn a_device_that_is_flushed_first_is_owed_a_flush() {
        let early = [(PASID_CACHE, Some(0)), (DEVICE, Some(0)), (IOTLB, Some(0))];
        assert_eq!(owed(torn_down(&early), HERE), cache::DEVICE_TLB);
    }

    #[test]
    fn what_failed_is_owed_and_told_once() {
        let failed = torn_down(&[(PASID_CACHE, Some(0)), (IOTLB, Some(-22)), (DEVICE, Some(-110))]);
        assert_eq!((failed.flush.failed, failed.flush.failed_scopes), (-22, 1));
        assert_eq!(owed(failed, HERE), cache::IOTLB | cache::DEVICE_TLB);
    }

    #[test]
    fn what_was_submitted_again_is_done() {
        let again = [(PASID_CACHE, Some(0)), (IOTLB, Some(-22)), (IOTLB, Some(0)), (DEVICE, Some(0))];
        assert_eq!(owed(torn_down(&again), HERE), 0);
    }

    #[test]
    fn where_returns_are_not_seen_what_was_submitted_counts() {
        let blind = [(PASID_CACHE, None), (IOTLB, None), (DEVICE, None)];
        assert_eq!(owed(torn_down(&blind), HERE), 0);
        assert_eq!(owed(torn_down(&blind[1..]), HERE), cache::PASID);
    }

    #[test]
    fn a_return_that_is_missed_among_others_hides_no_flush() {
        let missed = [(PASID_CACHE, Some(0)), (IOTLB, Some(0)), (DEVICE, None)];
        assert_eq!(owed(torn_down(&missed), HERE), 0);
    }

    #[test]
    fn a_device_that_goes_meanwhile_needs_no_flush() {
        let without = [(PASID_CACHE, Some(0)), (IOTLB, Some(0))];
        let gone_at_end = Conditions { set: HERE.set | condition::GONE, known: HERE.known };
        assert_eq!(owed(torn_down(&without), gone_at_end), 0);
        let ats_off = Conditions { set: 0, known: HERE.known };
        assert_eq!(owed(torn_down(&without), ats_off), 0);
        let mut found_absent = torn_down(&without);
        gone(&mut found_absent.flush);
        assert_eq!(owed(found_absent, HERE), 0);
    }

    #[test]
    fn two_at_one_entry_are_not_judged() {
        let mut frame = torn_down(&[]);
        settle(&mut frame.flush, &HERE, true, 7);
        assert_eq!(frame.flush.owed, 0);
    }
}
