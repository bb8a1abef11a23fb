//! What the operator says of the checks, at the start and later: off, severities, thresholds, expected deviations.

use std::sync::Arc;

use monitor::check::{Expectation, Settings, Severity};
use monitor::watcher::{Options, Report, Watcher};
use monitor_ebpf::wire::Hook;

use crate::kernel::{Call, Era};
use crate::looks;
use crate::rig::{D1, NVME, OWNER, Rig, driver, options, raised, vfio};

const LEFT: &str = "pasid-left-on-release";
const STUCK: &str = "ownership-stuck";
const DAY: u64 = 24 * 60 * 60 * 1_000_000_000;

fn expects(group: u32, until_mono_ns: u64) -> Expectation {
    Expectation {
        check: LEFT,
        iommu_driver: None,
        group: Some(group),
        device: None,
        reason: "a known bug of the driver's".into(),
        until: "2027-03-31".parse().expect("a date"),
        until_mono_ns,
    }
}

fn expecting(expectation: Expectation) -> Settings {
    Settings { expected: vec![Arc::new(expectation)], ..Settings::default() }
}

fn off(check: &'static str) -> Settings {
    Settings { off: [check].into(), ..Settings::default() }
}

fn weighing(severity: Severity) -> Settings {
    Settings { severities: [(LEFT, severity)].into(), ..Settings::default() }
}

/// Watched with these settings from the start.
fn with(settings: Settings) -> Rig {
    let mut rig = Rig::unwatched(Era::Tagged);
    rig.watcher = Watcher::new(Options { settings: settings.into(), ..options(Era::Tagged) });
    rig.bootstrap();
    rig
}

/// The operator says something else.
fn configure(rig: &mut Rig, settings: Settings) {
    rig.watch();
    rig.reports.extend(rig.watcher.configure(settings, rig.kernel.now));
}

/// A PASID is left at a release.
fn leave(rig: &mut Rig) {
    rig.calls(&vfio(), [Call::Claim { group: 7, owner: OWNER }]);
    rig.calls(&driver(), [Call::Attach { device: NVME, pasid: 5, domain: D1 }]);
    rig.calls(&vfio(), [Call::Release { group: 7 }]);
    rig.idle(1_000_000_000);
}

fn mend(rig: &mut Rig) {
    rig.calls(&driver(), [Call::Detach { device: NVME, pasid: 5, domain: D1 }]);
    rig.calls(&vfio(), [Call::Release { group: 7 }]);
    rig.idle(1_000_000_000);
}

/// Raised so far of a severity: those that nobody expected, and those that somebody did; and the same of what is open.
fn counts(rig: &Rig, severity: Severity) -> ([u64; 2], [usize; 2]) {
    let open = |expected: bool| {
        let violations = rig.watcher.violations();
        let of_it = violations.filter(|open| {
            (open.check.name, open.severity, open.expected.is_some()) == (LEFT, severity, expected)
        });
        of_it.count()
    };
    let told = [rig.watcher.raised(LEFT, severity), rig.watcher.expected(LEFT, severity)];
    (told, [open(false), open(true)])
}

/// What was told anew: the severity, and by what reason it is expected.
fn restated(rig: &Rig) -> Vec<(&'static str, Option<&str>)> {
    let told = rig.reports.iter().filter_map(|report| match report {
        Report::Restated(open) => {
            Some((open.severity.name(), open.expected.as_ref().map(|one| one.reason.as_str())))
        }
        _ => None,
    });
    told.collect()
}

#[test]
fn what_is_expected_is_told_with_the_reason_and_counted_apart() {
    let mut rig = with(expecting(expects(7, u64::MAX)));
    leave(&mut rig);
    rig.expect(&[raised(LEFT, 7, &[5], "driver", "vfio").implying(&[STUCK])]);
    let told = rig.reports.iter().find_map(|report| match report {
        Report::Violation(found) => found.expected.clone(),
        _ => None,
    });
    assert_eq!(told.map(|known| known.reason.clone()).as_deref(), Some("a known bug of the driver's"));
    assert_eq!(counts(&rig, Severity::Critical), ([0, 1], [0, 1]));
    mend(&mut rig);
    assert_eq!(rig.resolved(), [(LEFT, "cleared")]);
    assert_eq!(counts(&rig, Severity::Critical), ([0, 1], [0, 0]));
}

#[test]
fn what_is_expected_elsewhere_is_a_violation_like_all_others() {
    let elsewhere = [
        expects(8, u64::MAX),
        Expectation { check: STUCK, ..expects(7, u64::MAX) },
        Expectation { device: Some("0000:02:00.0".into()), ..expects(7, u64::MAX) },
        Expectation { iommu_driver: Some("amd".into()), ..expects(7, u64::MAX) },
        // Its last day was before the boot.
        expects(7, 0),
    ];
    for expectation in elsewhere {
        let mut rig = with(expecting(expectation.clone()));
        leave(&mut rig);
        assert_eq!(counts(&rig, Severity::Critical), ([1, 0], [1, 0]), "{expectation:?}");
    }
    let mut rig =
        with(expecting(Expectation { group: None, device: Some(NVME.into()), ..expects(7, u64::MAX) }));
    leave(&mut rig);
    assert_eq!(counts(&rig, Severity::Critical), ([0, 1], [0, 1]));
}

#[test]
fn when_the_last_day_of_it_is_over_it_is_told_again_and_counts() {
    let mut rig = with(Settings::default());
    let end = rig.kernel.now + DAY;
    configure(&mut rig, expecting(expects(7, end)));
    assert_eq!(rig.watcher.expectations(), (1, 0));
    leave(&mut rig);
    assert!(rig.watcher.deadline().is_some_and(|due| due <= end), "whoever drives it is to come back then");
    rig.idle(DAY / 2);
    assert_eq!(counts(&rig, Severity::Critical), ([0, 1], [0, 1]));
    rig.idle(DAY / 2);
    assert_eq!(restated(&rig), [("critical", None)]);
    assert_eq!(counts(&rig, Severity::Critical), ([1, 1], [1, 0]));
    assert_eq!(rig.watcher.expectations(), (0, 1));
    // Once.
    rig.idle(DAY);
    assert_eq!((restated(&rig).len(), rig.watcher.deadline()), (1, None));
}

#[test]
fn what_stands_is_held_against_what_the_operator_says_later() {
    let mut rig = with(Settings::default());
    leave(&mut rig);
    assert_eq!(counts(&rig, Severity::Critical), ([1, 0], [1, 0]));
    configure(&mut rig, expecting(expects(7, u64::MAX)));
    assert_eq!(restated(&rig), [("critical", Some("a known bug of the driver's"))]);
    assert_eq!(counts(&rig, Severity::Critical), ([1, 1], [0, 1]));
    // The same again is no news.
    configure(&mut rig, expecting(expects(7, u64::MAX)));
    assert_eq!(restated(&rig).len(), 1);
    configure(&mut rig, weighing(Severity::Warning));
    assert_eq!(restated(&rig).last(), Some(&("warning", None)));
    assert_eq!(counts(&rig, Severity::Warning), ([1, 0], [1, 0]));
    assert!(rig.resolved().is_empty(), "it is one violation all the time");
    mend(&mut rig);
    assert_eq!(rig.resolved(), [(LEFT, "cleared")]);
}

/// The clock was behind when the host was booted: the day is over sooner than it seemed.
#[test]
fn an_end_is_by_the_clock_of_now() {
    let mut rig = with(expecting(expects(7, u64::MAX)));
    leave(&mut rig);
    let day_after = "2027-04-01T00:00:00Z".parse::<jiff::Timestamp>().expect("a time").as_nanosecond();
    let offset = i64::try_from(day_after).expect("it fits") - i64::try_from(rig.kernel.now).expect("it fits");
    rig.reports.extend(rig.watcher.clock_set(offset - 1_000_000_000, rig.kernel.now));
    assert!(restated(&rig).is_empty(), "a second is left");
    rig.reports.extend(rig.watcher.clock_set(offset, rig.kernel.now));
    assert_eq!(restated(&rig), [("critical", None)]);
}

#[test]
fn a_check_that_is_off_finds_nothing_and_its_consequences_stand_for_themselves() {
    let mut rig = with(off(LEFT));
    let state =
        |rig: &Rig| rig.watcher.checks().find(|(spec, _)| spec.name == LEFT).map(|(_, state)| state.name());
    assert_eq!(state(&rig), Some("off"));
    leave(&mut rig);
    assert!(rig.raised().iter().all(|raised| raised.check != LEFT));
    assert!(rig.raised().iter().any(|raised| raised.check == STUCK));
    configure(&mut rig, Settings::default());
    assert_eq!(state(&rig), Some("armed"));
    mend(&mut rig);
    leave(&mut rig);
    assert!(
        rig.raised().iter().any(|raised| raised.check == LEFT),
        "it knows of the group what there is to know"
    );
}

#[test]
fn what_a_check_found_is_resolved_when_it_is_switched_off() {
    let mut rig = with(Settings::default());
    leave(&mut rig);
    configure(&mut rig, off(LEFT));
    assert_eq!(rig.resolved(), [(LEFT, "off")]);
    assert_eq!(counts(&rig, Severity::Critical), ([1, 0], [0, 0]));
    // What waits to be told is not told.
    let mut rig = with(Settings::default());
    rig.calls(&vfio(), [Call::Claim { group: 7, owner: OWNER }]);
    rig.calls(&driver(), [Call::Attach { device: NVME, pasid: 5, domain: D1 }]);
    rig.kernel.call(&vfio(), Call::Release { group: 7 });
    for event in rig.kernel.take_ready() {
        rig.feed(event);
    }
    let settings = off(LEFT);
    rig.reports.extend(rig.watcher.configure(settings, rig.kernel.now));
    rig.idle(1_000_000_000);
    assert!(rig.raised().iter().all(|raised| raised.check != LEFT));
}

#[test]
fn how_bad_it_is_is_for_the_operator_to_say_and_makes_no_other_of_it() {
    let fingerprint = |rig: &Rig| rig.watcher.violations().next().map(|found| found.fingerprint);
    let mut own = with(Settings::default());
    leave(&mut own);
    let mut weighed = with(weighing(Severity::Info));
    leave(&mut weighed);
    assert_eq!((own.severities(), weighed.severities()), (vec!["critical"], vec!["info"]));
    assert_eq!(fingerprint(&own), fingerprint(&weighed));
    assert!(fingerprint(&own).is_some());
}

/// Who starts later has not seen the attach, and finds the same.
#[test]
fn a_state_that_is_found_again_after_a_restart_has_the_fingerprint_that_it_had() {
    let mut rig = Rig::new(Era::Handles);
    leave(&mut rig);
    let found = |rig: &Rig| {
        let open = rig.watcher.violations().map(|open| (open.check.name, open.fingerprint));
        open.collect::<Vec<_>>()
    };
    let before = found(&rig);
    assert_eq!(before.len(), 1);
    rig.watcher = Watcher::new(options(Era::Handles));
    for _ in 0..2 {
        rig.kernel.snapshot(7);
        // No driver is there that could have it.
        let looks = rig.kernel.log.iter_mut().filter(|event| event.hook == Hook::SnapshotIntel);
        looks.for_each(|event| looks::state(event).bound = false);
        rig.idle(1_000_000_000);
    }
    assert_eq!(found(&rig), before);
}
