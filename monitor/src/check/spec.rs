//! What a check is, as data: its invariant, what it needs, what follows from it, what to do.

use std::{collections::BTreeSet, fmt};

use monitor_ebpf::wire::Hook;

use crate::coverage::{Coverage, HookState};
use crate::model::Kind;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing; never pages and never changes an exit code.
    Info,
    /// A leak or a sign.
    Warning,
    /// Isolation or memory safety is at stake now.
    Critical,
}

impl Severity {
    pub const ALL: [Severity; 3] = [Severity::Info, Severity::Warning, Severity::Critical];

    pub fn named(name: &str) -> Option<Severity> {
        Severity::ALL.into_iter().find(|severity| severity.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

/// A check, as data. The pages, the alert rules and `checks NAME` come out of it.
#[derive(Debug)]
pub struct Spec {
    /// The `check` label of the metrics and the anchor of the docs.
    pub name: &'static str,
    pub section: &'static str,
    /// The severities that it can raise, the usual one first.
    pub severities: &'static [Severity],
    /// The invariant, in words that a correct kernel keeps.
    pub invariant: &'static str,
    pub why: &'static str,
    pub needs: Needs,
    /// The transitions that [`super::Check::judge`] is called for; the others cost it nothing.
    pub judges: &'static [Kind],
    /// What it needs to be judged by one look at a group as well; `None`: it takes events.
    pub by_look: Option<Needs>,
    /// The checks that a violation of this one trips as well.
    pub implies: &'static [&'static str],
    /// What must not raise it.
    pub traps: &'static [&'static str],
    /// Where it broke in the field.
    pub seen_in: &'static [&'static str],
    /// What the person on call does, step by step.
    pub what_to_do: &'static [&'static str],
}

impl Spec {
    /// The usual severity.
    pub fn severity(&self) -> Severity {
        self.severities.first().copied().unwrap_or(Severity::Critical)
    }

    /// The page of the check.
    pub fn docs(&self) -> String {
        format!("docs/checks/{}.md", self.name)
    }
}

/// The name of the alert on a check, in the rules for Prometheus and where violations are pushed: `IommuWatchPasidLeaked`
/// of `pasid-leaked`.
pub fn alert_name(stem: &str) -> String {
    let words = stem.split('-').map(|word| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>()
    });
    std::iter::once("IommuWatch".into()).chain(words).collect()
}

/// What a check needs of the kernel and of the hooks.
#[derive(Debug)]
pub struct Needs {
    /// `iommu_group::pasid_array`: the core keeps account of PASIDs (from 6.2).
    pub core_pasids: bool,
    /// Without one of these nothing can be judged.
    pub required: &'static [Hook],
    /// The same where the kernel has the function, or must have ([`Coverage::misses`]); a kernel without it has no such way.
    pub required_if_present: &'static [Hook],
    /// At least one of these, or there is nothing to judge.
    pub any_of: &'static [Hook],
    /// Where the kernel has the function, or must have, and it can't be watched, something is missed: what.
    pub degrades: &'static [(Hook, &'static str)],
}

/// How far a check can do its work on the running kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckState {
    Armed,
    /// It works but misses something: what, in words for a person.
    Degraded {
        reason: String,
    },
    Unavailable {
        reason: String,
    },
    NotApplicable {
        reason: String,
    },
    /// Switched off by the operator.
    Off,
    /// Off unless it is asked for: how, and what it costs.
    NotAskedFor {
        reason: String,
    },
}

impl CheckState {
    /// Every value of the `state` label.
    pub const NAMES: [&'static str; 5] = ["armed", "degraded", "unavailable", "not-applicable", "off"];

    pub fn name(&self) -> &'static str {
        match self {
            CheckState::Armed => "armed",
            CheckState::Degraded { .. } => "degraded",
            CheckState::Unavailable { .. } => "unavailable",
            CheckState::NotApplicable { .. } => "not-applicable",
            CheckState::Off | CheckState::NotAskedFor { .. } => "off",
        }
    }

    pub fn reason(&self) -> Option<&str> {
        match self {
            CheckState::Armed | CheckState::Off => None,
            CheckState::Degraded { reason }
            | CheckState::Unavailable { reason }
            | CheckState::NotApplicable { reason }
            | CheckState::NotAskedFor { reason } => Some(reason),
        }
    }

    /// Whether it is off, by whoever's wish.
    pub fn is_off(&self) -> bool {
        matches!(self, CheckState::Off | CheckState::NotAskedFor { .. })
    }

    /// Whether it judges at all.
    pub fn judges(&self) -> bool {
        matches!(self, CheckState::Armed | CheckState::Degraded { .. })
    }
}

impl fmt::Display for CheckState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason() {
            Some(reason) => write!(f, "{}: {reason}", self.name()),
            None => f.write_str(self.name()),
        }
    }
}

impl Needs {
    /// No hook at all: what others are written as differences from.
    pub const NOTHING: Needs =
        Needs { core_pasids: false, required: &[], required_if_present: &[], any_of: &[], degrades: &[] };

    /// For checks that go by one look: it takes a group's snapshot, under its mutex or read twice.
    pub const LOOK: Needs = Needs {
        core_pasids: false,
        required: &[Hook::SnapshotGroup],
        required_if_present: &[],
        any_of: &[],
        degrades: &[],
    };
    /// The same, with the hardware tables of a driver that we know.
    pub const LOOK_AT_TABLES: Needs = Needs {
        core_pasids: true,
        any_of: &[Hook::SnapshotIntel, Hook::SnapshotAmd, Hook::SnapshotDma],
        ..Needs::LOOK
    };

    /// Every hook that is named, some twice.
    pub fn hooks(&self) -> impl Iterator<Item = Hook> {
        let named = [self.required, self.required_if_present, self.any_of].into_iter().flatten().copied();
        named.chain(self.degrades.iter().map(|&(hook, _)| hook))
    }

    /// What these needs come to with the hooks that there are.
    pub fn state(&self, coverage: &Coverage) -> CheckState {
        if self.core_pasids && !coverage.core_pasids {
            let reason = "this kernel's IOMMU core keeps no account of PASIDs (iommu_group has no pasid_array; it came \
                          with 6.2)";
            return CheckState::Unavailable { reason: reason.into() };
        }
        let lacking = self.required.iter().find(|&&hook| !coverage.attached(hook));
        let failing = self.required_if_present.iter().find(|&&hook| coverage.misses(hook));
        if let Some(&hook) = lacking.or(failing) {
            return CheckState::Unavailable { reason: explain(coverage, hook) };
        }
        if !self.any_of.is_empty() && !self.any_of.iter().any(|&hook| coverage.attached(hook)) {
            let reasons: Vec<String> = self.any_of.iter().map(|&hook| explain(coverage, hook)).collect();
            return CheckState::Unavailable { reason: reasons.join("; ") };
        }
        let missed: Vec<String> = self
            .degrades
            .iter()
            .filter(|&&(hook, _)| coverage.misses(hook))
            .map(|&(hook, missed)| format!("{missed} ({})", explain(coverage, hook)))
            .collect();
        let leaky: BTreeSet<Hook> = self.hooks().filter(|&hook| coverage.leaky(hook)).collect();
        let leaky = leaky
            .into_iter()
            .map(|hook| format!("hook {} misses calls, as reads of the kernel's state showed", hook.name()));
        let missed: Vec<String> = missed.into_iter().chain(leaky).collect();
        if missed.is_empty() { CheckState::Armed } else { CheckState::Degraded { reason: missed.join("; ") } }
    }
}

fn explain(coverage: &Coverage, hook: Hook) -> String {
    match coverage.get(hook) {
        HookState::Attached { .. } => format!("hook {} is attached", hook.name()),
        HookState::Absent => format!("this kernel has nothing for hook {}", hook.name()),
        HookState::Off => format!("hook {} is not attached: nobody asked for it", hook.name()),
        HookState::Idle { driver } => {
            format!("no device of this host is behind an IOMMU of the {driver} driver")
        }
        HookState::Failed { reason } => format!("hook {}: {reason}", hook.name()),
    }
}
