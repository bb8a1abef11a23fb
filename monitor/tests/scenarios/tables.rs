//! `pasid-table-shared`: two devices, one table; and what must not raise it.

use monitor::check::CheckState;
use monitor::coverage::HookState;
use monitor::input::{Input, Stage};
use monitor::inventory::{DeviceEntry, GroupEntry, Inventory};
use monitor::watcher::{Options, Watcher};
use monitor_ebpf::wire::Hook;

use crate::kernel::{Call, Era};
use crate::rig::{D1, NIC, NVME, Raised, Rig, driver};

fn shared() -> Raised {
    Raised {
        check: "pasid-table-shared".into(),
        group: Some(7),
        pasids: Vec::new(),
        attached_by: String::new(),
        triggered_by: String::new(),
        implied: Vec::new(),
    }
}

/// The nic's device data points to the nvme's table.
fn alias(rig: &mut Rig) {
    let group = rig.kernel.group_mut(7);
    group.devices[1].table = group.devices[0].table;
}

#[test]
fn two_devices_with_one_table_are_caught() {
    let mut rig = Rig::new(Era::Handles);
    alias(&mut rig);
    rig.kernel.snapshot_all();
    rig.watch();
    rig.expect(&[shared()]);
    let violation = rig.watcher.violations().next().expect("one stands");
    assert_eq!(violation.devices, [NVME, NIC]);
}

#[test]
fn a_table_each_is_silent() {
    let mut rig = Rig::new(Era::Handles);
    rig.kernel.snapshot_all();
    rig.kernel.snapshot_all();
    rig.watch();
    rig.expect_silence();
}

#[test]
fn a_sharing_that_ends_is_cleared() {
    let mut rig = Rig::new(Era::Handles);
    alias(&mut rig);
    rig.kernel.snapshot_all();
    rig.watch();
    rig.kernel.group_mut(7).devices[1].table = 4242;
    rig.kernel.snapshot_all();
    rig.watch();
    assert_eq!(rig.resolved(), [("pasid-table-shared", "cleared")]);
}

#[test]
fn a_sharing_goes_with_its_device() {
    let mut rig = Rig::new(Era::Handles);
    alias(&mut rig);
    rig.kernel.snapshot_all();
    rig.kernel.unplug(NIC);
    rig.watch();
    assert_eq!(rig.resolved(), [("pasid-table-shared", "released")]);
}

/// Trap 16: AMD and SMMUv3 copy one table to the alias RIDs of the same device, and so does VT-d.
#[test]
fn several_rids_of_one_device_may_use_its_table() {
    let mut rig = Rig::new(Era::Handles);
    for pasid in 1..5 {
        rig.kernel.hardware(Hook::VtdSetupFirst, &driver(), NVME, pasid);
    }
    rig.kernel.snapshot_all();
    rig.watch();
    rig.expect_silence();
}

#[test]
fn a_table_that_was_freed_may_be_another_devices_next() {
    let mut rig = Rig::new(Era::Handles);
    let table = rig.kernel.groups[&7].devices[1].table;
    rig.kernel.unplug(NIC);
    let mut late = rig.kernel.device("0000:02:00.0");
    late.table = table;
    rig.kernel.plug(7, late);
    rig.kernel.snapshot_all();
    rig.watch();
    rig.expect_silence();
}

/// The address of a `struct device` is used again after a hot-unplug, with another name.
#[test]
fn an_address_that_is_used_again_is_another_device() {
    let mut rig = Rig::new(Era::Handles);
    let old = rig.kernel.groups[&7].devices[1].clone();
    rig.kernel.unplug(NIC);
    rig.kernel.log.clear();
    let mut late = rig.kernel.device("0000:02:00.0");
    (late.key, late.table) = (old.key, old.table);
    rig.kernel.plug(7, late);
    rig.kernel.snapshot_all();
    rig.watch();
    rig.expect_silence();
    assert_eq!(rig.watcher.groups()[0].devices, [NVME, "0000:02:00.0"]);
}

/// The same, unseen, and the new device shares as the old one did: that is another violation.
#[test]
fn a_sharing_of_another_device_at_the_same_address_is_another_violation() {
    let mut rig = Rig::new(Era::Handles);
    alias(&mut rig);
    rig.kernel.snapshot_all();
    rig.watch();
    rig.kernel.group_mut(7).devices[1].name = "0000:02:00.0";
    rig.kernel.snapshot_all();
    rig.watch();
    assert_eq!(rig.resolved(), [("pasid-table-shared", "released")]);
    rig.expect(&[shared(), shared()]);
    let violation = rig.watcher.violations().next().expect("one stands");
    assert_eq!(violation.devices, [NVME, "0000:02:00.0"]);
}

#[test]
fn devices_without_a_table_share_none() {
    let mut rig = Rig::unwatched(Era::Handles);
    for device in &mut rig.kernel.group_mut(7).devices {
        device.table = 0;
    }
    rig.bootstrap();
    rig.calls(&driver(), [Call::Attach { device: NVME, pasid: 5, domain: D1 }]);
    rig.calls(&driver(), [Call::Detach { device: NVME, pasid: 5, domain: D1 }]);
    rig.expect_silence();
}

#[test]
fn a_sharing_is_still_known_after_a_loss() {
    let mut rig = Rig::new(Era::Handles);
    alias(&mut rig);
    rig.kernel.snapshot_all();
    rig.watch();
    rig.lose(Stage::Queue, 3);
    assert_eq!(rig.resolved(), [], "unknown is not cleared");
    rig.kernel.snapshot_all();
    rig.watch();
    assert_eq!(rig.resolved(), []);
    rig.expect(&[shared()]);
}

#[test]
fn a_sharing_that_was_found_before_a_loss_was_told_waits_for_the_next_reading() {
    let mut rig = Rig::new(Era::Handles);
    alias(&mut rig);
    rig.kernel.snapshot_all();
    for event in std::mem::take(&mut rig.kernel.log) {
        rig.feed(event);
    }
    rig.lose(Stage::Queue, 3);
    rig.idle(1);
    assert_eq!(rig.raised(), []);
    rig.kernel.snapshot_all();
    rig.watch();
    rig.expect(&[shared()]);
}

/// The removal of a device got lost, and its table is another's now.
#[test]
fn after_a_loss_a_table_is_known_only_if_it_is_read_again() {
    let mut rig = Rig::new(Era::Handles);
    let table = rig.kernel.groups[&7].devices[1].table;
    rig.kernel.unplug(NIC);
    let lost = rig.kernel.log.len() as u64;
    rig.kernel.log.clear();
    rig.lose(Stage::Ring, lost);
    let mut late = rig.kernel.device("0000:02:00.0");
    late.table = table;
    rig.kernel.plug(7, late);
    rig.kernel.snapshot_all();
    rig.watch();
    rig.expect_silence();
}

pub fn inventory(iommu_driver: &str) -> Inventory {
    let device = DeviceEntry {
        name: NVME.into(),
        driver: Some("nvme".into()),
        iommu: Some("iommu0".into()),
        iommu_driver: Some(iommu_driver.into()),
    };
    Inventory { groups: vec![GroupEntry { id: 7, default_domain: None, devices: vec![device] }] }
}

#[test]
fn the_check_says_where_it_cannot_look() {
    let mut rig = Rig::new(Era::Handles);
    let mut state = |inventory| {
        rig.watcher.take(Input::Inventory(inventory), 0);
        let mut checks = rig.watcher.checks();
        checks.find(|(spec, _)| spec.name == "pasid-table-shared").expect("listed").1.clone()
    };
    assert_eq!(state(inventory("intel")), CheckState::Armed);
    assert_eq!(state(inventory("amd")), CheckState::Armed);
    assert!(matches!(state(inventory("virtio-iommu")), CheckState::NotApplicable { .. }));
    assert!(matches!(state(Inventory::default()), CheckState::NotApplicable { .. }));
}

#[test]
fn without_the_hook_of_the_hosts_driver_the_tables_are_not_read() {
    let mut coverage = crate::rig::coverage(Era::Handles);
    let reason = "refused".to_owned();
    coverage.set(Hook::SnapshotAmd, HookState::Failed { reason });
    let mut watcher = Watcher::new(Options { coverage, ..crate::rig::options(Era::Handles) });
    watcher.take(Input::Inventory(inventory("amd")), 0);
    for (spec, state) in watcher.checks() {
        let by_driver = matches!(
            spec.name,
            "pasid-table-shared" | "pasid-table-mismatch" | "group-divergence" | "failed-attach-residue"
        );
        assert_eq!(matches!(state, CheckState::Unavailable { .. }), by_driver, "{}: {state}", spec.name);
    }
}
