use crate::scenario::Setting;

use super::*;

const CALL: &str = "iommu_watch_events_total{event=\"claim_group\"}";
const OWN_READ: &str = "iommu_watch_events_total{event=\"snapshot_group\"}";

/// Check `a` works on every kernel, `b` not on 6.1.
fn doctor(series: Series) -> String {
    let b = match series {
        Series::V6_1 => "\"unavailable\",\"reason\":\"no such thing\"",
        Series::V6_12 | Series::V7 => "\"armed\"",
    };
    format!(
        "@ phase doctor\n{{\"kind\":\"doctor\",\"checks\":[{{\"check\":\"a\",\"state\":\"armed\"}},\
         {{\"check\":\"b\",\"state\":{b}}}]}}\n@ phase every-driver\n{{\"kind\":\"doctor\",\"checks\":[]}}\n"
    )
}

fn armed() -> String {
    ["a", "b"]
        .map(|check| format!("iommu_watch_check_state{{check=\"{check}\",state=\"armed\"}} 1\n"))
        .concat()
}

fn violation(check: &str, device: &str, implied: &str) -> String {
    format!(
        "{{\"kind\":\"violation\",\"check\":\"{check}\",\"devices\":[\"{device}\"],\"implied\":[{implied}]}}\n"
    )
}

fn take(proofs: &mut Proofs, name: &'static str, series: Series, text: &str) {
    let setting = Setting::PLAIN;
    let scenario =
        Scenario { name, kernels: &Series::ALL, setting, limit: Scenario::SHORT, expect: |_| Ok(()) };
    proofs.take(&scenario, &Report { series, exit: 0, text: text.into() });
}

/// Both checks are caught on every kernel, by both sources; `twin` is the phase without the fault.
fn proofs(twin: &str) -> Proofs {
    let mut proofs = Proofs::default();
    for series in Series::ALL {
        for (name, device) in [("soft", "softdev.0"), ("intel", "0000:01:00.0")] {
            let found = violation("a", device, "") + &violation("b", device, "");
            let text =
                format!("{}@ phase clean\n{twin}@ phase fault\n{CALL} 9\n{}{found}", doctor(series), armed());
            take(&mut proofs, name, series, &text);
        }
    }
    proofs
}

fn right() -> Proofs {
    proofs(&format!("{CALL} 2\n{}", armed()))
}

#[test]
fn a_check_is_proved_by_its_fault_and_its_twin() {
    let page = right().page().unwrap();
    assert!(page.contains(
        "| [`a`](checks/a.md) | 6.1 | caught, twin silent: `intel` | caught, twin silent: `soft` |"
    ));
    assert!(page.contains("1. no recording of it is kept"), "{page}");
}

#[test]
fn what_a_kernel_can_not_judge_is_said_by_doctor() {
    let mut proofs = right();
    proofs.proofs.iter_mut().filter(|proof| proof.series == Series::V6_1).for_each(|proof| {
        proof.caught.remove("b");
    });
    let page = proofs.page().unwrap();
    assert!(page.contains("| [`b`](checks/b.md) | 6.1 | [2] | [2] | [2] |"), "{page}");
    assert!(page.contains("2. unavailable: no such thing"), "{page}");
}

#[test]
fn a_twin_that_saw_no_call_or_was_not_armed_is_none() {
    for twin in
        [format!("{CALL} 0\n{}", armed()), format!("{OWN_READ} 2\n{}", armed()), format!("{CALL} 2\n")]
    {
        let mut wrong = proofs(&twin).page().unwrap_err();
        wrong.retain(|line| !line.contains("neither on 6.12 nor on 7"));
        assert!(wrong.iter().all(|line| line.contains("no phase shows it armed and silent")), "{wrong:?}");
        assert_eq!(wrong.len(), 12);
    }
}

#[test]
fn a_twin_on_the_other_source_is_none() {
    let twin = format!("@ group softdev.0 7\n{CALL} 2\n{}", armed());
    let wrong = proofs(&twin).page().unwrap_err();
    assert!(wrong.iter().all(|line| line.contains("real driver")), "{wrong:?}");
    assert_eq!(wrong.len(), 6);
}

#[test]
fn no_cell_is_empty() {
    let mut proofs = right();
    proofs.proofs.retain(|proof| proof.series != Series::V7 || proof.source != Source::Driver);
    let wrong = proofs.page().unwrap_err();
    assert_eq!(
        wrong,
        ["a", "b"].map(|check| format!("{check} on 7, real driver: neither caught nor a reason"))
    );
}

/// Not on 6.1 alone, and not only within another violation.
#[test]
fn each_check_is_caught_live_by_itself() {
    let mut proofs = right();
    for proof in proofs.proofs.iter_mut().filter(|proof| proof.series != Series::V6_1) {
        if let Some(how) = proof.caught.get_mut("a") {
            *how = How::Implied;
        }
    }
    assert_eq!(proofs.page().unwrap_err(), ["a: caught live by itself neither on 6.12 nor on 7"]);
}

#[test]
fn what_is_told_within_another_violation_is_shown_as_that() {
    let mut proofs = right();
    let found = violation("a", "softdev.0", "\"b\"");
    let text = format!("@ phase clean\n{CALL} 2\n{}@ phase fault\n{found}", armed());
    take(&mut proofs, "more", Series::V7, &text);
    let page = proofs.page().unwrap();
    assert!(page.contains("caught, twin silent: `more`†, `soft`"), "{page}");
    assert!(page.contains("caught, twin silent: `more`, `soft`"), "{page}");
}

#[test]
fn a_look_proves_what_it_judged() {
    let mut proofs = right();
    let look = |found: &str| {
        format!("{{\"kind\":\"check\",\"judged\":[\"a\"],\"violations\":[{}]}}\n", found.trim_end())
    };
    let found = violation("a", "0000:01:00.0", "");
    let text = format!("@ phase clean\n{}@ phase fault\n{}", look(""), look(&found));
    take(&mut proofs, "look", Series::V7, &text);
    assert!(proofs.page().unwrap().contains("caught, twin silent: `intel`, `look`"));
}

#[test]
fn a_recording_counts_in_its_own_column() {
    let mut proofs = right();
    proofs.replayed("r", "{\"kind\":\"violation\",\"check\":\"a\",\"kernel\":\"6.12.5\"}\n");
    proofs.replayed("s", "{\"kind\":\"violation\",\"check\":\"a\",\"kernel\":\"7.3\",\"synthetic\":true}\n");
    let page = proofs.page().unwrap();
    let row = |series: &str| page.lines().find(|line| line.contains(series)).unwrap().to_owned();
    assert!(row("| 6.12 |").ends_with("| caught: `r` |"), "{page}");
    assert!(row("| 7 |").ends_with("| caught: `s` (synthetic) |"), "{page}");
    assert!(row("| 6.1 |").ends_with("| [1] |"), "{page}");
}
