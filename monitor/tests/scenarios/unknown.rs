//! What was not seen is unknown: late starts, losses, kernels that lack something.

use monitor::event::{Key, Slot};
use monitor::input::{Input, Lost, Stage};
use monitor::watcher::{Knowledge, Report};
use monitor_ebpf::wire::Phase;

use crate::kernel::{Call, EBUSY, Era};
use crate::rig::{D1, D2, NVME, OWNER, Rig, driver, other, raised, vfio};

fn attach(pasid: u32, domain: u64) -> Call {
    Call::Attach { device: NVME, pasid, domain }
}

fn detach(pasid: u32, domain: u64) -> Call {
    Call::Detach { device: NVME, pasid, domain }
}

#[test]
fn state_from_before_we_watched_raises_nothing() {
    for era in [Era::Owners, Era::Domains, Era::Handles, Era::Tagged] {
        let mut rig = Rig::unwatched(era);
        rig.kernel.call(&vfio(), Call::Claim { group: 7, owner: OWNER });
        if era.has_pasids() {
            rig.kernel.call(&driver(), attach(5, D1));
        }
        rig.kernel.log.clear();
        rig.bootstrap();
        let group = &rig.watcher.groups()[0];
        assert_eq!(group.owner.map(|owner| owner.name()), Some("user"));
        if era.has_pasids() {
            let pasids = group.pasids.as_ref().expect("known");
            assert_eq!((pasids[0].pasid, &pasids[0].attached_by), (5, &None));
            rig.calls(&driver(), [detach(5, D1)]);
        }
        rig.calls(&vfio(), [Call::Release { group: 7 }]);
        rig.expect_silence();
    }
}

#[test]
fn every_event_of_a_correct_program_may_get_lost() {
    let program = [
        Call::Use { device: NVME },
        attach(5, D1),
        detach(5, D1),
        attach(5, D2),
        attach(6, D2),
        detach(6, D2),
        detach(5, D2),
        Call::Unuse { device: NVME },
        Call::Claim { group: 7, owner: OWNER },
        attach(5, D1),
        detach(5, D1),
        Call::Release { group: 7 },
    ];
    for era in Era::WITH_PASIDS {
        let count = {
            let mut rig = Rig::new(era);
            for call in &program {
                rig.kernel.call(&driver(), call.clone());
            }
            rig.kernel.log.len()
        };
        for lost in 0..count {
            let mut rig = Rig::new(era);
            for call in &program {
                rig.kernel.call(&driver(), call.clone());
            }
            rig.kernel.log.remove(lost);
            rig.watch();
            rig.expect(&[]);
        }
    }
}

#[test]
fn a_lost_event_raises_nothing() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        rig.calls(&driver(), [attach(5, D1)]);
        // The detach, and an attach of another domain, get lost.
        rig.kernel.call(&driver(), detach(5, D1));
        rig.kernel.call(&driver(), attach(5, D2));
        rig.kernel.log.clear();
        rig.calls(&driver(), [detach(5, D2)]);
        rig.expect(&[]);
        assert!(
            rig.reports
                .iter()
                .any(|report| matches!(report, Report::Loss(loss) if loss.stage == Stage::Ring))
        );
        assert_eq!(rig.watcher.counters().lost(Stage::Ring), 4);
    }
}

#[test]
fn after_a_loss_every_group_is_unknown_until_it_is_read_again() {
    let mut rig = Rig::new(Era::Handles);
    rig.calls(&driver(), [attach(5, D1)]);
    rig.reports.clear();
    rig.lose(Stage::Kernel, 1);
    let reports = std::mem::take(&mut rig.reports);
    assert!(matches!(&reports[0], Report::Loss(loss) if (loss.count, loss.total) == (1, 1)));
    assert!(matches!(&reports[1], Report::State(state) if state.knowledge == Knowledge::Unknown));
    assert_eq!(rig.watcher.unknown_groups(), [7]);
    assert_eq!(rig.watcher.groups()[0].pasids, None);
    assert_eq!(rig.call(&vfio(), Call::Claim { group: 7, owner: OWNER }), EBUSY);
    rig.bootstrap();
    rig.calls(&driver(), [detach(5, D1), detach(5, D1)]);
    rig.expect(&[raised("attach-imbalance", 7, &[5], "", "driver")]);
}

#[test]
fn a_call_that_was_under_way_at_a_loss_is_not_judged() {
    for era in Era::WITH_PASIDS {
        for (task, call) in [(driver(), detach(5, D1)), (vfio(), Call::Release { group: 7 })] {
            let mut rig = Rig::new(era);
            rig.calls(&vfio(), [Call::Claim { group: 7, owner: OWNER }, attach(6, D1)]);
            let mut running = rig.kernel.begin(&task, call);
            rig.watch();
            rig.lose(Stage::Queue, 1);
            rig.kernel.snapshot_all();
            rig.kernel.act(&mut running);
            rig.kernel.end(running);
            rig.expect(&[]);
        }
    }
}

#[test]
fn a_call_that_is_under_way_since_before_a_loss_still_meets_others() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        rig.calls(&driver(), [attach(5, D1)]);
        let mut detaching = rig.kernel.begin(&driver(), detach(5, D1));
        rig.watch();
        rig.lose(Stage::Queue, 1);
        rig.bootstrap();
        let mut attaching = rig.kernel.begin(&vfio(), attach(5, D2));
        rig.kernel.act(&mut detaching);
        rig.kernel.act(&mut attaching);
        assert_eq!(rig.kernel.end(attaching), 0);
        rig.watch();
        rig.kernel.end(detaching);
        rig.expect(&[]);
    }
}

/// Its own readings show the leftover; but nobody knows what else is under way.
#[test]
fn right_after_a_loss_nothing_is_claimed_even_of_what_was_read() {
    for era in Era::WITH_PASIDS {
        for read_again in [false, true] {
            let mut rig = Rig::new(era);
            rig.calls(&driver(), [Call::Use { device: NVME }, attach(5, D1)]);
            rig.lose(Stage::Ring, 10_000);
            if read_again {
                rig.kernel.snapshot_all();
            }
            rig.calls(&driver(), [Call::Unuse { device: NVME }]);
            rig.expect(&[]);
        }
    }
}

#[test]
fn a_leftover_after_the_groups_were_read_again_is_caught() {
    let mut rig = Rig::new(Era::Tagged);
    rig.calls(&vfio(), [Call::Claim { group: 7, owner: OWNER }, attach(5, D1)]);
    rig.lose(Stage::Ring, 10_000);
    rig.bootstrap();
    rig.calls(&vfio(), [Call::Release { group: 7 }]);
    let expected = raised("pasid-left-on-release", 7, &[5], "", "vfio");
    rig.expect(&[expected.implying(&["ownership-stuck"])]);
}

#[test]
fn a_record_from_before_a_loss_makes_nothing_known() {
    let mut rig = Rig::new(Era::Handles);
    // The claim is in the ring still when the loss is told, and its release was lost.
    rig.kernel.call(&vfio(), Call::Claim { group: 7, owner: OWNER });
    let log = std::mem::take(&mut rig.kernel.log);
    rig.kernel.call(&vfio(), Call::Release { group: 7 });
    rig.kernel.log = log;
    rig.lose(Stage::Ring, 2);
    rig.watch();
    assert_eq!(rig.watcher.unknown_groups(), [7]);
    // A group that is met for the first time then is no better known.
    rig.kernel.group(8, &["0000:05:00.0"]);
    rig.kernel.snapshot_all();
    rig.kernel.log.retain(|event| event.group.is_some_and(|group| group.id == 8));
    rig.lose(Stage::Ring, 1);
    rig.watch();
    assert_eq!(rig.watcher.unknown_groups(), [7, 8]);
    rig.bootstrap();
    rig.calls(&vfio(), [Call::Claim { group: 7, owner: OWNER }, Call::Release { group: 7 }]);
    rig.expect_silence();
}

#[test]
fn what_could_not_be_read_is_unknown_and_not_absent() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        rig.kernel.call(&driver(), attach(5, D1));
        rig.kernel.call(&driver(), detach(5, D1));
        for event in &mut rig.kernel.log {
            // The walk of the array failed, and shows nothing of it.
            event.incomplete = true;
            event.slot = Some(Slot::Empty);
        }
        rig.watch();
        rig.expect_silence();
    }
}

#[test]
fn a_pasid_beyond_the_room_of_a_record_is_unknown_and_not_absent() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::unwatched(era);
        for pasid in 1..=40 {
            rig.kernel.call(&driver(), attach(pasid, D1));
        }
        rig.kernel.log.clear();
        rig.bootstrap();
        assert_eq!(rig.watcher.groups()[0].pasids, None);
        for pasid in (1..=40).rev() {
            rig.kernel.call(&driver(), detach(pasid, D1));
            // One of the walks fails, and shows nothing.
            for event in rig.kernel.log.iter_mut().filter(|_| pasid == 37) {
                event.incomplete = true;
                event.slot = Some(Slot::Empty);
            }
            rig.watch();
        }
        rig.expect_silence();
    }
}

#[test]
fn a_hundred_pasids_come_and_go_in_silence() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        rig.calls(&driver(), (1..=100).map(|pasid| attach(pasid, D1)));
        assert_eq!(rig.watcher.groups()[0].pasids.as_ref().map(Vec::len), Some(100));
        rig.calls(&driver(), (1..=100).map(|pasid| detach(pasid, D1)));
        rig.expect_silence();
    }
}

#[test]
fn the_number_of_a_group_may_be_used_again() {
    let mut rig = Rig::new(Era::Handles);
    rig.calls(&driver(), [Call::Use { device: NVME }, attach(5, D1)]);
    // The group went unseen, and another one has its number.
    rig.kernel.groups.clear();
    rig.kernel.group(7, &["0000:05:00.0"]);
    rig.kernel.group_mut(7).key += 4096;
    rig.kernel.snapshot_all();
    rig.watch();
    let groups = rig.watcher.groups();
    assert_eq!(groups.len(), 1);
    assert_eq!(groups[0].devices, ["0000:05:00.0"]);
    assert_eq!(groups[0].pasids.as_ref().map(Vec::len), Some(0));
    rig.expect(&[]);
}

/// The begin of an attach that overlapped got lost, and nothing shows it but the kernel's own count.
#[test]
fn a_loss_that_is_told_before_the_ring_was_found_empty_takes_findings_back() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        rig.kernel.call(&driver(), detach(5, D1));
        for event in std::mem::take(&mut rig.kernel.log) {
            rig.feed(event);
        }
        assert_eq!(rig.raised(), [], "nothing is raised before the ring was found empty");
        rig.lose(Stage::Ring, 1);
        rig.expect(&[]);
    }
}

#[test]
fn a_torn_reading_takes_nothing_away_and_syncs_nothing() {
    let mut rig = Rig::unwatched(Era::Handles);
    let tear = |rig: &mut Rig| {
        for event in &mut rig.kernel.log {
            event.incomplete = true;
            event.array.iter_mut().for_each(|array| array.entries.clear());
        }
        rig.watch();
    };
    rig.kernel.snapshot_all();
    tear(&mut rig);
    assert_eq!(rig.watcher.unknown_groups(), [7]);
    rig.bootstrap();
    rig.calls(&driver(), [attach(5, D1)]);
    rig.kernel.snapshot_all();
    tear(&mut rig);
    let pasids = rig.watcher.groups()[0].pasids.clone().expect("known");
    assert_eq!(pasids.len(), 1);
    assert!(pasids[0].attached_by.is_some());
}

#[test]
fn a_call_whose_end_was_lost_does_not_hide_the_next_fault() {
    let claim = Call::Claim { group: 7, owner: OWNER };
    let release = Call::Release { group: 7 };
    for (before, lost, after) in [
        (vec![], claim.clone(), vec![release.clone()]),
        (vec![claim.clone()], release.clone(), vec![]),
        (vec![], attach(5, D1), vec![detach(5, D1)]),
        (vec![attach(5, D1)], detach(5, D1), vec![]),
    ] {
        let mut rig = Rig::new(Era::Handles);
        rig.calls(&other(), before);
        // Of this call only the begin is told; that it returned, and what came then, was lost.
        rig.kernel.call(&other(), lost.clone());
        let begin = rig.kernel.log.iter().position(|event| event.phase == Phase::Begin);
        rig.kernel.log.truncate(begin.map_or(0, |index| index + 1));
        rig.watch();
        for call in after {
            rig.kernel.call(&other(), call);
        }
        rig.kernel.log.clear();
        rig.lose(Stage::Ring, 10_000);
        rig.bootstrap();
        rig.calls(&vfio(), [claim.clone()]);
        rig.calls(&driver(), [attach(5, D1)]);
        rig.calls(&vfio(), [release.clone()]);
        let expected = raised("pasid-left-on-release", 7, &[5], "driver", "vfio");
        rig.expect(&[expected.implying(&["ownership-stuck"])]);
    }
}

/// Another group lost records, and that is told when a detach of this one's RIDs has not come to its end: its record from
/// before is as sure as ever. (Seed 53039 of the replays that lose records.)
#[test]
fn what_another_group_loses_hides_no_detach() {
    let mut rig = Rig::unwatched(Era::Owners);
    rig.kernel.group(8, &["0000:02:00.0"]);
    rig.bootstrap();
    rig.calls(&vfio(), [Call::Claim { group: 7, owner: OWNER }, Call::AttachGroup { group: 7, domain: D1 }]);
    let mut detach = rig.kernel.begin(&vfio(), Call::DetachGroup { group: 7, domain: D1 });
    rig.kernel.act(&mut detach);
    rig.kernel.sleep(1_000);
    let groups = Key::new(rig.kernel.groups[&8].key).map(|key| vec![key]);
    rig.tell(Input::Lost(Lost { stage: Stage::Ring, count: 1, groups }));
    rig.watch();
    rig.kernel.free_domain(&vfio(), D1);
    rig.watch();
    rig.kernel.end(detach);
    rig.expect_silence();
}
