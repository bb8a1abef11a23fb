//! The configuration file: TOML, read as a whole, all that is wrong with it told at once.

mod parse;
mod push;
mod walk;

use std::{
    collections::BTreeSet,
    fmt,
    fs::OpenOptions,
    io::{self, Read},
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::check::{Expectation, Settings};

pub use push::{Credentials, Kind, Push};

/// More than this of a file is not read.
const MOST: u64 = 1 << 20;
/// How many faults are told of a file.
const MOST_FAULTS: usize = 100;

/// What the file says. Of what it says nothing, the flags and the defaults do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Where the pages are served.
    pub listen: Option<SocketAddr>,
    /// The file that says to whom, and how.
    pub web_config: Option<PathBuf>,
    /// How often every group is read again; zero: never.
    pub audit: Option<Duration>,
    /// Whether programs may be attached to the kernel's trampolines.
    pub trampolines: Option<bool>,
    /// Whether the program is attached that sees what submissions to the IOMMU's queue return.
    pub submission_returns: Option<bool>,
    /// Whether, and where, programs and maps stay pinned for the next start.
    pub pin: Option<Pin>,
    /// The file of known defects.
    pub advisories: Option<PathBuf>,
    /// Of the checks that are off unless they are asked for, those that it asks for: their programs are attached at the start.
    pub asked: BTreeSet<&'static str>,
    /// What it says of the lines that are written.
    pub output: Output,
    /// To whom violations are pushed.
    pub push: Option<Push>,
    /// What it says of the checks; on no clock yet ([`Settings::on_clock`]).
    pub checks: Settings,
}

/// How many violations are told at a time, and what becomes of lines that nobody takes; `None`: by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Violations of one check that are told at once.
    pub check_burst: Option<u64>,
    /// And after them, in a minute.
    pub check_per_minute: Option<u64>,
    /// The same of all checks together.
    pub burst: Option<u64>,
    pub per_minute: Option<u64>,
    /// The directory of the spool.
    pub spool: Option<PathBuf>,
    /// What it may hold, in MiB; 0: there is none.
    pub spool_mib: Option<u64>,
}

/// Whether programs and maps are pinned, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pin {
    Off,
    /// In the default place.
    On,
    At(PathBuf),
}

/// One thing that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// `None`: of the file as a whole.
    pub line: Option<usize>,
    /// What is wrong: the key with its value, and what is allowed.
    pub what: String,
}

/// All that is wrong with a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl std::error::Error for Faults {}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: Vec<String> = self.0.iter().map(Fault::to_string).collect();
        f.write_str(&faults.join("; "))
    }
}

impl Faults {
    /// In the order of their lines, and no more than can be read; `Ok` where there are none.
    pub(crate) fn none_of(mut faults: Vec<Fault>) -> Result<(), Faults> {
        if faults.is_empty() {
            return Ok(());
        }
        // A parser that goes on after an error may tell one place twice.
        faults.sort_by(|one, other| (one.line, &one.what).cmp(&(other.line, &other.what)));
        faults.dedup();
        if let Some(more) = faults.len().checked_sub(MOST_FAULTS).filter(|&more| more > 0) {
            faults.truncate(MOST_FAULTS);
            faults.push(Fault { line: None, what: format!("and {more} more") });
        }
        Err(Faults(faults))
    }
}

impl Config {
    pub fn read(path: &Path) -> Result<Config, Faults> {
        let text =
            contents(path).map_err(|error| Faults(vec![Fault { line: None, what: error.to_string() }]))?;
        Config::parse(&text)
    }

    pub fn parse(text: &str) -> Result<Config, Faults> {
        let (config, faults) = parse::parse(text);
        Faults::none_of(faults).map(|()| config)
    }

    /// What was expected until a day that is over at this time, in ns since the epoch.
    pub fn expectations_over(&self, now_ns: i128) -> impl Iterator<Item = &Expectation> {
        self.checks
            .expected
            .iter()
            .map(AsRef::as_ref)
            .filter(move |expectation| expectation.end_ns() <= now_ns)
    }

    /// It says something else of what is in force from a start to the next, the checks aside.
    pub fn differs_at_start(&self, other: &Config) -> bool {
        let other = Config { checks: self.checks.clone(), asked: self.asked.clone(), ..other.clone() };
        *self != other
    }

    /// The checks that this one asks for and `first`, which was read at the start, did not; and those that it asks for no
    /// more, and doesn't switch off either, which it does at once.
    pub fn asks_at_next_start(&self, first: &Config) -> (Vec<&'static str>, Vec<&'static str>) {
        let more = self.asked.difference(&first.asked).copied().collect();
        let fewer = first.asked.difference(&self.asked).filter(|name| !self.checks.off.contains(*name));
        (more, fewer.copied().collect())
    }

    /// What it says, in a line.
    pub fn summary(&self) -> String {
        let Settings { off, severities, thresholds, expected } = &self.checks;
        let asked: String = self.asked.iter().map(|name| format!(", {name} switched on")).collect();
        format!(
            "{} checks off, {} with a severity of their own, {} thresholds, {} expected deviations{asked}",
            off.len(),
            severities.len(),
            thresholds.len(),
            expected.len()
        )
    }
}

/// The text of a file, if it is one. A pipe is not waited for, and what grows is read no further than the bound.
pub(crate) fn contents(path: &Path) -> io::Result<String> {
    let refuse = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what);
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(refuse("it is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MOST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST {
        return Err(refuse("it is larger than 1 MiB"));
    }
    String::from_utf8(bytes)
        .map_err(|error| refuse(&format!("it is no UTF-8 from byte {} on", error.utf8_error().valid_up_to())))
}

#[cfg(test)]
mod tests;
