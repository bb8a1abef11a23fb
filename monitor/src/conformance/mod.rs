//! Conformance: what each IOMMU driver was seen to do, rule by rule of the API. It conforms, it violates (with the
//! evidence), or the rule was not exercised: what nobody saw is not held against a driver, and not for it.
//!
//! It is pure, and keeps counts alone: the watcher tells it what became known, and what was raised.

mod ledger;
mod rule;
mod verdict;

pub use ledger::{Evidence, Ledger, Switches};
pub use rule::{RULES, Rule};
pub use verdict::{Conformance, RuleVerdict, Verdict};
