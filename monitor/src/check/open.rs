//! A violation that is open, or about to be, and what follows from it.

use crate::model::Host;

use super::spec::Spec;
use super::violation::{Fault, Finding, Implied, Standing, Subject, Violation};

/// How long something that happened stays active, in ns: 15 min.
const HOLD_NS: u64 = 15 * 60 * 1_000_000_000;
/// How long what was found inside a call waits for the call's return at most, in ns. It is told without what follows
/// then: a call that hangs must not hide what it did.
const MAX_WAIT_NS: u64 = 2_000_000_000;

pub(super) struct Open {
    pub violation: Violation,
    pub subject: Subject,
    /// The consequences that were folded in.
    consequences: Vec<Consequence>,
}

struct Consequence {
    check: &'static Spec,
    subject: Subject,
    /// Since it was found the ring was not found empty: what was lost by then may explain it.
    tentative: bool,
}

/// Something that was found, and that may follow from something else.
#[derive(Clone, Copy)]
pub(super) struct Found<'a> {
    pub check: &'static Spec,
    pub subject: &'a Subject,
    pub pasids: &'a [u32],
    pub mono_ns: u64,
    pub summary: &'a str,
}

impl<'a> Found<'a> {
    pub fn of(finding: &'a Finding, pasids: &'a [u32]) -> Found<'a> {
        let Finding { check, subject, mono_ns, summary, .. } = finding;
        Found { check, subject, pasids, mono_ns: *mono_ns, summary }
    }
}

impl Open {
    pub fn new(violation: Violation, subject: Subject) -> Open {
        Open { violation, subject, consequences: Vec::new() }
    }

    /// A look at the kernel's state showed it again at this time.
    pub fn seen_again(&mut self, mono_ns: u64) {
        // The hold time of what happened goes by what happens.
        if !self.happened() {
            self.violation.last_ns = self.violation.last_ns.max(mono_ns);
        }
    }

    /// It happened again.
    pub fn happened_again(&mut self, again: &Open) {
        self.violation.last_ns = self.violation.last_ns.max(again.violation.last_ns);
        self.violation.count = self.violation.count.saturating_add(again.violation.count);
        merge(&mut self.subject, &again.subject);
    }

    /// As something that may follow from something else.
    pub fn found<'a>(&'a self, pasids: &'a [u32]) -> Found<'a> {
        let Violation { check, mono_ns, summary, .. } = &self.violation;
        Found { check, subject: &self.subject, pasids, mono_ns: *mono_ns, summary }
    }

    pub fn pasids(&self) -> Vec<u32> {
        self.violation.pasids.iter().map(|pasid| pasid.pasid).collect()
    }

    /// What was found elsewhere follows from this.
    pub fn implies(&self, found: Found<'_>) -> bool {
        let Found { check, subject, pasids, .. } = found;
        let same = match (&self.subject, subject) {
            (Subject::Shared { devices, .. }, Subject::Looked { fault: Fault::Extra(device), .. }) => {
                devices.iter().any(|(key, _)| key == device)
            }
            // What a call left out has its consequences within that call; what comes later stands for itself.
            (Subject::Flushed { .. }, Subject::Flushed { .. }) => self.subject == *subject,
            (Subject::InSwitch { .. }, Subject::InSwitch { .. } | Subject::Happened { .. }) => {
                self.subject == *subject
            }
            _ => {
                let group = subject.group().is_some() && self.subject.group() == subject.group();
                group && (!is_of_entries(subject) || self.shares_pasid(pasids))
            }
        };
        same && self.violation.check.implies.contains(&check.name)
    }

    /// What becomes of one PASID says nothing of the others.
    fn shares_pasid(&self, pasids: &[u32]) -> bool {
        let known = &self.violation.pasids;
        known.is_empty() || known.iter().any(|known| pasids.contains(&known.pasid))
    }

    pub fn imply(&mut self, found: Found<'_>, tentative: bool) {
        let Found { check, subject, mono_ns, summary, .. } = found;
        match self.consequences.iter_mut().find(|known| known.check.name == check.name) {
            Some(known) => {
                known.tentative &= tentative;
                merge(&mut known.subject, subject);
            }
            None => {
                self.consequences.push(Consequence { check, subject: subject.clone(), tentative });
                let implied = Implied { check: check.name, mono_ns, summary: summary.to_owned() };
                self.violation.implied.push(implied);
            }
        }
    }

    /// The ring was found empty: nothing was lost that could explain what was found.
    pub fn confirm(&mut self) {
        self.consequences.iter_mut().for_each(|consequence| consequence.tentative = false);
    }

    /// Takes back the consequences that something unseen could explain, of those that the ring was not found empty since.
    pub fn take_back(&mut self, explained: impl Fn(&Subject) -> bool) {
        let Open { violation, consequences, .. } = self;
        consequences.retain(|known| {
            let kept = !known.tentative || !explained(&known.subject);
            violation.implied.retain(|implied| kept || implied.check != known.check.name);
            kept
        });
    }

    /// It was found inside a call that has not returned: what that call does yet may follow from it, and is to be told
    /// with it, however soon the ring was found empty.
    pub fn may_imply_more(&self, mono_ns: u64, host: &Host) -> bool {
        let Violation { check, mono_ns: found_ns, triggered_by, .. } = &self.violation;
        let (Some(group), Some(by)) = (self.subject.group(), triggered_by) else { return false };
        !check.implies.is_empty()
            && mono_ns.saturating_sub(*found_ns) < MAX_WAIT_NS
            && host.is_calling(group, by.tid, *found_ns)
    }

    pub fn happened(&self) -> bool {
        self.subject.happened()
    }

    pub fn hold_end(&self) -> u64 {
        self.violation.last_ns.saturating_add(HOLD_NS)
    }

    pub fn own_standing(&self, host: &Host) -> Standing {
        standing(self.violation.check, &self.subject, host)
    }

    /// A root stands as long as any of its consequences does, of those that can stand.
    pub fn standing(&self, host: &Host) -> Standing {
        let own = self.own_standing(host);
        let consequences = self.consequences.iter().filter(|known| !known.subject.happened());
        let consequences = consequences.map(|known| standing(known.check, &known.subject, host));
        let holds = |&standing: &Standing| !matches!(standing, Standing::Cleared | Standing::Released);
        std::iter::once(own).chain(consequences).find(holds).unwrap_or(own)
    }
}

fn standing(check: &Spec, subject: &Subject, host: &Host) -> Standing {
    super::find(check.name).map_or(Standing::Cleared, |check| check.standing(subject, host))
}

/// It is about entries of PASIDs, as a look found them in hardware tables.
fn is_of_entries(subject: &Subject) -> bool {
    let Subject::Looked { fault, .. } = subject else { return false };
    matches!(fault, Fault::Extra(_) | Fault::Missing | Fault::Uneven | Fault::Diverging)
}

pub(super) fn is_consequence(check: &Spec) -> bool {
    super::REGISTRY.iter().any(|root| root.spec().implies.contains(&check.name))
}

/// Roots first, then what follows from them, then what follows from that.
pub(super) fn rank(check: &Spec) -> usize {
    super::REGISTRY.iter().filter(|root| root.spec().implies.contains(&check.name)).count()
}

/// The same again: what was not given back adds up.
fn merge(known: &mut Subject, again: &Subject) {
    if let (Subject::Leak { uses, .. }, Subject::Leak { uses: more, .. }) = (known, again) {
        *uses = uses.saturating_add(*more);
    }
}
