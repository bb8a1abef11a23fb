//! `iopf-unanswered`: a PASID is detached, and one of its page requests waits on.

use monitor::check::CheckState;
use monitor::coverage::HookState;
use monitor::input::Stage;
use monitor::watcher::{Options, Watcher};
use monitor_ebpf::wire::Hook;

use crate::kernel::{Call, Era};
use crate::rig::{D1, NIC, NVME, OWNER, Raised, Rig, coverage, driver, options, other, raised, vfio};

const CHECK: &str = "iopf-unanswered";
const SECOND: u64 = 1_000_000_000;
/// The kernels whose list holds nothing else than requests of PASIDs that were attached.
const ERAS: [Era; 2] = [Era::Handles, Era::Tagged];

fn attach(pasid: u32) -> Call {
    Call::Attach { device: NVME, pasid, domain: D1 }
}

fn detach(pasid: u32) -> Call {
    Call::Detach { device: NVME, pasid, domain: D1 }
}

/// So long after what was before, somebody looks.
fn look_after(rig: &mut Rig, ns: u64) {
    rig.kernel.sleep(ns);
    rig.kernel.snapshot(7);
    rig.watch();
}

/// PASID 5 is attached, and its device asks for a page.
fn asking(era: Era) -> Rig {
    let mut rig = Rig::new(era);
    rig.calls(&driver(), [Call::Use { device: NVME }, attach(5)]);
    assert!(rig.kernel.asks(NVME, 5));
    rig
}

/// And it is detached meanwhile.
fn left(era: Era) -> Rig {
    let mut rig = asking(era);
    rig.calls(&other(), [detach(5)]);
    rig
}

fn unanswered(pasid: u32) -> Raised {
    raised(CHECK, 7, &[pasid], "driver", "other")
}

#[test]
fn a_request_that_outlives_its_pasid_is_caught_with_who_detached_it() {
    for era in ERAS {
        let mut rig = left(era);
        look_after(&mut rig, 6 * SECOND);
        assert_eq!(rig.raised(), [], "one look is not enough");
        look_after(&mut rig, SECOND);
        rig.expect(&[unanswered(5)]);
        assert_eq!(rig.severities(), ["warning"]);
        let violation = rig.watcher.violations().next().expect("open");
        assert_eq!(violation.devices, [NVME, NIC]);
        let told = "a page request of 0000:01:00.0 (group 7) got no response: it names PASID 5, which other[302] detached 6 s ago";
        assert_eq!(violation.summary, told);
    }
}

#[test]
fn it_resolves_with_the_response_and_not_before() {
    let mut rig = left(Era::Tagged);
    look_after(&mut rig, 6 * SECOND);
    look_after(&mut rig, SECOND);
    look_after(&mut rig, 60 * SECOND);
    // Somebody takes the group: the request waits on.
    rig.calls(&driver(), [Call::Unuse { device: NVME }]);
    rig.calls(&vfio(), [Call::Claim { group: 7, owner: OWNER }]);
    look_after(&mut rig, SECOND);
    look_after(&mut rig, 60 * SECOND);
    rig.expect(&[unanswered(5)]);
    assert_eq!(rig.resolved(), []);
    rig.kernel.waiting_of(NVME).clear();
    look_after(&mut rig, SECOND);
    assert_eq!(rig.resolved(), [(CHECK, "cleared")]);
}

#[test]
fn the_devices_of_a_group_are_told_apart() {
    let mut rig = asking(Era::Tagged);
    assert!(rig.kernel.asks(NIC, 5));
    rig.calls(&other(), [detach(5)]);
    rig.kernel.waiting_of(NVME).clear();
    look_after(&mut rig, 6 * SECOND);
    look_after(&mut rig, SECOND);
    rig.expect(&[unanswered(5)]);
    let violation = rig.watcher.violations().next().expect("open");
    assert!(violation.summary.starts_with("a page request of 0000:01:00.1"), "{}", violation.summary);
}

/// Who starts after it finds it, later than who saw the detach.
#[test]
fn what_was_left_before_the_start_is_found() {
    let mut rig = left(Era::Tagged);
    rig.watcher = Watcher::new(options(Era::Tagged));
    rig.bootstrap();
    look_after(&mut rig, 3 * SECOND);
    look_after(&mut rig, 3 * SECOND);
    assert_eq!(rig.raised(), [], "it may have been detached just before");
    look_after(&mut rig, SECOND);
    rig.expect(&[raised(CHECK, 7, &[5], "", "")]);
}

/// By whom and with what makes no difference: it is taken off the list.
#[test]
fn a_request_that_was_answered_is_silent() {
    for era in ERAS {
        // Before the detach; or by a driver that doesn't wait for it there, after.
        for before in [true, false] {
            let mut rig = asking(era);
            if before {
                rig.kernel.waiting_of(NVME).clear();
            }
            rig.calls(&other(), [detach(5)]);
            look_after(&mut rig, 4 * SECOND);
            rig.kernel.waiting_of(NVME).clear();
            look_after(&mut rig, 60 * SECOND);
            look_after(&mut rig, 60 * SECOND);
            rig.expect_silence();
        }
    }
}

#[test]
fn a_request_that_is_answered_between_two_looks_is_silent() {
    let mut rig = left(Era::Tagged);
    look_after(&mut rig, 6 * SECOND);
    assert_eq!(rig.watcher.second_looks(), [7]);
    rig.kernel.waiting_of(NVME).clear();
    look_after(&mut rig, SECOND);
    assert_eq!(rig.watcher.second_looks(), Vec::<u32>::new());
    rig.expect_silence();
}

/// The memory that it asks for may be long in coming.
#[test]
fn a_request_may_wait_while_its_pasid_is_attached() {
    for era in ERAS {
        let mut rig = asking(era);
        (0..3).for_each(|_| look_after(&mut rig, 600 * SECOND));
        rig.expect_silence();
    }
}

#[test]
fn a_request_of_another_pasid_does_not_count_for_it() {
    let mut rig = asking(Era::Tagged);
    rig.calls(&driver(), [attach(6)]);
    rig.calls(&other(), [detach(6)]);
    (0..2).for_each(|_| look_after(&mut rig, 60 * SECOND));
    rig.expect_silence();
    // And one that is attached doesn't hide one that isn't.
    assert!(!rig.kernel.asks(NVME, 6));
    rig.calls(&driver(), [attach(6)]);
    assert!(rig.kernel.asks(NVME, 6));
    rig.calls(&other(), [detach(6)]);
    (0..2).for_each(|_| look_after(&mut rig, 60 * SECOND));
    rig.expect(&[unanswered(6)]);
}

/// It is another attachment, and what waits may be its own.
#[test]
fn a_pasid_that_is_attached_again_begins_anew() {
    let mut rig = left(Era::Tagged);
    look_after(&mut rig, 6 * SECOND);
    rig.calls(&driver(), [attach(5)]);
    look_after(&mut rig, 60 * SECOND);
    rig.calls(&other(), [detach(5)]);
    look_after(&mut rig, 3 * SECOND);
    look_after(&mut rig, SECOND);
    assert_eq!(rig.raised(), []);
    look_after(&mut rig, 2 * SECOND);
    look_after(&mut rig, SECOND);
    rig.expect(&[unanswered(5)]);
}

/// The second look comes right after it was detached once more.
#[test]
fn a_pasid_that_came_and_went_between_two_looks_begins_anew() {
    let mut rig = left(Era::Tagged);
    look_after(&mut rig, 6 * SECOND);
    rig.kernel.call(&driver(), attach(5));
    rig.kernel.call(&other(), detach(5));
    rig.watch();
    look_after(&mut rig, SECOND);
    assert_eq!(rig.raised(), []);
    rig.kernel.waiting_of(NVME).clear();
    look_after(&mut rig, SECOND);
    rig.expect_silence();
}

#[test]
fn while_a_call_on_the_pasid_is_under_way_nothing_is_said() {
    let mut rig = left(Era::Tagged);
    rig.kernel.sleep(6 * SECOND);
    let mut attaching = rig.kernel.begin(&driver(), attach(5));
    (0..3).for_each(|_| look_after(&mut rig, 6 * SECOND));
    rig.kernel.act(&mut attaching);
    rig.kernel.end(attaching);
    rig.watch();
    assert_eq!(rig.raised(), []);
    (0..2).for_each(|_| look_after(&mut rig, 60 * SECOND));
    rig.expect_silence();
}

/// A guest may have the PASID table itself.
#[test]
fn on_a_nested_domain_requests_are_the_guests() {
    const NESTED: u64 = 5001;
    let mut rig = left(Era::Tagged);
    rig.calls(&driver(), [Call::AttachGroup { group: 7, domain: NESTED }]);
    (0..3).for_each(|_| look_after(&mut rig, 60 * SECOND));
    assert_eq!(rig.raised(), []);
    rig.calls(&driver(), [Call::DetachGroup { group: 7, domain: NESTED }]);
    look_after(&mut rig, SECOND);
    (0..2).for_each(|_| look_after(&mut rig, 6 * SECOND));
    rig.expect(&[raised(CHECK, 7, &[5], "", "")]);
}

#[test]
fn a_device_that_goes_takes_its_requests_along() {
    let mut rig = left(Era::Tagged);
    look_after(&mut rig, 6 * SECOND);
    rig.kernel.unplug(NVME);
    look_after(&mut rig, SECOND);
    assert_eq!(rig.raised(), []);
    let mut rig = left(Era::Tagged);
    look_after(&mut rig, 6 * SECOND);
    look_after(&mut rig, SECOND);
    rig.kernel.unplug(NVME);
    look_after(&mut rig, SECOND);
    rig.expect(&[unanswered(5)]);
    assert_eq!(rig.resolved(), [(CHECK, "released")]);
}

/// It may have been attached and detached again unseen.
#[test]
fn after_a_loss_it_begins_anew() {
    let mut rig = left(Era::Tagged);
    look_after(&mut rig, 6 * SECOND);
    rig.lose(Stage::Ring, 1);
    rig.kernel.snapshot_all();
    rig.idle(2 * SECOND);
    rig.kernel.snapshot_all();
    look_after(&mut rig, SECOND);
    assert_eq!(rig.raised(), []);
    look_after(&mut rig, 6 * SECOND);
    look_after(&mut rig, SECOND);
    rig.expect(&[raised(CHECK, 7, &[5], "", "")]);
}

/// The list, or the array, could not be read as a whole.
#[test]
fn what_was_not_read_is_not_told() {
    for unread in ["list", "array"] {
        let mut rig = left(Era::Tagged);
        for _ in 0..2 {
            rig.kernel.sleep(60 * SECOND);
            rig.kernel.snapshot(7);
            for event in rig.kernel.log.iter_mut().filter(|event| event.hook == Hook::SnapshotIntel) {
                match unread {
                    "list" => event.unanswered = None,
                    _ => event.array.as_mut().expect("read").complete = false,
                }
            }
            rig.watch();
        }
        assert_eq!(rig.raised(), [], "{unread}");
    }
}

#[test]
fn a_kernel_that_has_no_such_list_says_so() {
    let state = |absent: &[Hook]| {
        let mut coverage = coverage(Era::Tagged);
        for &hook in absent {
            coverage.set(hook, HookState::Absent);
        }
        let watcher = Watcher::new(Options { coverage, ..options(Era::Tagged) });
        watcher.checks().find(|(spec, _)| spec.name == CHECK).expect("a check").1.clone()
    };
    let CheckState::NotApplicable { reason } = state(&[Hook::PageRequest, Hook::SvaBind]) else {
        panic!("it has none")
    };
    assert!(reason.contains("CONFIG_IOMMU_IOPF"), "{reason}");
    let handles = [Hook::AttachGroupHandle, Hook::DetachGroupHandle];
    let CheckState::Unavailable { reason } = state(&handles) else { panic!("it has others") };
    assert!(reason.contains("up to 6.10"), "{reason}");
}
