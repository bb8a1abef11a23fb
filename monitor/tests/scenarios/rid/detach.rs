//! `driver-detach-failed`: a driver that doesn't take a PASID off; and where a driver's own work can't be seen.

use monitor::input::Stage;

use super::*;

#[test]
fn a_pasid_that_the_driver_does_not_take_off_is_caught() {
    let mut rig = alone(Era::Tagged);
    rig.calls(&driver(), [Call::Use { device: NVME }, attach(5)]);
    with(&mut rig, Faults { detach_fails: true, ..Faults::default() }, &vfio(), detach(5));
    for _ in 0..3 {
        rig.kernel.snapshot_all();
        rig.idle(1_000_000_000);
    }
    let expected = raised(KEPT, 7, &[5], "driver", "vfio").implying(&["pasid-table-mismatch"]);
    assert_eq!(Raised::all(&rig.reports, &rig.watcher), [expected]);
}

#[test]
fn a_pasid_that_the_driver_takes_off_is_silent() {
    let mut rig = rig(Era::Tagged);
    rig.calls(&driver(), [Call::Use { device: NVME }, attach(5), detach(5), attach(5), detach(5)]);
    rig.expect_silence();
    assert!(rig.watcher.counters().events(Hook::VtdDetach) > 0, "the driver's hooks report");
}

#[test]
fn what_is_not_attached_need_not_be_taken_off() {
    let mut rig = rig(Era::Tagged);
    with(&mut rig, Faults { detach_fails: true, ..Faults::default() }, &vfio(), detach(5));
    rig.expect(&[raised("attach-imbalance", 7, &[5], "", "vfio")]);
}

/// Of two detaches at once, the one whose driver fails may have come second.
#[test]
fn a_driver_that_has_nothing_left_to_take_off_has_not_failed() {
    let mut rig = rig(Era::Tagged);
    rig.calls(&driver(), [Call::Use { device: NVME }, attach(5)]);
    let mut first = rig.kernel.begin(&driver(), detach(5));
    rig.kernel.faults = Faults { detach_fails: true, ..Faults::default() };
    let mut second = rig.kernel.begin(&vfio(), detach(5));
    rig.kernel.faults = Faults::default();
    rig.kernel.act(&mut first);
    rig.kernel.act(&mut second);
    rig.kernel.end(first);
    rig.kernel.end(second);
    rig.watch();
    assert!(rig.raised().iter().all(|raised| raised.check != KEPT), "{:?}", rig.raised());
}

/// An attach that fails on the second member takes the PASID off the first.
#[test]
fn a_failed_attach_that_is_not_taken_back_is_caught() {
    let mut rig = rig(Era::Tagged);
    let mut running = rig.kernel.begin(&driver(), Call::Attach { device: NVME, pasid: 5, domain: 3901 });
    rig.kernel.driver_says(Hook::VtdDetach, &driver(), NVME, Some(5), EINVAL);
    rig.kernel.act(&mut running);
    rig.kernel.end(running);
    rig.watch();
    rig.expect(&[raised(KEPT, 7, &[5], "driver", "driver")]);
}

#[test]
fn who_attaches_the_blocking_domain_is_told_himself() {
    let mut rig = rig(Era::Tagged);
    let blocking = rig.kernel.groups[&7].blocking_domain;
    let mut running = rig.kernel.begin(&driver(), Call::Attach { device: NVME, pasid: 5, domain: blocking });
    rig.kernel.driver_says(Hook::VtdDetach, &driver(), NVME, Some(5), EINVAL);
    running.refuse(EINVAL);
    rig.kernel.end(running);
    rig.watch();
    rig.expect_silence();
}

#[test]
fn a_reset_that_can_not_take_a_pasid_off_is_no_detach() {
    let mut rig = rig(Era::Tagged);
    rig.calls(&driver(), [attach(5)]);
    let mut running = rig.kernel.begin(&vfio(), prepare());
    rig.kernel.driver_says(Hook::VtdDetach, &vfio(), NVME, Some(5), EINVAL);
    rig.kernel.act(&mut running);
    rig.kernel.end(running);
    rig.watch();
    rig.expect_silence();
}

fn inventory(iommu_driver: &str) -> Inventory {
    let device = DeviceEntry {
        name: NVME.into(),
        driver: Some("nvme".into()),
        iommu: Some("iommu0".into()),
        iommu_driver: Some(iommu_driver.into()),
    };
    Inventory { groups: vec![GroupEntry { id: 7, default_domain: None, devices: vec![device] }] }
}

fn state(coverage: &Coverage, check: &str, iommu_driver: &str) -> CheckState {
    let mut watcher = Watcher::new(Options { coverage: coverage.clone(), ..options(Era::Tagged) });
    watcher.take(Input::Inventory(inventory(iommu_driver)), 0);
    let mut checks = watcher.checks();
    checks.find(|(spec, _)| spec.name == check).expect("listed").1.clone()
}

#[test]
fn where_the_driver_can_not_say_that_it_failed_the_check_does_not_apply() {
    let mut coverage = crate::rig::coverage(Era::Tagged);
    assert_eq!(state(&coverage, KEPT, "intel"), CheckState::Armed);
    coverage.set(Hook::VtdDetach, HookState::Absent);
    let up_to_6_13 = state(&coverage, KEPT, "intel");
    assert!(matches!(&up_to_6_13, CheckState::NotApplicable { reason } if reason.contains("6.13")));
    assert_eq!(state(&coverage, KEPT, "amd"), CheckState::Armed);
    coverage.set(Hook::AmdDetach, HookState::Failed { reason: "refused".into() });
    let refused = state(&coverage, KEPT, "amd");
    assert!(matches!(&refused, CheckState::Unavailable { reason } if reason.contains("refused")));
    assert!(matches!(state(&coverage, KEPT, "virtio-iommu"), CheckState::NotApplicable { .. }));
}

#[test]
fn where_nothing_shows_what_the_driver_clears_the_check_says_so() {
    let mut coverage = crate::rig::coverage(Era::Tagged);
    coverage.set(Hook::AmdTableFree, HookState::Absent);
    assert!(matches!(state(&coverage, LOST, "amd"), CheckState::NotApplicable { .. }));
    // A reset that can't be seen would be taken for a switch.
    coverage.set(Hook::ResetPrepare, HookState::Failed { reason: "refused".into() });
    for check in [LOST, REFUSED, OFF, KEPT] {
        assert!(matches!(state(&coverage, check, "intel"), CheckState::Unavailable { .. }), "{check}");
    }
}

/// What a look finds goes into what is open at once; what is told as lost then may explain it. (Seed 56291 of the wild
/// programs that lose records.)
#[test]
fn what_a_loss_may_explain_follows_from_nothing() {
    let mut rig = alone(Era::Tagged);
    rig.calls(&driver(), [Call::Use { device: NVME }, attach(5)]);
    with(&mut rig, Faults { detach_fails: true, ..Faults::default() }, &vfio(), detach(5));
    let failed = raised(KEPT, 7, &[5], "driver", "vfio");
    assert_eq!(Raised::all(&rig.reports, &rig.watcher), std::slice::from_ref(&failed));
    rig.kernel.snapshot(7);
    for event in rig.kernel.take_ready() {
        rig.feed(event);
    }
    rig.lose(Stage::Kernel, 1);
    assert_eq!(Raised::all(&rig.reports, &rig.watcher), std::slice::from_ref(&failed));
    rig.kernel.snapshot(7);
    rig.watch();
    rig.lose(Stage::Kernel, 1);
    let expected = failed.implying(&["pasid-table-mismatch"]);
    assert_eq!(Raised::all(&rig.reports, &rig.watcher), [expected]);
}
