//! A RID's cache tags as looks show them, and where there are none to judge.

use monitor::check::CheckState;
use monitor::coverage::HookState;
use monitor::event::{DomainKind, Event, Tags};
use monitor::input::Input;
use monitor::inventory::{DeviceEntry, GroupEntry, Inventory};
use monitor::watcher::{Options, Watcher};
use monitor_ebpf::wire::Hook;

use super::{LEAKED, MISSING};
use crate::kernel::{Call, Era, Faults};
use crate::rig::{NVME, Rig, coverage, options, other, raised};

/// One look at the group, in which the NVMe's RID has ATS on and this many users of its tag.
fn look(rig: &mut Rig, users: u32, edit: impl Fn(&mut Event)) {
    rig.kernel.snapshot(7);
    let members = rig.kernel.log.iter_mut().filter(|event| event.hook == Hook::SnapshotIntel);
    for event in members.filter(|event| event.device.is_some_and(|device| &*device.name == NVME)) {
        event.tags = Some(Tags { device_tlb: Some(users), ats: Some(true) });
        let domain = event.group.as_mut().and_then(|group| group.domain.as_mut());
        domain.expect("a domain").kind = DomainKind::Dma;
        edit(event);
    }
    rig.watch();
}

#[test]
fn a_rid_without_its_tag_at_the_start_is_caught_at_the_second_look() {
    let mut rig = Rig::new(Era::Tagged);
    look(&mut rig, 0, |_| {});
    assert_eq!(rig.raised(), [], "probe_finalize may be at it");
    look(&mut rig, 0, |_| {});
    rig.expect(&[raised(MISSING, 7, &[], "", "")]);
    look(&mut rig, 1, |_| {});
    assert_eq!(rig.resolved(), [(MISSING, "cleared")]);
}

#[test]
fn a_tag_that_probe_finalize_assigns_between_two_looks_is_right() {
    let mut rig = Rig::new(Era::Tagged);
    look(&mut rig, 0, |_| {});
    look(&mut rig, 1, |_| {});
    rig.expect_silence();
}

#[test]
fn identity_blocked_and_reset_rids_have_no_tags() {
    let edits: [fn(&mut Event); 4] = [
        |event| {
            event.group.as_mut().and_then(|group| group.domain.as_mut()).expect("one").kind =
                DomainKind::Identity
        },
        |event| {
            event.group.as_mut().and_then(|group| group.domain.as_mut()).expect("one").kind =
                DomainKind::Blocked
        },
        |event| crate::looks::state(event).blocked = true,
        |event| crate::looks::state(event).deferred = true,
    ];
    for edit in edits {
        let mut rig = Rig::new(Era::Tagged);
        rig.only_check(MISSING);
        look(&mut rig, 0, edit);
        look(&mut rig, 0, edit);
        rig.expect(&[]);
    }
}

/// A driver did not put the RID back after a reset, which is told by itself: it is not on its group's domain.
#[test]
fn a_rid_whose_last_attach_failed_is_not_looked_for_in_the_groups_domain() {
    let mut rig = Rig::new(Era::Tagged);
    rig.only_check(MISSING);
    let reset = [Call::ResetPrepare { device: NVME }, Call::ResetDone { device: NVME }];
    rig.kernel.faults = Faults { done_is_refused: true, ..Faults::default() };
    rig.calls(&other(), reset.clone());
    rig.kernel.faults = Faults::default();
    for _ in 0..2 {
        look(&mut rig, 0, |event| crate::looks::state(event).blocked = false);
    }
    rig.expect(&[]);
    // Once it is back, its tag must be there.
    rig.calls(&other(), reset);
    for _ in 0..2 {
        look(&mut rig, 0, |_| {});
    }
    rig.expect(&[raised(MISSING, 7, &[], "", "")]);
}

/// How far both checks can do their work behind this driver, if the hooks on tags are in this state.
fn states(iommu_driver: &str, hook: HookState) -> Vec<CheckState> {
    let mut coverage = coverage(Era::Tagged);
    for tagging in [Hook::VtdTagAssign, Hook::VtdTagUnassign] {
        coverage.set(tagging, hook.clone());
    }
    let mut watcher = Watcher::new(Options { coverage, ..options(Era::Tagged) });
    let device =
        DeviceEntry { name: NVME.into(), iommu_driver: Some(iommu_driver.into()), ..DeviceEntry::default() };
    let group = GroupEntry { id: 7, devices: vec![device], ..GroupEntry::default() };
    watcher.take(Input::Inventory(Inventory { groups: vec![group] }), 0);
    let ours = |(spec, state): (&monitor::check::Spec, &CheckState)| {
        [MISSING, LEAKED].contains(&spec.name).then(|| state.clone())
    };
    watcher.checks().filter_map(ours).collect()
}

#[test]
fn without_cache_tags_there_is_nothing_to_judge() {
    let failed = HookState::Failed { reason: "lockdown".into() };
    for (iommu_driver, hook, state, reason) in [
        ("amd", HookState::Absent, "not-applicable", "only its driver keeps cache tags"),
        ("intel", HookState::Absent, "not-applicable", "came with 6.10"),
        ("intel", failed, "unavailable", "lockdown"),
    ] {
        for found in states(iommu_driver, hook.clone()) {
            assert_eq!(found.name(), state);
            assert!(found.reason().is_some_and(|text| text.contains(reason)), "{found}");
        }
    }
}
