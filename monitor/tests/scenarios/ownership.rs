//! `ownership-stuck` and `ownership-leaked` where they are roots, and what must not raise them.

use crate::kernel::{Call, EPERM, Era, Faults};
use crate::rig::{D1, NIC, NVME, OWNER, Raised, Rig, driver, other, raised, vfio};

const ERAS: [Era; 4] = [Era::Owners, Era::Domains, Era::Handles, Era::Tagged];

/// The owner is stuck, or the domain; with either it is on the wrong one.
fn stuck() -> Raised {
    raised("ownership-stuck", 7, &[], "", "vfio").implying(&["domain-off-default"])
}

#[test]
fn a_release_that_keeps_its_owner_is_caught() {
    for era in ERAS {
        let mut rig = Rig::new(era);
        rig.kernel.faults = Faults { release_keeps_owner: true, ..Faults::default() };
        rig.calls(&vfio(), [Call::Claim { group: 7, owner: OWNER }, Call::Release { group: 7 }]);
        rig.expect(&[stuck()]);
    }
}

#[test]
fn a_release_that_stays_on_the_blocking_domain_is_caught() {
    for era in ERAS {
        let mut rig = Rig::new(era);
        rig.kernel.faults = Faults { release_keeps_domain: true, ..Faults::default() };
        rig.calls(&vfio(), [Call::Claim { group: 7, owner: OWNER }, Call::Release { group: 7 }]);
        rig.expect(&[stuck()]);
    }
}

#[test]
fn claims_and_releases_as_vfio_makes_them_are_silent() {
    for era in ERAS {
        let mut rig = Rig::new(era);
        for _ in 0..100 {
            let (group, domain) = (7, D1);
            rig.calls(&vfio(), [Call::Claim { group, owner: OWNER }, Call::AttachGroup { group, domain }]);
            rig.calls(&vfio(), [Call::DetachGroup { group, domain }, Call::Release { group }]);
        }
        rig.expect_silence();
        assert_eq!(rig.watcher.counters().claims.total, 100);
    }
}

#[test]
fn binds_and_unbinds_of_drivers_are_no_fault() {
    for era in ERAS {
        let mut rig = Rig::new(era);
        for _ in 0..100 {
            rig.calls(&driver(), [Call::Use { device: NVME }, Call::Use { device: NIC }]);
            assert_eq!(rig.call(&vfio(), Call::Claim { group: 7, owner: OWNER }), EPERM);
            rig.calls(&driver(), [Call::Unuse { device: NVME }, Call::Unuse { device: NIC }]);
        }
        rig.expect(&[raised("ownership-conflict", 7, &[], "", "vfio")]);
    }
}

#[test]
fn a_claim_that_fails_after_a_stuck_release_takes_nothing_back() {
    let mut rig = Rig::new(Era::Domains);
    rig.kernel.faults = Faults { release_keeps_owner: true, ..Faults::default() };
    rig.calls(&vfio(), [Call::Claim { group: 7, owner: OWNER }, Call::Release { group: 7 }]);
    assert_eq!(rig.call(&other(), Call::Claim { group: 7, owner: 1 }), EPERM);
    rig.expect(&[stuck()]);
}

#[test]
fn a_claim_that_is_under_way_keeps_the_second_look_waiting() {
    let mut rig = Rig::new(Era::Domains);
    rig.kernel.faults = Faults { release_keeps_owner: true, ..Faults::default() };
    rig.calls(&vfio(), [Call::Claim { group: 7, owner: OWNER }]);
    rig.kernel.call(&vfio(), Call::Release { group: 7 });
    let mut claim = rig.kernel.begin(&other(), Call::Claim { group: 7, owner: 1 });
    rig.idle(1);
    assert_eq!(rig.raised(), []);
    assert!(rig.watcher.deadline().is_some_and(|deadline| deadline <= rig.kernel.now));
    rig.kernel.act(&mut claim);
    assert_eq!(rig.kernel.end(claim), EPERM);
    rig.expect(&[
        raised("ownership-stuck", 7, &[], "", "vfio").implying(&["domain-off-default", "ownership-conflict"])
    ]);
}

/// The reading at a release's return comes after the mutex was dropped: another owner may be in already.
#[test]
fn an_owner_that_comes_right_after_a_release_is_not_taken_for_a_stuck_one() {
    for era in [Era::Owners, Era::Domains] {
        let mut rig = Rig::new(era);
        rig.calls(&vfio(), [Call::Claim { group: 7, owner: OWNER }]);
        let mut release = rig.kernel.begin(&vfio(), Call::Release { group: 7 });
        rig.kernel.act(&mut release);
        rig.watch();
        // The release's return is reported, and the group read only after the other's claim.
        let stale = rig.kernel.log.len();
        let mut claim = rig.kernel.begin(&other(), Call::Claim { group: 7, owner: OWNER });
        rig.kernel.act(&mut claim);
        rig.kernel.end(release);
        let mut log = std::mem::take(&mut rig.kernel.log);
        let end = log.pop().expect("the release's return");
        log.insert(stale, end);
        log.into_iter().for_each(|event| rig.feed(event));
        rig.kernel.end(claim);
        rig.watch();
        rig.expect(&[]);
        assert_eq!(rig.watcher.groups()[0].owner.map(|owner| owner.name()), Some("user"));
    }
}

#[test]
fn an_owner_that_is_stuck_is_cleared_by_a_release_that_works() {
    let mut rig = Rig::new(Era::Handles);
    rig.kernel.faults = Faults { release_keeps_owner: true, ..Faults::default() };
    rig.calls(&vfio(), [Call::Claim { group: 7, owner: OWNER }, Call::Release { group: 7 }]);
    rig.idle(1_000_000_000);
    assert_eq!(rig.resolved(), []);
    rig.kernel.faults = Faults::default();
    rig.calls(&vfio(), [Call::Release { group: 7 }]);
    assert_eq!(rig.resolved(), [("ownership-stuck", "cleared")]);
}

#[test]
fn a_group_without_a_default_domain_has_none_to_go_back_to() {
    let mut rig = Rig::unwatched(Era::Domains);
    rig.kernel.group_mut(7).default_domain = 0;
    rig.kernel.group_mut(7).domain = 0;
    rig.kernel.faults = Faults { release_keeps_domain: true, ..Faults::default() };
    rig.bootstrap();
    rig.calls(&vfio(), [Call::Claim { group: 7, owner: OWNER }, Call::Release { group: 7 }]);
    rig.expect_silence();
}

/// Trap 6.
#[test]
fn a_release_in_the_middle_of_a_reset_is_not_judged_by_its_domain() {
    let mut rig = Rig::new(Era::Tagged);
    rig.calls(&vfio(), [Call::Claim { group: 7, owner: OWNER }]);
    rig.kernel.group_mut(7).recovery_cnt = 1;
    rig.kernel.faults = Faults { release_keeps_domain: true, ..Faults::default() };
    rig.calls(&vfio(), [Call::Release { group: 7 }]);
    rig.expect_silence();
}

/// Trap 6: between prepare and done the PASIDs stay in the array.
#[test]
fn a_reset_with_pasids_attached_is_silent() {
    let mut rig = Rig::new(Era::Tagged);
    let attach = Call::Attach { device: NVME, pasid: 5, domain: D1 };
    let detach = Call::Detach { device: NVME, pasid: 5, domain: D1 };
    rig.calls(&driver(), [Call::Use { device: NVME }, attach]);
    rig.kernel.group_mut(7).recovery_cnt = 1;
    rig.kernel.hardware(monitor_ebpf::wire::Hook::VtdTearDown, &other(), NVME, 5);
    rig.kernel.snapshot(7);
    rig.kernel.group_mut(7).recovery_cnt = 0;
    rig.calls(&driver(), [detach, Call::Unuse { device: NVME }]);
    rig.expect_silence();
}

#[test]
fn a_use_that_is_leaked_with_other_drivers_bound_is_caught() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        rig.calls(&driver(), [Call::Use { device: NVME }, Call::Use { device: NIC }]);
        rig.calls(&driver(), [Call::Attach { device: NVME, pasid: 5, domain: D1 }]);
        rig.calls(&other(), [Call::Unuse { device: NVME }]);
        rig.expect(&[raised("ownership-leaked", 7, &[5], "driver", "other")]);
    }
}

#[test]
fn a_use_that_is_leaked_is_caught_on_a_kernel_without_pasids_too() {
    let mut rig = Rig::new(Era::Owners);
    rig.calls(&driver(), [Call::Use { device: NVME }]);
    rig.kernel.faults = Faults { unuse_keeps_count: true, ..Faults::default() };
    rig.calls(&other(), [Call::Unuse { device: NVME }]);
    rig.expect(&[raised("ownership-leaked", 7, &[], "", "other")]);
}

/// The count that is read at the return of an unbind may have another driver's bind in it.
#[test]
fn a_bind_that_comes_right_after_an_unbind_is_not_taken_for_a_leak() {
    for era in ERAS {
        let mut rig = Rig::new(era);
        rig.calls(&driver(), [Call::Use { device: NVME }]);
        let mut unuse = rig.kernel.begin(&driver(), Call::Unuse { device: NVME });
        rig.kernel.act(&mut unuse);
        rig.watch();
        let mut bind = rig.kernel.begin(&other(), Call::Use { device: NIC });
        rig.kernel.act(&mut bind);
        rig.kernel.end(unuse);
        let mut log = std::mem::take(&mut rig.kernel.log);
        let end = log.pop().expect("the unbind's return");
        log.insert(0, end);
        log.into_iter().for_each(|event| rig.feed(event));
        rig.kernel.end(bind);
        rig.watch();
        rig.expect(&[]);
    }
}

#[test]
fn a_leaked_use_stands_as_long_as_the_count_has_it() {
    let mut rig = Rig::new(Era::Handles);
    rig.calls(&driver(), [Call::Use { device: NVME }, Call::Use { device: NIC }]);
    rig.calls(&driver(), [Call::Attach { device: NVME, pasid: 5, domain: D1 }]);
    rig.calls(&driver(), [Call::Unuse { device: NVME }]);
    rig.calls(&driver(), [Call::Detach { device: NVME, pasid: 5, domain: D1 }]);
    rig.calls(&driver(), [Call::Unuse { device: NIC }]);
    rig.idle(1_000_000_000);
    assert_eq!(rig.resolved(), []);
    assert_eq!(rig.kernel.groups[&7].owner_cnt, 1, "one use stays for ever");
    assert_eq!(rig.watcher.violations().count(), 1);
}

#[test]
fn an_unbind_too_many_has_no_use_to_leak() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        rig.calls(&driver(), [Call::Attach { device: NVME, pasid: 5, domain: D1 }]);
        rig.calls(&driver(), [Call::Unuse { device: NVME }]);
        rig.expect_silence();
    }
}

#[test]
fn a_release_by_somebody_who_owns_nothing_is_no_stuck_ownership() {
    for era in ERAS {
        let mut rig = Rig::new(era);
        rig.calls(&driver(), [Call::Use { device: NVME }]);
        rig.calls(&other(), [Call::Release { group: 7 }]);
        rig.expect_silence();
    }
}
