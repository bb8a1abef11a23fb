//! How far each check can do its work: by the kernel, by the hooks that are attached, by what the operator wants.

use monitor::check::CheckState;
use monitor::coverage::{Coverage, HookState};
use monitor::watcher::{Filter, Options, Watcher};
use monitor_ebpf::wire::Hook;

use crate::kernel::{Call, Era};
use crate::rig::{D1, NVME, OWNER, Rig, coverage, options, raised, vfio};

fn attach(pasid: u32, domain: u64) -> Call {
    Call::Attach { device: NVME, pasid, domain }
}

#[test]
fn without_pasids_in_the_core_the_checks_say_so() {
    let watcher = Watcher::new(options(Era::Owners));
    for (spec, state) in watcher.checks() {
        match spec.name {
            "pasid-left-on-release"
            | "attach-imbalance"
            | "pasid-lost-on-detach"
            | "rid-switch-refused"
            | "user-pasid-on-nonconforming"
            | "capability-off-under-pasids"
            | "driver-detach-failed"
            | "failed-attach-residue"
            | "pasid-table-mismatch"
            | "group-divergence"
            | "pasid-freed-while-attached"
            | "pasid-leaked"
            | "sva-bond-imbalance"
            | "sva-outlives-mm"
            | "fault-after-detach"
            | "iopf-unanswered" => {
                let CheckState::Unavailable { reason } = state else { panic!("{}: {state}", spec.name) };
                assert!(reason.contains("no account of PASIDs"), "{reason}");
            }
            _ => assert_eq!(state, &CheckState::Armed, "{}", spec.name),
        }
    }
}

#[test]
fn a_hook_that_failed_degrades_what_can_do_without_it() {
    let mut coverage = coverage(Era::Tagged);
    let reason = "kernel lockdown is confidentiality".to_owned();
    coverage.set(Hook::ReleaseDevice, HookState::Failed { reason });
    let watcher = Watcher::new(Options { coverage, ..options(Era::Tagged) });
    for (spec, state) in watcher.checks() {
        let degraded = matches!(
            spec.name,
            "pasid-left-on-release" | "ownership-stuck" | "ownership-conflict" | "domain-off-default"
        );
        assert_eq!(state.name(), if degraded { "degraded" } else { "armed" }, "{}", spec.name);
        assert!(!degraded || state.to_string().contains("kernel lockdown is confidentiality"), "{state}");
    }
}

#[test]
fn what_came_with_pasids_is_not_taken_for_uncalled_where_it_is_not_found() {
    let lacks = [
        (Hook::PasidDetach, "domain-freed-while-attached"),
        (Hook::ClaimDevice, "ownership-stuck"),
        (Hook::ClaimDevice, "ownership-leaked"),
    ];
    for (hook, check) in lacks {
        for (era, state) in [(Era::Owners, "armed"), (Era::Tagged, "unavailable")] {
            let mut coverage = coverage(era);
            coverage.set(hook, HookState::Absent);
            let watcher = Watcher::new(Options { coverage, ..options(era) });
            let told = watcher.checks().find(|(spec, _)| spec.name == check);
            assert_eq!(told.map(|(_, state)| state.name()), Some(state), "{check}, {era:?}");
        }
    }
}

#[test]
fn what_is_not_found_beside_what_it_comes_with_is_not_taken_for_uncalled() {
    let lacks = [
        (Hook::ReleaseGroup, "pasid-left-on-release", "degraded"),
        (Hook::ReleaseDevice, "ownership-stuck", "degraded"),
        (Hook::PasidAlloc, "pasid-freed-while-attached", "degraded"),
        (Hook::GroupRelease, "released-with-pasids", "degraded"),
        (Hook::MmExit, "sva-outlives-mm", "degraded"),
        (Hook::PasidOff, "capability-off-under-pasids", "degraded"),
        (Hook::AtsOff, "capability-off-under-pasids", "degraded"),
        (Hook::AtsOn, "devtlb-tag-missing", "unavailable"),
        (Hook::VtdSetupFirst, "pasid-reused-without-flush", "degraded"),
        (Hook::VtdSetupSecond, "pasid-reused-without-flush", "degraded"),
        (Hook::VtdSetupPassThrough, "pasid-reused-without-flush", "degraded"),
        (Hook::VtdTableFree, "pasid-table-shared", "degraded"),
        (Hook::VtdTableLeft, "released-with-pasids", "degraded"),
        (Hook::DevicePresent, "teardown-flush-incomplete", "degraded"),
        (Hook::VtdSetupNested, "pasid-reused-without-flush", "degraded"),
        (Hook::VtdTagAssign, "cache-tag-leaked", "unavailable"),
        (Hook::VtdTagUnassign, "devtlb-tag-missing", "unavailable"),
        (Hook::VtdAttach, "devtlb-tag-missing", "degraded"),
        (Hook::AttachGroupHandle, "iopf-unanswered", "unavailable"),
        (Hook::PageRequest, "iopf-unanswered", "unavailable"),
        (Hook::ResetPrepare, "reset-unpaired", "unavailable"),
        (Hook::ResetFlr, "reset-unpaired", "degraded"),
        (Hook::AmdSet, "pasid-reused-without-flush", "degraded"),
        (Hook::AmdClear, "pasid-lost-on-detach", "degraded"),
        (Hook::AmdTableFree, "pasid-lost-on-detach", "degraded"),
        (Hook::AmdTableLeft, "released-with-pasids", "degraded"),
        (Hook::AmdQueue, "flush-slow", "degraded"),
    ];
    for (hook, check, state) in lacks {
        let mut coverage = coverage(Era::Tagged);
        coverage.set(hook, HookState::Absent);
        let watcher = Watcher::new(Options { coverage, ..options(Era::Tagged) });
        let (_, told) = watcher.checks().find(|(spec, _)| spec.name == check).expect("a check");
        assert_eq!(told.name(), state, "{}: {check}: {told}", hook.name());
        let names_it = told.reason().is_some_and(|reason| reason.contains(hook.name()));
        assert!(names_it, "{}: {check}: {told}", hook.name());
    }
}

#[test]
fn without_any_hook_every_check_is_unavailable() {
    let mut coverage = Coverage::default();
    coverage.core_pasids = true;
    let watcher = Watcher::new(Options { coverage, ..options(Era::Tagged) });
    assert!(watcher.checks().all(|(_, state)| matches!(state, CheckState::Unavailable { .. })));
}

#[test]
fn a_check_that_is_off_raises_nothing() {
    let mut rig = Rig::new(Era::Handles);
    rig.only_check("ownership-stuck");
    rig.calls(&vfio(), [Call::Claim { group: 7, owner: OWNER }, attach(5, D1), Call::Release { group: 7 }]);
    rig.expect(&[raised("ownership-stuck", 7, &[5], "vfio", "vfio")]);
    let watcher_checks = rig.watcher.checks().count();
    let off = rig.watcher.checks().filter(|(_, state)| **state == CheckState::Off).count();
    assert_eq!(off, watcher_checks - 1);
}

#[test]
fn a_group_that_is_filtered_out_raises_nothing() {
    let mut rig = Rig::new(Era::Handles);
    let filter = Filter { groups: vec![8], ..Filter::default() };
    rig.watcher = Watcher::new(Options { filter, ..options(Era::Handles) });
    rig.bootstrap();
    rig.calls(&vfio(), [Call::Claim { group: 7, owner: OWNER }, attach(5, D1), Call::Release { group: 7 }]);
    rig.expect(&[]);
    assert!(rig.watcher.groups().is_empty());
}
