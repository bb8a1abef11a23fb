//! `capability-off-under-pasids`: what PASIDs rely on is switched off.

use super::*;

#[test]
fn a_capability_that_a_switch_switches_off_is_told_by_what_it_is() {
    for (ats, pasid, severity) in
        [(true, false, "warning"), (false, true, "critical"), (true, true, "critical")]
    {
        let mut rig = alone(Era::Handles);
        rig.calls(&driver(), [attach(5)]);
        with(&mut rig, off(ats, pasid), &vfio(), switch());
        rig.expect(&[raised(OFF, 7, &[5], "driver", "vfio")]);
        assert_eq!(rig.severities(), [severity]);
    }
}

#[test]
fn a_capability_that_anybody_switches_off_is_told() {
    let mut rig = rig(Era::Tagged);
    rig.calls(&driver(), [attach(5)]);
    rig.kernel.hardware(Hook::AtsOff, &vfio(), NVME, 0);
    rig.kernel.hardware(Hook::PasidOff, &vfio(), NVME, 0);
    rig.watch();
    let off = raised(OFF, 7, &[5], "driver", "vfio");
    rig.expect(&[off.clone(), off]);
    assert_eq!(rig.severities(), ["warning", "critical"]);
}

#[test]
fn a_capability_may_go_off_when_nothing_needs_it() {
    let mut rig = rig(Era::Tagged);
    rig.calls(&other(), [Call::Claim { group: 7, owner: OWNER }]);
    with(&mut rig, off(true, true), &vfio(), switch());
    rig.calls(&driver(), [attach(5), detach(5)]);
    rig.kernel.hardware(Hook::AtsOff, &vfio(), NVME, 0);
    // SMMUv3 switches ATS off inside the detach of the last PASID.
    rig.calls(&driver(), [attach(5)]);
    let mut running = rig.kernel.begin(&driver(), detach(5));
    rig.kernel.hardware(Hook::AtsOff, &driver(), NVME, 0);
    rig.kernel.act(&mut running);
    rig.kernel.end(running);
    rig.watch();
    rig.expect_silence();
}

/// What a switch lost stays open for its hold time, and explains nothing of what comes later.
#[test]
fn a_capability_that_goes_off_later_is_no_consequence_of_a_loss() {
    let mut rig = alone(Era::Tagged);
    rig.calls(&driver(), [attach(5)]);
    with(&mut rig, clears(), &vfio(), switch());
    rig.calls(&driver(), [attach(9)]);
    rig.kernel.hardware(Hook::PasidOff, &other(), NVME, 0);
    rig.watch();
    with(&mut rig, off(true, false), &other(), back());
    let other = raised(OFF, 7, &[9], "driver", "other");
    rig.expect(&[lost(&[5]), other.clone(), other]);
}
