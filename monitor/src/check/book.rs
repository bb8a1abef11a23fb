//! The violations that are open: each is raised once, folds its consequences in, and resolves.

mod weigh;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::event::Key;
use crate::inventory::Inventory;
use crate::model::{GroupRef, Host, Names};

use super::outcome::{Outcome, Reason, Resolved};
use super::settings::Settings;
use super::spec::{Severity, Spec};
use super::violation::{Fault, Finding, Fingerprint, Implied, Standing, Subject, Violation};
use weigh::Total;

/// How long something that happened stays active, in ns: 15 min.
const HOLD_NS: u64 = 15 * 60 * 1_000_000_000;
/// How many violations are open at a time; more are counted and not raised.
const MAX_OPEN: usize = 4096;
/// How many findings wait at a time; more are counted and not raised.
const MAX_PENDING: usize = 1024;
/// How long what was found inside a call waits for the call's return at most, in ns. It is told without what follows
/// then: a call that hangs must not hide what it did.
const MAX_WAIT_NS: u64 = 2_000_000_000;

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

/// What was found and is not told yet. It waits until the ring was found empty, with no record on its way: by then
/// whatever could explain it has been seen, or was told as lost. What other checks may follow from waits for the return
/// of its call, too: the ring may be found empty in the middle of a call.
struct Pending {
    open: Open,
    /// Else it must still stand when it is looked at again.
    proved: bool,
}

/// The open violations and what was raised so far.
#[derive(Default)]
pub(crate) struct Book {
    open: BTreeMap<Fingerprint, Open>,
    /// Those that are about the state of a group.
    groups: HashMap<Key, Vec<Fingerprint>>,
    /// Those that are about something that happened, by the end of their hold time.
    holds: BTreeSet<(u64, Fingerprint)>,
    pending: Vec<Pending>,
    totals: BTreeMap<(&'static str, Severity), Total>,
    suppressed: u64,
    /// What the operator says of them.
    settings: Arc<Settings>,
    /// When the first of those that are expected is so no more, at the earliest.
    expected_until: Option<u64>,
}

impl Book {
    pub fn open(&self) -> impl Iterator<Item = &Violation> {
        self.open.values().map(|open| &open.violation)
    }

    /// How many were not raised because too many were open.
    pub fn suppressed(&self) -> u64 {
        self.suppressed
    }

    /// Nothing is open and nothing waits: there is nothing to look at again.
    pub fn is_idle(&self) -> bool {
        self.open.is_empty() && self.pending.is_empty()
    }

    /// When there is something to do with no event: at once if a finding waits, else when the hold time of
    /// a violation is over, or the time for which it is expected.
    pub fn deadline(&self) -> Option<u64> {
        let waiting = self.pending.iter().map(|pending| pending.open.last_ns);
        waiting.chain(self.holds.first().map(|&(end, _)| end)).chain(self.expected_until).min()
    }

    /// Puts what follows from an open violation into it, before what the same event ended is closed; the rest is given
    /// back.
    pub fn fold_into_open(&mut self, mut findings: Vec<Finding>) -> Vec<Finding> {
        findings.retain(|found| !self.fold(found.check, &found.subject, found.mono_ns, &found.summary));
        findings
    }

    /// Takes in what the checks found by one event: roots first, so that consequences find them.
    pub fn take(&mut self, mut findings: Vec<Finding>, scope: &mut Scope<'_>) {
        findings.sort_by_key(|finding| rank(finding.check));
        for finding in findings {
            if self.fold(finding.check, &finding.subject, finding.mono_ns, &finding.summary) {
                continue;
            }
            if self.pending.len() >= MAX_PENDING {
                self.suppressed += 1;
                continue;
            }
            let violation = Violation::new(&finding, scope.host, scope.inventory, scope.names, scope.boot_id);
            if !finding.proved && self.waits_or_stands(violation.fingerprint) {
                continue;
            }
            let last_ns = finding.mono_ns;
            let open = Open { violation, subject: finding.subject, consequences: Vec::new(), last_ns };
            self.pending.push(Pending { open, proved: finding.proved });
        }
    }

    /// Somebody has taken hold of the group since it was read: what is not proved can't be told from that. (What a look
    /// found is for the next look to say.)
    pub fn withdraw_unproved(&mut self, group: GroupRef) {
        let by_look = |open: &Open| matches!(open.subject, Subject::Looked { .. });
        self.pending.retain(|pending| {
            pending.proved || by_look(&pending.open) || pending.open.subject.group() != Some(group)
        });
    }

    /// Something went unseen in the group that could explain what was found there.
    pub fn withdraw(&mut self, group: GroupRef) {
        self.pending.retain(|pending| pending.open.subject.group() != Some(group));
    }

    /// Something went unseen that could explain what was found of devices of several groups.
    pub fn withdraw_pairs(&mut self) {
        self.pending.retain(|pending| pending.open.subject.group().is_some());
    }

    /// Something was lost that could explain what was found.
    pub fn withdraw_all(&mut self) {
        self.pending.clear();
    }

    /// The ring was found empty: what was found is raised, if it is proved or still stands.
    pub fn raise(&mut self, mono_ns: u64, host: &Host, outcomes: &mut Vec<Outcome>) {
        let mut ready = Vec::new();
        for pending in std::mem::take(&mut self.pending) {
            let group = pending.open.subject.group();
            let quiet = group.and_then(|group| host.group(group)).is_none_or(|group| group.quiescent());
            match pending.open.own_standing(host) {
                _ if pending.proved && pending.open.may_imply_more(mono_ns, host) => {
                    self.pending.push(pending)
                }
                _ if pending.proved => ready.push(pending.open),
                Standing::Stands if quiet => ready.push(pending.open),
                Standing::Stands | Standing::Unknown => self.pending.push(pending),
                Standing::Cleared | Standing::Released | Standing::Happened => {}
            }
        }
        let mut raised = Vec::new();
        for open in self.fold_ready(ready) {
            raised.extend(self.open_one(open, mono_ns, outcomes));
        }
        self.review(raised, mono_ns, host, outcomes);
    }

    /// What was proved at the same time: consequences go into their roots. A consequence that had to be looked at
    /// again may have been found before its root.
    fn fold_ready(&mut self, mut ready: Vec<Open>) -> Vec<Open> {
        ready.sort_by_key(|open| rank(open.violation.check));
        let mut kept: Vec<Open> = Vec::new();
        for open in ready {
            let Violation { check, mono_ns, ref summary, .. } = open.violation;
            let root = kept.iter_mut().find(|root| root.implies(check, &open.subject));
            match root {
                Some(root) => root.imply(check, &open.subject, mono_ns, summary),
                None if self.fold(check, &open.subject, mono_ns, summary) => {}
                None => kept.push(open),
            }
        }
        kept
    }

    fn waits_or_stands(&self, fingerprint: Fingerprint) -> bool {
        let mut waiting = self.pending.iter().map(|pending| pending.open.violation.fingerprint);
        self.open.contains_key(&fingerprint) || waiting.any(|other| other == fingerprint)
    }

    /// The groups of what waits for another look.
    pub fn waiting(&self) -> impl Iterator<Item = GroupRef> {
        let subjects = self.pending.iter().map(|pending| &pending.open.subject);
        subjects.filter(|subject| matches!(subject, Subject::Looked { .. })).filter_map(Subject::group)
    }

    /// Looks again at what is open on a group.
    pub fn review_group(&mut self, group: GroupRef, mono_ns: u64, host: &Host, outcomes: &mut Vec<Outcome>) {
        let fingerprints = self.groups.get(&group.key).cloned().unwrap_or_default();
        self.review(fingerprints, mono_ns, host, outcomes);
    }

    /// Looks again at what is open and about no single group.
    pub fn review_devices(&mut self, mono_ns: u64, host: &Host, outcomes: &mut Vec<Outcome>) {
        let without = self.open.iter().filter(|(_, open)| open.subject.group().is_none());
        let fingerprints = without.map(|(&fingerprint, _)| fingerprint).collect();
        self.review(fingerprints, mono_ns, host, outcomes);
    }

    /// The hold time of what happened is over.
    pub fn expire(&mut self, mono_ns: u64, outcomes: &mut Vec<Outcome>) {
        while let Some(&(end, fingerprint)) = self.holds.first()
            && end <= mono_ns
        {
            self.holds.pop_first();
            self.close(fingerprint, Reason::Expired, mono_ns, outcomes);
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

    /// Puts a consequence into the violation that implies it, be it open or about to be.
    fn fold(&mut self, check: &'static Spec, subject: &Subject, mono_ns: u64, summary: &str) -> bool {
        if !is_consequence(check) {
            return false;
        }
        let waiting =
            self.pending.iter_mut().filter(|pending| pending.proved).map(|pending| &mut pending.open);
        let mut roots = self.open.values_mut().chain(waiting);
        let Some(root) = roots.find(|root| root.implies(check, subject)) else { return false };
        root.imply(check, subject, mono_ns, summary);
        true
    }

    /// Opens a violation; `None` if it is open already, or too many are.
    fn open_one(&mut self, mut open: Open, mono_ns: u64, outcomes: &mut Vec<Outcome>) -> Option<Fingerprint> {
        let fingerprint = open.violation.fingerprint;
        if let Some(known) = self.open.get_mut(&fingerprint) {
            if self.holds.remove(&(known.hold_end(), fingerprint)) {
                self.holds.insert((open.hold_end(), fingerprint));
            }
            known.last_ns = open.last_ns;
            merge(&mut known.subject, &open.subject);
            return None;
        }
        if self.open.len() >= MAX_OPEN {
            self.suppressed += 1;
            return None;
        }
        self.weigh_and_count(&mut open.violation, mono_ns);
        match open.subject.group() {
            _ if open.happened() => drop(self.holds.insert((open.hold_end(), fingerprint))),
            Some(group) => self.groups.entry(group.key).or_default().push(fingerprint),
            None => {}
        }
        outcomes.push(Outcome::Raised(Box::new(open.violation.clone())));
        self.open.insert(fingerprint, open);
        Some(fingerprint)
    }

    fn close(&mut self, fingerprint: Fingerprint, reason: Reason, mono_ns: u64, outcomes: &mut Vec<Outcome>) {
        let Some(open) = self.open.remove(&fingerprint) else { return };
        self.holds.remove(&(open.hold_end(), fingerprint));
        let Open { violation, subject, .. } = open;
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
    /// What was found elsewhere follows from this.
    fn implies(&self, check: &Spec, subject: &Subject) -> bool {
        let same = match (&self.subject, subject) {
            (Subject::Shared { devices, .. }, Subject::Looked { fault: Fault::Extra(device), .. }) => {
                devices.iter().any(|(key, _)| key == device)
            }
            // What a call left out has its consequences within that call; what comes later stands for itself.
            (Subject::Flushed { .. }, Subject::Flushed { .. }) => self.subject == *subject,
            (Subject::InSwitch { .. }, Subject::InSwitch { .. } | Subject::Happened { .. }) => {
                self.subject == *subject
            }
            _ => subject.group().is_some() && self.subject.group() == subject.group(),
        };
        same && self.violation.check.implies.contains(&check.name)
    }

    fn imply(&mut self, check: &'static Spec, subject: &Subject, mono_ns: u64, summary: &str) {
        match self.consequences.iter_mut().find(|(known, _)| known.name == check.name) {
            Some((_, known)) => merge(known, subject),
            None => {
                self.consequences.push((check, subject.clone()));
                let implied = Implied { check: check.name, mono_ns, summary: summary.to_owned() };
                self.violation.implied.push(implied);
            }
        }
    }

    /// It was found inside a call that has not returned: what that call does yet may follow from it, and is to be told
    /// with it, however soon the ring was found empty.
    fn may_imply_more(&self, mono_ns: u64, host: &Host) -> bool {
        let Violation { check, mono_ns: found_ns, triggered_by, .. } = &self.violation;
        let (Some(group), Some(by)) = (self.subject.group(), triggered_by) else { return false };
        !check.implies.is_empty()
            && mono_ns.saturating_sub(*found_ns) < MAX_WAIT_NS
            && host.is_calling(group, by.tid, *found_ns)
    }

    fn happened(&self) -> bool {
        self.subject.happened()
    }

    fn hold_end(&self) -> u64 {
        self.last_ns.saturating_add(HOLD_NS)
    }

    fn own_standing(&self, host: &Host) -> Standing {
        standing(self.violation.check, &self.subject, host)
    }

    /// A root stands as long as any of its consequences does, of those that can stand.
    fn standing(&self, host: &Host) -> Standing {
        let own = self.own_standing(host);
        let consequences = self.consequences.iter().filter(|(_, subject)| !subject.happened());
        let consequences = consequences.map(|(check, subject)| standing(check, subject, host));
        let holds = |&standing: &Standing| !matches!(standing, Standing::Cleared | Standing::Released);
        std::iter::once(own).chain(consequences).find(holds).unwrap_or(own)
    }
}

fn standing(check: &Spec, subject: &Subject, host: &Host) -> Standing {
    super::find(check.name).map_or(Standing::Cleared, |check| check.standing(subject, host))
}

fn is_consequence(check: &Spec) -> bool {
    super::REGISTRY.iter().any(|root| root.spec().implies.contains(&check.name))
}

/// Roots first, then what follows from them, then what follows from that.
fn rank(check: &Spec) -> usize {
    super::REGISTRY.iter().filter(|root| root.spec().implies.contains(&check.name)).count()
}

/// The same again: what was not given back adds up.
fn merge(known: &mut Subject, again: &Subject) {
    if let (Subject::Leak { uses, .. }, Subject::Leak { uses: more, .. }) = (known, again) {
        *uses = uses.saturating_add(*more);
    }
}
