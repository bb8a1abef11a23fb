//! What comes of a finding: a violation that is raised, and one that is no more.

use super::fingerprint::Fingerprint;
use super::spec::{Severity, Spec};
use super::violation::Violation;

/// What came of it.
pub(crate) enum Outcome {
    Raised(Box<Violation>),
    /// It stands still; whether it is expected, or how bad it is, is another matter than it was.
    Restated(Box<Violation>),
    Resolved(Resolved),
}

/// A violation that is no more.
#[derive(Clone, Debug)]
pub struct Resolved {
    pub check: &'static Spec,
    pub severity: Severity,
    pub fingerprint: Fingerprint,
    pub group: Option<u32>,
    pub devices: Vec<String>,
    pub reason: Reason,
    pub mono_ns: u64,
    /// When it was raised.
    pub raised_ns: u64,
    /// When it was last seen.
    pub last_ns: u64,
    /// How often it happened.
    pub count: u64,
}

/// Why it is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The state is right again.
    Cleared,
    /// It happened, and its hold time is over.
    Expired,
    /// The group or the device is gone.
    Released,
    /// Its check was switched off.
    Off,
}

impl Reason {
    pub fn name(self) -> &'static str {
        match self {
            Reason::Cleared => "cleared",
            Reason::Expired => "expired",
            Reason::Released => "released",
            Reason::Off => "off",
        }
    }
}
