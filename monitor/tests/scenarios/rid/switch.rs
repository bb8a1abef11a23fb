//! What a switch of a RID's domain does to the device's PASIDs: `pasid-lost-on-detach`, `rid-switch-refused`.

use super::*;

#[test]
fn a_switch_that_clears_a_pasid_is_caught() {
    for era in Era::WITH_PASIDS {
        let mut rig = rig(era);
        rig.calls(&driver(), [attach(5), attach(9)]);
        with(&mut rig, clears(), &vfio(), switch());
        rig.expect(&[lost(&[5, 9])]);
        let violation = rig.watcher.violations().next().expect("one stands");
        assert!(violation.summary.contains("the RID of 0000:01:00.0 (group 7), and its driver cleared"));
        assert_eq!(violation.triggered_by.and_then(|by| by.stack), None, "the rig's attaches have none");
    }
}

#[test]
fn a_switch_that_frees_the_table_is_caught() {
    let mut rig = rig(Era::Tagged);
    rig.calls(&driver(), [attach(5)]);
    with(&mut rig, frees(), &vfio(), switch());
    rig.expect(&[lost(&[5])]);
    let violation = rig.watcher.violations().next().expect("one stands");
    assert!(violation.summary.contains("freed the PASID table with PASID 5"), "{}", violation.summary);
}

#[test]
fn a_loss_in_a_detach_of_the_rid_is_caught_as_well() {
    let mut rig = rig(Era::Tagged);
    rig.calls(&driver(), [switch(), attach(5)]);
    with(&mut rig, clears(), &vfio(), back());
    rig.expect(&[lost(&[5])]);
}

#[test]
fn what_follows_from_a_loss_goes_into_it() {
    let mut rig = alone(Era::Tagged);
    rig.calls(&driver(), [Call::Use { device: NVME }, attach(5)]);
    with(&mut rig, Faults { switch_ats_off: true, switch_pasid_off: true, ..frees() }, &vfio(), switch());
    for _ in 0..3 {
        rig.kernel.snapshot_all();
        rig.idle(1_000_000_000);
    }
    let expected = lost(&[5]).implying(&[OFF, "pasid-table-mismatch"]);
    assert_eq!(Raised::all(&rig.reports, &rig.watcher), [expected]);
}

/// AMD's driver switches the capabilities off with each switch: what was lost with the first has none to lose any more.
#[test]
fn what_was_lost_with_its_table_is_not_told_again_by_the_next_switch() {
    let mut rig = alone(Era::Tagged);
    rig.calls(&driver(), [attach(5)]);
    let amd = || Faults { switch_ats_off: true, switch_pasid_off: true, ..frees() };
    with(&mut rig, amd(), &vfio(), switch());
    with(&mut rig, amd(), &vfio(), back());
    rig.expect(&[lost(&[5]).implying(&[OFF])]);
}

/// Scenario (a): the same calls, and a driver that replaces the RID's own entry alone.
#[test]
fn a_switch_that_leaves_the_pasids_alone_is_silent() {
    for era in Era::WITH_PASIDS {
        let mut rig = rig(era);
        rig.calls(&driver(), [attach(5), switch(), back(), switch(), detach(5), back()]);
        for _ in 0..3 {
            rig.kernel.snapshot_all();
            rig.idle(1_000_000_000);
        }
        rig.expect_silence();
        assert!(rig.watcher.counters().events(Hook::VtdTearDown) > 0, "the driver's hooks report");
    }
}

/// Trap 11: the drivers tear a PASID down when its process exits, and the array keeps it.
#[test]
fn a_pasid_whose_process_has_exited_can_not_be_lost() {
    let mut rig = rig(Era::Tagged);
    rig.calls(&driver(), [attach(5), attach(9)]);
    rig.kernel.hardware(Hook::VtdTearDown, &task(9, "exiting"), NVME, 5);
    with(&mut rig, clears(), &vfio(), switch());
    rig.expect(&[lost(&[9])]);
}

#[test]
fn a_pasid_that_was_lost_can_not_be_lost_again() {
    let mut rig = rig(Era::Tagged);
    rig.calls(&driver(), [attach(5)]);
    with(&mut rig, clears(), &vfio(), switch());
    rig.kernel.hardware(Hook::PasidOff, &vfio(), NVME, 0);
    rig.kernel.faults = Faults::default();
    rig.expect(&[lost(&[5])]);
    rig.calls(&driver(), [detach(5), attach(5)]);
    with(&mut rig, clears(), &other(), back());
    rig.expect(&[lost(&[5]), raised(LOST, 7, &[5], "driver", "other")]);
}

/// Trap 18: a device that joins a group later doesn't get its PASIDs.
#[test]
fn a_device_that_joined_later_never_had_the_pasid() {
    let mut rig = rig(Era::Tagged);
    rig.calls(&driver(), [attach(5)]);
    let late = rig.kernel.device("0000:02:00.0");
    rig.kernel.plug(7, late);
    rig.kernel.hardware(Hook::PasidOff, &vfio(), "0000:02:00.0", 0);
    rig.watch();
    rig.expect_silence();
}

#[test]
fn a_member_without_pasids_has_none_to_lose() {
    let mut rig = rig(Era::Tagged);
    rig.kernel.group_mut(7).devices[1].max_pasids = 0;
    rig.kernel.snapshot_all();
    rig.calls(&driver(), [attach(5)]);
    rig.kernel.hardware(Hook::PasidOff, &vfio(), NIC, 0);
    rig.watch();
    rig.expect_silence();
}

/// The detach has returned in the kernel and is not reported yet, or waits for the mutex: nobody can tell.
#[test]
fn a_call_on_the_pasid_that_overlaps_leaves_it_in_doubt() {
    for detached_first in [true, false] {
        let mut rig = rig(Era::Tagged);
        rig.calls(&driver(), [attach(5)]);
        let mut running = rig.kernel.begin(&driver(), detach(5));
        if detached_first {
            rig.kernel.act(&mut running);
        }
        with(&mut rig, clears(), &vfio(), switch());
        rig.kernel.act(&mut running);
        rig.kernel.end(running);
        rig.watch();
        rig.expect_silence();
    }
}

#[test]
fn another_tasks_tear_down_is_not_the_switchs() {
    let mut rig = rig(Era::Tagged);
    rig.calls(&driver(), [attach(5)]);
    let mut running = rig.kernel.begin(&vfio(), switch());
    // The first record of the switch of the nvme's RID, and then somebody else.
    while !rig.kernel.log.iter().any(|event| event.hook == Hook::RidAttach) {
        rig.kernel.advance(&mut running);
    }
    rig.kernel.hardware(Hook::VtdTearDown, &task(9, "exiting"), NVME, 5);
    rig.kernel.act(&mut running);
    rig.kernel.end(running);
    rig.watch();
    rig.expect_silence();
}

#[test]
fn what_was_attached_before_we_watched_is_known_by_the_hardware_table() {
    for shows_tables in [true, false] {
        let mut rig = Rig::unwatched(Era::Tagged);
        rig.kernel.driver_reports = true;
        if !shows_tables {
            rig.kernel.group_mut(7).devices.iter_mut().for_each(|device| device.table = 0);
        }
        rig.kernel.calls_before(&driver(), [attach(5)]);
        rig.bootstrap();
        with(&mut rig, clears(), &vfio(), switch());
        match shows_tables {
            true => rig.expect(&[raised(LOST, 7, &[5], "", "vfio")]),
            false => rig.expect_silence(),
        }
    }
}

/// Scenario (c).
#[test]
fn a_switch_that_is_refused_for_the_pasids_sake_is_told() {
    for era in Era::WITH_PASIDS {
        let mut rig = rig(era);
        rig.calls(&driver(), [attach(5)]);
        assert_eq!(with(&mut rig, refuses(), &vfio(), switch()), EBUSY);
        rig.expect(&[raised(REFUSED, 7, &[5], "driver", "vfio")]);
        assert_eq!(rig.severities(), ["info"]);
    }
}

#[test]
fn a_switch_that_is_refused_for_another_reason_is_not_told() {
    // Without a PASID; of a domain that doesn't fit, with one; by the core, in a reset.
    let mut rig = rig(Era::Tagged);
    assert_eq!(with(&mut rig, refuses(), &vfio(), switch()), 0);
    rig.calls(&vfio(), [back()]);
    rig.calls(&driver(), [attach(5)]);
    assert_eq!(rig.call(&vfio(), Call::AttachGroup { group: 7, domain: 3900 }), EINVAL);
    rig.calls(&other(), [prepare()]);
    assert_eq!(with(&mut rig, refuses(), &vfio(), switch()), EBUSY);
    rig.calls(&other(), [done()]);
    rig.expect_silence();
}

#[test]
fn what_is_cleared_of_another_member_is_not_the_switched_ones() {
    let mut rig = rig(Era::Tagged);
    rig.calls(&driver(), [attach(5)]);
    let mut running = rig.kernel.begin(&vfio(), switch());
    while !rig.kernel.log.iter().any(|event| event.hook == Hook::RidAttach) {
        rig.kernel.advance(&mut running);
    }
    rig.kernel.hardware(Hook::VtdTearDown, &vfio(), NIC, 5);
    rig.kernel.act(&mut running);
    rig.kernel.end(running);
    rig.watch();
    rig.expect_silence();
}
