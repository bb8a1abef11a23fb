//! Resets and releases, inside which a device's PASIDs leave the hardware by right.

use super::*;

/// A reset takes them off the hardware, inside the switch to the blocking domain too, and puts them back.
#[test]
fn what_a_reset_takes_is_not_lost() {
    for faults in [Faults::default(), clears(), frees(), Faults { switch_pasid_off: true, ..frees() }] {
        let mut rig = rig(Era::Tagged);
        rig.calls(&driver(), [attach(5)]);
        with(&mut rig, faults, &vfio(), prepare());
        rig.kernel.snapshot_all();
        rig.idle(1_000_000_000);
        rig.kernel.snapshot_all();
        rig.idle(1_000_000_000);
        with(&mut rig, faults, &vfio(), done());
        rig.kernel.snapshot_all();
        rig.idle(1_000_000_000);
        rig.expect_silence();
    }
}

#[test]
fn after_a_reset_a_loss_is_one_again() {
    let mut rig = rig(Era::Tagged);
    rig.calls(&driver(), [attach(5), prepare(), prepare(), done(), done()]);
    with(&mut rig, clears(), &vfio(), switch());
    rig.expect(&[lost(&[5])]);
}

#[test]
fn a_reset_that_was_not_prepared_excuses_nothing() {
    let mut rig = rig(Era::Tagged);
    rig.calls(&driver(), [attach(5)]);
    let mut refused = rig.kernel.begin(&other(), prepare());
    refused.refuse(-12);
    rig.kernel.end(refused);
    rig.watch();
    with(&mut rig, clears(), &vfio(), switch());
    rig.expect(&[lost(&[5])]);
}

/// Trap 6: the device stays blocked when its reset is over, until a look shows that it isn't.
#[test]
fn a_reset_that_failed_keeps_the_device_blocked() {
    let mut rig = rig(Era::Tagged);
    // What its driver takes off is not seen everywhere.
    rig.kernel.driver_reports = false;
    rig.calls(&driver(), [attach(5), prepare()]);
    let mut skipped = rig.kernel.begin(&other(), done());
    skipped.refuse(0);
    rig.kernel.end(skipped);
    rig.kernel.hardware(Hook::PasidOff, &vfio(), NVME, 0);
    rig.watch();
    rig.expect_silence();
    rig.calls(&driver(), [done()]);
    rig.kernel.hardware(Hook::PasidOff, &vfio(), NVME, 0);
    rig.watch();
    rig.expect(&[raised(OFF, 7, &[5], "driver", "vfio")]);
}

#[test]
fn a_reset_from_before_we_watched_is_known_by_a_look() {
    let mut rig = Rig::unwatched(Era::Tagged);
    rig.kernel.driver_reports = true;
    rig.kernel.calls_before(&driver(), [Call::Use { device: NVME }, attach(5), prepare()]);
    rig.bootstrap();
    rig.kernel.hardware(Hook::PasidOff, &vfio(), NVME, 0);
    rig.watch();
    rig.expect_silence();
    rig.calls(&driver(), [done()]);
    rig.kernel.snapshot_all();
    rig.watch();
    rig.kernel.hardware(Hook::PasidOff, &vfio(), NVME, 0);
    rig.watch();
    rig.expect(&[raised(OFF, 7, &[5], "", "vfio")]);
}

#[test]
fn another_members_reset_excuses_nobody_else() {
    let mut rig = rig(Era::Tagged);
    rig.calls(&driver(), [attach(5)]);
    rig.calls(&other(), [Call::ResetPrepare { device: NIC }]);
    rig.kernel.hardware(Hook::PasidOff, &vfio(), NIC, 0);
    rig.kernel.hardware(Hook::PasidOff, &vfio(), NVME, 0);
    rig.watch();
    rig.expect(&[raised(OFF, 7, &[5], "driver", "vfio")]);
}

#[test]
fn what_a_release_takes_is_not_lost() {
    let mut rig = rig(Era::Tagged);
    rig.calls(&driver(), [attach(5)]);
    rig.kernel.unplug(NVME);
    rig.watch();
    // That something was left is another check's to say.
    rig.expect(&[raised("released-with-pasids", 7, &[5], "driver", "kworker/u8:0")]);
}
