//! What must hold in each phase of a script: the violations raised and resolved, no more and no fewer; the
//! calls that the product saw; where the kernel warned.

use std::fmt;

use serde_json::Value;

use super::Report;
use super::transcript::{Phase, Transcript};

/// Hooks, and how often the product saw each called.
pub type Calls = &'static [(&'static str, u32)];

/// About the kernel itself, and nothing that is done there.
pub const ADVISORY: &str = "kernel-advisory";

/// One phase.
#[derive(Debug, Clone)]
pub struct Expect {
    phase: &'static str,
    raised: Vec<Violation>,
    resolved: Vec<Resolved>,
    calls: Calls,
    /// The functions in which the kernel itself warned.
    warned: Vec<&'static str>,
}

#[derive(Debug, Clone, Copy)]
pub struct Violation {
    pub check: &'static str,
    /// The device whose group it is, as the script told it; none for what is of several groups.
    pub group_of: Option<&'static str>,
    pub devices: &'static [&'static str],
    pub pasids: &'static [u32],
    /// Names of tasks that the script sent out.
    pub attached_by: Option<&'static str>,
    pub triggered_by: Option<&'static str>,
    /// The violations that it stands for.
    pub implied: &'static [&'static str],
}

#[derive(Debug, Clone, Copy)]
struct Resolved {
    check: &'static str,
    group_of: Option<&'static str>,
    reason: &'static str,
}

impl Expect {
    /// A phase in which nothing is wrong.
    pub fn clean(phase: &'static str, calls: Calls) -> Self {
        Self { phase, raised: Vec::new(), resolved: Vec::new(), calls, warned: Vec::new() }
    }

    pub fn raises(mut self, violation: Violation) -> Self {
        self.raised.push(violation);
        self
    }

    pub fn resolves(
        mut self,
        check: &'static str,
        group_of: Option<&'static str>,
        reason: &'static str,
    ) -> Self {
        self.resolved.push(Resolved { check, group_of, reason });
        self
    }

    pub fn warns(mut self, function: &'static str) -> Self {
        self.warned.push(function);
        self
    }

    fn hold_against(&self, phase: &Phase, transcript: &Transcript) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut compare = |what: &str, expected: Vec<String>, found: Vec<String>| {
            let (missing, too_many) = difference(expected, found);
            wrong.extend(missing.iter().map(|line| format!("missing: {what} {line}")));
            wrong.extend(too_many.iter().map(|line| format!("{TOO_MANY}: {what} {line}")));
        };
        compare(
            "violation",
            self.raised.iter().map(ToString::to_string).collect(),
            of_the_script(phase).map(|line| violation(line, phase, transcript)).collect(),
        );
        compare(
            "resolved",
            self.resolved.iter().map(ToString::to_string).collect(),
            phase.of_kind("resolved").map(|line| resolved(line, phase)).collect(),
        );
        compare(
            "warning of the kernel in",
            self.warned.iter().map(ToString::to_string).collect(),
            phase.warned.clone(),
        );
        let miscounted = self.calls.iter().filter_map(|&(hook, expected)| {
            let found = transcript.calls(phase, hook);
            (found != f64::from(expected)).then(|| format!("{found} calls of {hook} seen, not {expected}"))
        });
        wrong.extend(miscounted);
        wrong.into_iter().map(|line| format!("{}: {line}", self.phase)).collect()
    }
}

/// What is known of the kernel is told once, in whatever phase comes first: `doctor` and `life` ask for it.
fn of_the_script(phase: &Phase) -> impl Iterator<Item = &Value> {
    phase.violations().filter(|line| line["check"] != ADVISORY)
}

/// Holds every phase of the script against its row. The phases `start` and `stop`, of which there needs be no
/// row, are clean; these checks are armed throughout; nothing is lost, no group is left unknown, and the
/// daemon ends with 0.
pub fn phases(report: &Report, armed: &[&str], rows: &[Expect]) -> Result<(), String> {
    hold(report, armed, rows, Losses::None)
}

/// The same where events are lost. At the end of each phase every group is known all the same.
pub fn lossy_phases(report: &Report, armed: &[&str], rows: &[Expect]) -> Result<(), String> {
    hold(report, armed, rows, Losses::Foreseen)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Losses {
    None,
    Foreseen,
}

fn hold(report: &Report, armed: &[&str], rows: &[Expect], losses: Losses) -> Result<(), String> {
    report.exits_with(&[0])?;
    let transcript = Transcript::read(&report.text);
    let frame = ["start", "stop"].map(|phase| Expect::clean(phase, &[]));
    let frame = frame.iter().filter(|frame| rows.iter().all(|row| row.phase != frame.phase));
    let rows: Vec<&Expect> = rows.iter().chain(frame).collect();
    let mut wrong: Vec<String> = Vec::new();
    for row in &rows {
        match transcript.phase(row.phase) {
            Ok(phase) => wrong.extend(row.hold_against(phase, &transcript)),
            Err(missing) => wrong.push(missing),
        }
    }
    let unforeseen = transcript.names().filter(|name| rows.iter().all(|row| row.phase != *name));
    wrong.extend(unforeseen.map(|name| format!("nothing is said of phase `{name}`")));
    wrong.extend(healthy(&transcript, armed, losses));
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

/// Holds one phase against its row.
pub fn one(row: &Expect, phase: &Phase, transcript: &Transcript) -> Result<(), String> {
    let wrong = row.hold_against(phase, transcript);
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

const LOST: &str = "events were lost";
const TOO_MANY: &str = "too many";

/// Whether events were lost, and nothing is said to be wrong that this does not explain.
pub fn is_a_loss(why: &str) -> bool {
    why.lines().any(|line| line.ends_with(LOST)) && !why.contains(TOO_MANY)
}

/// What holds for a daemon that misses nothing, or has made up for it.
fn healthy(transcript: &Transcript, armed: &[&str], losses: Losses) -> Vec<String> {
    let mut wrong = Vec::new();
    for phase in transcript.names().filter_map(|name| transcript.phase(name).ok()) {
        let mut must = |holds: bool, what: String| {
            if !holds {
                wrong.push(format!("{}: {what}", phase.name));
            }
        };
        if phase.name == "stop" {
            must(phase.exits == [0], format!("the daemon ended with {:?}", phase.exits));
            continue;
        }
        for check in armed {
            let state = format!("check_state{{check=\"{check}\",state=\"armed\"}}");
            must(phase.metric(&state) == 1.0, format!("{check} is not armed"));
        }
        let lost = phase.metrics.iter().filter(|(series, _)| series.starts_with("events_lost_total")).count();
        must(lost == 0 || losses == Losses::Foreseen, LOST.into());
        must(phase.metric("groups{knowledge=\"unknown\"}") == 0.0, "a group is unknown".into());
        must(phase.metric("groups{knowledge=\"synced\"}") > 0.0, "no group is known".into());
    }
    wrong
}

/// In place of the name of a task: the kernel does it in whatever task runs next.
pub const WHOEVER: &str = "whoever";

/// Whether a line that was found is the expected one.
fn same(expected: &str, found: &str) -> bool {
    match expected.split_once(WHOEVER) {
        Some((before, after)) => found.starts_with(before) && found.ends_with(after),
        None => expected == found,
    }
}

/// What of `expected` wasn't found, and what was found beyond it.
fn difference(expected: Vec<String>, mut found: Vec<String>) -> (Vec<String>, Vec<String>) {
    let mut missing = expected;
    missing.retain(|line| match found.iter().position(|other| same(line, other)) {
        Some(position) => {
            found.remove(position);
            false
        }
        None => true,
    });
    (missing, found)
}

const NO_GROUP: &str = "no group";

// One way to write a violation, for the one that must be and for the one that is: a difference is then seen
// at a glance.

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { check, devices, pasids, attached_by, triggered_by, implied, .. } = self;
        let group_of = self.group_of.unwrap_or(NO_GROUP);
        let [attached_by, triggered_by] = [attached_by, triggered_by].map(|task| task.unwrap_or("nobody"));
        write!(
            f,
            "{check} of {group_of} {devices:?} PASIDs {pasids:?} attached by {attached_by}, \
             triggered by {triggered_by}, implies {implied:?}"
        )
    }
}

fn violation(line: &Value, phase: &Phase, transcript: &Transcript) -> String {
    let task = |actor: &Value| transcript.task(actor).unwrap_or_else(|| "nobody".into());
    let pasids: Vec<u64> = line["pasid"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
    format!(
        "{} of {} {:?} PASIDs {:?} attached by {}, triggered by {}, implies {:?}",
        line["check"].as_str().unwrap_or_default(),
        group_of(line, phase),
        strings(&line["devices"]),
        pasids,
        task(&line["attached_by"]),
        task(&line["triggered_by"]),
        strings(&line["implied"]),
    )
}

impl fmt::Display for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}: {}", self.check, self.group_of.unwrap_or(NO_GROUP), self.reason)
    }
}

fn resolved(line: &Value, phase: &Phase) -> String {
    let [check, reason] = [&line["check"], &line["reason"]].map(|value| value.as_str().unwrap_or_default());
    format!("{check} of {}: {reason}", group_of(line, phase))
}

fn group_of(line: &Value, phase: &Phase) -> String {
    line["group"].as_u64().map_or(NO_GROUP.into(), |number| phase.device_in(number))
}

fn strings(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[cfg(test)]
mod tests;
