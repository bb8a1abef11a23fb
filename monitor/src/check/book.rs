//! The violations that are open: each is raised once, folds its consequences in, and resolves.

use std::collections::{BTreeMap, HashMap};

use crate::event::Key;
use crate::inventory::Inventory;
use crate::model::{GroupRef, Host, Names};

use super::spec::{Severity, Spec};
use super::violation::{Finding, Fingerprint, Implied, Standing, Subject, Violation};

/// How long something that happened stays active, in ns: 15 min.
const HOLD_NS: u64 = 15 * 60 * 1_000_000_000;
/// How long a finding that is not proved must stand, with nothing else going on in its group, in ns.
const SECOND_LOOK_NS: u64 = 20_000_000;
/// How many violations are open at a time; more are counted and not raised.
const MAX_OPEN: usize = 4096;
/// How many findings wait for their second look.
const MAX_CANDIDATES: usize = 1024;

/// What came of it.
pub(crate) enum Outcome {
    Raised(Box<Violation>),
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
}

impl Reason {
    pub fn name(self) -> &'static str {
        match self {
            Reason::Cleared => "cleared",
            Reason::Expired => "expired",
            Reason::Released => "released",
        }
    }
}

/// What the book looks things up in.
pub(crate) struct Scope<'a> {
    pub host: &'a Host,
    pub inventory: Option<&'a Inventory>,
    pub names: &'a mut Names,
    pub boot_id: &'a str,
}

struct Open {
    violation: Violation,
    subject: Subject,
    /// The consequences that were folded in, and what each is about.
    consequences: Vec<(&'static Spec, Subject)>,
    last_ns: u64,
}

struct Candidate {
    finding: Finding,
    group: GroupRef,
    /// A call began and returned since, and the finding still stood.
    seconded: bool,
}

/// The open violations and what was raised so far.
#[derive(Default)]
pub(crate) struct Book {
    open: BTreeMap<Fingerprint, Open>,
    groups: HashMap<Key, Vec<Fingerprint>>,
    candidates: Vec<Candidate>,
    totals: BTreeMap<(&'static str, Severity), u64>,
    suppressed: u64,
}

impl Book {
    pub fn open(&self) -> impl Iterator<Item = &Violation> {
        self.open.values().map(|open| &open.violation)
    }

    pub fn total(&self, check: &'static str, severity: Severity) -> u64 {
        self.totals.get(&(check, severity)).copied().unwrap_or_default()
    }

    /// How many were not raised because too many were open.
    pub fn suppressed(&self) -> u64 {
        self.suppressed
    }

    /// Nothing is open and nothing waits: there is nothing to look at again.
    pub fn is_idle(&self) -> bool {
        self.open.is_empty() && self.candidates.is_empty()
    }

    /// When a finding that waits is due, or the hold time of a violation is over.
    pub fn deadline(&self) -> Option<u64> {
        let looks = self.candidates.iter().map(|candidate| candidate.finding.mono_ns + SECOND_LOOK_NS);
        let holds = self.open.values().filter(|open| open.happened()).map(|open| open.last_ns + HOLD_NS);
        looks.chain(holds).min()
    }

    /// Takes in what the checks found by one event: roots first, so that consequences find them open.
    pub fn take(&mut self, mut findings: Vec<Finding>, scope: &mut Scope<'_>, outcomes: &mut Vec<Outcome>) {
        findings.sort_by_key(|finding| is_consequence(finding.check));
        let mut raised = Vec::new();
        for finding in findings {
            if self.fold(&finding) {
                continue;
            }
            match finding.subject.group() {
                Some(group) if !finding.proved => {
                    if self.candidates.len() < MAX_CANDIDATES {
                        self.candidates.push(Candidate { finding, group, seconded: false });
                    }
                }
                _ => raised.extend(self.raise(finding, scope)),
            }
        }
        let opened = raised.iter().filter_map(|fingerprint| self.open.get(fingerprint));
        outcomes.extend(opened.map(|open| Outcome::Raised(Box::new(open.violation.clone()))));
    }

    /// Something else took hold of the group, or its state is unknown: what waited on it can't be told
    /// from that.
    pub fn withdraw(&mut self, group: GroupRef) {
        self.candidates.retain(|candidate| candidate.group != group);
    }

    /// A call on the group began and returned.
    pub fn second(&mut self, group: GroupRef) {
        let waiting = self.candidates.iter_mut().filter(|candidate| candidate.group == group);
        waiting.for_each(|candidate| candidate.seconded = true);
    }

    /// Looks again at what is open or waits on a group.
    pub fn review_group(
        &mut self,
        group: GroupRef,
        mono_ns: u64,
        scope: &mut Scope<'_>,
        outcomes: &mut Vec<Outcome>,
    ) {
        self.review_candidates(Some(group), mono_ns, scope, outcomes);
        let fingerprints = self.groups.get(&group.key).cloned().unwrap_or_default();
        self.review(fingerprints, mono_ns, scope.host, outcomes);
    }

    /// Looks again at what is open and about no single group.
    pub fn review_devices(&mut self, mono_ns: u64, scope: &mut Scope<'_>, outcomes: &mut Vec<Outcome>) {
        let without = self.open.iter().filter(|(_, open)| open.subject.group().is_none());
        let fingerprints = without.map(|(&fingerprint, _)| fingerprint).collect();
        self.review(fingerprints, mono_ns, scope.host, outcomes);
    }

    /// Time passes: second looks fall due and hold times end.
    pub fn tick(&mut self, mono_ns: u64, scope: &mut Scope<'_>, outcomes: &mut Vec<Outcome>) {
        self.review_candidates(None, mono_ns, scope, outcomes);
        let over = |open: &Open| open.happened() && open.last_ns + HOLD_NS <= mono_ns;
        let expired: Vec<Fingerprint> =
            self.open.iter().filter(|(_, open)| over(open)).map(|(&fingerprint, _)| fingerprint).collect();
        for fingerprint in expired {
            self.close(fingerprint, Reason::Expired, mono_ns, outcomes);
        }
    }

    fn review_candidates(
        &mut self,
        group: Option<GroupRef>,
        mono_ns: u64,
        scope: &mut Scope<'_>,
        outcomes: &mut Vec<Outcome>,
    ) {
        let waiting = std::mem::take(&mut self.candidates);
        let mut due = Vec::new();
        for candidate in waiting {
            let quiet = scope.host.group(candidate.group).is_some_and(|known| known.quiescent());
            let looked = candidate.seconded || candidate.finding.mono_ns + SECOND_LOOK_NS <= mono_ns;
            let mine = group.is_none_or(|group| group == candidate.group);
            match standing(candidate.finding.check, &candidate.finding.subject, scope.host) {
                Standing::Stands if mine && quiet && looked => due.push(candidate.finding),
                Standing::Cleared | Standing::Released if mine && quiet => {}
                _ => self.candidates.push(candidate),
            }
        }
        if !due.is_empty() {
            due.iter_mut().for_each(|finding| finding.proved = true);
            self.take(due, scope, outcomes);
        }
    }

    fn review(
        &mut self,
        fingerprints: Vec<Fingerprint>,
        mono_ns: u64,
        host: &Host,
        outcomes: &mut Vec<Outcome>,
    ) {
        for fingerprint in fingerprints {
            let Some(open) = self.open.get(&fingerprint) else { continue };
            match open.standing(host) {
                Standing::Cleared => self.close(fingerprint, Reason::Cleared, mono_ns, outcomes),
                Standing::Released => self.close(fingerprint, Reason::Released, mono_ns, outcomes),
                Standing::Stands | Standing::Unknown | Standing::Happened => {}
            }
        }
    }

    /// Puts a consequence into the open violation that implies it.
    fn fold(&mut self, finding: &Finding) -> bool {
        let Some(group) = finding.subject.group() else { return false };
        let fingerprints = self.groups.get(&group.key).cloned().unwrap_or_default();
        for fingerprint in fingerprints {
            let Some(root) = self.open.get_mut(&fingerprint) else { continue };
            if root.subject.group() != Some(group)
                || !root.violation.check.implies.contains(&finding.check.name)
            {
                continue;
            }
            match root.consequences.iter_mut().find(|(check, _)| check.name == finding.check.name) {
                Some((_, subject)) => merge(subject, &finding.subject),
                None => {
                    root.consequences.push((finding.check, finding.subject.clone()));
                    root.violation.implied.push(Implied {
                        check: finding.check.name,
                        mono_ns: finding.mono_ns,
                        summary: finding.summary.clone(),
                    });
                }
            }
            return true;
        }
        false
    }

    /// Opens a violation; `None` if it is open already.
    fn raise(&mut self, finding: Finding, scope: &mut Scope<'_>) -> Option<Fingerprint> {
        let violation = Violation::new(&finding, scope.host, scope.inventory, scope.names, scope.boot_id);
        let fingerprint = violation.fingerprint;
        if let Some(open) = self.open.get_mut(&fingerprint) {
            open.last_ns = finding.mono_ns;
            merge(&mut open.subject, &finding.subject);
            return None;
        }
        if self.open.len() >= MAX_OPEN {
            self.suppressed += 1;
            return None;
        }
        *self.totals.entry((finding.check.name, finding.severity)).or_default() += 1;
        if let Some(group) = finding.subject.group() {
            self.groups.entry(group.key).or_default().push(fingerprint);
        }
        let last_ns = finding.mono_ns;
        let open = Open { violation, subject: finding.subject, consequences: Vec::new(), last_ns };
        self.open.insert(fingerprint, open);
        Some(fingerprint)
    }

    fn close(&mut self, fingerprint: Fingerprint, reason: Reason, mono_ns: u64, outcomes: &mut Vec<Outcome>) {
        let Some(Open { violation, subject, .. }) = self.open.remove(&fingerprint) else { return };
        if let Some(group) = subject.group()
            && let Some(fingerprints) = self.groups.get_mut(&group.key)
        {
            fingerprints.retain(|&other| other != fingerprint);
            if fingerprints.is_empty() {
                self.groups.remove(&group.key);
            }
        }
        outcomes.push(Outcome::Resolved(Resolved {
            check: violation.check,
            severity: violation.severity,
            fingerprint,
            group: violation.group,
            devices: violation.devices,
            reason,
            mono_ns,
            raised_ns: violation.mono_ns,
        }));
    }
}

impl Open {
    fn happened(&self) -> bool {
        matches!(self.subject, Subject::Happened { .. })
    }

    /// A root stands as long as any of its consequences does.
    fn standing(&self, host: &Host) -> Standing {
        let own = standing(self.violation.check, &self.subject, host);
        let consequences = self.consequences.iter().map(|(check, subject)| standing(check, subject, host));
        let holds = |&standing: &Standing| !matches!(standing, Standing::Cleared | Standing::Released);
        std::iter::once(own).chain(consequences).find(holds).unwrap_or(own)
    }
}

fn standing(check: &Spec, subject: &Subject, host: &Host) -> Standing {
    if subject.group().is_some_and(|group| host.group(group).is_none())
        && !matches!(subject, Subject::Happened { .. })
    {
        return Standing::Released;
    }
    super::find(check.name).map_or(Standing::Cleared, |check| check.standing(subject, host))
}

fn is_consequence(check: &Spec) -> bool {
    super::REGISTRY.iter().any(|root| root.spec().implies.contains(&check.name))
}

/// The same again: what was not given back adds up.
fn merge(known: &mut Subject, again: &Subject) {
    match (known, again) {
        (Subject::Leak { uses, .. }, Subject::Leak { uses: more, .. }) => *uses = uses.saturating_add(*more),
        (Subject::Held { .. }, Subject::Held { .. }) => {}
        _ => {}
    }
}
