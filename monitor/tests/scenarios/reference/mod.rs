//! The reference: what must be raised, told by the true history of the calls alone. It is written from the sentences
//! of the checks and from drivers/iommu/iommu.c, and uses nothing of the product: neither its model nor its checks.
//!
//! It knows what nobody who watches knows: the order in which the calls held the mutex. So it says two things of a
//! broken sentence: that it was broken, and whether whoever saw only the records can know that it was ([`orders`]).

mod machine;
mod orders;
mod sights;

use std::collections::BTreeMap;

pub use machine::{Attached, Group};
pub use sights::{Seen, seen};

use crate::kernel::{Call, EINVAL, Era, Fact, Grp};

pub const LEFT: &str = "pasid-left-on-release";
pub const STUCK: &str = "ownership-stuck";
pub const LEAKED: &str = "ownership-leaked";
pub const IMBALANCE: &str = "attach-imbalance";
pub const LOST: &str = "pasid-lost-on-detach";
pub const KEPT: &str = "driver-detach-failed";
pub const OFF_DEFAULT: &str = "domain-off-default";
pub const RESIDUE: &str = "failed-attach-residue";
pub const MISMATCH: &str = "pasid-table-mismatch";
pub const DIVERGENCE: &str = "group-divergence";

/// The sentences' consequences: who breaks the first breaks the others by it.
const IMPLIES: [(&str, &[&str]); 5] = [
    (LEFT, &[STUCK, LEAKED, OFF_DEFAULT]),
    (STUCK, &[OFF_DEFAULT]),
    (RESIDUE, &[MISMATCH]),
    (LOST, &[MISMATCH]),
    (KEPT, &[MISMATCH]),
];

/// The sentence is about PASIDs and the calls on them, whoever holds the group.
pub fn is_of_pasids(check: &str) -> bool {
    [IMBALANCE, RESIDUE, LOST, KEPT].contains(&check)
}

/// A call broke a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    pub check: &'static str,
    pub group: u32,
    /// What it was about, with who attached it.
    pub pasids: BTreeMap<u32, String>,
    /// Who made the call.
    pub by: String,
    /// Which call of the history.
    pub fact: usize,
}

/// A history, and the groups as they were before and after each call of it.
pub struct Reference<'a> {
    era: Era,
    facts: &'a [Fact],
    before: Vec<Group>,
    after: Vec<Group>,
}

impl<'a> Reference<'a> {
    /// Follows a history from its start. A call that could not have had its result is an error: then the kernel that
    /// made the history and this telling of it differ.
    pub fn new(era: Era, facts: &'a [Fact]) -> Result<Reference<'a>, String> {
        let mut groups: BTreeMap<u32, Group> = BTreeMap::new();
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for (index, fact) in facts.iter().enumerate() {
            let fresh = Group::new(&fact.before);
            let group = groups.entry(fact.group).or_insert_with(|| fresh.clone());
            // The number of a group that went is used again.
            if group.generation() != fresh.generation() {
                *group = fresh;
            }
            let next =
                machine::act(era, fact, index, group).ok_or(format!("{fact:?} can't be from {group:?}"))?;
            if next.state() != fact.after {
                return Err(format!("{fact:?}: the reference has {next:?}"));
            }
            before.push(std::mem::replace(group, next.clone()));
            after.push(next);
        }
        Ok(Reference { era, facts, before, after })
    }

    /// The sentences that were broken, in the order in which they were.
    pub fn broken(&self) -> Vec<Broken> {
        let judged = (0..self.facts.len())
            .flat_map(|index| judge(self.facts, index, &self.before[index], &self.after[index]));
        judged.collect()
    }

    /// What is attached in a group in the end, and by whom; index 0 is left out.
    pub fn end(&self, group: u32) -> BTreeMap<u32, (Attached, String)> {
        let last = self.facts.iter().rposition(|fact| fact.group == group);
        let array = last.map(|last| self.after[last].array.clone()).unwrap_or_default();
        let who = |by: Option<usize>| by.map_or(String::new(), |by| self.facts[by].who.clone());
        let pasids = array.into_iter().filter(|(pasid, _)| *pasid != 0);
        pasids.map(|(pasid, attached)| (pasid, (attached.clone(), who(attached.by)))).collect()
    }

    /// Whether the records leave open who attached what a group has of a PASID in the end. A call takes the mutex between its
    /// begin and its return, and whoever comes last under it has its entry stand (`xa_store()`): that is none that had
    /// returned when another began, and none that named another domain, if the array names it. Of two that met and are left,
    /// either may be it.
    pub fn is_contested(&self, group: u32, pasid: u32, attached: &Attached) -> bool {
        let named = |fact: &Fact| match fact.call {
            Call::Attach { pasid: of, domain, .. }
            | Call::AttachBare { pasid: of, domain, .. }
            | Call::Replace { pasid: of, domain, .. } => {
                (of == pasid && fact.group == group && fact.ret == 0).then_some(domain)
            }
            _ => None,
        };
        let attaches = || self.facts.iter().filter_map(|fact| Some((fact, named(fact)?)));
        let latest = attaches().map(|(fact, _)| fact.began).max().unwrap_or_default();
        let may_be = |domain: u64| attached.is_bare() || domain == attached.domain;
        attaches().filter(|(fact, domain)| fact.returned >= latest && may_be(*domain)).count() > 1
    }

    /// Whether it must be raised. The checks promise silence of a call that overlaps with another one on the same PASID,
    /// or on who holds the group; but what is read under the mutex needs no calm.
    pub fn is_due(&self, broken: &Broken) -> bool {
        let own = &self.facts[broken.fact];
        let read = own.locked.is_some() && self.era.has_locked_release() && !is_of_pasids(broken.check);
        let disturbs = |fact: &Fact| match fact.call {
            Call::Attach { pasid, .. }
            | Call::AttachBare { pasid, .. }
            | Call::Replace { pasid, .. }
            | Call::Detach { pasid, .. } => broken.pasids.contains_key(&pasid) && !read,
            Call::Use { .. }
            | Call::Unuse { .. }
            | Call::Claim { .. }
            | Call::ClaimDevice { .. }
            | Call::Release { .. }
            | Call::ReleaseDevice { .. } => !is_of_pasids(broken.check) && !read,
            _ => (broken.check == STUCK || broken.check == OFF_DEFAULT) && !read,
        };
        let overlaps =
            |fact: &Fact| fact.group == own.group && fact.began < own.returned && fact.returned > own.began;
        let mut others =
            self.facts.iter().enumerate().filter(|(at, fact)| *at != broken.fact && overlaps(fact));
        !others.any(|(_, fact)| disturbs(fact))
    }

    /// Whether a sentence was broken in every order of the calls that the records allow.
    pub fn is_certain(&self, broken: &Broken) -> bool {
        orders::certain(self, broken)
    }
}

/// What is to be raised of what was broken: consequences go into the violation that implies them.
pub fn fold(broken: &[Broken]) -> Vec<(Broken, Vec<&'static str>)> {
    let mut raised: Vec<(Broken, Vec<&'static str>)> = Vec::new();
    for one in broken {
        let implied = |root: &str| {
            IMPLIES.iter().any(|(check, implies)| *check == root && implies.contains(&one.check))
        };
        let same =
            |open: &Broken| (open.check, open.group, &open.pasids) == (one.check, one.group, &one.pasids);
        if let Some((_, consequences)) =
            raised.iter_mut().find(|(open, _)| open.group == one.group && implied(open.check))
        {
            if !consequences.contains(&one.check) {
                consequences.push(one.check);
            }
        } else if !raised.iter().any(|(open, _)| same(open)) {
            raised.push((one.clone(), Vec::new()));
        }
    }
    raised
}

/// Holds one call against the sentences.
fn judge(facts: &[Fact], index: usize, before: &Group, after: &Group) -> Vec<Broken> {
    let fact = &facts[index];
    let who = |attached: &Attached| attached.by.map_or(String::new(), |by| facts[by].who.clone());
    let broken = |check, pasids: &mut dyn Iterator<Item = (&u32, &Attached)>| Broken {
        check,
        group: fact.group,
        pasids: pasids.map(|(&pasid, attached)| (pasid, who(attached))).collect(),
        by: fact.who.clone(),
        fact: index,
    };
    let left = || before.array.iter().filter(|(pasid, _)| **pasid != 0);
    let mut found = Vec::new();
    let reset = matches!(fact.call, Call::ResetPrepare { .. } | Call::ResetDone { .. });
    let told = |check, pasids: &[u32]| {
        broken(check, &mut before.array.iter().filter(|(pasid, _)| pasids.contains(pasid)))
    };
    // "inside a task's window of switching a RID's domain, that task clears no entry and frees no table that holds a
    // PASID >= 1 of that device, outside reset and release"
    if !fact.lost.is_empty() && !reset {
        found.push(told(LOST, &fact.lost));
    }
    // "the driver's set_dev_pasid on the blocked domain returned 0": of what was attached
    let kept = told(KEPT, &fact.kept);
    if !kept.pasids.is_empty() && !reset {
        found.push(kept);
    }
    let lets_go = matches!(fact.call, Call::Release { .. } | Call::ReleaseDevice { .. } | Call::Unuse { .. });
    // "the call that would let the last use of a group go (owner_cnt 1): no index >= 1 is in pasid_array"
    if lets_go && before.lets_last_go(&fact.call) && left().next().is_some() {
        found.push(broken(LEFT, &mut left()));
    }
    match fact.call {
        // "after a release that was the last one owner is NULL and owner_cnt 0; a USER release has also re-attached
        // the default domain"
        Call::Release { .. } | Call::ReleaseDevice { .. } => {
            let free = after.owner == 0 && after.count == 0 && after.domain == after.default_domain;
            let counts_down = matches!(fact.call, Call::ReleaseDevice { .. }) && before.count > 1;
            if before.owner != 0 && !counts_down && !free {
                found.push(broken(STUCK, &mut left()));
            }
        }
        // "unuse gives its use back"
        Call::Unuse { .. } if before.count > 0 && after.count >= before.count => {
            found.push(broken(LEAKED, &mut left()));
        }
        // "of the calls that returned 0: attach, replace and detach alternate, and a detach names the domain that is
        // attached"
        Call::Attach { pasid, .. } | Call::AttachBare { pasid, .. } | Call::Replace { pasid, .. }
            if pasid != 0 && fact.ret == 0 =>
        {
            let there = before.array.get_key_value(&pasid);
            if there.is_some() != matches!(fact.call, Call::Replace { .. }) {
                found.push(imbalance(&broken, pasid, there));
            }
        }
        Call::Detach { pasid, domain, .. } if pasid != 0 => {
            let there = before.array.get_key_value(&pasid);
            if there.is_none_or(|(_, attached)| attached.domain != domain) {
                found.push(imbalance(&broken, pasid, there));
            }
        }
        // "an attach or replace that returned an error left every member at the old entry, or non-present"
        Call::Attach { pasid, .. } if fact.ret == EINVAL && fact.faults.refusal_stays => {
            let mut residue = broken(RESIDUE, &mut std::iter::empty());
            residue.pasids.insert(pasid, String::new());
            found.push(residue);
        }
        _ => {}
    }
    // "a FREE group that has a default domain sits on it; a USER group never does"
    let (free, user) = (after.owner == 0 && after.count == 0, after.owner != 0 && after.count > 0);
    let off = free && after.domain != after.default_domain || user && after.domain == after.default_domain;
    let takes = matches!(fact.call, Call::Claim { .. } | Call::ClaimDevice { .. }) && fact.ret == 0;
    if off && (takes || lets_go && before.count > 0) {
        found.push(broken(OFF_DEFAULT, &mut std::iter::empty()));
    }
    found
}

fn imbalance(
    broken: &impl Fn(&'static str, &mut dyn Iterator<Item = (&u32, &Attached)>) -> Broken,
    pasid: u32,
    there: Option<(&u32, &Attached)>,
) -> Broken {
    let mut found = broken(IMBALANCE, &mut there.into_iter());
    found.pasids.entry(pasid).or_default();
    found
}

/// Each pair of devices that share a hardware PASID table breaks `pasid-table-shared`: the group of both, if it is one.
pub fn shared(groups: &BTreeMap<u32, Grp>) -> Vec<Option<u32>> {
    let all: Vec<(u32, u64)> = groups
        .iter()
        .flat_map(|(&id, group)| group.devices.iter().map(move |device| (id, device.table)))
        .collect();
    let pairs = all.iter().enumerate().flat_map(|(at, one)| all[..at].iter().map(move |other| (one, other)));
    pairs
        .filter(|(one, other)| one.1 == other.1)
        .map(|(one, other)| (one.0 == other.0).then_some(one.0))
        .collect()
}
