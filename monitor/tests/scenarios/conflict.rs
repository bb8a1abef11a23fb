//! `ownership-conflict`: who was refused, and who was in the way; and what must not raise it.

use monitor::check::{Severity, Value, Violation};
use monitor::input::Stage;
use monitor::watcher::Report;

use crate::kernel::{Call, EBUSY, EPERM, Era, Faults};
use crate::rig::{D1, NIC, NVME, OWNER, Rig, driver, other, raised, vfio};

const CHECK: &str = "ownership-conflict";
const CLAIM: Call = Call::Claim { group: 7, owner: 1 };
const ERAS: [Era; 4] = [Era::Owners, Era::Domains, Era::Handles, Era::Tagged];

fn told(rig: &Rig) -> Vec<&Violation> {
    let violations = rig.reports.iter().filter_map(|report| match report {
        Report::Violation(violation) if violation.check.name == CHECK => Some(violation.as_ref()),
        _ => None,
    });
    violations.collect()
}

fn held_by(violation: &Violation) -> Option<String> {
    violation.read.iter().find_map(|read| match &read.value {
        Value::Task(by) => Some(by.map_or("?".to_owned(), |by| by.comm.to_string())),
        _ => None,
    })
}

#[test]
fn a_claim_that_a_bound_driver_refuses_names_the_driver() {
    for era in ERAS {
        let mut rig = Rig::new(era);
        rig.calls(&driver(), [Call::Use { device: NIC }]);
        assert_eq!(rig.call(&vfio(), CLAIM), EPERM);
        rig.expect(&[raised(CHECK, 7, &[], "", "vfio")]);
        let told = told(&rig);
        assert_eq!(told[0].severity, Severity::Info);
        assert_eq!(held_by(told[0]).as_deref(), Some("driver"));
        assert!(
            told[0].summary.contains("0000:01:00.1 has a driver, bound by driver[100]"),
            "{}",
            told[0].summary
        );
    }
}

#[test]
fn a_bind_that_an_owner_refuses_names_who_claimed() {
    for era in ERAS {
        let mut rig = Rig::new(era);
        rig.calls(&vfio(), [Call::Claim { group: 7, owner: OWNER }]);
        assert_eq!(rig.call(&driver(), Call::Use { device: NVME }), EBUSY);
        rig.expect(&[raised(CHECK, 7, &[], "", "driver")]);
        assert_eq!(held_by(told(&rig)[0]).as_deref(), Some("vfio"));
    }
}

#[test]
fn who_tries_again_and_again_is_told_once_for_a_holder_and_a_kind_of_call() {
    let mut rig = Rig::new(Era::Handles);
    rig.calls(&vfio(), [Call::Claim { group: 7, owner: OWNER }]);
    for _ in 0..50 {
        assert_eq!(rig.call(&other(), CLAIM), EPERM);
        assert_eq!(rig.call(&driver(), Call::Use { device: NVME }), EBUSY);
        rig.idle(1_000_000_000);
    }
    rig.expect(&[raised(CHECK, 7, &[], "", "other"), raised(CHECK, 7, &[], "", "driver")]);
    // The next holder is another one.
    rig.calls(&vfio(), [Call::Release { group: 7 }]);
    rig.calls(&driver(), [Call::Use { device: NVME }]);
    assert_eq!(rig.call(&other(), CLAIM), EPERM);
    rig.idle(1_000_000_000);
    assert_eq!(told(&rig).len(), 3);
    assert_eq!(held_by(told(&rig)[2]).as_deref(), Some("driver"));
}

#[test]
fn who_held_it_before_we_watched_has_no_name() {
    let mut rig = Rig::unwatched(Era::Handles);
    rig.kernel.calls_before(&driver(), [Call::Use { device: NVME }]);
    rig.bootstrap();
    assert_eq!(rig.call(&vfio(), CLAIM), EPERM);
    rig.expect(&[raised(CHECK, 7, &[], "", "vfio")]);
    assert_eq!(held_by(told(&rig)[0]).as_deref(), Some("?"));
}

/// What was seen of it before the loss may be over by now: no name is told, nor a time that isn't known.
#[test]
fn who_took_hold_before_a_loss_has_no_name() {
    let mut rig = Rig::new(Era::Handles);
    rig.calls(&driver(), [Call::Use { device: NVME }]);
    rig.lose(Stage::Kernel, 1);
    rig.bootstrap();
    assert_eq!(rig.call(&vfio(), CLAIM), EPERM);
    rig.expect(&[raised(CHECK, 7, &[], "", "vfio")]);
    let told = told(&rig);
    assert_eq!(held_by(told[0]).as_deref(), Some("?"));
    assert!(
        told[0].summary.ends_with("a driver is bound, by a call that was not seen"),
        "{}",
        told[0].summary
    );
}

#[test]
fn who_let_go_is_in_nobodys_way() {
    let mut rig = Rig::new(Era::Handles);
    rig.calls(&driver(), [Call::Use { device: NVME }]);
    rig.calls(&other(), [Call::Use { device: NIC }]);
    rig.calls(&driver(), [Call::Unuse { device: NVME }]);
    assert_eq!(rig.call(&vfio(), CLAIM), EPERM);
    rig.idle(1_000_000_000);
    assert_eq!(held_by(told(&rig)[0]).as_deref(), Some("other"));
}

/// Both claim at once: the one that is refused may come to its end first.
#[test]
fn of_two_that_race_the_one_in_the_way_is_not_named() {
    let mut rig = Rig::new(Era::Handles);
    let mut winner = rig.kernel.begin(&vfio(), Call::Claim { group: 7, owner: OWNER });
    let mut loser = rig.kernel.begin(&other(), CLAIM);
    rig.kernel.act(&mut winner);
    rig.kernel.act(&mut loser);
    assert_eq!(rig.kernel.end(loser), EPERM);
    assert_eq!(rig.kernel.end(winner), 0);
    rig.expect(&[raised(CHECK, 7, &[], "", "other")]);
    assert_eq!(held_by(told(&rig)[0]), None);
}

/// A release that names nobody returns after the next claim did.
#[test]
fn a_claim_is_not_given_back_by_a_release_that_began_before_it() {
    let mut rig = Rig::new(Era::Handles);
    rig.calls(&other(), [Call::Claim { group: 7, owner: OWNER }]);
    let mut release = rig.kernel.begin(&other(), Call::Release { group: 7 });
    rig.kernel.act(&mut release);
    assert_eq!(rig.kernel.call(&vfio(), CLAIM), 0);
    rig.kernel.end(release);
    rig.watch();
    assert_eq!(rig.call(&driver(), Call::Use { device: NVME }), EBUSY);
    rig.idle(1_000_000_000);
    assert_eq!(held_by(told(&rig)[0]).as_deref(), Some("vfio"));
}

/// The same release did give it back, and another has claimed the group: the owner that the kernel keeps tells.
#[test]
fn who_claimed_for_another_owner_is_in_nobodys_way() {
    let mut rig = Rig::new(Era::Handles);
    let mut claim = rig.kernel.begin(&other(), Call::Claim { group: 7, owner: OWNER });
    rig.kernel.act(&mut claim);
    let mut release = rig.kernel.begin(&other(), Call::Release { group: 7 });
    rig.kernel.end(claim);
    rig.kernel.act(&mut release);
    assert_eq!(rig.kernel.call(&vfio(), CLAIM), 0);
    rig.kernel.end(release);
    rig.watch();
    assert_eq!(rig.call(&driver(), Call::Use { device: NVME }), EBUSY);
    rig.idle(1_000_000_000);
    assert_eq!(held_by(told(&rig)[0]).as_deref(), Some("vfio"));
}

#[test]
fn what_follows_from_a_stuck_owner_is_told_with_it() {
    let mut rig = Rig::new(Era::Domains);
    rig.kernel.faults = Faults { release_keeps_owner: true, ..Faults::default() };
    rig.calls(&vfio(), [Call::Claim { group: 7, owner: OWNER }, Call::Release { group: 7 }]);
    rig.idle(1_000_000_000);
    assert_eq!(rig.call(&other(), CLAIM), EPERM);
    rig.expect(&[raised("ownership-stuck", 7, &[], "", "vfio").implying(&["domain-off-default"])]);
    let open = rig.watcher.violations().next().expect("it stands");
    assert_eq!(
        open.implied.iter().map(|implied| implied.check).collect::<Vec<_>>(),
        ["domain-off-default", CHECK]
    );
    // A conflict that happened keeps nothing open.
    rig.kernel.faults = Faults::default();
    rig.calls(&vfio(), [Call::Release { group: 7 }]);
    assert_eq!(rig.resolved(), [("ownership-stuck", "cleared")]);
}

#[test]
fn a_pasid_that_nobody_holds_is_named_as_what_is_in_the_way() {
    let mut rig = Rig::new(Era::Handles);
    rig.calls(&driver(), [Call::Attach { device: NVME, pasid: 5, domain: D1 }]);
    assert_eq!(rig.call(&vfio(), CLAIM), EBUSY);
    rig.expect(&[raised(CHECK, 7, &[5], "driver", "vfio")]);
}

/// A device that must keep its direct mapping (`require_direct`), no memory, a probe put off (7.3).
#[test]
fn an_error_of_another_kind_is_no_conflict() {
    for errno in [-22, -12, -517] {
        let mut rig = Rig::new(Era::Tagged);
        rig.calls(&driver(), [Call::Use { device: NIC }]);
        let mut claim = rig.kernel.begin(&vfio(), CLAIM);
        claim.refuse(errno);
        assert_eq!(rig.kernel.end(claim), errno);
        rig.expect_silence();
    }
}

#[test]
fn a_claim_that_is_granted_is_silent() {
    for era in ERAS {
        let mut rig = Rig::new(era);
        rig.calls(&vfio(), [CLAIM, Call::Release { group: 7 }]);
        rig.calls(&driver(), [Call::Use { device: NVME }, Call::Use { device: NIC }]);
        rig.expect_silence();
    }
}
