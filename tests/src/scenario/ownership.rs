//! `ownership`: a group that is not let go of, or sits on the wrong domain, without any PASID in play: so on every
//! kernel.

use super::Report;
use super::expect::{self, Expect, Violation};
use crate::Series;

const STUCK: &str = "ownership-stuck";
const LEAKED: &str = "ownership-leaked";
const ASTRAY: &str = "domain-off-default";

pub fn on_softiommu(report: &Report) -> Result<(), String> {
    judged(report, "softdev.0", &["softdev.0"])
}

pub fn on_intel(report: &Report) -> Result<(), String> {
    judged(report, "0000:01:00.0", &["0000:01:00.0"])
}

fn judged(report: &Report, dev: &'static str, devices: &'static [&'static str]) -> Result<(), String> {
    let found = |check, triggered_by| Violation {
        check,
        group_of: Some(dev),
        devices,
        pasids: &[],
        attached_by: None,
        triggered_by,
        implied: &[],
    };
    let mut gone = Expect::clean("leaked-mended", &[("group_release", 1), ("add_device_to_group", 1)])
        .resolves(LEAKED, Some(dev), "released");
    // From 6.2 on the core itself notices a count that leaked, when the group's last device goes.
    if report.series != Series::V6_1 {
        gone = gone.warns("__iommu_group_free_device");
    }
    let rows = [
        Expect::clean(
            "clean",
            &[
                ("claim_group", 1),
                ("release_group", 1),
                ("use_default_domain", 1),
                ("unuse_default_domain", 1),
            ],
        ),
        Expect::clean("stuck", &[("claim_group", 1), ("release_group", 1)])
            .raises(found(STUCK, Some("clumsy"))),
        Expect::clean("stuck-mended", &[("release_group", 1)]).resolves(STUCK, Some(dev), "cleared"),
        // Who attaches to a free group breaks no call's promise: the next look finds it.
        Expect::clean("astray", &[("attach_device", 1)]).raises(found(ASTRAY, None)),
        Expect::clean("back", &[("detach_device", 1)]).resolves(ASTRAY, Some(dev), "cleared"),
        Expect::clean("leaked", &[("use_default_domain", 1), ("unuse_default_domain", 1)])
            .raises(found(LEAKED, Some("clumsy"))),
        gone,
    ];
    expect::phases(report, &[STUCK, LEAKED, ASTRAY], &rows)
}
