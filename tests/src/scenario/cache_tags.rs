//! `cache-tags`: VT-d's cache tags, of which an assignment and an unassignment are left out, of a RID and of a PASID.

use super::Report;
use super::expect::{self, Expect, Violation};
use crate::Series;

const MISSING: &str = "devtlb-tag-missing";
const LEAKED: &str = "cache-tag-leaked";

const FIRST: &str = "0000:01:00.0";
const SECOND: &str = "0000:02:00.0";

/// A PASID of the first NVMe.
const PASID: Violation = Violation {
    check: MISSING,
    group_of: Some(FIRST),
    devices: &[FIRST],
    pasids: &[21],
    attached_by: Some("clumsy"),
    triggered_by: Some("clumsy"),
    implied: &[],
};

/// The RID of the second one.
const RID: Violation =
    Violation { group_of: Some(SECOND), devices: &[SECOND], pasids: &[], attached_by: None, ..PASID };

pub fn tagged(report: &Report) -> Result<(), String> {
    let mut clean = Expect::clean("clean", &[("claim_group", 1), ("release_group", 1)]);
    let mut blocked = Expect::clean("blocked", &[("claim_group", 1), ("release_group", 1)]);
    // The kernel's own faults: docs/finds/vtd-ats-off-on-rid-switch.md, vtd-cache-tag-left-by-blocked-rid.md.
    if report.series == Series::V6_12 {
        let owner = Violation {
            check: "capability-off-under-pasids",
            attached_by: Some("tenant"),
            triggered_by: Some("owner"),
            ..PASID
        };
        clean = clean.raises(Violation { pasids: &[6], ..owner });
        blocked = blocked.raises(Violation { pasids: &[23], ..owner }).raises(Violation {
            check: LEAKED,
            pasids: &[23],
            attached_by: Some("tenant"),
            triggered_by: Some("tenant"),
            ..PASID
        });
    }
    let mut rows = vec![
        clean,
        Expect::clean("refused", &[("pasid_attach", 1)]),
        Expect::clean("missing-pasid", &[("pasid_attach", 1), ("pasid_detach", 1)]).raises(PASID),
        Expect::clean("missing-rid", &[]).raises(RID),
        Expect::clean("leaked-pasid", &[("pasid_attach", 1), ("pasid_detach", 1)]).raises(Violation {
            check: LEAKED,
            pasids: &[22],
            attached_by: Some("tenant"),
            ..PASID
        }),
        Expect::clean("leaked-rid", &[]).raises(Violation { check: LEAKED, ..RID }),
        Expect::clean("right", &[("pasid_attach", 1), ("pasid_detach", 1)]),
        blocked,
        Expect::clean("freed", &[("domain_free", 6)]),
    ];
    if report.series == Series::V7 {
        let back: expect::Calls = &[("remove_device_from_group", 1), ("add_device_to_group", 1)];
        let looked = Violation { pasids: &[], attached_by: None, triggered_by: None, ..PASID };
        rows.extend([
            Expect::clean("finalized", back),
            Expect::clean("unfinalized", back).raises(looked),
            Expect::clean("finalized-again", back).resolves(MISSING, Some(FIRST), "released"),
        ]);
    }
    expect::phases(report, &[MISSING, LEAKED], &rows)
}
