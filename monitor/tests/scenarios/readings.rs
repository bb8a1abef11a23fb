//! The hardware tables that looks read are told by device, as they were read, until the group is lost.

use monitor::input::Stage;
use monitor_ebpf::wire::Hook;

use crate::kernel::{Call, Era};
use crate::rig::{D1, D2, NIC, NVME, Rig, vfio};

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
