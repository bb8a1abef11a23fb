//! `released-with-pasids`: what goes with a device, and with a group; and what must not raise it.

use monitor_ebpf::wire::Hook;

use crate::kernel::{Call, Era, Faults};
use crate::rig::{D1, D2, NIC, NVME, OWNER, Raised, Rig, driver, raised, vfio};

const CHECK: &str = "released-with-pasids";
const LONE: &str = "0000:02:00.0";

/// A group 8 with one device more.
fn rig(era: Era) -> Rig {
    let mut rig = Rig::unwatched(era);
    rig.kernel.group(8, &[LONE]);
    rig.bootstrap();
    rig
}

fn attach(device: &'static str, pasid: u32) -> Call {
    Call::Attach { device, pasid, domain: D1 }
}

fn unplug(rig: &mut Rig, device: &'static str) {
    rig.kernel.unplug(device);
    rig.watch();
}

fn gone(group: u32, pasids: &[u32]) -> Raised {
    raised(CHECK, group, pasids, "driver", "kworker/u8:0")
}

#[test]
fn a_device_that_goes_with_its_pasids_is_caught_once() {
    for era in Era::WITH_PASIDS {
        let mut rig = rig(era);
        rig.calls(&driver(), [attach(LONE, 5), attach(LONE, 6)]);
        unplug(&mut rig, LONE);
        // The table went with them, and then the group.
        rig.expect(&[gone(8, &[5, 6])]);
        let told = rig.watcher.violations().next().expect("it is open");
        assert_eq!(told.devices, [LONE]);
        assert!(told.evidence.iter().any(|step| step.event.pasid == Some(6)), "what led there is told");
    }
}

#[test]
fn what_amds_driver_and_smmuv3s_free_with_a_device_is_caught_alike() {
    for hook in [Hook::AmdTableLeft, Hook::SmmuTableLeft] {
        let mut rig = rig(Era::Tagged);
        rig.kernel.table_hook = hook;
        rig.calls(&driver(), [attach(LONE, 5), attach(LONE, 6)]);
        unplug(&mut rig, LONE);
        rig.expect(&[gone(8, &[5, 6])]);
        assert!(rig.watcher.counters().events(hook) > 0);
    }
}

/// AMD's driver frees the table at a switch of the RID as well: one that began unseen looks like a release.
#[test]
fn a_table_that_a_switch_frees_whose_begin_was_lost_is_no_release() {
    let mut rig = rig(Era::Tagged);
    rig.kernel.driver_reports = true;
    rig.calls(&driver(), [attach(LONE, 5)]);
    rig.kernel.faults = Faults { switch_frees: true, ..Faults::default() };
    let mut running = rig.kernel.begin(&driver(), Call::AttachGroup { group: 8, domain: D2 });
    rig.kernel.faults = Faults::default();
    let begun = |rig: &Rig| rig.kernel.log.iter().position(|event| event.hook == Hook::RidAttach);
    while begun(&rig).is_none() {
        assert!(rig.kernel.advance(&mut running));
    }
    let begin = begun(&rig).expect("just seen");
    rig.kernel.log.remove(begin);
    rig.lose(monitor::input::Stage::Ring, 1);
    rig.kernel.act(&mut running);
    rig.kernel.end(running);
    rig.watch();
    assert!(rig.watcher.counters().events(Hook::AmdTableLeft) > 0, "it was freed with the PASID in it");
    assert!(rig.raised().iter().all(|raised| raised.check != CHECK), "{:?}", rig.raised());
}

#[test]
fn a_group_that_goes_with_pasids_is_caught_where_no_table_is_read() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::unwatched(era);
        rig.kernel.group(8, &[LONE]);
        rig.kernel.group_mut(8).devices[0].table = 0;
        rig.bootstrap();
        rig.calls(&driver(), [attach(LONE, 5)]);
        unplug(&mut rig, LONE);
        rig.expect(&[gone(8, &[5])]);
        assert_eq!(rig.watcher.violations().next().expect("it is open").devices, [LONE]);
    }
}

#[test]
fn a_member_that_goes_with_the_groups_pasids_is_caught() {
    let mut rig = rig(Era::Tagged);
    rig.calls(&driver(), [attach(NVME, 5)]);
    unplug(&mut rig, NIC);
    rig.expect(&[gone(7, &[5])]);
    assert_eq!(rig.watcher.violations().next().expect("it is open").devices, [NVME, NIC]);
}

#[test]
fn what_goes_with_nothing_attached_is_silent() {
    for era in Era::WITH_PASIDS {
        let mut rig = rig(era);
        rig.calls(&driver(), [attach(LONE, 5), Call::Detach { device: LONE, pasid: 5, domain: D1 }]);
        unplug(&mut rig, LONE);
        rig.expect_silence();
    }
}

/// Trap 1: the RID's own handle.
#[test]
fn what_is_the_rids_own_may_go_with_it() {
    let mut rig = rig(Era::Tagged);
    rig.kernel.put_rid_handle(8, D1);
    rig.kernel.group_mut(8).devices[0].present.insert(0, D1);
    unplug(&mut rig, LONE);
    rig.expect_silence();
}

/// Removing the device is what a person is told to do.
#[test]
fn what_was_told_already_is_not_told_again_when_the_device_goes() {
    for era in Era::WITH_PASIDS {
        let mut rig = rig(era);
        rig.calls(&vfio(), [Call::Claim { group: 8, owner: OWNER }]);
        rig.calls(&driver(), [attach(LONE, 5)]);
        rig.calls(&vfio(), [Call::Release { group: 8 }]);
        rig.idle(1_000_000_000);
        assert_eq!(rig.raised().len(), 1);
        unplug(&mut rig, LONE);
        rig.idle(1_000_000_000);
        assert_eq!(rig.raised().len(), 1);
        assert_eq!(rig.resolved(), [("pasid-left-on-release", "released")]);
    }
}
