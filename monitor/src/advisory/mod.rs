//! Advisories: known defects of kernels that no event can show. A kernel is told by its types and symbols, never by its
//! release. What is known is in a dated file of data (`monitor/advisories.toml`), which can be newer than the program.
//!
//! It is pure: what a kernel has comes in by [`Types`].

mod data;

use std::fmt;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

pub use data::{Data, Error, Known};

/// What can be asked about a kernel.
pub trait Types {
    /// It has a function of this name.
    fn function(&self, name: &str) -> bool;
    /// How many parameters a function has; `None`: there is no such function, or several that differ.
    fn parameters(&self, name: &str) -> Option<usize>;
    /// A struct of this name has this member (`a.b`; anonymous ones are looked through).
    fn member(&self, name: &str, path: &str) -> bool;
}

/// Whether a kernel has a defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Affected,
    /// It has what the defect was in, and its fix.
    Fixed,
    /// It has nothing that the defect could be in.
    Absent,
    /// Nothing in its types and symbols tells.
    Undecided,
}

impl Verdict {
    pub const ALL: [Verdict; 4] = [Verdict::Affected, Verdict::Fixed, Verdict::Absent, Verdict::Undecided];

    /// The value of the `verdict` label.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Affected => "affected",
            Verdict::Fixed => "fixed",
            Verdict::Absent => "absent",
            Verdict::Undecided => "undecided",
        }
    }
}

/// A defect, and what a kernel's types say of it. Recordings hold it as it is here, by the names of its members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Its name in the file of data: the `advisory` label.
    pub id: String,
    pub cve: Vec<String>,
    pub title: String,
    pub effect: String,
    pub what_to_do: String,
    pub references: Vec<String>,
    pub verdict: Verdict,
    /// What of the kernel says so.
    pub because: String,
}

impl fmt::Display for Told {
    /// `affected: CVE-2024-35843: why`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.verdict.name(), self.cve.join(", "), self.because)
    }
}

/// What is known of one kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advisories {
    /// When the data was last looked through.
    pub date: Date,
    pub told: Vec<Told>,
}

impl Advisories {
    pub fn affected(&self) -> impl Iterator<Item = &Told> {
        self.of(Verdict::Affected)
    }

    pub fn of(&self, verdict: Verdict) -> impl Iterator<Item = &Told> {
        self.told.iter().filter(move |told| told.verdict == verdict)
    }

    /// The date in seconds since the epoch.
    pub fn timestamp_seconds(&self) -> f64 {
        let zoned = self.date.to_zoned(jiff::tz::TimeZone::UTC);
        zoned.map_or(0.0, |zoned| zoned.timestamp().as_second() as f64)
    }

    /// Every text of it, for whoever must make sure of what came from outside.
    pub fn texts_mut(&mut self) -> impl Iterator<Item = &mut String> {
        self.told.iter_mut().flat_map(|told| {
            let Told { id, cve, title, effect, what_to_do, references, verdict: _, because } = told;
            [id, title, effect, what_to_do, because].into_iter().chain(cve).chain(references)
        })
    }
}
