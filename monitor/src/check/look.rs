//! What the checks that go by a look have in common: what was found is raised if a later look shows it again.

use crate::event::Domain;
use crate::model::{Attachment, Group, Host, Look, Names};

use super::spec::{Severity, Spec};
use super::violation::{Confidence, Fault, Finding, Read, Standing, Subject, Value};

/// What a look showed, as a finding that waits for the next look.
pub(super) struct Shown<'a> {
    pub check: &'static Spec,
    pub severity: Severity,
    pub fault: Fault,
    pub group: &'a Group,
    pub look: &'a Look,
    pub pasids: &'a [u32],
    pub summary: String,
    pub read: Vec<Read>,
}

impl Shown<'_> {
    pub fn finding(self) -> Finding {
        let Shown { check, severity, fault, group, look, pasids, summary, read } = self;
        let device = match fault {
            Fault::Extra(key)
            | Fault::Residue(key, _)
            | Fault::Blocked(key)
            | Fault::Lacking(key)
            | Fault::Untagged(key)
            | Fault::Unanswered(key, _) => look.members.iter().find(|member| member.device == key),
            _ => None,
        };
        Finding {
            check,
            severity,
            subject: Subject::Looked { group: group.reference(), look: look.number, fault },
            proved: false,
            mono_ns: look.mono_ns,
            device: device.map(|member| member.name),
            pasids: pasids.iter().map(|&pasid| (pasid, attachment(look, pasid))).collect(),
            domain: look.domain,
            triggered_by: None,
            summary,
            read,
            confidence: Confidence::ReadBack,
        }
    }
}

fn attachment(look: &Look, pasid: u32) -> Attachment {
    look.attachment(pasid).copied().unwrap_or(Attachment { domain: None, attached_by: None })
}

/// Whether what a look showed stands, by the looks since.
pub(super) fn standing(subject: &Subject, host: &Host, again: impl Fn(&Look, Fault) -> bool) -> Standing {
    let Subject::Looked { group, look: then, fault } = subject else { return Standing::Cleared };
    let Some(group) = host.group(*group) else { return Standing::Released };
    match group.looked.as_deref().filter(|look| look.number > *then) {
        None => Standing::Unknown,
        Some(look) if again(look, *fault) => Standing::Stands,
        Some(_) => Standing::Cleared,
    }
}

/// Who holds the group, as values that a verdict rests on.
pub(super) fn holder(look: &Look) -> Vec<Read> {
    let bound = look.members.iter().filter(|member| member.state.bound);
    vec![
        Read { what: "owner", value: Value::Flag(look.ownership.owner.is_some()) },
        Read { what: "owner_cnt", value: Value::Count(look.ownership.count) },
        Read {
            what: "members with a driver",
            value: Value::Names(bound.map(|member| member.name.to_string()).collect()),
        },
    ]
}

pub(super) fn domain(what: &'static str, domain: Option<Domain>, names: &mut Names) -> Read {
    Read { what, value: Value::Domain(domain.map(|domain| names.domain(domain))) }
}
