//! What one look at a group decides, and that it takes a second look to raise it.

use monitor::check::{CheckState, Severity};
use monitor::event::{DeviceState, Event, Key, TableEntry, TableKind, TableReading};
use monitor::watcher::Report;
use monitor_ebpf::wire::Hook;

use crate::kernel::{Call, Era};
use crate::rig::{D1, D2, NIC, NVME, OWNER, Raised, Rig, driver, other, raised, vfio};

fn attach(pasid: u32) -> Call {
    Call::Attach { device: NVME, pasid, domain: D1 }
}

/// One look at the group, in which the readings of its members come out as told.
fn look(rig: &mut Rig, edit: impl Fn(&mut Event)) {
    rig.kernel.snapshot(7);
    rig.kernel.log.iter_mut().filter(|event| event.hook == Hook::SnapshotIntel).for_each(edit);
    rig.watch();
}

/// Two looks that show the same.
fn look_twice(rig: &mut Rig, edit: impl Fn(&mut Event)) {
    look(rig, &edit);
    assert_eq!(rig.raised(), [], "one look is not enough");
    look(rig, edit);
}

/// A hardware table of these PASIDs, and the RID's own entry.
fn table(pasids: &[u32]) -> Option<Box<TableReading>> {
    let entry = |&pasid: &u32| TableEntry { pasid, kind: 1, tag: 9 };
    let entries = [0].iter().chain(pasids).map(entry).collect();
    Some(Box::new(TableReading { kind: TableKind::Vtd, per_domain: false, entries, complete: true }))
}

fn is(event: &Event, name: &str) -> bool {
    event.device.is_some_and(|device| &*device.name == name)
}

pub fn state(event: &mut Event) -> &mut DeviceState {
    event.device.as_mut().and_then(|device| device.state.as_mut()).expect("a member's state")
}

fn found(check: &str, pasids: &[u32]) -> Raised {
    raised(check, 7, pasids, "", "")
}

#[test]
fn a_table_that_agrees_with_the_core_is_silent() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        rig.calls(&driver(), [Call::Use { device: NVME }, attach(5), attach(6)]);
        look_twice(&mut rig, |event| event.table = table(&[5, 6]));
        rig.expect_silence();
    }
}

#[test]
fn a_pasid_that_only_the_hardware_has_is_caught_at_the_second_look() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        rig.calls(&driver(), [Call::Use { device: NVME }, attach(5)]);
        look_twice(&mut rig, |event| event.table = table(if is(event, NVME) { &[5, 9] } else { &[5] }));
        rig.expect(&[found("pasid-table-mismatch", &[9])]);
        look(&mut rig, |event| event.table = table(&[5]));
        assert_eq!(rig.resolved(), [("pasid-table-mismatch", "cleared")]);
    }
}

#[test]
fn a_pasid_that_no_hardware_table_has_is_caught_with_who_attached_it() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        rig.calls(&driver(), [Call::Use { device: NVME }, attach(5), attach(6)]);
        look_twice(&mut rig, |event| event.table = table(&[6]));
        rig.expect(&[raised("pasid-table-mismatch", 7, &[5], "driver", "")]);
    }
}

#[test]
fn what_is_right_at_the_second_look_is_not_raised() {
    let mut rig = Rig::new(Era::Tagged);
    rig.calls(&driver(), [Call::Use { device: NVME }, attach(5)]);
    look(&mut rig, |event| event.table = table(&[5, 9]));
    assert_eq!(rig.watcher.second_looks(), [7]);
    look(&mut rig, |event| event.table = table(&[5]));
    assert_eq!(rig.watcher.second_looks(), Vec::<u32>::new());
    rig.expect_silence();
}

/// Traps 1, 3, 6 and 11: PASID 0, members without PASIDs, a reset, a process that has exited.
#[test]
fn what_may_differ_by_right_is_silent() {
    let twins: [fn(&mut Event); 5] = [
        |event| event.table = table(&[]).filter(|_| false),
        |event| {
            event.table = table(&[9]);
            event.table.as_mut().expect("set").complete = false;
        },
        |event| {
            event.table = table(&[9]);
            event.group.as_mut().expect("read").recovery_cnt = 1;
        },
        |event| {
            event.table = table(&[9]);
            state(event).blocked = true;
        },
        |event| {
            event.table = table(&[]);
            event.array.as_mut().expect("read").entries.iter_mut().for_each(|entry| entry.mm_exited = true);
        },
    ];
    for twin in twins {
        let mut rig = Rig::new(Era::Tagged);
        rig.calls(&driver(), [Call::Use { device: NVME }, attach(5)]);
        look_twice(&mut rig, twin);
        rig.expect_silence();
    }
}

#[test]
fn a_member_that_lacks_what_the_others_have_is_caught() {
    let mut rig = Rig::new(Era::Tagged);
    rig.calls(&driver(), [Call::Use { device: NVME }, attach(5)]);
    look(&mut rig, |event| event.table = table(if is(event, NIC) { &[] } else { &[5] }));
    rig.expect(&[raised("group-divergence", 7, &[5], "driver", "")]);
    let violation = rig.watcher.violations().next().expect("open");
    assert_eq!(violation.severity, Severity::Critical);
}

/// Trap 18: a device that joins a group later doesn't get the group's PASIDs.
#[test]
fn a_member_that_joined_later_is_worth_knowing_and_no_more() {
    let mut rig = Rig::new(Era::Tagged);
    rig.calls(&driver(), [Call::Use { device: NVME }, attach(5)]);
    let late = rig.kernel.device("0000:01:00.2");
    rig.kernel.plug(7, late);
    look_twice(&mut rig, |event| event.table = table(if is(event, "0000:01:00.2") { &[] } else { &[5] }));
    assert_eq!(rig.watcher.violations().map(|found| found.severity).collect::<Vec<_>>(), [Severity::Info]);
    rig.expect(&[raised("group-divergence", 7, &[5], "driver", "")]);
}

#[test]
fn members_behind_one_iommu_that_translate_a_pasid_differently_are_caught() {
    let mut rig = Rig::new(Era::Tagged);
    rig.calls(&driver(), [Call::Use { device: NVME }, attach(5)]);
    let edit = |event: &mut Event| {
        event.table = table(&[5]);
        state(event).iommu = Key::new(0xabc);
        if is(event, NIC) {
            event.table.as_mut().expect("set").entries[1].tag = 10;
        }
    };
    look(&mut rig, edit);
    rig.expect(&[raised("group-divergence", 7, &[5], "driver", "")]);
    // Behind two IOMMUs one domain may have two ids.
    let mut rig = Rig::new(Era::Tagged);
    rig.calls(&driver(), [Call::Use { device: NVME }, attach(5)]);
    look_twice(&mut rig, |event| {
        edit(event);
        state(event).iommu = Key::new(if is(event, NIC) { 0xabc } else { 0xdef });
    });
    rig.expect_silence();
}

#[test]
fn a_free_group_off_its_default_domain_is_caught() {
    let mut rig = Rig::new(Era::Handles);
    rig.kernel.group_mut(7).domain = D2;
    rig.kernel.snapshot(7);
    rig.watch();
    let mut rig = Rig::unwatched(Era::Handles);
    rig.kernel.group_mut(7).domain = D2;
    look_twice(&mut rig, |_| {});
    rig.expect(&[found("domain-off-default", &[])]);
}

#[test]
fn a_claimed_group_on_its_default_domain_is_caught() {
    let mut rig = Rig::unwatched(Era::Handles);
    rig.kernel.call(&vfio(), Call::Claim { group: 7, owner: OWNER });
    rig.kernel.log.clear();
    let default = rig.kernel.groups[&7].default_domain;
    rig.kernel.group_mut(7).domain = default;
    look_twice(&mut rig, |_| {});
    rig.expect(&[found("domain-off-default", &[])]);
}

#[test]
fn a_member_in_between_two_domains_is_not_judged() {
    for edit in
        [|event: &mut Event| state(event).deferred = true, |event: &mut Event| state(event).blocked = true]
    {
        let mut rig = Rig::unwatched(Era::Handles);
        rig.kernel.group_mut(7).domain = D2;
        look_twice(&mut rig, edit);
        rig.expect(&[]);
    }
}

fn unbound(event: &mut Event) {
    state(event).bound = false;
}

#[test]
fn a_claim_that_nobody_can_have_is_caught_with_what_it_left() {
    let mut rig = Rig::unwatched(Era::Handles);
    rig.kernel.calls_before(&vfio(), [Call::Claim { group: 7, owner: OWNER }]);
    look_twice(&mut rig, unbound);
    rig.expect(&[found("ownership-stuck", &[])]);

    let mut rig = Rig::unwatched(Era::Handles);
    rig.kernel.call(&vfio(), Call::Claim { group: 7, owner: OWNER });
    rig.kernel.call(&vfio(), attach(5));
    rig.kernel.log.clear();
    look_twice(&mut rig, unbound);
    rig.expect(&[found("pasid-left-on-release", &[5]).implying(&["ownership-stuck"])]);
}

#[test]
fn a_use_that_no_driver_can_have_is_caught_with_what_it_left() {
    let mut rig = Rig::unwatched(Era::Handles);
    rig.kernel.call(&driver(), Call::Use { device: NVME });
    rig.kernel.log.clear();
    look_twice(&mut rig, unbound);
    rig.expect(&[found("ownership-leaked", &[])]);

    let mut rig = Rig::unwatched(Era::Handles);
    rig.kernel.calls_before(&driver(), [Call::Use { device: NVME }, attach(5)]);
    look_twice(&mut rig, unbound);
    rig.expect(&[found("pasid-left-on-release", &[5]).implying(&["ownership-leaked"])]);
}

/// The group was not known yet when it was claimed: it came after the start.
#[test]
fn who_was_seen_to_take_hold_of_a_new_group_is_not_doubted() {
    let mut rig = Rig::unwatched(Era::Handles);
    rig.calls(&vfio(), [Call::Claim { group: 7, owner: OWNER }]);
    look_twice(&mut rig, unbound);
    rig.expect_silence();
}

/// Nobody holds the group, and an attach is under way: who makes it will be known when it returns.
#[test]
fn an_attach_that_is_under_way_has_left_nothing() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        let mut attaching = rig.kernel.begin(&other(), attach(5));
        rig.kernel.act(&mut attaching);
        look_twice(&mut rig, unbound);
        rig.kernel.end(attaching);
        rig.calls(&other(), [Call::Detach { device: NVME, pasid: 5, domain: D1 }]);
        rig.expect_silence();
    }
}

#[test]
fn who_was_seen_to_take_hold_is_not_doubted() {
    let mut rig = Rig::new(Era::Handles);
    rig.calls(&vfio(), [Call::Claim { group: 7, owner: OWNER }, attach(5)]);
    look_twice(&mut rig, unbound);
    rig.expect_silence();
    // With a driver bound to a member somebody may well be there.
    let mut rig = Rig::unwatched(Era::Handles);
    rig.kernel.calls_before(&vfio(), [Call::Claim { group: 7, owner: OWNER }, attach(5)]);
    look_twice(&mut rig, |_| {});
    rig.expect_silence();
}

#[test]
fn pasids_of_a_free_group_from_before_we_watched_are_caught() {
    let mut rig = Rig::unwatched(Era::Tagged);
    rig.kernel.calls_before(&driver(), [attach(5)]);
    look_twice(&mut rig, |event| event.table = table(&[5]));
    rig.expect(&[found("pasid-left-on-release", &[5])]);
}

/// Our model against the kernel: that is our own missed event, and never the kernel's fault.
#[test]
fn what_a_hook_missed_is_counted_and_mended_and_raises_nothing() {
    let missed = [
        (Call::Claim { group: 7, owner: OWNER }, Hook::ClaimGroup),
        (Call::Use { device: NVME }, Hook::UseDefault),
        (attach(5), Hook::PasidAttach),
    ];
    for (call, hook) in missed {
        let mut rig = Rig::new(Era::Tagged);
        rig.kernel.calls_before(&driver(), [call]);
        look_twice(&mut rig, |_| {});
        assert_eq!(rig.watcher.counters().leaks(hook), 1, "{}", hook.name());
        let news = rig.reports.iter().filter(|report| matches!(report, Report::CheckState(_))).count();
        assert!(news > 0, "the checks that go by it say so");
        assert!(rig.watcher.checks().any(|(_, state)| matches!(state, CheckState::Degraded { .. })));
        rig.assert_synced();
        rig.expect(&[]);
        assert_eq!(rig.watcher.groups()[0].owner_cnt, Some(rig.kernel.groups[&7].owner_cnt));
    }
}

#[test]
fn a_missed_detach_is_told_from_a_missed_replace() {
    let mut rig = Rig::new(Era::Tagged);
    rig.calls(&driver(), [Call::Use { device: NVME }, attach(5), attach(6)]);
    look(&mut rig, |_| {});
    rig.kernel.calls_before(&driver(), [Call::Replace { device: NVME, pasid: 5, domain: D2 }]);
    look(&mut rig, |_| {});
    rig.kernel.calls_before(&driver(), [Call::Detach { device: NVME, pasid: 6, domain: D1 }]);
    look(&mut rig, |_| {});
    let leaks = |hook| rig.watcher.counters().leaks(hook);
    assert_eq!((leaks(Hook::PasidReplace), leaks(Hook::PasidDetach), leaks(Hook::PasidAttach)), (1, 1, 0));
    rig.expect(&[]);
}

#[test]
fn a_call_that_is_under_way_is_no_missed_one() {
    let mut rig = Rig::new(Era::Tagged);
    let mut running = rig.kernel.begin(&driver(), attach(5));
    rig.kernel.act(&mut running);
    look_twice(&mut rig, |_| {});
    rig.kernel.end(running);
    rig.watch();
    assert!(Hook::ALL.iter().all(|&hook| rig.watcher.counters().leaks(hook) == 0));
    rig.expect_silence();
}

/// Up to 6.6 SMMUv3 and up to 6.8 AMD hang the table off the domain.
#[test]
fn tables_that_are_shared_by_design_are_told_once() {
    let mut rig = Rig::unwatched(Era::Domains);
    for device in &mut rig.kernel.group_mut(7).devices {
        device.table = 4242;
    }
    look_twice_shared(&mut rig);
    rig.expect(&[Raised { group: None, ..found("pasid-table-shared", &[]) }]);
    assert_eq!(rig.watcher.violations().next().map(|found| found.severity), Some(Severity::Info));
}

fn look_twice_shared(rig: &mut Rig) {
    for _ in 0..2 {
        look(rig, |event| {
            event.table = table(&[5]);
            let table = event.table.as_mut().expect("set");
            (table.kind, table.per_domain) = (TableKind::Amd, true);
            event.device.as_mut().expect("a member").table = None;
        });
    }
}

/// No driver's hook is known: what reads the same on entry and on return of the core's function stood there.
#[test]
fn without_a_drivers_hook_it_takes_two_readings() {
    for era in [Era::Owners, Era::Domains, Era::Handles, Era::Tagged] {
        let unlocked = |rig: &mut Rig| {
            let locked = |event: &Event| event.hook == Hook::SnapshotIntel;
            while let Some(index) = rig.kernel.log.iter().position(locked) {
                rig.kernel.miss(index);
            }
        };
        let mut rig = Rig::unwatched(era);
        rig.kernel.snapshot(7);
        unlocked(&mut rig);
        let half = rig.kernel.log.len() / 2;
        for event in rig.kernel.log.iter_mut().skip(half) {
            event.group.as_mut().expect("read").ownership.as_mut().expect("read").count = 1;
        }
        rig.watch();
        assert_eq!(rig.watcher.unknown_groups(), [7], "it changed meanwhile");
        rig.kernel.group_mut(7).domain = D2;
        for _ in 0..2 {
            rig.kernel.snapshot(7);
            unlocked(&mut rig);
            rig.watch();
        }
        rig.assert_synced();
        rig.expect(&[found("domain-off-default", &[])]);
    }
}

#[test]
fn what_a_shared_table_shows_of_the_other_device_goes_into_it() {
    let mut rig = Rig::new(Era::Tagged);
    rig.kernel.group(8, &["0000:09:00.0"]);
    rig.kernel.snapshot_all();
    rig.idle(1_000_000_000);
    rig.calls(&driver(), [Call::Use { device: NVME }, attach(5)]);
    let table_of_nvme = rig.kernel.groups[&7].devices[0].table;
    rig.kernel.group_mut(8).devices[0].table = table_of_nvme;
    for _ in 0..2 {
        rig.kernel.snapshot_all();
        rig.kernel
            .log
            .iter_mut()
            .filter(|event| event.hook == Hook::SnapshotIntel)
            .for_each(|event| event.table = table(&[5]));
        rig.watch();
    }
    let shared = found("pasid-table-shared", &[]).implying(&["pasid-table-mismatch"]);
    rig.expect(&[Raised { group: None, ..shared }]);
}
