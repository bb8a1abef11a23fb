//! The violations that are open: each is raised once, folds its consequences in, and resolves.

mod carry;
mod weigh;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::event::Key;
use crate::inventory::Inventory;
use crate::model::{GroupRef, Host, Names};

use super::fingerprint::Fingerprint;
use super::open::{Found, Open, is_consequence, rank};
use super::outcome::{Outcome, Reason, Resolved};
use super::settings::Settings;
use super::spec::Severity;
use super::violation::{Finding, Standing, Subject, Violation};
pub(crate) use carry::Carried;
use weigh::Total;

/// How many violations are open at a time; more are counted and not raised.
const MAX_OPEN: usize = 4096;
/// How many findings wait at a time; more are counted and not raised.
const MAX_PENDING: usize = 1024;

/// What the book looks things up in.
pub(crate) struct Scope<'a> {
    pub host: &'a Host,
    pub inventory: Option<&'a Inventory>,
    pub names: &'a mut Names,
    pub boot_id: &'a str,
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
    /// What stood when another process found it, of groups whose state isn't known yet.
    carried: Vec<Open>,
    /// A consequence was folded in since the ring was found empty.
    folded: bool,
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
        self.open.is_empty() && self.pending.is_empty() && self.carried.is_empty()
    }

    /// When there is something to do with no event: at once if a finding waits, else when the hold time of
    /// a violation is over, or the time for which it is expected.
    pub fn deadline(&self) -> Option<u64> {
        let waiting = self.pending.iter().map(|pending| pending.open.violation.last_ns);
        waiting.chain(self.holds.first().map(|&(end, _)| end)).chain(self.expected_until).min()
    }

    /// Puts what follows from an open violation into it, before what the same event ended is closed; the rest is given
    /// back.
    pub fn fold_into_open(&mut self, mut findings: Vec<Finding>) -> Vec<Finding> {
        findings.retain(|finding| !self.fold(Found::of(finding, &finding.numbers()), true));
        findings
    }

    /// Takes in what the checks found by one event: roots first, so that consequences find them.
    pub fn take(&mut self, mut findings: Vec<Finding>, scope: &mut Scope<'_>) {
        findings.sort_by_key(|finding| rank(finding.check));
        for finding in findings {
            if self.fold(Found::of(&finding, &finding.numbers()), true) {
                continue;
            }
            if self.pending.len() >= MAX_PENDING {
                self.suppressed += 1;
                continue;
            }
            let violation = Violation::new(&finding, scope.host, scope.inventory, scope.names, scope.boot_id);
            if !finding.proved && self.waits_or_stands(violation.fingerprint, finding.mono_ns) {
                continue;
            }
            let open = Open::new(violation, finding.subject);
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
        self.take_back(|subject| subject.group() == Some(group));
    }

    /// Something went unseen that could explain what was found of devices of several groups.
    pub fn withdraw_pairs(&mut self) {
        self.pending.retain(|pending| pending.open.subject.group().is_some());
        self.take_back(|subject| subject.group().is_none());
    }

    /// Something was lost that could explain what was found.
    pub fn withdraw_all(&mut self) {
        self.pending.clear();
        self.take_back(|_| true);
    }

    /// Consequences that were folded in since the ring was found empty are no surer than what waits.
    fn take_back(&mut self, explained: impl Fn(&Subject) -> bool) {
        if self.folded {
            let waiting = self.pending.iter_mut().map(|pending| &mut pending.open);
            self.open.values_mut().chain(waiting).for_each(|open| open.take_back(&explained));
        }
    }

    /// The ring was found empty: what was found is raised, if it is proved or still stands.
    pub fn raise(&mut self, mono_ns: u64, host: &Host, outcomes: &mut Vec<Outcome>) {
        if std::mem::take(&mut self.folded) {
            let waiting = self.pending.iter_mut().map(|pending| &mut pending.open);
            self.open.values_mut().chain(waiting).for_each(Open::confirm);
        }
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
            let pasids = open.pasids();
            let found = open.found(&pasids);
            let root = kept.iter_mut().find(|root| root.implies(found));
            match root {
                Some(root) => root.imply(found, false),
                None if self.fold(found, false) => {}
                None => kept.push(open),
            }
        }
        kept
    }

    /// It is known already, and was seen again at this time.
    fn waits_or_stands(&mut self, fingerprint: Fingerprint, mono_ns: u64) -> bool {
        if let Some(open) = self.open.get_mut(&fingerprint) {
            open.seen_again(mono_ns);
            return true;
        }
        let mut waiting = self.pending.iter().map(|pending| pending.open.violation.fingerprint);
        waiting.any(|other| other == fingerprint)
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
    fn fold(&mut self, found: Found<'_>, tentative: bool) -> bool {
        if !is_consequence(found.check) {
            return false;
        }
        let waiting =
            self.pending.iter_mut().filter(|pending| pending.proved).map(|pending| &mut pending.open);
        let mut roots = self.open.values_mut().chain(waiting);
        let Some(root) = roots.find(|root| root.implies(found)) else { return false };
        root.imply(found, tentative);
        self.folded |= tentative;
        true
    }

    /// Opens a violation; `None` if it is open already, or too many are.
    fn open_one(&mut self, mut open: Open, mono_ns: u64, outcomes: &mut Vec<Outcome>) -> Option<Fingerprint> {
        let fingerprint = open.violation.fingerprint;
        if let Some(known) = self.open.get_mut(&fingerprint) {
            let held = self.holds.remove(&(known.hold_end(), fingerprint));
            known.happened_again(&open);
            if held {
                self.holds.insert((known.hold_end(), fingerprint));
            }
            return None;
        }
        if self.open.len() >= MAX_OPEN {
            self.suppressed += 1;
            return None;
        }
        self.weigh_and_count(&mut open.violation, mono_ns);
        self.file_under(&open);
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
            last_ns: violation.last_ns,
            count: violation.count,
        }));
    }
}
