//! A broken invariant: what a check found, and what is told of it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::event::{Comm, Domain, Key, Name, Ownership};
use crate::inventory::Inventory;
use crate::model::{Actor, Attachment, DomainName, Evidence, Group, GroupRef, Host, Names};

use super::expectation::Expectation;
use super::fingerprint::{Fingerprint, fingerprint};
use super::spec::{Severity, Spec};

/// What a check found.
#[derive(Clone, Debug)]
pub struct Finding {
    pub check: &'static Spec,
    pub severity: Severity,
    pub subject: Subject,
    /// Proved by what was read and seen. Else it is raised only if it still stands at a second look.
    pub proved: bool,
    pub mono_ns: u64,
    /// The device that it is about, where it is about one of the group's.
    pub device: Option<Name>,
    /// The PASIDs that it is about, with what is known of their attachment.
    pub pasids: Vec<(u32, Attachment)>,
    pub domain: Option<Domain>,
    pub triggered_by: Option<Actor>,
    pub summary: String,
    /// The values that it was judged by.
    pub read: Vec<Read>,
    pub confidence: Confidence,
}

impl Finding {
    /// The PASIDs that it is about.
    pub(super) fn numbers(&self) -> Vec<u32> {
        self.pasids.iter().map(|(pasid, _)| *pasid).collect()
    }
}

/// What has to be looked at to say whether it still stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Subject {
    /// PASIDs that should have been gone, each with its domain.
    Leftover { group: GroupRef, pasids: Vec<(u32, Option<Key>)> },
    /// An ownership that should have been given up, or a domain that should have been left.
    Held { group: GroupRef, ownership: Ownership, domain: Option<Key> },
    /// This many uses of a group were not given back.
    Leak { group: GroupRef, uses: u32 },
    /// Something happened: there is nothing to look at.
    Happened { group: GroupRef },
    /// Something happened inside a switch of a RID's domain, which began then (CLOCK_MONOTONIC, ns). What follows from it
    /// happened in the same.
    InSwitch { group: GroupRef, began_ns: u64 },
    /// The same, of no group that is known.
    HappenedToNone,
    /// Something was freed under a group; who had attached its RIDs to it.
    Freed { group: GroupRef, attached_by: Option<Actor> },
    /// The same, to the caches of one entry, in one call.
    Flushed { group: GroupRef, entry: (Option<Key>, u32), call_ns: u64 },
    /// A claim (or the bind of a driver) was refused, while a task of this name held the group, for an owner or for a
    /// driver.
    Refused { group: GroupRef, bind: bool, owned: bool, holder: Option<Comm> },
    /// What a look at a group showed: it stands if a later look shows it again.
    Looked { group: GroupRef, look: u64, fault: Fault },
    /// Two devices, each by its address and generation, with one table.
    Shared { devices: [(Key, u64); 2], table: Key },
    /// The same where the driver hangs the table off the domain: one for the whole host.
    SharedByDesign,
    /// PASIDs of a group were given to userspace, whichever they are now.
    HandedOut { group: GroupRef },
    /// A known defect of the running kernel, by its name in the file of advisories.
    Advisory { id: String },
}

/// What a look at a group can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// PASIDs are attached, and nobody is there who could have them.
    Leftover,
    /// It is held, and nobody is there who could hold it.
    Deserted,
    /// It is not on the domain that it should be on, or on the one that it should not.
    Astray,
    /// The hardware table of this member has PASIDs that the core doesn't know.
    Extra(Key),
    /// The hardware table of this member has a PASID that a call failed to attach.
    Residue(Key, u32),
    /// The core has PASIDs that no member's hardware table has.
    Missing,
    /// Some members have a PASID and others don't.
    Uneven,
    /// Members translate a PASID differently.
    Diverging,
    /// This member is on the blocking domain still, and all of its resets are over.
    Blocked(Key),
    /// This member was reset, and its hardware table has not all PASIDs again.
    Lacking(Key),
    /// Flushes of the domain that this member's RID is on don't reach its device TLB.
    Untagged(Key),
    /// A page request of this member's got no response, and this PASID of its was detached.
    Unanswered(Key, u32),
}

impl Subject {
    /// It is about something that happened, and has no state that could stand.
    pub fn happened(&self) -> bool {
        use Subject::{Flushed, Freed, Happened, HappenedToNone, InSwitch, Refused};
        matches!(
            self,
            Happened { .. }
                | HappenedToNone
                | Freed { .. }
                | Flushed { .. }
                | InSwitch { .. }
                | Refused { .. }
        )
    }

    /// It is of the same group, which is counted otherwise.
    pub(super) fn set_group(&mut self, to: GroupRef) {
        match self {
            Subject::Leftover { group, .. }
            | Subject::Held { group, .. }
            | Subject::Leak { group, .. }
            | Subject::HandedOut { group }
            | Subject::Happened { group }
            | Subject::Refused { group, .. }
            | Subject::InSwitch { group, .. }
            | Subject::Freed { group, .. }
            | Subject::Flushed { group, .. } => *group = to,
            // Looks are counted from the first that whoever judges has seen.
            Subject::Looked { group, look, .. } => (*group, *look) = (to, 0),
            Subject::Shared { .. }
            | Subject::SharedByDesign
            | Subject::Advisory { .. }
            | Subject::HappenedToNone => {}
        }
    }

    pub fn group(&self) -> Option<GroupRef> {
        match self {
            Subject::Leftover { group, .. }
            | Subject::Held { group, .. }
            | Subject::Leak { group, .. }
            | Subject::Looked { group, .. }
            | Subject::HandedOut { group }
            | Subject::Happened { group }
            | Subject::Refused { group, .. }
            | Subject::InSwitch { group, .. }
            | Subject::Freed { group, .. }
            | Subject::Flushed { group, .. } => Some(*group),
            Subject::Shared { .. }
            | Subject::SharedByDesign
            | Subject::Advisory { .. }
            | Subject::HappenedToNone => None,
        }
    }
}

/// Whether a violation still stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Stands,
    /// The state is right again.
    Cleared,
    /// What it was about is gone.
    Released,
    /// The state isn't known.
    Unknown,
    /// It happened, and there is nothing that could stand.
    Happened,
}

/// How it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confidence {
    /// From the results of calls.
    Observed,
    /// From the kernel's own state, read.
    ReadBack,
}

impl Confidence {
    pub fn name(self) -> &'static str {
        match self {
            Confidence::Observed => "observed",
            Confidence::ReadBack => "read-back",
        }
    }
}

/// A value that a verdict rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// `owner_cnt at entry`
    pub what: &'static str,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Count(u32),
    Flag(bool),
    Pasids(Vec<u32>),
    Domain(Option<DomainName>),
    Names(Vec<String>),
    /// Who did it, and when; `None`: somebody whose call was not seen.
    Task(Option<Actor>),
}

/// A PASID of a violation, and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pasid {
    pub pasid: u32,
    pub domain: Option<DomainName>,
    /// `None`: attached before we watched.
    pub attached_by: Option<Actor>,
}

/// A consequence that was folded into its root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Implied {
    pub check: &'static str,
    pub mono_ns: u64,
    pub summary: String,
}

/// An event that led there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub event: Evidence,
    pub domain: Option<DomainName>,
}

/// A broken invariant, with all that a person needs: plain data for the reports.
#[derive(Clone, Debug)]
pub struct Violation {
    pub check: &'static Spec,
    /// As the operator weighs it.
    pub severity: Severity,
    /// As the check itself does.
    pub own_severity: Severity,
    /// By what the operator expects it, if he does.
    pub expected: Option<Arc<Expectation>>,
    pub fingerprint: Fingerprint,
    /// When it was first seen.
    pub mono_ns: u64,
    /// When it was last seen: happened again, or was shown to stand by a look at the kernel's state.
    pub last_ns: u64,
    /// How often it has happened since it was raised. A state that stands is one, however often it is looked at.
    pub count: u64,
    /// The group's number; `None` if it is about no single group.
    pub group: Option<u32>,
    pub devices: Vec<String>,
    pub iommu_driver: Option<String>,
    pub pasids: Vec<Pasid>,
    /// Who attached the RIDs, where it is about them.
    pub rids_attached_by: Option<Actor>,
    pub domain: Option<DomainName>,
    pub summary: String,
    pub triggered_by: Option<Actor>,
    pub implied: Vec<Implied>,
    pub evidence: Vec<Step>,
    pub read: Vec<Read>,
    pub confidence: Confidence,
}

impl Violation {
    /// Who attached the first of the PASIDs whose attach was seen; else who attached the RIDs.
    pub fn attached_by(&self) -> Option<&Actor> {
        let by = self.pasids.iter().find_map(|pasid| pasid.attached_by.as_ref());
        by.or(self.rids_attached_by.as_ref())
    }

    /// Dresses a finding with what else is known of its objects.
    pub(super) fn new(
        finding: &Finding,
        host: &Host,
        inventory: Option<&Inventory>,
        names: &mut Names,
        boot_id: &str,
    ) -> Violation {
        let group = finding.subject.group();
        let group = group.and_then(|group| host.group(group).or_else(|| host.departed(group)));
        let mut devices = devices(&finding.subject, group, host, inventory);
        // It may have left the group, by what is told of it.
        if let Some(device) =
            finding.device.map(|device| device.to_string()).filter(|name| !devices.contains(name))
        {
            devices.push(device);
            devices.sort_unstable();
        }
        let pasids = finding.pasids.iter().map(|(pasid, attachment)| Pasid {
            pasid: *pasid,
            domain: attachment.domain.map(|domain| names.domain(domain)),
            attached_by: attachment.attached_by,
        });
        Violation {
            pasids: pasids.collect(),
            rids_attached_by: match &finding.subject {
                Subject::Freed { attached_by, .. } => *attached_by,
                _ => None,
            },
            check: finding.check,
            severity: finding.severity,
            own_severity: finding.severity,
            expected: None,
            fingerprint: fingerprint(finding, group, &devices, boot_id),
            mono_ns: finding.mono_ns,
            last_ns: finding.mono_ns,
            count: 1,
            group: group.or_else(|| common_group(&finding.subject, host)).map(|group| group.id),
            iommu_driver: match finding.subject {
                Subject::SharedByDesign => only_driver(inventory),
                _ => iommu_driver(&devices, inventory),
            },
            devices,
            domain: finding.domain.map(|domain| names.domain(domain)),
            summary: finding.summary.clone(),
            triggered_by: finding.triggered_by,
            implied: Vec::new(),
            evidence: group.map_or(Vec::new(), |group| steps(group, names)),
            read: finding.read.clone(),
            confidence: finding.confidence,
        }
    }
}

/// The group of both devices of a pair, if it is the same.
fn common_group<'a>(subject: &Subject, host: &'a Host) -> Option<&'a Group> {
    let Subject::Shared { devices: [(one, _), (two, _)], .. } = subject else { return None };
    let group = host.device(*one)?.group?;
    (host.device(*two)?.group == Some(group)).then(|| host.group_by_key(group)).flatten()
}

fn devices(
    subject: &Subject,
    group: Option<&Group>,
    host: &Host,
    inventory: Option<&Inventory>,
) -> Vec<String> {
    let mut names = match (subject, group) {
        (Subject::Shared { devices, .. }, _) => {
            let known = devices.iter().filter_map(|(key, _)| host.device(*key));
            known.map(|device| device.name.to_string()).collect()
        }
        (_, Some(group)) => {
            let mut names = host.names(group);
            let entry = inventory.and_then(|inventory| inventory.group(group.id));
            names.extend(entry.iter().flat_map(|entry| &entry.devices).map(|device| device.name.clone()));
            names
        }
        (_, None) => Vec::new(),
    };
    names.sort_unstable();
    names.dedup();
    names
}

fn iommu_driver(devices: &[String], inventory: Option<&Inventory>) -> Option<String> {
    let groups = inventory.iter().flat_map(|inventory| &inventory.groups);
    let mut entries = groups.flat_map(|group| &group.devices);
    entries.find(|entry| devices.contains(&entry.name))?.iommu_driver.clone()
}

/// The IOMMU driver of the host, if it has no other.
fn only_driver(inventory: Option<&Inventory>) -> Option<String> {
    let mut drivers = inventory?.groups.iter().filter_map(|group| group.iommu_driver());
    let first = drivers.next()?;
    drivers.all(|other| other == first).then(|| first.to_owned())
}

fn steps(group: &Group, names: &mut Names) -> Vec<Step> {
    let steps =
        group.evidence().map(|event| Step { domain: event.domain.map(|domain| names.domain(domain)), event });
    steps.collect()
}
