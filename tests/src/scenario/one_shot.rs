//! `one-shot`: what one look finds on a host where nothing was attached before.

use serde_json::Value;

use super::Report;
use super::expect::{self, Expect, Violation};
use super::life::{ends_with, one_shot_json};
use super::transcript::{Phase, Transcript};

const ONE: &str = "0000:01:00.0";
const TWO: &str = "0000:02:00.0";

pub fn one_shot(report: &Report) -> Result<(), String> {
    report.exits_with(&[0])?;
    let transcript = Transcript::read(&report.text);
    let left = |device, pasids, implied| found("pasid-left-on-release", device, pasids, implied);
    let looks: [(&str, Vec<String>); 11] = [
        ("clean", vec![]),
        ("left", vec![left(ONE, &[5], &["ownership-leaked"]), left(TWO, &[6], &["ownership-stuck"])]),
        ("stuck", vec![found("ownership-leaked", ONE, &[], &[]), found("ownership-stuck", TWO, &[], &[])]),
        ("released", vec![found("ownership-leaked", ONE, &[], &[])]),
        (
            "astray",
            vec![found("domain-off-default", TWO, &[], &[]), found("ownership-leaked", ONE, &[], &[])],
        ),
        ("back", vec![found("ownership-leaked", ONE, &[], &[])]),
        (
            "extra",
            vec![found("ownership-leaked", ONE, &[], &[]), found("pasid-table-mismatch", TWO, &[9], &[])],
        ),
        (
            "missing",
            vec![found("ownership-leaked", ONE, &[], &[]), found("pasid-table-mismatch", TWO, &[6], &[])],
        ),
        ("agreed", vec![found("ownership-leaked", ONE, &[], &[])]),
        // The driver that is bound again hides what leaked: it may be its own use.
        ("shared", vec![format!("pasid-table-shared of {ONE} and {TWO} implies [\"pasid-table-mismatch\"]")]),
        ("filtered", vec![]),
    ];
    for (name, expected) in looks {
        let phase = transcript.phase(name)?;
        ends_with(phase, &[u8::from(!expected.is_empty()).into()])?;
        if name == "filtered" {
            continue;
        }
        let json = one_shot_json(phase)?;
        let mut found: Vec<String> =
            json["violations"].as_array().into_iter().flatten().map(|line| of(line, phase)).collect();
        found.sort();
        if found != expected {
            return Err(format!("{name}: found {found:#?}, not {expected:#?}"));
        }
    }
    ends_with(transcript.phase("text")?, &[0])?;
    let row = Expect::clean("start", &[]).raises(Violation {
        check: "pasid-table-shared",
        group_of: None,
        devices: &[ONE, TWO],
        pasids: &[],
        attached_by: None,
        triggered_by: None,
        implied: &["pasid-table-mismatch"],
    });
    expect::one(&row, transcript.phase("start")?, &transcript)
}

fn found(check: &str, device: &str, pasids: &[u64], implied: &[&str]) -> String {
    format!("{check} of {device} PASIDs {pasids:?} implies {implied:?}")
}

fn of(line: &Value, phase: &Phase) -> String {
    let texts = |list: &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let check = line["check"].as_str().unwrap_or_default();
    let implied = texts(&line["implied"]);
    let Some(group) = line["group"].as_u64() else {
        return format!("{check} of {} implies {implied:?}", texts(&line["devices"]).join(" and "));
    };
    let pasids: Vec<u64> = line["pasid"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
    let implied: Vec<&str> = implied.iter().map(String::as_str).collect();
    found(check, &phase.device_in(group), &pasids, &implied)
}
