use crate::scenario::Setting;

use super::*;

const DOCTOR: &str = "@ phase doctor\n{\"kind\":\"doctor\",\"checks\":[\
    {\"check\":\"a\",\"state\":\"armed\"},\
    {\"check\":\"b\",\"state\":\"unavailable\",\"reason\":\"no such thing\"}]}\n";

const CALL: &str = "iommu_watch_events_total{event=\"claim_group\"}";
const ARMED: &str = "iommu_watch_check_state{check=\"a\",state=\"armed\"} 1\n";

fn take(proofs: &mut Proofs, series: Series, test_modules: &'static [&'static str], text: &str) {
    let setting = Setting { test_modules, ..Setting::PLAIN };
    let scenario =
        Scenario { name: "s", kernels: &Series::ALL, setting, limit: Scenario::SHORT, expect: |_| Ok(()) };
    proofs.take(&scenario, &Report { series, exit: 0, text: text.into() });
}

/// Check `a` is caught on every kernel, by both sources; `twin` is the phase without the fault.
fn proofs(twin: &str) -> Proofs {
    let mut proofs = Proofs::default();
    for series in Series::ALL {
        let text = format!(
            "{DOCTOR}@ phase clean\n{twin}@ phase fault\n{CALL} 9\n{ARMED}{{\"kind\":\"violation\",\"check\":\"a\"}}\n"
        );
        take(&mut proofs, series, &["softiommu"], &text);
        take(&mut proofs, series, &["saboteur"], &text);
    }
    proofs
}

#[test]
fn a_check_is_proved_by_its_fault_and_its_twin() {
    let page = proofs(&format!("{CALL} 2\n{ARMED}")).page().unwrap();
    assert!(
        page.contains("| [`a`](checks/a.md) | 6.1 | caught, twin silent: `s` | caught, twin silent: `s` |")
    );
    assert!(page.contains("1. not recorded: caught live"), "{page}");
    assert!(page.contains("2. unavailable: no such thing"), "{page}");
}

#[test]
fn a_twin_that_saw_no_call_or_was_not_armed_is_none() {
    for twin in [format!("{CALL} 0\n{ARMED}"), format!("{CALL} 2\n")] {
        let wrong = proofs(&twin).page().unwrap_err();
        assert!(wrong.iter().all(|line| line.contains("no phase shows it armed and silent")), "{wrong:?}");
        assert_eq!(wrong.len(), 6);
    }
}

#[test]
fn no_cell_is_empty() {
    let mut proofs = proofs(&format!("{CALL} 2\n{ARMED}"));
    proofs.proofs.retain(|proof| proof.series != Series::V7 || proof.source != Source::Driver);
    assert_eq!(proofs.page().unwrap_err(), ["a on 7, real driver: neither caught nor a reason"]);
}

#[test]
fn a_recording_counts_in_its_own_column() {
    let mut proofs = proofs(&format!("{CALL} 2\n{ARMED}"));
    proofs.replayed("r", "{\"kind\":\"violation\",\"check\":\"a\",\"kernel\":\"6.12.5\"}\n");
    let page = proofs.page().unwrap();
    let row = page.lines().find(|line| line.contains("| 6.12 |")).unwrap();
    assert!(row.ends_with("| caught, twin silent: `r` |"), "{row}");
    let row = page.lines().find(|line| line.contains("| 6.1 |")).unwrap();
    assert!(row.ends_with("| [1] |"), "{row}");
}
