//! Invalidations that take long: in a teardown, outside every window, once, and again.

use std::time::Duration;

use monitor::check::{CheckState, Value};
use monitor::coverage::HookState;
use monitor::input::Input;
use monitor::watcher::{Options, Watcher};
use monitor_ebpf::wire::Hook;

use crate::kernel::flush::{Teardown, Vtd, all};
use crate::kernel::{Call, Era};
use crate::rig::{D1, NVME, Raised, Rig, driver, other, raised};

const SLOW: &str = "flush-slow";
const SECOND: u64 = 1_000_000_000;
const LATE: Duration = Duration::from_millis(200);
const DEAD: Duration = Duration::from_millis(1_200);

/// PASID 5 is attached by `driver`, and detached by `other`; of the teardown so many submissions take so long.
fn torn_down(slow: &[Duration]) -> Rig {
    let (mut rig, mut vtd) = (Rig::new(Era::Tagged), Vtd::default());
    rig.kernel.call(&driver(), Call::Attach { device: NVME, pasid: 5, domain: D1 });
    let mut running = rig.kernel.begin(&other(), Call::Detach { device: NVME, pasid: 5, domain: D1 });
    for &took in slow {
        vtd.is_slow(&mut rig.kernel, &other(), NVME, 5, took);
    }
    vtd.tear_down(&mut rig.kernel, &other(), NVME, &Teardown::new(5, all(5)));
    rig.kernel.act(&mut running);
    assert_eq!(rig.kernel.end(running), 0);
    rig.watch();
    rig
}

/// A submission takes so long outside every window.
fn outside(rig: &mut Rig, took: Duration) {
    Vtd::default().is_slow_outside(&mut rig.kernel, Hook::VtdSubmit, &other(), took);
    rig.watch();
}

fn of_none() -> Raised {
    Raised { group: None, ..raised(SLOW, 7, &[], "", "other") }
}

fn severities(rig: &Rig) -> Vec<&'static str> {
    let mut found: Vec<_> = rig.watcher.violations().map(|found| found.severity.name()).collect();
    found.sort_unstable();
    found
}

#[test]
fn a_teardown_that_is_slow_twice_is_told_with_its_entry() {
    let mut rig = torn_down(&[LATE, LATE]);
    let told = rig.watcher.violations().next().expect("a violation");
    assert_eq!(
        told.summary,
        "an invalidation of the intel driver took 200 ms while PASID 5 of 0000:01:00.0 was torn down"
    );
    let read: Vec<_> = told.read.iter().map(|read| (read.what, read.value.clone())).collect();
    assert_eq!(read[0], ("took, in µs", Value::Count(200_000)));
    assert_eq!(read[1], ("asked for", Value::Names(vec!["pasid_cache".into()])));
    assert_eq!(severities(&rig), ["warning"]);
    rig.expect(&[raised(SLOW, 7, &[5], "driver", "other")]);
}

#[test]
fn one_that_takes_more_than_a_second_is_told_at_once() {
    let mut rig = torn_down(&[DEAD]);
    assert_eq!(severities(&rig), ["critical"]);
    rig.expect(&[raised(SLOW, 7, &[5], "driver", "other")]);
}

#[test]
fn a_second_is_no_more_than_a_second() {
    torn_down(&[Duration::from_secs(1)]).expect_silence();
}

#[test]
fn one_that_happens_once_may_be_an_interrupt() {
    torn_down(&[LATE]).expect_silence();
}

#[test]
fn a_teardown_that_is_not_slow_is_right() {
    torn_down(&[]).expect_silence();
}

#[test]
fn outside_of_windows_it_is_of_no_group() {
    let mut rig = Rig::new(Era::Tagged);
    outside(&mut rig, LATE);
    rig.kernel.sleep(59 * SECOND);
    outside(&mut rig, LATE);
    assert_eq!(severities(&rig), ["warning"]);
    let told = rig.watcher.violations().next().expect("a violation");
    assert_eq!(told.summary, "an invalidation of the intel driver took 200 ms outside every window");
    rig.expect(&[of_none()]);
}

#[test]
fn what_comes_again_after_a_minute_does_not_come_again() {
    let mut rig = Rig::new(Era::Tagged);
    outside(&mut rig, LATE);
    rig.kernel.sleep(61 * SECOND);
    outside(&mut rig, LATE);
    rig.expect_silence();
}

#[test]
fn the_worse_of_two_is_a_violation_of_its_own() {
    let mut rig = Rig::new(Era::Tagged);
    for took in [LATE, LATE, DEAD, DEAD] {
        outside(&mut rig, took);
        rig.kernel.sleep(SECOND);
    }
    assert_eq!(severities(&rig), ["critical", "warning"]);
    rig.expect(&[of_none(), of_none()]);
}

#[test]
fn the_queue_of_each_vendor_is_named() {
    for (hook, name) in [(Hook::AmdWait, "amd"), (Hook::SmmuQueue, "arm-smmu-v3")] {
        let mut rig = Rig::new(Era::Tagged);
        Vtd::default().is_slow_outside(&mut rig.kernel, hook, &other(), DEAD);
        rig.watch();
        let told = rig.watcher.violations().next().expect("a violation");
        assert!(told.summary.contains(&format!("of the {name} driver took 1200 ms")), "{}", told.summary);
    }
}

#[test]
fn without_its_clock_it_is_unavailable_and_without_windows_it_says_what_it_misses() {
    let state = |hook: Hook| {
        let mut coverage = crate::rig::coverage(Era::Tagged);
        coverage.set(hook, HookState::Failed { reason: "left out".into() });
        let mut watcher = Watcher::new(Options { coverage, ..crate::rig::options(Era::Tagged) });
        watcher.take(Input::Inventory(crate::tables::inventory("intel")), 0);
        let found = watcher.checks().find(|(spec, _)| spec.name == SLOW);
        found.map(|(_, state)| state.clone()).expect("listed")
    };
    for hook in [Hook::VtdQueue, Hook::VtdSubmit] {
        assert!(matches!(state(hook), CheckState::Unavailable { .. }), "{}", hook.name());
    }
    for hook in [Hook::VtdTearDown, Hook::RidAttach] {
        assert!(matches!(state(hook), CheckState::Degraded { .. }), "{}", hook.name());
    }
    assert_eq!(state(Hook::AmdWait), CheckState::Armed);
}
