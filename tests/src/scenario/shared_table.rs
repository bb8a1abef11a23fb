//! `shared-table`: two devices of the Intel driver get one PASID table. `tables-early`: the same where the core keeps no
//! account of PASIDs, and a table that goes with an entry in it.

use super::expect::{self, Calls, Expect, Violation};
use super::{Report, audit};

const CHECK: &str = "pasid-table-shared";
const RELEASED: &str = "released-with-pasids";
const ONE: &str = "0000:01:00.0";
const BOTH: &[&str] = &[ONE, "0000:02:00.0"];

pub fn watched(report: &Report) -> Result<(), String> {
    const CALLS: Calls =
        &[("pasid_attach", 2), ("pasid_detach", 2), ("vtd_setup_first_level", 2), ("vtd_tear_down", 2)];

    let shared = shared(Some("neighbour"));
    let rows = [
        Expect::clean("clean", CALLS),
        Expect::clean("shared", CALLS).raises(shared),
        Expect::clean("mended", CALLS).resolves(CHECK, None, "cleared"),
    ];
    expect::phases(report, &[CHECK], &rows)
}

pub fn early(report: &Report) -> Result<(), String> {
    let released = Violation { attached_by: None, ..audit::released(ONE, &[ONE], &[5]) };
    let rows = [
        Expect::clean("clean", &[("group_release", 1), ("add_device_to_group", 1), ("vtd_table_free", 1)]),
        Expect::clean("shared", &[]).raises(shared(None)),
        Expect::clean("mended", &[]).resolves(CHECK, None, "cleared"),
        Expect::clean("gone", &[("group_release", 1), ("vtd_table_left", 1)]).raises(released),
        Expect::clean("back", &[("add_device_to_group", 1)]),
    ];
    expect::phases(report, &[CHECK, RELEASED], &rows)
}

fn shared(triggered_by: Option<&'static str>) -> Violation {
    Violation {
        check: CHECK,
        group_of: None,
        devices: BOTH,
        pasids: &[],
        attached_by: None,
        triggered_by,
        implied: &[],
    }
}
