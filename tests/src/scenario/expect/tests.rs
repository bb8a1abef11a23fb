use super::*;
use crate::Series;

const LEFT: Violation = Violation {
    check: "pasid-left-on-release",
    group_of: Some("softdev.0"),
    devices: &["softdev.0"],
    pasids: &[5],
    attached_by: Some("tenant"),
    triggered_by: Some("owner"),
    implied: &["ownership-stuck"],
};
const STATE: &str = "iommu_watch_check_state{check=\"pasid-left-on-release\",state=\"armed\"} 1\n\
                     iommu_watch_groups{knowledge=\"synced\"} 3\n";
const VIOLATION: &str = "{\"kind\":\"violation\",\"check\":\"pasid-left-on-release\",\"group\":7,\
     \"devices\":[\"softdev.0\"],\"pasid\":[5],\"attached_by\":{\"comm\":\"tenant\",\"pid\":9,\"tgid\":9},\
     \"triggered_by\":{\"comm\":\"owner\",\"pid\":8,\"tgid\":8},\"implied\":[\"ownership-stuck\"]}\n";
const RESOLVED: &str =
    "{\"kind\":\"resolved\",\"check\":\"pasid-left-on-release\",\"group\":7,\"reason\":\"cleared\"}\n";

/// A text in which all is as it must be.
fn right() -> String {
    let calls = |number| format!("iommu_watch_events_total{{event=\"release_group\"}} {number}\n");
    format!(
        "@ phase start\n{STATE}\
         @ phase left\n@ group softdev.0 7\n@ task owner 8\n@ task tenant 9\n{STATE}{}{VIOLATION}@ warned f\n\
         @ phase mended\n{STATE}{}{RESOLVED}\
         @ phase stop\n@ exit 0\n",
        calls(1),
        calls(2)
    )
}

fn verdict(text: &str) -> Result<(), String> {
    let rows = [
        Expect::clean("left", &[("release_group", 1)]).raises(LEFT).warns("f"),
        Expect::clean("mended", &[("release_group", 1)]).resolves(LEFT.check, LEFT.group_of, "cleared"),
    ];
    let report = Report { series: Series::V7, exit: 0, text: text.into() };
    phases(&report, &["pasid-left-on-release"], &rows)
}

/// What is said when this part of the text is another.
fn complaint(from: &str, to: &str) -> String {
    let text = right();
    assert!(text.contains(from));
    verdict(&text.replacen(from, to, 1)).unwrap_err()
}

#[test]
fn what_is_as_it_must_be_passes() {
    verdict(&right()).unwrap();
}

#[test]
fn a_violation_that_is_not_raised_is_missing() {
    let complaint = complaint(VIOLATION, "");
    assert_eq!(complaint, format!("left: missing: violation {LEFT}"));
}

#[test]
fn a_violation_that_is_raised_twice_is_one_too_many() {
    let complaint = complaint(VIOLATION, &VIOLATION.repeat(2));
    assert_eq!(complaint, format!("left: too many: violation {LEFT}"));
}

#[test]
fn every_part_of_a_violation_counts() {
    for (from, to) in [
        ("\"group\":7", "\"group\":6"),
        ("\"devices\":[\"softdev.0\"]", "\"devices\":[]"),
        ("\"pasid\":[5]", "\"pasid\":[5,6]"),
        ("\"pid\":9", "\"pid\":10"),
        ("\"comm\":\"owner\"", "\"comm\":\"tenant\""),
        ("\"implied\":[\"ownership-stuck\"]", "\"implied\":[]"),
        ("\"check\":\"pasid-left-on-release\",\"group\"", "\"check\":\"ownership-stuck\",\"group\""),
    ] {
        let complaint = complaint(from, to);
        assert!(complaint.contains("missing") && complaint.contains("too many"), "{to}: {complaint}");
    }
}

#[test]
fn what_is_not_resolved_or_not_there_counts() {
    for (from, to, what) in [
        (RESOLVED, "", "mended: missing: resolved pasid-left-on-release of softdev.0: cleared"),
        ("@ warned f", "", "left: missing: warning of the kernel in f"),
        ("@ phase mended\n", "@ phase mended\n@ warned g\n", "mended: too many: warning of the kernel in g"),
        ("release_group\"} 2", "release_group\"} 3", "mended: 2 calls of release_group seen, not 1"),
        ("@ exit 0", "@ exit 2", "stop: the daemon ended with [2]"),
        ("\"armed\"} 1", "\"armed\"} 0", "start: pasid-left-on-release is not armed"),
        ("@ phase stop\n", "@ phase more\n@ phase stop\n", "nothing is said of phase `more`"),
        ("{knowledge=\"synced\"} 3\n", "{knowledge=\"unknown\"} 3\n", "start: a group is unknown"),
    ] {
        let complaint = complaint(from, to);
        assert!(complaint.contains(what), "{complaint}");
    }
}

#[test]
fn a_loss_is_not_healthy() {
    let loss = "iommu_watch_events_lost_total{stage=\"ring\"} 1\n@ phase stop\n";
    assert_eq!(complaint("@ phase stop\n", loss), "mended: events were lost");
}

#[test]
fn a_phase_that_was_never_reached_is_missing() {
    let text = right();
    let (start, _) = text.split_once("@ phase mended").unwrap();
    let complaint = verdict(start).unwrap_err();
    assert!(complaint.contains("there is no phase `mended`"), "{complaint}");
    assert!(complaint.contains("there is no phase `stop`"), "{complaint}");
}

/// The scheduler does it in whatever task runs next; all else of the line must be right.
#[test]
fn whoever_is_anybody_and_the_rest_counts() {
    let rows = |pasids| {
        let left = Violation { triggered_by: Some(WHOEVER), pasids, ..LEFT };
        [
            Expect::clean("left", &[("release_group", 1)]).raises(left).warns("f"),
            Expect::clean("mended", &[("release_group", 1)]).resolves(LEFT.check, LEFT.group_of, "cleared"),
        ]
    };
    let report = Report { series: Series::V7, exit: 0, text: right() };
    phases(&report, &[], &rows(&[5])).unwrap();
    phases(&report, &[], &rows(&[6])).unwrap_err();
}
