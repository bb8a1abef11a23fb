//! `kernel-advisory`: known defects of the kernel that no event can show.

use monitor::advisory::{Advisories, Told, Verdict};
use monitor::check::{CheckState, Value};
use monitor::input::Input;
use monitor::watcher::{Options, Report, Watcher};

use crate::kernel::{Call, Era};
use crate::rig::{NVME, Raised, Rig, options, vfio};

fn told(id: &str, verdict: Verdict) -> Told {
    Told {
        id: id.into(),
        cve: vec![format!("CVE-2026-{id}")],
        title: "something is torn".into(),
        effect: "DMA goes astray".into(),
        what_to_do: "update".into(),
        references: Vec::new(),
        verdict,
        because: "a function is missing".into(),
    }
}

fn advisories(told: impl IntoIterator<Item = Told>) -> Advisories {
    Advisories { date: "2026-11-22".parse().expect("a date"), told: told.into_iter().collect() }
}

/// A kernel of which this is known.
fn rig(told: impl IntoIterator<Item = Told>) -> Rig {
    let mut rig = Rig::unwatched(Era::Tagged);
    let mut options = options(Era::Tagged);
    options.coverage.advisories = Some(advisories(told));
    rig.watcher = Watcher::new(options);
    rig.tell(Input::Start);
    rig.bootstrap();
    rig
}

fn advisory() -> Raised {
    Raised {
        check: "kernel-advisory".into(),
        group: None,
        pasids: Vec::new(),
        attached_by: String::new(),
        triggered_by: String::new(),
        implied: Vec::new(),
    }
}

#[test]
fn a_kernel_with_a_known_defect_is_told_once_with_what_to_do() {
    let mut rig = rig([told("1", Verdict::Affected)]);
    rig.expect(&[advisory()]);
    assert_eq!(rig.severities(), ["info"]);
    let open = rig.watcher.violations().next().expect("it stands");
    assert!(open.summary.contains("CVE-2026-1") && open.summary.contains("something is torn"));
    let read = |what: &str| &open.read.iter().find(|read| read.what == what).expect("it is read").value;
    assert_eq!(read("told by"), &Value::Names(vec!["a function is missing".into()]));
    assert_eq!(read("what to do"), &Value::Names(vec!["update".into()]));
    assert_eq!(read("advisories as of"), &Value::Names(vec!["2026-11-22".into()]));
    // It stands for as long as the kernel runs, and isn't told again with the hooks.
    let coverage = rig.watcher.options().coverage.clone();
    rig.tell(Input::Coverage(coverage));
    rig.calls(&vfio(), [Call::Claim { group: 7, owner: 1 }, Call::Release { group: 7 }]);
    rig.idle(3_600_000_000_000);
    rig.expect(&[advisory()]);
    assert!(rig.resolved().is_empty() && rig.watcher.violations().count() == 1);
}

#[test]
fn two_defects_are_two_violations() {
    let mut rig = rig([told("1", Verdict::Affected), told("2", Verdict::Affected)]);
    rig.expect(&[advisory(), advisory()]);
    let mut open: Vec<_> = rig.watcher.violations().map(|open| open.fingerprint).collect();
    open.dedup();
    assert_eq!(open.len(), 2);
}

/// Traps: the fix is there, the code is not, or nothing tells.
#[test]
fn what_is_fixed_or_absent_or_undecided_is_no_violation() {
    let mut rig = rig([told("1", Verdict::Fixed), told("2", Verdict::Absent), told("3", Verdict::Undecided)]);
    rig.calls(&vfio(), [Call::Attach { device: NVME, pasid: 5, domain: 3001 }]);
    rig.calls(&vfio(), [Call::Detach { device: NVME, pasid: 5, domain: 3001 }]);
    rig.expect_silence();
}

#[test]
fn a_kernel_that_nobody_asked_says_so() {
    let mut unasked = options(Era::Tagged);
    unasked.coverage.advisories = None;
    let watcher = Watcher::new(unasked);
    let (_, state) = watcher.checks().find(|(spec, _)| spec.name == "kernel-advisory").expect("a check");
    assert!(
        matches!(state, CheckState::Unavailable { reason } if reason.contains("nobody asked")),
        "{state}"
    );
}

#[test]
fn where_the_check_is_off_nothing_is_raised() {
    let mut rig = rig([told("1", Verdict::Affected)]);
    rig.reports.clear();
    let filter = monitor::watcher::Filter { checks: vec!["ownership-stuck".into()], ..Default::default() };
    let coverage = rig.watcher.options().coverage.clone();
    rig.watcher = Watcher::new(Options { filter, coverage, ..options(Era::Tagged) });
    rig.tell(Input::Start);
    rig.bootstrap();
    assert!(!rig.reports.iter().any(|report| matches!(report, Report::Violation(_))));
}
