//! SVA bonds: how often each process is bound to a group, as far as its binds and unbinds were seen.

use std::collections::btree_map::Entry;
use std::num::NonZeroU32;

use monitor_ebpf::wire::{Hook, Phase};

use crate::event::{Event, Key};

use super::group::{Actor, Attachment, Group};
use super::host::{GroupRef, Host};
use super::lifetime::Lifetimes;
use super::order::Operation;
use super::transition::Transition;

/// What binds a process to a group, however often. (`struct iommu_sva`: one for all of them from 6.8 on, one each before.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bond {
    /// Who attached it is who made the bond.
    pub pasid: Option<NonZeroU32>,
    /// Binds less unbinds; `None`: not known, since the first bind was not seen, or calls overlapped.
    pub count: Option<NonZeroU32>,
}

/// How many SVA bonds a group keeps account of.
const MAX_BONDS: usize = 65_536;

/// A bond that was unbound for the last time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    pub group: GroupRef,
    pub pasid: Option<u32>,
    /// What was known of its attachment.
    pub attachment: Option<Attachment>,
    pub by: Actor,
}

/// Bonds whose end was seen, of which the address is kept; beyond it all are forgotten.
const MAX_ENDED: usize = 4096;
/// A bind or an unbind of a process returned.
pub(super) fn settle_bond(group: &mut Group, operation: Option<&Operation>, event: &Event) {
    let mm = event.mm.or(operation.and_then(|call| call.begin.mm));
    let alone = |call: &Operation| call.synced && mm.is_some_and(|mm| !call.overlap.bonds_of(mm));
    let sure = operation.is_some_and(alone);
    match (event.hook, mm) {
        (Hook::SvaUnbind, mm) => group.unbind(mm, operation.and_then(Operation::detached), sure),
        (_, Some(mm)) => group.bind(mm, operation.and_then(Operation::attached), sure),
        (_, None) => {}
    }
}

impl Group {
    /// A bind succeeded, and attached a PASID if it was the first. `sure`: no other call on the bond can have been
    /// in between.
    fn bind(&mut self, mm: Key, attached: Option<u32>, sure: bool) {
        let first = Bond { pasid: attached.and_then(NonZeroU32::new), count: Some(NonZeroU32::MIN) };
        let room = self.bonds.len() < MAX_BONDS;
        let known = match self.bonds.entry(mm) {
            Entry::Occupied(known) => {
                let known = known.into_mut();
                *known = match attached {
                    Some(_) => first,
                    None => Bond { count: known.count.and_then(|count| count.checked_add(1)), ..*known },
                };
                known
            }
            Entry::Vacant(_) if !room => return,
            Entry::Vacant(none) if attached.is_some() => none.insert(first),
            // A bind that attaches nothing is not the first one.
            Entry::Vacant(none) => none.insert(Bond { pasid: None, count: None }),
        };
        known.count = known.count.filter(|_| sure);
    }

    /// An unbind returned, and detached a PASID if it was the last.
    fn unbind(&mut self, mm: Option<Key>, detached: Option<u32>, sure: bool) {
        match (mm, detached) {
            (Some(mm), Some(_)) => drop(self.bonds.remove(&mm)),
            (Some(mm), None) => {
                if let Some(known) = self.bonds.get_mut(&mm) {
                    known.count =
                        known.count.filter(|_| sure).and_then(|count| NonZeroU32::new(count.get() - 1));
                }
            }
            // Whose bond it was isn't known.
            (None, Some(pasid)) => {
                self.bonds.retain(|_, bond| bond.pasid.is_none_or(|known| known.get() != pasid));
            }
            (None, None) => self.bonds.values_mut().for_each(|bond| bond.count = None),
        }
    }
}

impl Host {
    /// An unbind of a bond that was unbound for the last time before. `true`: that is all that the record says.
    pub(super) fn unbinds_again(&mut self, event: &Event, transitions: &mut Vec<Transition>) -> bool {
        let tid = event.task.tid;
        if event.phase == Phase::End {
            return self.lifetimes.astray.remove(&tid);
        }
        let Some(ended) = event.bond.and_then(|bond| self.lifetimes.ended.get(&bond)).copied() else {
            return false;
        };
        self.lifetimes.astray.insert(tid);
        if let Some(group) = self.group_mut(ended.group.key) {
            group.remember(event);
            transitions.push(Transition::UnboundAgain { ended, event: Box::new(event.clone()) });
        }
        true
    }
}

impl Lifetimes {
    /// What a bind or an unbind says of the bond's address: one has begun there, or has ended.
    pub(super) fn note_bond(&mut self, operation: Option<&Operation>, end: &Event, group: GroupRef) {
        let Some(bond) = end.bond.or(operation.and_then(|call| call.begin.bond)) else { return };
        match (end.hook, operation) {
            (Hook::SvaBind, _) => drop(self.ended.remove(&bond)),
            (Hook::SvaUnbind, Some(call)) if call.synced && call.detached().is_some() => {
                if self.ended.len() >= MAX_ENDED {
                    self.ended.clear();
                }
                let attachment = call.bond.and_then(|(_, attachment)| attachment);
                let ended = Ended { group, pasid: call.detached(), attachment, by: call.actor() };
                self.ended.insert(bond, ended);
            }
            _ => {}
        }
    }
}
