//! The life of a violation: by what it is known again, when it was seen, how often, and how it ends.

use monitor::event::{Event, TableEntry, TableKind, TableReading};
use monitor::watcher::Report;
use monitor_ebpf::wire::Hook;

use crate::kernel::{Call, Era};
use crate::rig::{D1, D2, NVME, Rig, driver};

const MINUTE: u64 = 60 * 1_000_000_000;

fn detach(pasid: u32, domain: u64) -> Call {
    Call::Detach { device: NVME, pasid, domain }
}

/// When what stands was first and last seen, and how often.
fn seen(rig: &Rig) -> Vec<(u64, u64, u64)> {
    rig.watcher.violations().map(|found| (found.mono_ns, found.last_ns, found.count)).collect()
}

/// How what is over ended: why, when it was first and last seen, and how often.
fn ends(rig: &Rig) -> Vec<(&'static str, u64, u64, u64)> {
    let ends = rig.reports.iter().filter_map(|report| match report {
        Report::Resolved(over) => Some((over.reason.name(), over.raised_ns, over.last_ns, over.count)),
        _ => None,
    });
    ends.collect()
}

/// A repeat is no news, and is counted; the hold time begins anew with it.
#[test]
fn what_happens_again_moves_when_it_was_last_seen_and_its_end() {
    let mut rig = Rig::new(Era::Handles);
    rig.calls(&driver(), [detach(5, D1)]);
    let [(first, last, 1)] = seen(&rig)[..] else { panic!("{:?}", seen(&rig)) };
    assert_eq!(first, last);
    rig.idle(10 * MINUTE);
    rig.calls(&driver(), [detach(5, D1)]);
    let [(since, last, 2)] = seen(&rig)[..] else { panic!("{:?}", seen(&rig)) };
    assert_eq!((since, rig.kernel.now - last < MINUTE), (first, true));
    rig.idle(14 * MINUTE);
    assert_eq!(ends(&rig), [], "24 minutes after the first, and 14 after the last");
    rig.idle(2 * MINUTE);
    assert_eq!(ends(&rig), [("expired", first, last, 2)]);
    let told = rig.reports.iter().filter(|report| matches!(report, Report::Violation(_))).count();
    assert_eq!(told, 1);
}

/// The daemon that starts after it tells of the same by the same name, whatever it saw before.
#[test]
fn the_same_has_the_same_fingerprint_after_a_restart() {
    let of = |before: usize| {
        let mut rig = Rig::new(Era::Handles);
        for _ in 0..before {
            rig.calls(&driver(), [Call::Attach { device: NVME, pasid: 9, domain: D2 }, detach(9, D2)]);
        }
        rig.calls(&driver(), [detach(5, D1)]);
        rig.watcher.violations().map(|found| found.fingerprint).collect::<Vec<_>>()
    };
    assert_eq!((of(0).len(), of(0)), (1, of(3)));
}

/// It is one violation, however often it is looked at, and was there until now.
#[test]
fn a_state_that_stands_counts_once_and_was_last_seen_at_the_last_look() {
    let mut rig = Rig::new(Era::Handles);
    rig.calls(&driver(), [Call::Use { device: NVME }, Call::Attach { device: NVME, pasid: 5, domain: D1 }]);
    let look = |rig: &mut Rig, pasids: &[u32]| {
        let table = |event: &mut Event| {
            let own = event.device.is_some_and(|device| &*device.name == NVME);
            let of = if own { pasids } else { &[5] };
            let entry = |&pasid: &u32| TableEntry { pasid, kind: 1, tag: 9 };
            let entries = [0].iter().chain(of).map(entry).collect();
            let reading = TableReading { kind: TableKind::Vtd, per_domain: false, entries, complete: true };
            event.table = Some(Box::new(reading));
        };
        rig.kernel.sleep(MINUTE);
        rig.kernel.snapshot(7);
        rig.kernel.log.iter_mut().filter(|event| event.hook == Hook::SnapshotIntel).for_each(table);
        rig.watch();
    };
    look(&mut rig, &[5, 9]);
    look(&mut rig, &[5, 9]);
    let [(first, last, 1)] = seen(&rig)[..] else { panic!("{:?}", seen(&rig)) };
    look(&mut rig, &[5, 9]);
    let [(since, later, 1)] = seen(&rig)[..] else { panic!("{:?}", seen(&rig)) };
    assert!(since == first && later >= last + MINUTE, "{last} {later}");
    look(&mut rig, &[5]);
    assert_eq!((seen(&rig), ends(&rig)), (vec![], vec![("cleared", first, later, 1)]));
}
