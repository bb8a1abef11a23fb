//! `pasid-left-on-release`, in the three ways of letting go, and what must not raise it.

use monitor_ebpf::wire::Hook;

use crate::kernel::{Call, Era};
use crate::rig::{D1, D2, NIC, NVME, OWNER, Rig, driver, other, raised, vfio};

const CHECK: &str = "pasid-left-on-release";

fn attach(pasid: u32) -> Call {
    Call::Attach { device: NVME, pasid, domain: D1 }
}

fn detach(pasid: u32) -> Call {
    Call::Detach { device: NVME, pasid, domain: D1 }
}

#[test]
fn a_pasid_left_at_the_release_of_a_group_is_caught() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        rig.calls(&vfio(), [Call::Claim { group: 7, owner: OWNER }]);
        rig.calls(&driver(), [attach(5), attach(6)]);
        rig.calls(&vfio(), [Call::Release { group: 7 }]);
        rig.expect(&[raised(CHECK, 7, &[5, 6], "driver", "vfio").implying(&["ownership-stuck"])]);
    }
}

#[test]
fn the_same_release_without_a_pasid_is_silent() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        rig.calls(&vfio(), [Call::Claim { group: 7, owner: OWNER }]);
        rig.calls(&driver(), [attach(5), attach(6), detach(5), detach(6)]);
        rig.calls(&vfio(), [Call::Release { group: 7 }]);
        rig.expect_silence();
    }
}

#[test]
fn a_pasid_left_at_the_last_release_of_a_device_is_caught() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        let claim = |device| Call::ClaimDevice { device, owner: OWNER };
        rig.calls(&vfio(), [claim(NVME), claim(NIC), attach(5)]);
        rig.calls(&vfio(), [Call::ReleaseDevice { device: NIC }]);
        assert_eq!(rig.raised(), [], "a release with owner_cnt > 1 only counts down");
        rig.calls(&other(), [Call::ReleaseDevice { device: NVME }]);
        rig.expect(&[raised(CHECK, 7, &[5], "vfio", "other").implying(&["ownership-stuck"])]);
    }
}

#[test]
fn with_several_claims_only_the_last_release_counts() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        let claim = |device| Call::ClaimDevice { device, owner: OWNER };
        rig.calls(&vfio(), [claim(NVME), claim(NIC), attach(5)]);
        rig.calls(
            &vfio(),
            [Call::ReleaseDevice { device: NIC }, detach(5), Call::ReleaseDevice { device: NVME }],
        );
        rig.expect_silence();
    }
}

#[test]
fn a_pasid_left_at_the_unbind_of_the_last_driver_is_caught() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        rig.calls(&driver(), [Call::Use { device: NVME }, attach(5)]);
        rig.calls(&other(), [Call::Unuse { device: NVME }]);
        rig.expect(&[raised(CHECK, 7, &[5], "driver", "other").implying(&["ownership-leaked"])]);
    }
}

#[test]
fn the_same_unbind_without_a_pasid_is_silent() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        rig.calls(
            &driver(),
            [Call::Use { device: NVME }, attach(5), detach(5), Call::Unuse { device: NVME }],
        );
        rig.expect_silence();
    }
}

#[test]
fn an_sva_bond_left_at_the_unbind_of_the_driver_is_caught() {
    let mut rig = Rig::new(Era::Tagged);
    rig.calls(&driver(), [Call::Use { device: NVME }]);
    rig.calls(&other(), [Call::Bind { device: NVME, mm: 9, pasid: 12 }]);
    rig.calls(&driver(), [Call::Unuse { device: NVME }]);
    rig.expect(&[raised(CHECK, 7, &[12], "other", "driver").implying(&["ownership-leaked"])]);
}

#[test]
fn a_pasid_from_before_we_watched_is_caught_and_nobody_is_blamed_for_its_attach() {
    let mut rig = Rig::unwatched(Era::Handles);
    rig.kernel.call(&vfio(), Call::Claim { group: 7, owner: OWNER });
    rig.kernel.call(&driver(), attach(5));
    rig.kernel.log.clear();
    rig.bootstrap();
    rig.calls(&vfio(), [Call::Release { group: 7 }]);
    rig.expect(&[raised(CHECK, 7, &[5], "", "vfio").implying(&["ownership-stuck"])]);
}

/// Trap 1.
#[test]
fn the_rids_own_handle_at_index_0_is_no_leftover() {
    for era in [Era::Handles, Era::Tagged] {
        let mut rig = Rig::new(era);
        rig.calls(&vfio(), [Call::ClaimDevice { device: NVME, owner: OWNER }]);
        rig.kernel.put_rid_handle(7, D1);
        rig.calls(&driver(), [attach(5), detach(5)]);
        rig.kernel.take_rid_handle(7);
        rig.calls(&vfio(), [Call::ReleaseDevice { device: NVME }]);
        rig.expect_silence();
    }
}

/// Trap 1: the core counts index 0 as well, and keeps the group. That is a fault, but no PASID's.
#[test]
fn a_rid_handle_that_is_left_is_a_stuck_ownership_and_no_pasid() {
    let mut rig = Rig::new(Era::Tagged);
    rig.calls(&vfio(), [Call::ClaimDevice { device: NVME, owner: OWNER }]);
    rig.kernel.put_rid_handle(7, D1);
    rig.calls(&vfio(), [Call::ReleaseDevice { device: NVME }]);
    rig.expect(&[raised("ownership-stuck", 7, &[], "", "vfio")]);
}

/// Trap 1: VT-d keeps the RID's own translation in entry 0 of the table.
#[test]
fn the_teardown_of_hardware_entry_0_is_silent() {
    let mut rig = Rig::new(Era::Handles);
    rig.calls(&vfio(), [Call::Claim { group: 7, owner: OWNER }]);
    rig.kernel.hardware(Hook::VtdTearDown, &vfio(), NVME, 0);
    rig.kernel.hardware(Hook::VtdSetupSecond, &vfio(), NVME, 0);
    rig.calls(&vfio(), [Call::Release { group: 7 }]);
    rig.expect_silence();
}

/// Trap 2.
#[test]
fn a_reserved_entry_in_the_middle_of_an_attach_is_no_leftover() {
    let mut rig = Rig::new(Era::Tagged);
    rig.calls(&driver(), [Call::Use { device: NVME }]);
    // The attach has begun; whether it comes before or after the unbind nobody can tell.
    let mut attaching = rig.kernel.begin(&other(), attach(5));
    rig.kernel.act(&mut attaching);
    rig.calls(&driver(), [Call::Unuse { device: NVME }]);
    assert_eq!(rig.kernel.end(attaching), 0);
    rig.watch();
    assert!(!rig.raised().iter().any(|raised| raised.check == CHECK), "{:?}", rig.raised());
}

/// Trap 2: idxd's system PASID on 6.11 to 6.14.
#[test]
fn an_attach_without_a_handle_that_is_left_is_a_leftover() {
    let mut rig = Rig::new(Era::Handles);
    rig.calls(
        &driver(),
        [Call::Use { device: NVME }, Call::AttachBare { device: NVME, pasid: 5, domain: D1 }],
    );
    rig.calls(&driver(), [Call::Unuse { device: NVME }]);
    rig.expect(&[raised(CHECK, 7, &[5], "driver", "driver").implying(&["ownership-leaked"])]);
}

/// Trap 3.
#[test]
fn a_member_without_pasids_changes_nothing() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::unwatched(era);
        rig.kernel.group_mut(7).devices[1].max_pasids = 0;
        rig.bootstrap();
        rig.calls(
            &vfio(),
            [Call::Claim { group: 7, owner: OWNER }, attach(5), detach(5), Call::Release { group: 7 }],
        );
        rig.expect_silence();
    }
}

/// Trap 18.
#[test]
fn a_device_that_joins_later_gets_no_pasids_and_raises_nothing() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        rig.calls(&driver(), [Call::Use { device: NVME }, attach(5)]);
        let late = rig.kernel.device("0000:02:00.0");
        rig.kernel.plug(7, late);
        rig.calls(&driver(), [detach(5), Call::Unuse { device: NVME }]);
        rig.expect_silence();
    }
}

#[test]
fn the_root_stands_as_long_as_its_consequence_does() {
    let mut rig = Rig::new(Era::Handles);
    rig.calls(&driver(), [Call::Use { device: NVME }, attach(5), Call::Unuse { device: NVME }]);
    rig.calls(&driver(), [detach(5)]);
    rig.idle(1_000_000_000);
    assert_eq!(rig.resolved(), [], "the use is leaked, even after the PASID is gone");
    assert_eq!(rig.watcher.violations().count(), 1);
    for device in [NVME, NIC] {
        rig.kernel.unplug(device);
    }
    rig.watch();
    assert_eq!(rig.resolved(), [(CHECK, "released")]);
}

#[test]
fn a_release_that_succeeds_at_the_second_try_clears_the_root() {
    let mut rig = Rig::new(Era::Tagged);
    rig.calls(&vfio(), [Call::Claim { group: 7, owner: OWNER }, attach(5), Call::Release { group: 7 }]);
    rig.calls(&vfio(), [detach(5), Call::Release { group: 7 }]);
    assert_eq!(rig.resolved(), [(CHECK, "cleared")]);
    rig.expect(&[raised(CHECK, 7, &[5], "vfio", "vfio").implying(&["ownership-stuck"])]);
}

#[test]
fn the_same_leftover_is_raised_once() {
    let mut rig = Rig::new(Era::Handles);
    rig.calls(&vfio(), [Call::Claim { group: 7, owner: OWNER }, attach(5)]);
    rig.calls(&vfio(), [Call::Release { group: 7 }, Call::Release { group: 7 }, Call::Release { group: 7 }]);
    rig.expect(&[raised(CHECK, 7, &[5], "vfio", "vfio").implying(&["ownership-stuck"])]);
}

#[test]
fn a_leftover_of_another_attach_is_raised_again() {
    let mut rig = Rig::new(Era::Handles);
    for _ in 0..2 {
        rig.calls(&vfio(), [Call::Claim { group: 7, owner: OWNER }, attach(5), Call::Release { group: 7 }]);
        rig.calls(&vfio(), [detach(5), Call::Release { group: 7 }]);
    }
    assert_eq!(rig.raised().len(), 2);
    assert_eq!(rig.resolved().len(), 2);
}

#[test]
fn the_domain_of_a_leftover_is_the_one_that_was_attached() {
    let mut rig = Rig::new(Era::Tagged);
    rig.calls(&vfio(), [Call::Claim { group: 7, owner: OWNER }, attach(5)]);
    rig.calls(&other(), [Call::Replace { device: NVME, pasid: 5, domain: D2 }]);
    rig.calls(&vfio(), [Call::Release { group: 7 }]);
    rig.expect(&[raised(CHECK, 7, &[5], "other", "vfio").implying(&["ownership-stuck"])]);
    let violation = rig.watcher.violations().next().expect("one stands");
    assert_eq!(violation.domain.as_ref().map(|domain| domain.kind), Some("unmanaged"));
}

/// A detach that no hook showed: on return the PASID is gone, so nobody can say that it was left.
#[test]
fn a_pasid_that_is_gone_on_return_is_no_leftover() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        rig.calls(&driver(), [Call::Use { device: NVME }, attach(5)]);
        let mut unuse = rig.kernel.begin(&driver(), Call::Unuse { device: NVME });
        let shown = rig.kernel.log.len();
        rig.kernel.call(&other(), detach(5));
        rig.kernel.log.truncate(shown);
        rig.kernel.act(&mut unuse);
        rig.kernel.end(unuse);
        // The sequence of the other task's CPU goes on as if nothing had been.
        rig.watch();
        rig.expect_silence();
    }
}

/// The second claim came after the release had begun, and before it did its work.
#[test]
fn a_claim_that_comes_in_between_makes_it_not_the_last_release() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        rig.calls(&vfio(), [Call::ClaimDevice { device: NVME, owner: OWNER }, attach(5)]);
        let mut release = rig.kernel.begin(&vfio(), Call::ReleaseDevice { device: NVME });
        rig.kernel.call(&other(), Call::ClaimDevice { device: NIC, owner: OWNER });
        rig.kernel.act(&mut release);
        rig.kernel.end(release);
        rig.calls(&other(), [detach(5), Call::ReleaseDevice { device: NIC }]);
        rig.expect_silence();
    }
}

#[test]
fn without_its_consequences_a_leftover_stands_until_it_is_gone() {
    for (call, reason) in
        [(detach(5), "cleared"), (Call::Replace { device: NVME, pasid: 5, domain: D2 }, "cleared")]
    {
        let mut rig = Rig::new(Era::Tagged);
        rig.only_check(CHECK);
        rig.calls(&vfio(), [Call::Claim { group: 7, owner: OWNER }, attach(5), Call::Release { group: 7 }]);
        rig.idle(1_000_000_000);
        assert_eq!(rig.resolved(), []);
        rig.calls(&driver(), [call]);
        assert_eq!(rig.resolved(), [(CHECK, reason)]);
    }
}
