//! `fault-after-detach`: a device that asks for a page with a PASID that it has not any more.

use monitor::event::Task;
use monitor::input::Stage;
use monitor_ebpf::wire::Hook;

use crate::kernel::{Call, Era, task};
use crate::rig::{D1, NIC, NVME, OWNER, Raised, Rig, driver, other, raised};

const CHECK: &str = "fault-after-detach";
const SECOND: u64 = 1_000_000_000;

fn attach(pasid: u32) -> Call {
    Call::Attach { device: NVME, pasid, domain: D1 }
}

fn detach(pasid: u32) -> Call {
    Call::Detach { device: NVME, pasid, domain: D1 }
}

/// In the name of whoever is interrupted.
fn irq() -> Task {
    task(60, "irq/24-dmar0")
}

fn asks(rig: &mut Rig, device: &'static str, pasid: u32) {
    rig.kernel.hardware(Hook::PageRequest, &irq(), device, pasid);
    rig.watch();
}

/// PASID 5 was attached, and detached so long ago.
fn detached(era: Era, ns: u64) -> Rig {
    let mut rig = Rig::new(era);
    rig.calls(&driver(), [Call::Use { device: NVME }, attach(5)]);
    rig.calls(&other(), [detach(5)]);
    rig.kernel.sleep(ns);
    rig
}

fn late(pasid: u32) -> Raised {
    raised(CHECK, 7, &[pasid], "driver", "other")
}

#[test]
fn a_request_after_the_detach_is_caught_with_who_detached_it() {
    for era in Era::WITH_PASIDS {
        let mut rig = detached(era, 3 * SECOND);
        asks(&mut rig, NVME, 5);
        asks(&mut rig, NVME, 5);
        rig.expect(&[late(5)]);
        let violation = rig.watcher.violations().next().expect("open");
        assert!(violation.summary.contains("which other[302] detached 3 s ago"), "{}", violation.summary);
        assert_eq!(rig.severities(), ["warning"]);
    }
}

/// The group's PASIDs are of each of its members.
#[test]
fn a_request_of_another_member_is_caught() {
    let mut rig = detached(Era::Tagged, 3 * SECOND);
    asks(&mut rig, NIC, 5);
    rig.expect(&[late(5)]);
}

#[test]
fn a_request_that_was_on_its_way_is_silent() {
    let mut rig = detached(Era::Tagged, SECOND / 2);
    asks(&mut rig, NVME, 5);
    rig.expect_silence();
}

#[test]
fn a_pasid_that_never_was_attached_is_silent() {
    let mut rig = detached(Era::Tagged, 3 * SECOND);
    asks(&mut rig, NVME, 6);
    rig.expect_silence();
}

#[test]
fn a_pasid_that_is_attached_again_is_silent() {
    let mut rig = detached(Era::Tagged, 3 * SECOND);
    // Its record was on its way while somebody attached it.
    let mut attaching = rig.kernel.begin(&driver(), attach(5));
    asks(&mut rig, NVME, 5);
    rig.kernel.act(&mut attaching);
    rig.kernel.end(attaching);
    asks(&mut rig, NVME, 5);
    rig.expect_silence();
}

#[test]
fn a_device_that_joined_later_never_had_it() {
    let mut rig = Rig::new(Era::Tagged);
    rig.calls(&driver(), [Call::Use { device: NVME }, attach(5)]);
    let joining = rig.kernel.device("0000:01:00.2");
    rig.kernel.plug(7, joining);
    rig.calls(&other(), [detach(5)]);
    rig.kernel.sleep(3 * SECOND);
    asks(&mut rig, "0000:01:00.2", 5);
    rig.expect_silence();
}

/// Who has taken the group, for a guest, may have its devices send any PASID.
#[test]
fn what_was_detached_before_the_group_was_claimed_does_not_count() {
    let mut rig = detached(Era::Tagged, SECOND);
    rig.calls(&driver(), [Call::Unuse { device: NVME }]);
    rig.calls(&other(), [Call::Claim { group: 7, owner: OWNER }]);
    rig.kernel.sleep(3 * SECOND);
    asks(&mut rig, NVME, 5);
    rig.expect_silence();
}

/// A guest may have the PASID table itself.
#[test]
fn on_a_nested_domain_pasids_are_the_guests() {
    const NESTED: u64 = 5001;
    let mut rig = detached(Era::Tagged, SECOND);
    rig.calls(&driver(), [Call::AttachGroup { group: 7, domain: NESTED }]);
    rig.kernel.sleep(3 * SECOND);
    asks(&mut rig, NVME, 5);
    rig.calls(&driver(), [Call::DetachGroup { group: 7, domain: NESTED }]);
    rig.kernel.sleep(3 * SECOND);
    asks(&mut rig, NVME, 5);
    rig.expect_silence();
}

/// It may have been attached and detached again unseen.
#[test]
fn after_a_loss_nothing_is_known_of_what_was_detached() {
    let mut rig = detached(Era::Tagged, 3 * SECOND);
    rig.lose(Stage::Ring, 1);
    rig.kernel.snapshot_all();
    rig.idle(SECOND);
    asks(&mut rig, NVME, 5);
    assert_eq!(rig.raised(), []);
}
