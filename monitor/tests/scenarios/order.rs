//! Calls that overlap: what could have come in two orders raises nothing.

use monitor::event::Task;
use monitor_ebpf::wire::Phase;

use crate::kernel::{Call, Era, task};
use crate::rig::{D1, D2, NIC, NVME, OWNER, Rig, driver, other, raised, vfio};

fn attach(pasid: u32) -> Call {
    Call::Attach { device: NVME, pasid, domain: D1 }
}

fn detach(pasid: u32) -> Call {
    Call::Detach { device: NVME, pasid, domain: D1 }
}

fn replace(domain: u64) -> Call {
    Call::Replace { device: NVME, pasid: 5, domain }
}

/// Calls that overlap: all begin, do their work in this order, and return in the other one, by their numbers; with what.
fn at_once<const N: usize>(rig: &mut Rig, calls: [(Task, Call); N], returns: [usize; N]) -> [i32; N] {
    let mut running = calls.map(|(task, call)| Some(rig.kernel.begin(&task, call)));
    running.iter_mut().flatten().for_each(|running| rig.kernel.act(running));
    returns.map(|at| rig.kernel.end(running[at].take().expect("each returns once")))
}

/// The watcher reads the group, and what it knows by then of who attached PASID 5 is this.
#[track_caller]
fn expect_attached_by(rig: &mut Rig, by: Option<&str>) {
    rig.kernel.snapshot(7);
    rig.watch();
    assert_eq!(attached_by(rig, 5).as_deref(), by, "{:?}", rig.kernel.era);
}

/// Trap 8. One task detaches what another attached; the returns are reported the wrong way round.
#[test]
fn two_calls_whose_returns_are_reversed_raise_nothing() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        at_once(&mut rig, [(driver(), attach(5)), (other(), detach(5))], [1, 0]);
        rig.watch();
        assert_eq!(
            rig.watcher.groups()[0].pasids.as_ref().map(Vec::len),
            Some(0),
            "the array tells how it ended"
        );
        rig.expect_silence();
    }
}

#[test]
fn a_detach_and_the_attach_that_follows_may_overlap() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        rig.calls(&driver(), [attach(5)]);
        let attach = Call::Attach { device: NIC, pasid: 5, domain: D2 };
        at_once(&mut rig, [(driver(), detach(5)), (other(), attach)], [1, 0]);
        rig.calls(&other(), [Call::Detach { device: NIC, pasid: 5, domain: D2 }]);
        rig.expect_silence();
    }
}

#[test]
fn two_releases_that_overlap_are_not_told_apart() {
    for era in [Era::Owners, Era::Domains, Era::Handles, Era::Tagged] {
        let mut rig = Rig::new(era);
        rig.calls(&driver(), [Call::Use { device: NVME }, Call::Use { device: NIC }]);
        let mut first = rig.kernel.begin(&driver(), Call::Unuse { device: NVME });
        let mut second = rig.kernel.begin(&other(), Call::Unuse { device: NIC });
        rig.kernel.act(&mut second);
        rig.kernel.act(&mut first);
        rig.kernel.end(first);
        rig.kernel.end(second);
        rig.calls(&vfio(), [Call::Claim { group: 7, owner: OWNER }, Call::Release { group: 7 }]);
        rig.expect_silence();
    }
}

#[test]
fn a_detach_that_overlaps_with_the_release_raises_nothing() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        rig.calls(&driver(), [Call::Use { device: NVME }, attach(5)]);
        let mut detaching = rig.kernel.begin(&other(), detach(5));
        let mut unuse = rig.kernel.begin(&driver(), Call::Unuse { device: NVME });
        rig.kernel.act(&mut detaching);
        rig.kernel.act(&mut unuse);
        rig.kernel.end(unuse);
        rig.kernel.end(detaching);
        rig.expect_silence();
    }
}

#[test]
fn a_leftover_is_proved_though_another_pasid_comes_and_goes_meanwhile() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        rig.calls(&driver(), [Call::Use { device: NVME }, attach(5), attach(6)]);
        let mut detaching = rig.kernel.begin(&other(), detach(6));
        let mut unuse = rig.kernel.begin(&driver(), Call::Unuse { device: NVME });
        rig.kernel.act(&mut unuse);
        rig.kernel.act(&mut detaching);
        rig.kernel.end(unuse);
        rig.kernel.end(detaching);
        let expected = raised("pasid-left-on-release", 7, &[5], "driver", "driver");
        rig.expect(&[expected.implying(&["ownership-leaked"])]);
    }
}

/// What is read in `__iommu_release_dma_ownership` is read under the mutex: no overlap can spoil it.
#[test]
fn a_leftover_that_is_read_under_the_mutex_needs_no_calm() {
    for era in [Era::Handles, Era::Tagged] {
        let mut rig = Rig::new(era);
        rig.calls(&vfio(), [Call::Claim { group: 7, owner: OWNER }, attach(5)]);
        let mut detaching = rig.kernel.begin(&other(), detach(5));
        let mut release = rig.kernel.begin(&vfio(), Call::Release { group: 7 });
        rig.kernel.act(&mut release);
        rig.kernel.act(&mut detaching);
        rig.kernel.end(detaching);
        rig.kernel.end(release);
        let expected = raised("pasid-left-on-release", 7, &[5], "vfio", "vfio");
        rig.expect(&[expected.implying(&["ownership-stuck"])]);
    }
}

#[test]
fn a_detach_that_waits_for_an_attach_is_not_a_second_one() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        // The detach has begun, and read an empty array, before the attach took the mutex.
        let mut attaching = rig.kernel.begin(&driver(), attach(5));
        let mut detaching = rig.kernel.begin(&other(), detach(5));
        rig.kernel.act(&mut attaching);
        rig.kernel.end(attaching);
        rig.kernel.act(&mut detaching);
        rig.kernel.end(detaching);
        rig.expect_silence();
    }
}

#[test]
fn a_call_whose_return_was_missed_makes_its_group_unknown() {
    let mut rig = Rig::new(Era::Handles);
    rig.kernel.call(&driver(), Call::Use { device: NVME });
    let missed = rig.kernel.log.pop().expect("the return");
    assert_eq!(missed.phase, Phase::End);
    // The CPU's sequence doesn't show it: the program was not run at all.
    for event in std::mem::take(&mut rig.kernel.log) {
        rig.feed(event);
    }
    rig.kernel.now += 1;
    let mut again = rig.kernel.begin(&driver(), Call::Unuse { device: NVME });
    rig.kernel.log.last_mut().expect("the begin").sequence = missed.sequence;
    rig.watch();
    assert_eq!(rig.watcher.unknown_groups(), [7]);
    rig.kernel.act(&mut again);
    rig.kernel.end(again);
    rig.kernel.log.last_mut().expect("the end").sequence = missed.sequence + 1;
    rig.watch();
    rig.expect_silence();
}

#[test]
fn a_call_that_never_returns_makes_its_group_unknown_in_the_end() {
    let mut rig = Rig::new(Era::Handles);
    rig.kernel.begin(&driver(), attach(5));
    rig.idle(20_000_000_000);
    rig.assert_synced();
    rig.idle(20_000_000_000);
    assert_eq!(rig.watcher.unknown_groups(), [7]);
}

/// The begin of the attach was missed. Its return shows that it may have met the detach, before or after the
/// detach has returned.
#[test]
fn a_call_whose_begin_was_missed_may_have_met_those_around_it() {
    for era in Era::WITH_PASIDS {
        for attach_returns_first in [false, true] {
            let mut rig = Rig::new(era);
            let mut detaching = rig.kernel.begin(&other(), detach(5));
            let mut attaching = rig.kernel.begin(&driver(), attach(5));
            rig.kernel.miss(1);
            rig.kernel.act(&mut attaching);
            rig.kernel.act(&mut detaching);
            let order = if attach_returns_first { [attaching, detaching] } else { [detaching, attaching] };
            for running in order {
                rig.kernel.end(running);
            }
            rig.watch();
            rig.expect_silence();
        }
    }
}

/// No hook could read the array: only the calls tell, and these two could have come in either order.
#[test]
fn a_pasid_that_two_calls_fought_over_is_in_doubt() {
    let mut rig = Rig::new(Era::Handles);
    let mut detaching = rig.kernel.begin(&other(), detach(5));
    let mut attaching = rig.kernel.begin(&driver(), attach(5));
    rig.kernel.act(&mut attaching);
    rig.kernel.act(&mut detaching);
    rig.kernel.end(detaching);
    rig.kernel.end(attaching);
    assert_eq!(rig.kernel.call(&driver(), attach(5)), 0);
    rig.kernel.log.iter_mut().for_each(|event| event.slot = None);
    rig.watch();
    rig.expect_silence();
}

#[test]
fn while_calls_overlap_who_owns_the_group_is_unknown() {
    let mut rig = Rig::new(Era::Handles);
    let mut binding = rig.kernel.begin(&other(), Call::Use { device: NIC });
    rig.calls(&driver(), [Call::Use { device: NVME }]);
    assert_eq!(rig.watcher.groups()[0].owner_cnt, None);
    rig.kernel.act(&mut binding);
    rig.kernel.end(binding);
    rig.watch();
    assert_eq!(rig.watcher.groups()[0].owner_cnt, Some(2));
}

/// A replace that no hook showed. The array and the model disagree, and one of them is wrong.
#[test]
fn where_the_array_and_the_model_disagree_nothing_is_claimed() {
    let mut rig = Rig::new(Era::Tagged);
    rig.calls(&driver(), [attach(5)]);
    rig.kernel.call(&other(), Call::Replace { device: NVME, pasid: 5, domain: D2 });
    rig.kernel.miss(1);
    rig.kernel.miss(0);
    rig.calls(&driver(), [detach(5)]);
    rig.expect_silence();
}

/// A replace succeeds only where something is attached, so the attach came first; and whoever came last has his domain stand.
/// (Seed 213736 of the wild programs.)
#[test]
fn who_of_two_at_once_attached_a_pasid_is_told_by_its_domain() {
    for replaces_first in [true, false] {
        let mut rig = Rig::new(Era::Tagged);
        let returns = if replaces_first { [1, 0] } else { [0, 1] };
        let ends = at_once(&mut rig, [(driver(), attach(5)), (other(), replace(D2))], returns);
        assert_eq!(ends, [0, 0]);
        expect_attached_by(&mut rig, Some("other"));
        rig.expect_silence();
    }
}

/// Both named the same domain: nothing tells whose is there now.
#[test]
fn who_of_two_at_once_attached_the_same_is_not_told() {
    let mut rig = Rig::new(Era::Tagged);
    at_once(&mut rig, [(driver(), attach(5)), (other(), replace(D1))], [1, 0]);
    expect_attached_by(&mut rig, None);
    rig.expect_silence();
}

/// The first had returned when a third began.
#[test]
fn who_had_returned_before_another_began_did_not_come_last() {
    let mut rig = Rig::new(Era::Tagged);
    let mut attaching = rig.kernel.begin(&driver(), attach(5));
    let mut replacing = rig.kernel.begin(&other(), replace(D2));
    rig.kernel.act(&mut attaching);
    rig.kernel.end(attaching);
    let mut again = rig.kernel.begin(&vfio(), replace(D1));
    rig.kernel.act(&mut replacing);
    rig.kernel.act(&mut again);
    rig.kernel.end(again);
    rig.kernel.end(replacing);
    expect_attached_by(&mut rig, Some("vfio"));
    rig.expect_silence();
}

/// Where the array names no domain nothing tells whose is there.
#[test]
fn of_two_at_once_what_the_array_does_not_name_is_not_known() {
    let bare = |domain| Call::AttachBare { device: NVME, pasid: 5, domain };
    let eras = Era::WITH_PASIDS.into_iter().flat_map(|era| [(era, true), (era, false)]);
    for (era, looks) in eras {
        let mut rig = Rig::new(era);
        at_once(&mut rig, [(driver(), bare(D1)), (vfio(), detach(5)), (other(), bare(D2))], [2, 1, 0]);
        if looks {
            expect_attached_by(&mut rig, (era != Era::Handles).then_some("other"));
        }
        rig.calls(&other(), [Call::Detach { device: NVME, pasid: 5, domain: D2 }]);
        rig.expect_silence();
    }
}

/// The same while a call is under way that may change it yet: whoever lets go leaves it, and it isn't told who attached it.
#[test]
fn who_of_two_at_once_attached_what_is_left_is_not_told() {
    let bare = |domain| Call::AttachBare { device: NVME, pasid: 5, domain };
    let mut rig = Rig::new(Era::Handles);
    rig.calls(&vfio(), [Call::Claim { group: 7, owner: OWNER }]);
    let late = task(400, "late");
    let mut waiting = rig.kernel.begin(&late, detach(5));
    at_once(&mut rig, [(driver(), bare(D1)), (vfio(), detach(5)), (other(), bare(D2))], [2, 1, 0]);
    rig.calls(&vfio(), [Call::Release { group: 7 }]);
    rig.kernel.act(&mut waiting);
    rig.kernel.end(waiting);
    rig.watch();
    let expected = raised("pasid-left-on-release", 7, &[5], "", "vfio");
    rig.expect(&[expected.implying(&["ownership-stuck"])]);
}

fn attached_by(rig: &Rig, pasid: u32) -> Option<String> {
    let group = rig.watcher.host().group_by_id(7)?;
    let by = group.attachment(pasid)?.attached_by?;
    Some(by.comm.to_string())
}
