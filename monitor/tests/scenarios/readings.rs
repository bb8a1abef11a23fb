//! The hardware tables that looks read are told by device, as they were read, until the group is lost.

use monitor::event::Event;
use monitor::input::{Input, Stage};
use monitor_ebpf::wire::{Hook, Phase};

use crate::kernel::{Call, Era};
use crate::rig::{D1, D2, NIC, NVME, Rig, raised, vfio};

/// Of each table: whose it is, its PASIDs, and whether it is a device's own and whole.
fn told(rig: &Rig) -> Vec<(String, Vec<u32>, bool)> {
    let tables = rig.watcher.tables(7).into_iter().flat_map(|tables| tables.of);
    let row = |(name, table): (monitor::event::Name, &monitor::event::TableReading)| {
        let pasids = table.entries.iter().map(|entry| entry.pasid).collect();
        (name.to_string(), pasids, table.is_whole())
    };
    tables.map(row).collect()
}

fn of(name: &str, pasids: &[u32], whole: bool) -> (String, Vec<u32>, bool) {
    (name.into(), pasids.into(), whole)
}

/// A look in which a part of the NIC's table could not be read.
fn look_at_a_part(rig: &mut Rig) {
    rig.kernel.snapshot(7);
    for event in rig.kernel.log.iter_mut().filter(|event| event.hook == Hook::SnapshotIntel) {
        if event.device.is_some_and(|device| &*device.name == NIC) {
            event.table.as_mut().expect("it has one").complete = false;
        }
    }
    rig.watch();
}

#[test]
fn a_table_is_told_as_the_last_look_read_it_whole_or_not() {
    let mut rig = Rig::new(Era::Handles);
    rig.calls(&vfio(), [Call::Attach { device: NVME, pasid: 5, domain: D1 }]);
    look_at_a_part(&mut rig);
    assert_eq!(told(&rig), [of(NVME, &[0, 5], true), of(NIC, &[0, 5], false)]);
    let looked = rig.watcher.tables(7).map(|tables| tables.mono_ns);

    // It stays that of the look, and says of when, whatever is called.
    rig.calls(&vfio(), [Call::Detach { device: NVME, pasid: 5, domain: D1 }]);
    assert_eq!(rig.watcher.tables(7).map(|tables| tables.mono_ns), looked);
    assert_eq!(told(&rig)[0], of(NVME, &[0, 5], true));
    rig.kernel.snapshot(7);
    rig.watch();
    assert_eq!(told(&rig), [of(NVME, &[0], true), of(NIC, &[0], true)]);
    assert!(rig.watcher.tables(7).map(|tables| tables.mono_ns) > looked);
}

#[test]
fn a_table_of_which_only_a_part_was_read_accuses_nobody() {
    let mut rig = Rig::new(Era::Handles);
    let attach = |pasid| Call::Attach { device: NVME, pasid, domain: D1 };
    rig.calls(&vfio(), [attach(5), attach(6)]);
    // As it was read the one is missing, and the other translates another way than on the first member.
    let present = &mut rig.kernel.group_mut(7).devices[1].present;
    present.remove(&5);
    present.insert(6, D2);
    look_at_a_part(&mut rig);
    look_at_a_part(&mut rig);
    assert_eq!(told(&rig)[1], of(NIC, &[0, 6], false));
    rig.expect_silence();
}

#[test]
fn after_a_loss_no_table_is_told_until_it_is_read_again() {
    let mut rig = Rig::new(Era::Handles);
    rig.kernel.snapshot(7);
    rig.watch();
    assert_eq!(told(&rig).len(), 2);
    rig.lose(Stage::Ring, 1);
    assert!(rig.watcher.tables(7).is_none());
    rig.kernel.snapshot(7);
    rig.watch();
    assert_eq!(told(&rig).len(), 2);
    assert!(rig.watcher.tables(4711).is_none(), "there is no such group");
}

/// All that tells of a member under the mutex and before is lost, and that is told before the rest of the look is read.
/// (Seed 216290 of the wild programs that lose records.)
#[test]
fn a_look_that_began_before_a_loss_was_told_is_of_some_members_only() {
    let mut rig = Rig::new(Era::Tagged);
    rig.calls(&vfio(), [Call::Attach { device: NVME, pasid: 5, domain: D1 }]);
    rig.kernel.group_mut(7).devices[0].present.remove(&5);
    for _ in 0..2 {
        rig.kernel.snapshot(7);
        let of_nic = |event: &Event| event.device.is_some_and(|device| &*device.name == NIC);
        let lost = |event: &Event| {
            of_nic(event) && (event.hook == Hook::SnapshotIntel || event.phase == Phase::Begin)
        };
        let log = std::mem::take(&mut rig.kernel.log);
        rig.lose(Stage::Ring, log.iter().filter(|event| lost(event)).count() as u64);
        for event in log.into_iter().filter(|event| !lost(event)) {
            rig.feed(event);
        }
        rig.tell(Input::Settled);
        let group = rig.watcher.host().group_by_id(7).expect("it is there");
        assert_eq!(rig.watcher.host().names(group), [NVME, NIC]);
    }
    assert_eq!(rig.raised(), []);
    for _ in 0..2 {
        rig.idle(1_000_000_000);
        rig.kernel.snapshot(7);
        rig.watch();
    }
    rig.expect(&[raised("group-divergence", 7, &[5], "", "")]);
}
