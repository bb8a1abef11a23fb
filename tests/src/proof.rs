//! What a run of the scenarios proves of the checks: each by kernel and by source, caught and silent.
//!
//! It is read from what the guests said, once the scenario's own expectations hold (they name the exact violations, so
//! that two runs show the same): a check is *caught* in a scenario that raised it, and its *twin is silent* if the same
//! scenario has a phase in which the check was armed, calls were seen and nothing was raised. The page that comes of it
//! is docs/proof.md; no cell of it is empty: what a run can't show has its reason in [`reasons`], or in what `doctor`
//! says on that kernel. Nothing of a run that may be another in the next gets there: no release, no time, no count.

mod faults;
mod lacking;
mod page;
mod reasons;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

use crate::Series;
use crate::scenario::expect::ADVISORY;
use crate::scenario::transcript::{Phase, Transcript};
use crate::scenario::{Report, Scenario};

/// The scenario in which things around the daemon are broken.
const FAULTS: &str = "faults";
/// The one whose kernels lack a function each.
const HOOKS: &str = "hooks";
/// The one in which it is killed at any moment.
const KILL: &str = "kill";

/// What a violation was seen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The kernel's own driver, behind the emulated VT-d or AMD's.
    Driver,
    /// The software IOMMU of the test modules.
    Software,
    /// A recording that is replayed. It never counts as caught live.
    Recording,
}

impl Source {
    pub const ALL: [Source; 3] = [Source::Driver, Source::Software, Source::Recording];
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source::Driver => "real driver",
            Source::Software => "software IOMMU",
            Source::Recording => "recording",
        })
    }
}

/// What one scenario on one kernel showed of one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The scenario, or the recording.
    pub by: String,
    pub series: Series,
    pub source: Source,
    /// The checks that were raised, as they should.
    pub caught: BTreeMap<String, How>,
    /// The checks that were armed while nothing was wrong, and raised nothing. Of a recording it isn't known.
    pub silent: BTreeSet<String>,
}

/// How a check was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// Within the violation that it follows from.
    Implied,
    ByItself,
}

/// How far a kernel lets a check work: `doctor`'s word for it, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Armament {
    pub check: String,
    pub state: String,
    pub reason: String,
}

/// All that a run showed.
#[derive(Debug, Default)]
pub struct Proofs {
    proofs: Vec<Proof>,
    /// In the order in which the product lists its checks.
    armament: BTreeMap<Series, Vec<Armament>>,
    /// The pages in docs/ of scenarios that ran, by their names there.
    broken: BTreeMap<&'static str, String>,
}

impl Proofs {
    /// Takes in what a scenario said whose expectations hold.
    pub fn take(&mut self, scenario: &Scenario, report: &Report) {
        let transcript = Transcript::read(&report.text);
        // Asked for more than the host has, `doctor` says something else later.
        if let Some(line) = report.of_kind("doctor").first() {
            self.armament.insert(report.series, armament(line));
        }
        self.broken.extend(match scenario.name {
            FAULTS => Some(("faults", faults::write(report.series, &transcript))),
            HOOKS => Some(("lacking", lacking::write(report.series))),
            _ => None,
        });
        // What follows from what there depends on when the daemon was killed: a page can't be held to that.
        if scenario.name == KILL {
            return;
        }
        // That one is about how the daemon is run, and not about what it finds.
        if scenario.setting.debian {
            return;
        }
        for source in [Source::Driver, Source::Software] {
            self.proofs.push(Proof::of(scenario.name, report.series, source, &transcript));
        }
    }

    /// Takes in the verdict of a recording, as JSON lines. What is in it was raised in the run that it is of, so that a
    /// twin would show nothing new: the golden files hold that nothing else comes out.
    pub fn replayed(&mut self, name: &str, lines: &str) {
        let lines: Vec<Value> = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let kernel = lines.iter().find_map(|line| line["kernel"].as_str()).unwrap_or_default();
        let Some(series) = Series::ALL.into_iter().rev().find(|series| kernel.starts_with(series.name()))
        else {
            return;
        };
        let synthetic = lines.iter().any(|line| line["synthetic"] == true);
        let by = if synthetic { format!("{name}, synthetic") } else { name.into() };
        let mut caught = BTreeMap::new();
        lines.iter().filter(|line| line["kind"] == "violation").for_each(|line| take(line, &mut caught));
        self.proofs.push(Proof { by, series, source: Source::Recording, caught, silent: BTreeSet::new() });
    }

    /// The pages of what was broken around the daemon, where that was tried: docs/NAME.md.
    pub fn broken(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.broken.iter().map(|(&name, page)| (name, page.as_str()))
    }

    /// The page, or what is missing in it.
    pub fn page(&self) -> Result<String, Vec<String>> {
        page::write(self)
    }

    /// What caught a check there.
    fn of(&self, check: &str, series: Series, source: Source) -> impl Iterator<Item = Catch<'_>> {
        let here = self.proofs.iter().filter(move |proof| proof.series == series && proof.source == source);
        here.filter_map(|proof| {
            let how = *proof.caught.get(check)?;
            Some(Catch { by: &proof.by, how, silent: proof.silent.contains(check) })
        })
    }
}

/// A check, caught.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Catch<'a> {
    by: &'a str,
    how: How,
    /// A twin was silent.
    silent: bool,
}

impl Proof {
    fn of(by: &str, series: Series, source: Source, transcript: &Transcript) -> Self {
        let mut proof =
            Self { by: by.into(), series, source, caught: BTreeMap::new(), silent: BTreeSet::new() };
        for phase in transcript.names().filter_map(|name| transcript.phase(name).ok()) {
            // What is known of the kernel is told at every start: what counts is where it is planted.
            let planted = |line: &&Value| line["check"] != ADVISORY;
            let violations = || phase.violations().filter(planted).chain(looked(phase));
            violations().filter(|line| is_of(line, source)).for_each(|line| take(line, &mut proof.caught));
            // It is about the devices that it names; where it names none it may be about any.
            let ours = phase.devices.is_empty() || phase.devices.iter().any(|name| source.has(name));
            if !ours || violations().next().is_some() {
                continue;
            }
            if transcript.saw_calls(phase) {
                proof.silent.extend(phase.armed().map(str::to_owned));
            }
            let judged = phase.of_kind("check").flat_map(|look| strings(&look["judged"]));
            proof.silent.extend(judged.map(str::to_owned));
        }
        proof
    }
}

impl Source {
    /// Whether a device of this name is behind it.
    fn has(self, device: &str) -> bool {
        device.starts_with("softdev.") == (self == Source::Software)
    }
}

/// What a one-shot found.
fn looked(phase: &Phase) -> impl Iterator<Item = &Value> {
    phase.of_kind("check").flat_map(|look| look["violations"].as_array().into_iter().flatten())
}

/// A violation is of the source whose devices it names. One that names none is of the hardware's queue.
fn is_of(violation: &Value, source: Source) -> bool {
    match strings(&violation["devices"]).next() {
        Some(device) => source.has(device),
        None => source == Source::Driver,
    }
}

/// What a violation shows of checks: of its own, and of those that follow.
fn take(violation: &Value, caught: &mut BTreeMap<String, How>) {
    let own = violation["check"].as_str().map(|check| (check, How::ByItself));
    let implied = strings(&violation["implied"]).map(|check| (check, How::Implied));
    for (check, how) in own.into_iter().chain(implied) {
        let known = caught.entry(check.to_owned()).or_insert(how);
        *known = how.max(*known);
    }
}

fn strings(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn armament(doctor: &Value) -> Vec<Armament> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let checks = doctor["checks"].as_array().into_iter().flatten();
    checks
        .map(|line| Armament {
            check: text(&line["check"]),
            state: text(&line["state"]),
            reason: text(&line["reason"]),
        })
        .collect()
}

#[cfg(test)]
mod tests;
