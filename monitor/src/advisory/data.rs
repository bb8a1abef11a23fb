//! The file of data: read, and held against a kernel.

use std::{fmt, fs, io, path::Path, str::FromStr};

use jiff::civil::Date;
use serde::Deserialize;

use super::{Advisories, Told, Types, Verdict};

/// What the program was built with.
const BUILT_IN: &str = include_str!("../../advisories.toml");
/// More than this of a file is not read.
const MOST: u64 = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("it can't be read: {0}")]
    Io(#[from] io::Error),
    #[error("it is larger than 1 MiB, or no regular file")]
    Size,
    #[error("line {line}: {what}")]
    Syntax { line: usize, what: String },
    #[error("{0}")]
    Meaning(String),
}

/// The advisories, of no kernel yet.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    #[serde(deserialize_with = "date")]
    pub date: Date,
    #[serde(default, rename = "advisory")]
    pub advisories: Vec<Known>,
}

/// One known defect.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    pub id: String,
    pub cve: Vec<String>,
    pub title: String,
    pub effect: String,
    pub what_to_do: String,
    pub references: Vec<String>,
    /// Why nothing may tell; said where none of the tells holds.
    pub undecided: String,
    #[serde(rename = "tell")]
    tells: Vec<Tell>,
}

/// If all these facts hold, it is so.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tell {
    verdict: Verdict,
    when: Vec<Fact>,
    because: String,
}

/// Something that a kernel has or hasn't: `function NAME`, `member STRUCT.PATH`, `parameters FUNCTION COUNT`; each of
/// them with `no` before it for the contrary.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Fact {
    pub has: bool,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Function(String),
    Member { name: String, path: String },
    Parameters { function: String, count: usize },
}

impl FromStr for Fact {
    type Err = String;

    fn from_str(text: &str) -> Result<Fact, String> {
        let (has, positive) = match text.strip_prefix("no ") {
            Some(rest) => (false, rest),
            None => (true, text),
        };
        let words: Vec<&str> = positive.split(' ').collect();
        let what = match words.as_slice() {
            ["function", name] => What::Function((*name).into()),
            ["member", place] => match place.split_once('.') {
                Some((name, path)) => What::Member { name: name.into(), path: path.into() },
                None => return Err(format!("`{text}`: a member is STRUCT.PATH")),
            },
            ["parameters", function, count] => What::Parameters {
                function: (*function).into(),
                count: count.parse().map_err(|_| format!("`{text}`: `{count}` is no number"))?,
            },
            _ => {
                return Err(format!(
                    "`{text}` is no fact; one is `function NAME`, `member STRUCT.PATH` or `parameters FUNCTION COUNT`, \
                     or `no` before one of them"
                ));
            }
        };
        Ok(Fact { has, what })
    }
}

impl TryFrom<String> for Fact {
    type Error = String;

    fn try_from(text: String) -> Result<Fact, String> {
        text.parse()
    }
}

impl Fact {
    fn holds(&self, types: &impl Types) -> bool {
        let there = match &self.what {
            What::Function(name) => types.function(name),
            What::Member { name, path } => types.member(name, path),
            What::Parameters { function, count } => types.parameters(function) == Some(*count),
        };
        there == self.has
    }
}

impl Data {
    /// What the program was built with. (A test reads it.)
    pub fn built_in() -> Result<Data, Error> {
        Data::parse(BUILT_IN)
    }

    pub fn read(path: &Path) -> Result<Data, Error> {
        let about = fs::metadata(path)?;
        if !about.is_file() || about.len() > MOST {
            return Err(Error::Size);
        }
        Data::parse(&fs::read_to_string(path)?)
    }

    pub fn parse(text: &str) -> Result<Data, Error> {
        let data: Data = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            Error::Syntax { line, what: error.message().to_owned() }
        })?;
        for (index, known) in data.advisories.iter().enumerate() {
            let wrong = |what: &str| Err(Error::Meaning(format!("advisory `{}`: {what}", known.id)));
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            if known.id.is_empty() || !known.id.bytes().all(plain) {
                return wrong("an id is of lower-case letters, digits and dashes");
            }
            if data.advisories.iter().take(index).any(|other| other.id == known.id) {
                return wrong("it is there twice");
            }
            if known.tells.iter().any(|tell| tell.verdict == Verdict::Undecided) {
                return wrong("what tells decides: `undecided` is where nothing tells");
            }
        }
        Ok(data)
    }

    /// Holds each of them against a kernel.
    pub fn of(&self, types: &impl Types) -> Advisories {
        let told = self.advisories.iter().map(|known| known.of(types)).collect();
        Advisories { date: self.date, told }
    }

    /// Every fact that is asked for.
    pub(crate) fn facts(&self) -> impl Iterator<Item = &What> {
        let tells = self.advisories.iter().flat_map(|known| &known.tells);
        tells.flat_map(|tell| &tell.when).map(|fact| &fact.what)
    }

    /// Every function that is asked for.
    pub fn functions(&self) -> Vec<&str> {
        let name = |what| match what {
            &What::Function(ref name) | &What::Parameters { function: ref name, .. } => Some(name.as_str()),
            &What::Member { .. } => None,
        };
        self.facts().filter_map(name).collect()
    }
}

impl Known {
    fn of(&self, types: &impl Types) -> Told {
        let tells = self.tells.iter().find(|tell| tell.when.iter().all(|fact| fact.holds(types)));
        let (verdict, because) = match tells {
            Some(tell) => (tell.verdict, &tell.because),
            None => (Verdict::Undecided, &self.undecided),
        };
        Told {
            id: self.id.clone(),
            cve: self.cve.clone(),
            title: self.title.clone(),
            effect: self.effect.clone(),
            what_to_do: self.what_to_do.clone(),
            references: self.references.clone(),
            verdict,
            because: because.clone(),
        }
    }
}

/// A date of the file's own kind, without a time.
fn date<'de, D: serde::Deserializer<'de>>(source: D) -> Result<Date, D::Error> {
    let date = toml::value::Datetime::deserialize(source)?;
    let wrong = |error: &dyn fmt::Display| serde::de::Error::custom(format!("`{date}` is no date: {error}"));
    if date.time.is_some() || date.offset.is_some() {
        return Err(wrong(&"a day, as in 2026-11-22, and no time of it"));
    }
    date.to_string().parse().map_err(|error: jiff::Error| wrong(&error))
}
