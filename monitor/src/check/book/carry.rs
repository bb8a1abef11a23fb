//! What stands, for the process after this one, where the events that gave it away are no more at hand: enough to judge
//! whether it still stands, and to say that it doesn't. What it was concluded from is left behind.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::event::Key;
use crate::model::{Actor, Group, GroupRef, Host};

use super::super::fingerprint::Fingerprint;
use super::super::open::Open;
use super::super::outcome::{Outcome, Reason};
use super::super::spec::Severity;
use super::super::violation::{Confidence, Implied, Pasid, Subject, Violation};
use super::super::{Spec, find};
use super::{Book, MAX_OPEN, weigh::weigh};

/// A violation that was told and stands. The addresses in it are of this boot, and never leave the kernel's memory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Carried {
    check: String,
    severity: String,
    fingerprint: u64,
    mono_ns: u64,
    last_ns: u64,
    count: u64,
    group: Option<u32>,
    devices: Vec<String>,
    iommu_driver: Option<String>,
    pasids: Vec<(u32, Option<Actor>)>,
    rids_attached_by: Option<Actor>,
    triggered_by: Option<Actor>,
    summary: String,
    implied: Vec<(String, u64, String)>,
    observed: bool,
    subject: Subject,
}

impl Carried {
    fn of(open: &Open) -> Carried {
        let violation = &open.violation;
        let implied = violation.implied.iter();
        Carried {
            check: violation.check.name.into(),
            severity: violation.own_severity.name().into(),
            fingerprint: violation.fingerprint.0,
            mono_ns: violation.mono_ns,
            last_ns: violation.last_ns,
            count: violation.count,
            group: violation.group,
            devices: violation.devices.clone(),
            iommu_driver: violation.iommu_driver.clone(),
            pasids: violation.pasids.iter().map(|pasid| (pasid.pasid, pasid.attached_by)).collect(),
            rids_attached_by: violation.rids_attached_by,
            triggered_by: violation.triggered_by,
            summary: violation.summary.clone(),
            implied: implied.map(|it| (it.check.into(), it.mono_ns, it.summary.clone())).collect(),
            observed: violation.confidence == Confidence::Observed,
            subject: open.subject.clone(),
        }
    }

    /// `None` where it is of a check that there is no more.
    fn open(self) -> Option<Open> {
        let spec = |name: &str| -> Option<&'static Spec> { Some(find(name)?.spec()) };
        let severity = Severity::named(&self.severity)?;
        let implied = self.implied.into_iter();
        let pasid = |(pasid, attached_by)| Pasid { pasid, domain: None, attached_by };
        let violation = Violation {
            check: spec(&self.check)?,
            severity,
            own_severity: severity,
            expected: None,
            fingerprint: Fingerprint(self.fingerprint),
            mono_ns: self.mono_ns,
            last_ns: self.last_ns,
            count: self.count,
            group: self.group,
            devices: self.devices,
            iommu_driver: self.iommu_driver,
            pasids: self.pasids.into_iter().map(pasid).collect(),
            rids_attached_by: self.rids_attached_by,
            domain: None,
            summary: self.summary,
            triggered_by: self.triggered_by,
            implied: implied
                .filter_map(|(check, mono_ns, summary)| {
                    Some(Implied { check: spec(&check)?.name, mono_ns, summary })
                })
                .collect(),
            evidence: Vec::new(),
            read: Vec::new(),
            confidence: if self.observed { Confidence::Observed } else { Confidence::ReadBack },
        };
        Some(Open::new(violation, self.subject))
    }
}

impl Book {
    /// What stands, and what was taken over and could not be judged yet.
    pub fn carried(&self) -> Vec<Carried> {
        self.open.values().chain(&self.carried).map(Carried::of).collect()
    }

    /// Takes over what stood. What is about the state of a group waits until that is known.
    pub fn carry(&mut self, carried: Vec<Carried>, mono_ns: u64) {
        for mut open in carried.into_iter().filter_map(Carried::open) {
            let fingerprint = open.violation.fingerprint;
            let known = self.carried.iter().any(|other| other.violation.fingerprint == fingerprint);
            if known
                || self.open.contains_key(&fingerprint)
                || self.settings.off.contains(open.violation.check.name)
            {
                continue;
            }
            weigh(&self.settings, &mut open.violation, mono_ns);
            if open.happened() || open.subject.group().is_none() {
                self.reopen(open);
            } else if self.carried.len() < MAX_OPEN {
                self.carried.push(open);
            }
        }
    }

    /// What stood at this time, for whoever was there then and saw more: what else is open here was told to be over, or
    /// never was told.
    pub fn stands(&mut self, carried: Vec<Carried>, host: &Host, mono_ns: u64) {
        let stood: BTreeSet<u64> = carried.iter().map(|carried| carried.fingerprint).collect();
        let over = self.open.keys().filter(|fingerprint| !stood.contains(&fingerprint.0));
        for fingerprint in over.copied().collect::<Vec<_>>() {
            self.close(fingerprint, Reason::Cleared, mono_ns, &mut Vec::new());
        }
        self.carried.retain(|open| stood.contains(&open.violation.fingerprint.0));
        self.carry(carried, mono_ns);
        // Of a group that is known already nothing says so again.
        let waiting = self.carried.iter().filter_map(|open| host.group_by_key(open.subject.group()?.key));
        let known = waiting.filter(|group| group.synced).map(Group::reference);
        for group in known.collect::<Vec<_>>() {
            self.reopen_of(group);
        }
    }

    /// The state of this group is known now, whose generation may be counted otherwise than by whoever found it.
    pub fn reopen_of(&mut self, group: GroupRef) {
        let is_of = |open: &mut Open| open.subject.group().is_some_and(|other| other.key == group.key);
        for mut open in self.carried.extract_if(.., is_of).collect::<Vec<_>>() {
            open.subject.set_group(group);
            if !self.open.contains_key(&open.violation.fingerprint) {
                self.reopen(open);
            }
        }
    }

    /// There is no group of this number any more.
    pub fn release_carried(&mut self, group: u32, mono_ns: u64, outcomes: &mut Vec<Outcome>) {
        let is_of = |open: &mut Open| open.violation.group == Some(group);
        for open in self.carried.extract_if(.., is_of).collect::<Vec<_>>() {
            let fingerprint = open.violation.fingerprint;
            self.reopen(open);
            self.close(fingerprint, Reason::Released, mono_ns, outcomes);
        }
    }

    fn reopen(&mut self, open: Open) {
        let fingerprint = open.violation.fingerprint;
        if self.open.len() < MAX_OPEN {
            self.file_under(&open);
            self.open.insert(fingerprint, open);
        }
    }

    /// Where it is found: by the end of its hold time, or by its group.
    pub(super) fn file_under(&mut self, open: &Open) {
        let fingerprint = open.violation.fingerprint;
        match open.subject.group().map(|group: GroupRef| -> Key { group.key }) {
            _ if open.happened() => drop(self.holds.insert((open.hold_end(), fingerprint))),
            Some(key) => self.groups.entry(key).or_default().push(fingerprint),
            None => {}
        }
    }
}
