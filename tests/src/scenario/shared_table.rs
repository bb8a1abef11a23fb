//! `shared-table`: two devices of the Intel driver get one PASID table.

use super::Report;
use super::expect::{self, Calls, Expect, Violation};

const CHECK: &str = "pasid-table-shared";

pub fn watched(report: &Report) -> Result<(), String> {
    const CALLS: Calls =
        &[("pasid_attach", 2), ("pasid_detach", 2), ("vtd_setup_first_level", 2), ("vtd_tear_down", 2)];

    let shared = Violation {
        check: CHECK,
        group_of: None,
        devices: &["0000:01:00.0", "0000:02:00.0"],
        pasids: &[],
        attached_by: None,
        triggered_by: Some("neighbour"),
        implied: &[],
    };
    let rows = [
        Expect::clean("clean", CALLS),
        Expect::clean("shared", CALLS).raises(shared),
        Expect::clean("mended", CALLS).resolves(CHECK, None, "cleared"),
    ];
    expect::phases(report, &[CHECK], &rows)
}
