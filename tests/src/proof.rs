//! What a run of the scenarios proves of the checks: each by kernel and by source, caught and silent.
//!
//! It is read from what the guests said, once the scenario's own expectations hold: a check is *caught* in a
//! scenario that raised it, and its *twin is silent* if the same scenario has a phase in which the check was
//! armed, calls were seen and nothing was raised. The page that comes of it is docs/proof.md; no cell of it is
//! empty: what a run can't show has its reason in [`reasons`], or in what `doctor` says on that kernel.

mod page;
mod reasons;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

use crate::Series;
use crate::scenario::transcript::{Phase, Transcript};
use crate::scenario::{Report, Scenario};

/// What a violation was seen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The kernel's own driver, behind the emulated VT-d.
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

/// What one scenario on one kernel showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The scenario, or the recording.
    pub by: String,
    pub series: Series,
    pub source: Source,
    /// The checks that were raised, as they should.
    pub caught: BTreeSet<String>,
    /// The checks that were armed while nothing was wrong, and raised nothing.
    pub silent: BTreeSet<String>,
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
}

impl Proofs {
    /// Takes in what a scenario said whose expectations hold.
    pub fn take(&mut self, scenario: &Scenario, report: &Report) {
        let transcript = Transcript::read(&report.text);
        for line in report.of_kind("doctor") {
            self.armament.insert(report.series, armament(&line));
        }
        let source = match scenario.setting.test_modules.contains(&"softiommu") {
            true => Source::Software,
            false => Source::Driver,
        };
        self.proofs.push(Proof::of(scenario.name, report.series, source, &transcript));
    }

    /// Takes in the verdict of a recording, as JSON lines. What is in it was raised in the run that it is of,
    /// so it has no twin of its own: the golden files hold that nothing else comes out.
    pub fn replayed(&mut self, name: &str, lines: &str) {
        let lines: Vec<Value> = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let kernel = lines.iter().find_map(|line| line["kernel"].as_str()).unwrap_or_default();
        let Some(series) = Series::ALL.into_iter().rev().find(|series| kernel.starts_with(series.name()))
        else {
            return;
        };
        let caught = checks(lines.iter().filter(|line| line["kind"] == "violation"));
        let silent = caught.clone();
        self.proofs.push(Proof { by: name.into(), series, source: Source::Recording, caught, silent });
    }

    /// The page, or what is missing in it.
    pub fn page(&self) -> Result<String, Vec<String>> {
        page::write(self)
    }

    /// The scenarios that caught a check there, with whether a twin was silent in each.
    fn of(&self, check: &str, series: Series, source: Source) -> impl Iterator<Item = (&str, bool)> {
        let here = self.proofs.iter().filter(move |proof| proof.series == series && proof.source == source);
        here.filter(|proof| proof.caught.contains(check))
            .map(|proof| (proof.by.as_str(), proof.silent.contains(check)))
    }
}

impl Proof {
    fn of(by: &str, series: Series, source: Source, transcript: &Transcript) -> Self {
        let phases: Vec<&Phase> = transcript.names().filter_map(|name| transcript.phase(name).ok()).collect();
        let caught = phases.iter().flat_map(|phase| checks(phase.violations())).collect();
        let clean = phases.iter().filter(|phase| phase.violations().next().is_none());
        let silent = clean
            .filter(|phase| transcript.saw_calls(phase))
            .flat_map(|phase| phase.armed().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        Self { by: by.into(), series, source, caught, silent }
    }
}

fn checks<'a>(violations: impl Iterator<Item = &'a Value>) -> BTreeSet<String> {
    violations.filter_map(|line| line["check"].as_str()).map(str::to_owned).collect()
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
