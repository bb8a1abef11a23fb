//! `ownership-conflict`: a claim or a driver's bind was refused, because somebody holds the group.

use monitor_ebpf::wire::Hook;

use crate::event::Event;
use crate::model::{Actor, Attachment, Group, Holder, Host, Kind, Operation, Overlap, Transition};

use super::pasid_left_on_release::list;
use super::spec::{Needs, Severity, Spec};
use super::violation::{Confidence, Finding, Read, Standing, Subject, Value};
use super::{Case, Check};

pub(super) struct OwnershipConflict;

/// What the core refuses with where somebody holds the group (`iommu_group_claim_dma_owner`,
/// `iommu_device_claim_dma_owner`, `__iommu_take_dma_ownership`, `iommu_device_use_default_domain`; 6.1 to 7.3). Other
/// errors say something of the device or the caller.
const REFUSALS: [(i32, &str); 2] = [(-1, "EPERM"), (-16, "EBUSY")];

static SPEC: Spec = Spec {
    name: "ownership-conflict",
    section: "Ownership",
    severities: &[Severity::Info],
    invariant: "A claim of a group, or the bind of a driver to one of its devices, is not refused because somebody else \
                holds the group. (A report: refusing is what the kernel has to do then.)",
    why: "\"Group is not viable\", \"Device or resource busy\": a guest doesn't start or a driver doesn't bind, and the \
          kernel doesn't say who is in the way. This says who holds the group, and since when.",
    needs: Needs {
        core_pasids: false,
        required: &[],
        required_if_present: &[],
        any_of: &[Hook::ClaimGroup, Hook::ClaimDevice, Hook::UseDefault],
        degrades: &[
            (Hook::ClaimGroup, "VFIO's claims of a group are not seen"),
            (Hook::ClaimDevice, "iommufd's claims of a device are not seen"),
            (Hook::UseDefault, "binds of drivers are not seen"),
            (Hook::ReleaseGroup, "who holds a group is told by the claims that were seen alone"),
            (Hook::ReleaseDevice, "who holds a group is told by the claims that were seen alone"),
            (Hook::UnuseDefault, "who holds a group is told by the binds that were seen alone"),
        ],
    },
    judges: &[
        Kind::Returned(Hook::ClaimGroup),
        Kind::Returned(Hook::ClaimDevice),
        Kind::Returned(Hook::UseDefault),
    ],
    by_look: None,
    implies: &[],
    traps: &[
        "Who tries again is told once: there is one report for a holder (by the name of its task) and a kind of call, \
         for as long as it goes on and 15 minutes more.",
        "An error of another kind (no memory, a device that must keep its direct mapping, a probe put off) is no \
         conflict.",
        "Where somebody took hold of the group or let go at the same time, it is not said who was in the way.",
        "Who took hold before we watched, or while events were lost, has no name.",
    ],
    seen_in: &["\"vfio: group N is not viable\": threads on the mailing lists of VFIO and of distributions"],
    what_to_do: &[
        "Nothing is broken: the kernel keeps two owners apart.",
        "\"held by\" names who claimed the group, or which device of it has a driver. All devices of a group go to one \
         owner: unbind the drivers of the others, or bind them to vfio-pci as well.",
        "If nobody holds it and a PASID or a strange domain is in the way, whoever let the group go left that behind: \
         look for a violation of pasid-left-on-release, ownership-leaked or domain-off-default.",
    ],
};

/// Who was in the way.
enum Obstacle {
    /// An owner: who claimed it first, where that was seen.
    Owner(Option<Holder>),
    /// Drivers: the first that was seen to bind.
    Drivers(Option<Holder>),
    /// Nobody, but these PASIDs.
    Pasids(Vec<(u32, Attachment)>),
    /// Nobody, but it is not on its default domain.
    Domain,
    /// Others took hold or let go at the same time.
    Racing,
}

impl Check for OwnershipConflict {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn judge(&self, transition: &Transition, case: &mut Case<'_>) {
        let Transition::Returned { group: reference, operation, end } = transition else { return };
        let Some(errno) = refused(end).filter(|_| operation.synced) else { return };
        let Some(group) = case.host.group(*reference) else { return };
        let Some(obstacle) = obstacle(operation, end, group) else { return };
        let ownership = operation.begin.group.and_then(|group| group.ownership);
        let held_by = obstacle.holder().map(|holder| holder.by);
        let bind = operation.hook == Hook::UseDefault;
        let actor = operation.actor();
        let mut read = vec![
            Read { what: "owner_cnt on entry", value: Value::Count(ownership.map_or(0, |held| held.count)) },
            Read {
                what: "owner on entry",
                value: Value::Flag(ownership.is_some_and(|held| held.owner.is_some())),
            },
        ];
        if matches!(obstacle, Obstacle::Owner(_) | Obstacle::Drivers(_)) {
            read.push(Read { what: "held by", value: Value::Task(held_by) });
        }
        case.findings.push(Finding {
            check: &SPEC,
            severity: SPEC.severity(),
            subject: Subject::Refused {
                group: *reference,
                bind,
                owned: matches!(obstacle, Obstacle::Owner(_)),
                holder: held_by.map(|by| by.comm),
            },
            proved: true,
            mono_ns: end.mono_ns,
            device: None,
            domain: operation.begin.group.and_then(|group| group.domain),
            summary: format!("{} ({errno}): {}", tried(operation, &actor, group.id), obstacle.told()),
            triggered_by: Some(actor),
            read,
            pasids: match obstacle {
                Obstacle::Pasids(pasids) => pasids,
                _ => Vec::new(),
            },
            confidence: Confidence::ReadBack,
        });
    }

    fn standing(&self, _: &Subject, _: &Host) -> Standing {
        Standing::Happened
    }
}

/// The error of a call that was refused because of who holds the group.
fn refused(end: &Event) -> Option<&'static str> {
    REFUSALS.iter().find(|(errno, _)| end.ret == Some(*errno)).map(|(_, name)| *name)
}

/// Who was in the way; `None`: nobody, so it was refused for another reason.
fn obstacle(operation: &Operation, end: &Event, group: &Group) -> Option<Obstacle> {
    if operation.overlap.ownership() {
        return Some(Obstacle::Racing);
    }
    let entry = operation.entry()?;
    let ownership = entry.ownership?;
    let first = |claims: bool| group.holders(claims).next().copied();
    if ownership.count > 0 {
        return Some(match ownership.owner {
            Some(_) => Obstacle::Owner(first(true)),
            None => Obstacle::Drivers(first(false)),
        });
    }
    let there = entry.array.as_ref().map_or(Vec::new(), |array| group.attachments(array));
    let left: Vec<_> = there.into_iter().filter(|(pasid, _)| !operation.overlap.pasid(*pasid)).collect();
    if !left.is_empty() {
        return Some(Obstacle::Pasids(left));
    }
    if operation.overlap != Overlap::default() {
        return Some(Obstacle::Racing);
    }
    let (domain, default) = (entry.domain?, entry.default_domain?);
    if domain.key != default.key {
        return Some(Obstacle::Domain);
    }
    // Of a switch of the RIDs nothing but its return is seen, which may come later than this one.
    let after = end.group.as_ref().and_then(|group| group.domain)?;
    (after.key != default.key).then_some(Obstacle::Racing)
}

impl Obstacle {
    fn holder(&self) -> Option<&Holder> {
        match self {
            Obstacle::Owner(holder) | Obstacle::Drivers(holder) => holder.as_ref(),
            Obstacle::Pasids(_) | Obstacle::Domain | Obstacle::Racing => None,
        }
    }

    fn told(&self) -> String {
        let who = |by: &Actor| format!("{}[{}]", by.comm, by.tid);
        match self {
            Obstacle::Owner(Some(holder)) => format!("{} has claimed it", who(&holder.by)),
            Obstacle::Owner(None) => "it was claimed by a call that was not seen".into(),
            Obstacle::Drivers(Some(Holder { device: Some(device), by, .. })) => {
                format!("{device} has a driver, bound by {}", who(by))
            }
            Obstacle::Drivers(Some(holder)) => format!("a driver is bound, by {}", who(&holder.by)),
            Obstacle::Drivers(None) => "a driver is bound, by a call that was not seen".into(),
            Obstacle::Pasids(left) => {
                let numbers: Vec<u32> = left.iter().map(|(pasid, _)| *pasid).collect();
                format!("nobody holds it, but {} is still attached", list(&numbers))
            }
            Obstacle::Domain => "nobody holds it, but it is not on its default domain".into(),
            Obstacle::Racing => "others took hold of it, or let go, at the same time".into(),
        }
    }
}

fn tried(operation: &Operation, actor: &Actor, group: u32) -> String {
    let who = format!("{}[{}]", actor.comm, actor.tid);
    let device = operation.begin.device.map_or_else(|| "a device".into(), |device| device.name.to_string());
    match operation.hook {
        Hook::UseDefault => format!("{who} could not bind a driver to {device} of group {group}"),
        Hook::ClaimDevice => format!("{who} could not claim {device} of group {group}"),
        _ => format!("{who} could not claim group {group}"),
    }
}
