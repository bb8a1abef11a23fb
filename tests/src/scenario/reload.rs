//! The configuration is read again while the daemon watches: a part of `life`.

use serde_json::Value;

use super::expect::Expect;
use super::transcript::{Phase, Transcript};

const CONFLICT: &str = "ownership-conflict";

/// The claim that is refused raises nothing, and what stood of such is resolved: three, of the phases before.
pub fn switched_off() -> Expect {
    let off = |expect: Expect| expect.resolves(CONFLICT, Some("softdev.0"), "off");
    off(off(off(Expect::clean("switched-off", &[("claim_group", 2), ("release_group", 1)]))))
}

/// What else must be seen of it: the check's state, the reason that is shown, the counts, and one and the same violation
/// all the time.
pub fn judge(transcript: &Transcript) -> Result<(), String> {
    let phase = transcript.phase("switched-off")?;
    let states: Vec<_> = phase.of_kind("check-state").filter(|line| line["check"] == CONFLICT).collect();
    if !states.iter().map(|line| &line["state"]).eq(["off", "armed"]) {
        return Err(format!("{}: the states of {CONFLICT} were {states:?}", phase.name));
    }

    let [expected, bad, no_more, mended] =
        ["expected", "bad-file", "expected-no-more", "mended"].map(|name| transcript.phase(name));
    let (expected, bad, no_more, mended) = (expected?, bad?, no_more?, mended?);
    counts(expected, [0.0, 1.0], 1.0)?;
    counts(bad, [0.0, 1.0], 0.0)?;
    counts(no_more, [1.0, 0.0], 1.0)?;
    counts(mended, [0.0, 0.0], 1.0)?;
    let [first, again] = [expected, no_more].map(|phase| phase.violations().next().unwrap_or(&Value::Null));
    let reason = &first["expected"]["reason"];
    if reason != "it is planted here" || first["expected"]["until"] != "2099-12-31" {
        return Err(format!("{}: the reason shows as {reason}", expected.name));
    }
    let gone = mended.of_kind("resolved").next().unwrap_or(&Value::Null);
    let same = |line: &Value| line["fingerprint"] == first["fingerprint"];
    if again.get("expected").is_some() || again["mono_ns"] != first["mono_ns"] || !same(again) || !same(gone)
    {
        return Err(format!("it is not one violation all the time: {first}, {again}, {gone}"));
    }
    // Of a check whose programs the daemon may attach no more.
    if !expected.said.iter().any(|line| line.ends_with("flush-range-short is on from the next start")) {
        return Err(format!("{}: of what has to wait was said {:?}", expected.name, expected.said));
    }
    if !bad.said.iter().any(|line| line.contains("line 3: check.domain-off-default.color: no such key")) {
        return Err(format!("{}: of the bad file was said {:?}", bad.name, bad.said));
    }
    Ok(())
}

/// How many stand that nobody expects and that somebody does, and whether the last reading was good.
fn counts(phase: &Phase, active: [f64; 2], good: f64) -> Result<(), String> {
    let labels = "{check=\"domain-off-default\",severity=\"critical\"}";
    let found = ["violations_active", "violations_expected_active"]
        .map(|name| phase.metric(&format!("{name}{labels}")));
    let reload = phase.metric("config_reload_success");
    if found == active && (reload - good).abs() < 0.5 {
        Ok(())
    } else {
        Err(format!("{}: {found:?} stand, not {active:?}; config_reload_success is {reload}", phase.name))
    }
}
