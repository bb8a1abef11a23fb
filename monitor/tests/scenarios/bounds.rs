//! Memory is bounded, whatever comes.

use monitor::event::Key;
use monitor::watcher::Report;

use crate::kernel::{Call, Era};
use crate::rig::{D1, NVME, Rig, driver};

fn detach(pasid: u32) -> Call {
    Call::Detach { device: NVME, pasid, domain: D1 }
}

#[test]
fn open_violations_are_bounded_and_the_rest_is_counted() {
    let mut rig = Rig::new(Era::Handles);
    for pasid in 1..=5000 {
        rig.calls(&driver(), [detach(pasid)]);
    }
    assert_eq!(rig.watcher.violations().count(), 4096);
    assert_eq!(rig.raised().len(), 4096);
    assert_eq!(rig.watcher.suppressed(), 5000 - 4096);
}

#[test]
fn findings_that_wait_are_bounded_too() {
    let mut rig = Rig::new(Era::Handles);
    for pasid in 1..=2000 {
        rig.kernel.call(&driver(), detach(pasid));
    }
    rig.watch();
    assert_eq!(rig.raised().len(), 1024);
    assert_eq!(rig.watcher.suppressed(), 2000 - 1024);
}

#[test]
fn evidence_is_the_latest_events_and_no_more() {
    let mut rig = Rig::new(Era::Handles);
    for _ in 0..100 {
        rig.calls(&driver(), [Call::Use { device: NVME }, Call::Unuse { device: NVME }]);
    }
    rig.calls(&driver(), [detach(5)]);
    let mut violations = rig.reports.iter().filter_map(|report| match report {
        Report::Violation(violation) => Some(violation),
        _ => None,
    });
    let evidence = &violations.next().expect("one").evidence;
    assert_eq!(evidence.len(), 32);
    assert_eq!(evidence.last().map(|step| step.event.pasid), Some(Some(5)));
}

/// A recording from outside can name any group.
#[test]
fn groups_and_devices_are_bounded() {
    let mut rig = Rig::new(Era::Handles);
    rig.kernel.call(&driver(), Call::Use { device: NVME });
    let event = rig.kernel.log[0].clone();
    for number in 1..70_000_u32 {
        let mut event = event.clone();
        event.sequence += u64::from(number);
        let group = event.group.as_mut().expect("a group");
        (group.id, group.key) = (number + 7, Key::new(u64::from(number) << 16).expect("an address"));
        let device = event.device.as_mut().expect("a device");
        device.key = Key::new(u64::from(number) << 17).expect("an address");
        rig.feed(event);
    }
    assert_eq!(rig.watcher.groups().len(), 65_536);
    assert!(rig.watcher.host().devices().count() <= 65_536);
}
