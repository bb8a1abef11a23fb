//! What the counts come to.

use std::sync::Arc;

use crate::check::{CheckState, Expectation};
use crate::coverage::Coverage;

use super::ledger::{Driver, Evidence, Ledger, Switches, Tally};
use super::rule::{RULES, Rule};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Conforms,
    Violates,
    NotExercised,
}

impl Verdict {
    pub const ALL: [Verdict; 3] = [Verdict::Conforms, Verdict::Violates, Verdict::NotExercised];

    /// In the reports, and the value of the `verdict` label.
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::Conforms => "conforms",
            Verdict::Violates => "violates",
            Verdict::NotExercised => "not exercised",
        }
    }
}

/// Of one driver by one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleVerdict {
    pub rule: &'static str,
    pub holds: &'static str,
    pub verdict: Verdict,
    pub exercised: u64,
    pub violated: u64,
    /// The first of what broke it.
    pub evidence: Vec<Evidence>,
    /// Why it was not exercised, for a person.
    pub reason: Option<String>,
    /// All that broke it is expected: by these.
    pub allowed: Vec<Arc<Expectation>>,
}

/// Of one driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conformance {
    pub iommu_driver: String,
    /// Violates if a rule does that nobody allowed; conforms if one was exercised.
    pub verdict: Verdict,
    pub switches: Switches,
    pub rules: Vec<RuleVerdict>,
}

impl Ledger {
    /// The verdicts, by name of driver. `states`: how far each check can judge here.
    pub fn verdicts<'a>(
        &self,
        coverage: &Coverage,
        states: impl Fn(&str) -> Option<&'a CheckState>,
        mono_ns: u64,
    ) -> Vec<Conformance> {
        let mut verdicts: Vec<Conformance> =
            self.drivers.iter().map(|driver| self.of(driver, coverage, &states, mono_ns)).collect();
        verdicts.sort_by(|one, other| one.iommu_driver.cmp(&other.iommu_driver));
        verdicts
    }

    fn of<'a>(
        &self,
        driver: &Driver,
        coverage: &Coverage,
        states: &impl Fn(&str) -> Option<&'a CheckState>,
        mono_ns: u64,
    ) -> Conformance {
        let rules: Vec<RuleVerdict> = RULES
            .iter()
            .zip(&driver.rules)
            .map(|(rule, tally)| {
                let blind = blind(rule, &driver.name, coverage, states);
                self.rule(&driver.name, rule, tally, blind, mono_ns)
            })
            .collect();
        let held_against =
            rules.iter().any(|rule| rule.verdict == Verdict::Violates && rule.allowed.is_empty());
        let verdict = match rules.iter().any(|rule| rule.verdict != Verdict::NotExercised) {
            _ if held_against => Verdict::Violates,
            true => Verdict::Conforms,
            false => Verdict::NotExercised,
        };
        // What was not seen to be taken need not have been left alone.
        let seen = RULES.first().is_some_and(|rule| blind(rule, &driver.name, coverage, states).is_none());
        let kept = if seen { driver.switches.kept } else { 0 };
        let switches = Switches { kept, ..driver.switches };
        Conformance { iommu_driver: driver.name.clone(), verdict, switches, rules }
    }

    fn rule(
        &self,
        driver: &str,
        rule: &Rule,
        tally: &Tally,
        blind: Option<String>,
        mono_ns: u64,
    ) -> RuleVerdict {
        let verdict = match (tally.broken.is_empty(), &blind, tally.exercised) {
            (false, ..) => Verdict::Violates,
            (true, None, 1..) => Verdict::Conforms,
            (true, ..) => Verdict::NotExercised,
        };
        let broken = tally.broken.iter();
        let excuses: Option<Vec<Vec<Arc<Expectation>>>> =
            broken.map(|(check, breaks)| self.excuse(driver, check, breaks, mono_ns)).collect();
        let reason = || blind.unwrap_or_else(|| "nothing of the kind was seen".into());
        RuleVerdict {
            rule: rule.name,
            holds: rule.holds,
            verdict,
            exercised: tally.exercised,
            violated: tally.broken.values().map(|breaks| breaks.times).sum(),
            evidence: tally.evidence.clone(),
            reason: (verdict == Verdict::NotExercised).then(reason),
            allowed: excuses.unwrap_or_default().into_iter().flatten().collect(),
        }
    }
}

/// Why a break of the rule would go unseen; `None`: it would not.
fn blind<'a>(
    rule: &Rule,
    driver: &str,
    coverage: &Coverage,
    states: &impl Fn(&str) -> Option<&'a CheckState>,
) -> Option<String> {
    let hook = rule.seen_of.iter().find(|(name, _)| *name == driver).map(|(_, hook)| *hook);
    if hook.is_none() && !rule.seen_of.is_empty() {
        return Some("what this driver does is not seen".into());
    }
    let check = rule.checks.first()?;
    match states(check) {
        Some(state) if state.judges() => {}
        Some(state) => return Some(format!("{check} is {state}")),
        None => return Some(format!("there is no check {check}")),
    }
    let missing = hook.filter(|hook| !coverage.attached(*hook))?;
    Some(format!("hook {} is not attached", missing.name()))
}
