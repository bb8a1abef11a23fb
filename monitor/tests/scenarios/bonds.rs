//! `sva-bond-imbalance`, `sva-outlives-mm`: a process is bound and unbound, and its memory stays until then.

use monitor::check::Settings;
use monitor::watcher::{Options, Watcher};

use crate::kernel::{Call, Era, Faults};
use crate::rig::{NIC, NVME, Rig, driver, options, other, raised, vfio};

const IMBALANCE: &str = "sva-bond-imbalance";
const OUTLIVES: &str = "sva-outlives-mm";
const MINUTE: u64 = 60_000_000_000;

fn bind(device: &'static str) -> Call {
    Call::Bind { device, mm: 9, pasid: 12 }
}

fn unbind(device: &'static str) -> Call {
    Call::Unbind { device, mm: 9 }
}

#[test]
fn an_unbind_that_detaches_while_another_has_it_bound_is_caught() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        rig.calls(&driver(), [bind(NVME)]);
        rig.calls(&vfio(), [bind(NVME)]);
        rig.kernel.faults = Faults { unbind_detaches: true, ..Faults::default() };
        rig.calls(&other(), [unbind(NVME)]);
        let found = rig.raised().into_iter().filter(|raised| raised.check == IMBALANCE);
        assert_eq!(found.collect::<Vec<_>>(), [raised(IMBALANCE, 7, &[12], "driver", "other")]);
    }
}

#[test]
fn a_last_unbind_that_does_not_detach_is_caught() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        rig.calls(&driver(), [bind(NVME), bind(NIC), unbind(NIC)]);
        rig.kernel.faults = Faults { unbind_keeps: true, ..Faults::default() };
        rig.calls(&other(), [unbind(NVME)]);
        rig.expect(&[raised(IMBALANCE, 7, &[12], "driver", "other")]);
    }
}

#[test]
fn an_unbind_too_many_is_caught_at_its_entry() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        rig.calls(&driver(), [bind(NVME)]);
        let handle = rig.kernel.groups[&7].bonds[&9].handle;
        rig.calls(&driver(), [unbind(NVME)]);
        rig.kernel.unbind_again(&other(), handle);
        rig.expect(&[raised(IMBALANCE, 7, &[12], "driver", "other")]);
        rig.assert_synced();
    }
}

#[test]
fn the_address_of_a_bond_is_used_again() {
    let mut rig = Rig::new(Era::Tagged);
    rig.calls(&driver(), [bind(NVME)]);
    let handle = rig.kernel.groups[&7].bonds[&9].handle;
    rig.calls(&driver(), [unbind(NVME)]);
    rig.kernel.call(&driver(), bind(NVME));
    // The new bond is where the old one was.
    for event in &mut rig.kernel.log {
        event.bond = event.bond.and(monitor::event::Key::new(handle));
    }
    rig.kernel.group_mut(7).bonds.get_mut(&9).expect("a bond").handle = handle;
    rig.watch();
    rig.calls(&driver(), [unbind(NVME)]);
    rig.expect_silence();
}

#[test]
fn binds_and_unbinds_in_any_order_are_silent() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        for _ in 0..3 {
            rig.calls(&driver(), [bind(NVME), bind(NIC)]);
            rig.calls(&vfio(), [bind(NVME)]);
            rig.calls(&driver(), [unbind(NVME), bind(NIC), unbind(NIC), unbind(NIC)]);
            rig.calls(&vfio(), [unbind(NVME)]);
        }
        rig.expect_silence();
        assert_eq!(rig.watcher.groups()[0].bonds, 0);
    }
}

#[test]
fn a_bond_from_before_we_watched_was_bound_nobody_knows_how_often() {
    let mut rig = Rig::unwatched(Era::Tagged);
    rig.kernel.calls_before(&driver(), [bind(NVME), bind(NVME)]);
    rig.bootstrap();
    rig.calls(&driver(), [bind(NVME), unbind(NVME), unbind(NVME), unbind(NVME)]);
    rig.expect_silence();
}

/// Two unbinds at once: which was the last one is not for their returns to say.
#[test]
fn unbinds_that_overlap_are_not_judged() {
    let mut rig = Rig::new(Era::Tagged);
    rig.calls(&driver(), [bind(NVME), bind(NVME)]);
    let mut one = rig.kernel.begin(&driver(), unbind(NVME));
    let mut two = rig.kernel.begin(&other(), unbind(NVME));
    rig.kernel.act(&mut one);
    rig.kernel.act(&mut two);
    rig.kernel.end(two);
    rig.kernel.end(one);
    rig.expect_silence();
    rig.calls(&driver(), [bind(NVME), unbind(NVME)]);
    rig.expect_silence();
}

/// A fault in what overlapped would be a guess; what comes after it alone is judged again.
#[test]
fn after_an_overlap_a_new_bond_is_judged_again() {
    let mut rig = Rig::new(Era::Tagged);
    let mut one = rig.kernel.begin(&driver(), bind(NVME));
    let mut two = rig.kernel.begin(&other(), bind(NVME));
    rig.kernel.act(&mut one);
    rig.kernel.act(&mut two);
    rig.kernel.end(two);
    rig.kernel.end(one);
    rig.calls(&driver(), [unbind(NVME), unbind(NVME), bind(NVME)]);
    rig.kernel.faults = Faults { unbind_keeps: true, ..Faults::default() };
    rig.calls(&other(), [unbind(NVME)]);
    rig.expect(&[raised(IMBALANCE, 7, &[12], "driver", "other")]);
}

#[test]
fn an_mm_that_is_dropped_while_it_is_bound_is_caught() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        rig.calls(&driver(), [bind(NVME)]);
        rig.kernel.drop_mm(&other(), 9, true);
        rig.watch_closely();
        let expected = raised(OUTLIVES, 7, &[12], "driver", "other");
        rig.expect(&[expected.implying(&["pasid-freed-while-attached"])]);
    }
}

/// Until the detach has returned the mm lives.
#[test]
fn an_mm_that_is_dropped_before_the_last_detach_has_returned_is_caught() {
    let mut rig = Rig::new(Era::Tagged);
    rig.calls(&driver(), [bind(NVME)]);
    let mut running = rig.kernel.begin(&driver(), Call::Detach { device: NVME, pasid: 12, domain: 4009 });
    rig.kernel.act(&mut running);
    rig.kernel.drop_mm(&other(), 9, true);
    rig.kernel.end(running);
    let expected = raised(OUTLIVES, 7, &[12], "driver", "other");
    rig.expect(&[expected.implying(&["pasid-freed-while-attached"])]);
}

#[test]
fn a_bond_that_is_there_long_after_its_process_is_a_warning_until_the_unbind() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        rig.calls(&driver(), [bind(NVME)]);
        rig.kernel.exit(&other(), 9);
        for _ in 0..9 {
            rig.idle(MINUTE);
            rig.kernel.snapshot(7);
        }
        rig.expect(&[]);
        rig.idle(MINUTE);
        rig.kernel.snapshot(7);
        rig.expect(&[raised(OUTLIVES, 7, &[12], "driver", "")]);
        rig.calls(&driver(), [unbind(NVME)]);
        rig.idle(1);
        assert_eq!(rig.resolved(), [(OUTLIVES, "cleared")]);
    }
}

#[test]
fn how_long_an_exited_process_may_be_bound_is_for_the_operator_to_say() {
    let mut rig = Rig::unwatched(Era::Tagged);
    let thresholds = [(("sva-outlives-mm", "grace_seconds"), 60)].into();
    let settings = Settings { thresholds, ..Settings::default() };
    rig.watcher = Watcher::new(Options { settings: settings.into(), ..options(Era::Tagged) });
    rig.bootstrap();
    rig.calls(&driver(), [bind(NVME)]);
    rig.kernel.exit(&other(), 9);
    rig.idle(MINUTE);
    rig.kernel.snapshot(7);
    rig.expect(&[raised(OUTLIVES, 7, &[12], "driver", "")]);
}

/// Of an exit from before we watched a look tells; the time counts from there.
#[test]
fn an_exit_that_was_not_seen_counts_from_the_first_look() {
    let mut rig = Rig::unwatched(Era::Tagged);
    rig.kernel.calls_before(&driver(), [Call::Use { device: NVME }, bind(NVME)]);
    rig.kernel.exit(&other(), 9);
    rig.kernel.log.clear();
    rig.bootstrap();
    rig.idle(9 * MINUTE);
    rig.kernel.snapshot(7);
    rig.expect(&[]);
    rig.idle(MINUTE);
    rig.kernel.snapshot(7);
    rig.expect(&[raised(OUTLIVES, 7, &[12], "", "")]);
}

#[test]
fn the_pasid_of_a_process_that_has_exited_goes_to_another() {
    let mut rig = Rig::new(Era::Tagged);
    rig.calls(&driver(), [bind(NVME)]);
    rig.kernel.exit(&other(), 9);
    rig.calls(&driver(), [unbind(NVME), Call::Bind { device: NVME, mm: 8, pasid: 12 }]);
    for _ in 0..20 {
        rig.idle(MINUTE);
        rig.kernel.snapshot(7);
    }
    rig.expect_silence();
}
