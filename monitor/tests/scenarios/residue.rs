//! `failed-attach-residue`, and what looks that calls ask for find of `group-divergence`; and what must not raise them.

use monitor::check::Violation;
use monitor::event::{Event, TableEntry};
use monitor::input::Stage;
use monitor_ebpf::wire::Hook;

use crate::kernel::{Call, EBUSY, EINVAL, Era, Faults, Look};
use crate::rig::{D1, D2, NIC, NVME, Raised, Rig, driver, other, raised};

const CHECK: &str = "failed-attach-residue";
/// Domains that the first member's driver refuses, and the second's.
const REFUSED_BY_NVME: u64 = 3900;
const REFUSED_BY_NIC: u64 = 3901;

fn attach(domain: u64) -> Call {
    Call::Attach { device: NVME, pasid: 5, domain }
}

fn replace(domain: u64) -> Call {
    Call::Replace { device: NVME, pasid: 5, domain }
}

fn rig(era: Era, faults: Faults) -> Rig {
    let mut rig = Rig::new(era);
    rig.calls(&driver(), [Call::Use { device: NVME }]);
    rig.kernel.faults = faults;
    rig
}

fn stays() -> Faults {
    Faults { refusal_stays: true, ..Faults::default() }
}

fn residue() -> Raised {
    raised(CHECK, 7, &[5], "", "other")
}

fn only(rig: &Rig) -> &Violation {
    rig.watcher.violations().next().expect("one stands")
}

#[test]
fn an_entry_that_a_refused_attach_leaves_is_caught_at_once() {
    for era in Era::WITH_PASIDS {
        for (domain, member) in [(REFUSED_BY_NVME, NVME), (REFUSED_BY_NIC, NIC)] {
            let mut rig = rig(era, stays());
            assert_eq!(rig.call(&other(), attach(domain)), EINVAL);
            assert_eq!(rig.raised(), [residue().implying(&["pasid-table-mismatch"])], "with no second look");
            let found = only(&rig);
            assert!(
                found.summary.contains(&format!("is in the hardware table of {member}")),
                "{}",
                found.summary
            );
            assert!(found.evidence.iter().any(|step| step.event.ret == Some(EINVAL)));
            rig.expect(&[residue().implying(&["pasid-table-mismatch"])]);
        }
    }
}

#[test]
fn members_that_are_not_brought_back_are_caught() {
    for era in Era::WITH_PASIDS {
        let mut rig = rig(era, Faults { no_way_back: true, ..Faults::default() });
        assert_eq!(rig.call(&other(), attach(REFUSED_BY_NIC)), EINVAL);
        rig.expect(&[residue().implying(&["pasid-table-mismatch"])]);
    }
}

#[test]
fn a_refused_attach_that_leaves_nothing_is_silent() {
    for era in Era::WITH_PASIDS {
        let mut rig = rig(era, Faults::default());
        assert_eq!(rig.call(&other(), attach(REFUSED_BY_NVME)), EINVAL);
        assert_eq!(rig.call(&other(), attach(REFUSED_BY_NIC)), EINVAL);
        rig.calls(&other(), [attach(D1)]);
        assert_eq!(rig.call(&other(), attach(D2)), EBUSY);
        rig.expect_silence();
    }
}

#[test]
fn it_stands_until_a_look_shows_that_the_entry_is_gone() {
    let mut rig = rig(Era::Handles, stays());
    rig.call(&other(), attach(REFUSED_BY_NVME));
    rig.kernel.snapshot(7);
    rig.watch();
    assert_eq!(rig.resolved(), []);
    rig.kernel.group_mut(7).devices[0].present.clear();
    rig.kernel.snapshot(7);
    rig.watch();
    assert_eq!(rig.resolved(), [(CHECK, "cleared")]);
}

/// A look has read what stood there before.
#[test]
fn a_failed_replace_that_leaves_the_new_domain_is_caught() {
    const LONE: &str = "0000:02:00.0";
    let mut rig = Rig::unwatched(Era::Tagged);
    rig.kernel.group(8, &[LONE]);
    rig.bootstrap();
    rig.kernel.faults = stays();
    rig.calls(&driver(), [Call::Use { device: LONE }, Call::Attach { device: LONE, pasid: 5, domain: D1 }]);
    rig.kernel.snapshot(8);
    rig.watch();
    assert_eq!(rig.call(&other(), Call::Replace { device: LONE, pasid: 5, domain: REFUSED_BY_NVME }), EINVAL);
    rig.expect(&[raised(CHECK, 8, &[5], "driver", "other")]);
    assert!(
        only(&rig).summary.contains("translates by another domain on 0000:02:00.0"),
        "{}",
        only(&rig).summary
    );
}

/// No look has read what there was; but the members differ.
#[test]
fn members_that_a_failed_replace_leaves_apart_are_caught() {
    let mut rig = Rig::new(Era::Tagged);
    rig.kernel.faults = stays();
    rig.calls(&driver(), [attach(D1)]);
    assert_eq!(rig.call(&other(), replace(REFUSED_BY_NIC)), EINVAL);
    rig.expect(&[raised(CHECK, 7, &[5], "driver", "other").implying(&["group-divergence"])]);
}

#[test]
fn a_failed_replace_that_leaves_the_old_domain_is_silent() {
    let mut rig = rig(Era::Tagged, Faults::default());
    rig.calls(&driver(), [attach(D1)]);
    for domain in [REFUSED_BY_NVME, REFUSED_BY_NIC] {
        assert_eq!(rig.call(&other(), replace(domain)), EINVAL);
    }
    rig.calls(&other(), [replace(D2)]);
    assert_eq!(rig.call(&other(), replace(REFUSED_BY_NIC)), EINVAL);
    rig.expect_silence();
}

/// Who else has touched the PASID since may have left it there. What only the hardware has, two looks tell.
#[test]
fn what_somebody_else_has_touched_since_is_not_laid_to_the_failed_call() {
    let mut rig = rig(Era::Handles, stays());
    let mut failing = rig.kernel.begin(&other(), attach(REFUSED_BY_NVME));
    rig.kernel.act(&mut failing);
    rig.kernel.end(failing);
    // It comes before the look that the failure asks for.
    rig.kernel.call(&driver(), attach(REFUSED_BY_NIC));
    rig.watch();
    assert_eq!(rig.raised(), [raised(CHECK, 7, &[5], "", "driver").implying(&["pasid-table-mismatch"])]);
}

#[test]
fn a_failure_that_met_another_call_on_the_pasid_is_not_judged() {
    let mut rig = rig(Era::Handles, stays());
    let mut failing = rig.kernel.begin(&other(), attach(REFUSED_BY_NVME));
    rig.kernel.act(&mut failing);
    let mut another = rig.kernel.begin(&driver(), attach(REFUSED_BY_NVME));
    rig.kernel.act(&mut another);
    rig.kernel.end(failing);
    rig.kernel.end(another);
    rig.watch();
    assert_eq!(rig.raised(), []);
}

#[test]
fn after_a_loss_a_failure_is_not_judged() {
    let mut rig = rig(Era::Handles, stays());
    let mut failing = rig.kernel.begin(&other(), attach(REFUSED_BY_NVME));
    rig.kernel.act(&mut failing);
    rig.kernel.end(failing);
    for event in std::mem::take(&mut rig.kernel.log) {
        rig.feed(event);
    }
    rig.lose(Stage::Queue, 1);
    rig.kernel.snapshot(7);
    rig.watch();
    assert_eq!(rig.raised(), []);
}

/// Trap 6.
#[test]
fn a_member_in_the_middle_of_a_reset_is_not_judged() {
    let mut rig = rig(Era::Tagged, stays());
    rig.kernel.group_mut(7).recovery_cnt = 1;
    rig.call(&other(), attach(REFUSED_BY_NVME));
    assert_eq!(rig.raised(), []);
}

#[test]
fn no_more_looks_are_wanted_than_there_are_failures() {
    let mut rig = rig(Era::Handles, Faults::default());
    rig.kernel.group_mut(7).devices.pop();
    rig.bootstrap();
    rig.calls(&driver(), [attach(D1), Call::Detach { device: NVME, pasid: 5, domain: D1 }]);
    let looks = |rig: &Rig| rig.watcher.counters().events(Hook::SnapshotIntel);
    let before = looks(&rig);
    rig.calls(&driver(), [attach(D1)]);
    assert_eq!(rig.call(&driver(), attach(D2)), EBUSY, "which never gets to the driver");
    assert_eq!(looks(&rig), before);
    rig.call(&driver(), Call::Attach { device: NVME, pasid: 6, domain: REFUSED_BY_NVME });
    assert_eq!(looks(&rig), before + 1);
}

#[test]
fn an_attach_that_leaves_a_member_out_is_caught_at_once() {
    for era in Era::WITH_PASIDS {
        let mut rig = rig(era, Faults { skips_last: true, ..Faults::default() });
        rig.calls(&other(), [attach(D1)]);
        assert_eq!(rig.raised(), [raised("group-divergence", 7, &[5], "other", "")], "with no second look");
    }
}

#[test]
fn an_attach_to_all_members_is_silent() {
    for era in Era::WITH_PASIDS {
        let mut rig = rig(era, Faults::default());
        rig.calls(&other(), [attach(D1)]);
        rig.expect_silence();
        assert!(rig.watcher.counters().events(Hook::SnapshotIntel) > 2, "it was looked at");
    }
}

/// Trap 11: a process that exits has its PASID cleared from one member after the other, and the array is read before
/// the tables.
#[test]
fn what_is_of_a_process_takes_two_looks() {
    let mut rig = rig(Era::Tagged, Faults { skips_last: true, ..Faults::default() });
    rig.calls(&other(), [Call::Bind { device: NVME, mm: 9, pasid: 59 }]);
    assert_eq!(rig.raised(), []);
    assert_eq!(rig.watcher.second_looks(), [7]);
    rig.kernel.snapshot(7);
    rig.watch();
    rig.expect(&[raised("group-divergence", 7, &[59], "other", "")]);
}

/// Each of AMD's tables has a domain id of its own (`gcr3_tbl_info::domid`, from 6.9).
#[test]
fn two_tables_of_amds_have_two_tags() {
    use monitor::event::TableKind;
    let mut rig = rig(Era::Tagged, Faults::default());
    rig.calls(&driver(), [attach(D1)]);
    for _ in 0..2 {
        rig.kernel.snapshot(7);
        let edit = |event: &mut Event| {
            let nic = event.device.is_some_and(|device| &*device.name == NIC);
            let Some(table) = &mut event.table else { return };
            table.kind = TableKind::Amd;
            for entry in &mut table.entries {
                *entry = TableEntry { kind: 0, tag: 1 + u32::from(nic), ..*entry };
            }
        };
        rig.kernel.log.iter_mut().for_each(edit);
        rig.watch();
    }
    rig.expect_silence();
}

/// Random programs found the next two (`property`).
#[test]
fn two_looks_before_the_failed_call_returns_leave_it_its_residue() {
    for era in Era::WITH_PASIDS {
        let mut rig = rig(era, stays());
        let mut failing = rig.kernel.begin(&other(), attach(REFUSED_BY_NVME));
        rig.kernel.act(&mut failing);
        for _ in 0..2 {
            rig.kernel.snapshot(7);
            rig.watch();
        }
        rig.kernel.end(failing);
        rig.expect(&[residue().implying(&["pasid-table-mismatch"])]);
    }
}

#[test]
fn a_look_that_is_not_finished_leaves_the_failure_to_the_next() {
    for era in Era::WITH_PASIDS {
        let mut rig = rig(era, stays());
        let mut failing = rig.kernel.begin(&other(), attach(REFUSED_BY_NVME));
        rig.kernel.act(&mut failing);
        rig.kernel.end(failing);
        for part in [Look::Entry, Look::Devices] {
            rig.kernel.look(&driver(), 7, part);
        }
        rig.kernel.snapshot(7);
        rig.watch();
        rig.expect(&[residue().implying(&["pasid-table-mismatch"])]);
    }
}

/// A member joins when a PASID is attached already, and doesn't get it.
fn with_a_late_member(era: Era) -> Rig {
    let mut rig = rig(era, Faults::default());
    rig.calls(&driver(), [Call::Attach { device: NIC, pasid: 6, domain: D1 }]);
    let late = rig.kernel.device("0000:01:00.2");
    rig.kernel.plug(7, late);
    rig.watch();
    rig
}

/// What becomes of one PASID says nothing of the others. (Seed 99282 of the planted faults.)
#[test]
fn what_a_late_member_lacks_does_not_follow_from_a_failed_attach() {
    for era in Era::WITH_PASIDS {
        let mut rig = with_a_late_member(era);
        rig.kernel.faults = stays();
        assert_eq!(rig.call(&other(), attach(REFUSED_BY_NVME)), EINVAL);
        rig.kernel.snapshot(7);
        rig.watch();
        let late = raised("group-divergence", 7, &[6], "driver", "");
        rig.expect(&[residue().implying(&["pasid-table-mismatch"]), late]);
        assert_eq!(rig.severities(), ["critical", "info"]);
    }
}

/// The begin of the attach got lost, and its return is told when the member has joined. (Seed 202867 of the correct programs
/// that lose records.)
#[test]
fn who_joins_between_an_attach_and_its_return_has_joined_later() {
    for era in Era::WITH_PASIDS {
        let mut rig = rig(era, Faults::default());
        let mut attach = rig.kernel.begin(&driver(), Call::Attach { device: NIC, pasid: 6, domain: D1 });
        rig.kernel.log.clear();
        rig.lose(Stage::Ring, 1);
        rig.kernel.act(&mut attach);
        let late = rig.kernel.device("0000:01:00.2");
        rig.kernel.plug(7, late);
        rig.kernel.end(attach);
        rig.watch();
        for _ in 0..2 {
            rig.idle(1_000_000_000);
            rig.kernel.snapshot(7);
            rig.watch();
        }
        rig.expect(&[raised("group-divergence", 7, &[6], "driver", "")]);
        assert_eq!(rig.severities(), ["info"]);
    }
}

/// The late member lacks the PASID when the look reads its table, and has it when the look is over.
#[test]
fn a_pasid_that_is_attached_anew_while_a_look_goes_on_is_on_all_members() {
    for era in Era::WITH_PASIDS {
        let mut rig = with_a_late_member(era);
        rig.kernel.look(&other(), 7, Look::Entry);
        rig.kernel.look(&other(), 7, Look::Devices);
        rig.kernel.call(&driver(), Call::Detach { device: NIC, pasid: 6, domain: D1 });
        rig.kernel.call(&driver(), Call::Attach { device: NIC, pasid: 6, domain: D1 });
        rig.kernel.look(&other(), 7, Look::Return);
        rig.watch();
        rig.expect_silence();
    }
}

/// What the one saw is of another moment than what the other saw.
#[test]
fn two_who_look_at_once_are_not_taken_for_one() {
    for era in Era::WITH_PASIDS {
        let mut rig = rig(era, Faults::default());
        rig.calls(&driver(), [attach(D1)]);
        rig.kernel.look(&driver(), 7, Look::Entry);
        rig.kernel.look(&other(), 7, Look::Entry);
        rig.kernel.look(&driver(), 7, Look::Devices);
        rig.kernel.call(&driver(), Call::Detach { device: NVME, pasid: 5, domain: D1 });
        rig.kernel.call(&driver(), attach(D2));
        rig.kernel.look(&other(), 7, Look::Devices);
        rig.kernel.look(&driver(), 7, Look::Return);
        rig.kernel.look(&other(), 7, Look::Return);
        rig.watch();
        rig.expect_silence();
    }
}
