//! Whether what truly happened can be known: every order of the calls that the records allow is tried.
//!
//! The records say of two calls that one came first only if it had returned before the other was entered. An order is
//! allowed if it keeps to that, if every call can have had its result in it, if what was read under the mutex was so,
//! and if the group ends as it did. A sentence was certainly broken if it was broken in every order that is allowed.

use std::collections::BTreeSet;

use super::{Broken, Group, IMBALANCE, Reference, judge, machine};
use crate::kernel::{Call, Fact};

/// Orders are tried up to so many steps. A verdict that needs more counts as a guess.
const STEPS: usize = 50_000;

pub fn certain(reference: &Reference<'_>, broken: &Broken) -> bool {
    let calls = around(reference.facts, broken);
    let Some((&first, &last)) = calls.first().zip(calls.last()) else { return false };
    let mut search = Search {
        reference,
        broken,
        calls: &calls,
        end: &reference.after[last],
        seen: BTreeSet::new(),
        dead_ends: BTreeSet::new(),
        steps: 0,
    };
    let innocent = search.finds_innocent(&mut vec![false; calls.len()], &reference.before[first]);
    !innocent && search.steps < STEPS
}

/// The calls whose order matters, in the order in which they came: those that overlap with the one that is judged,
/// those that overlap with these, and so on.
fn around(facts: &[Fact], broken: &Broken) -> Vec<usize> {
    let matters = |fact: &Fact| {
        fact.group == broken.group
            // What happens to one PASID hangs on nothing but the calls on it.
            && (broken.check != IMBALANCE || pasid(&fact.call).is_some_and(|pasid| broken.pasids.contains_key(&pasid)))
    };
    let all: Vec<usize> = (0..facts.len()).filter(|&index| matters(&facts[index])).collect();
    let (mut from, mut to) = (facts[broken.fact].began, facts[broken.fact].ended);
    loop {
        let touching =
            all.iter().map(|&index| &facts[index]).filter(|fact| fact.began < to && fact.ended > from);
        let (low, high) =
            touching.fold((from, to), |(low, high), fact| (low.min(fact.began), high.max(fact.ended)));
        if (low, high) == (from, to) {
            break;
        }
        (from, to) = (low, high);
    }
    all.into_iter().filter(|&index| facts[index].began <= to && facts[index].ended >= from).collect()
}

fn pasid(call: &Call) -> Option<u32> {
    match *call {
        Call::Attach { pasid, .. }
        | Call::AttachBare { pasid, .. }
        | Call::Replace { pasid, .. }
        | Call::Detach { pasid, .. } => Some(pasid),
        _ => None,
    }
}

struct Search<'a> {
    reference: &'a Reference<'a>,
    broken: &'a Broken,
    calls: &'a [usize],
    end: &'a Group,
    /// Where it was before: what was done, and the group then.
    seen: BTreeSet<(Vec<bool>, Group)>,
    dead_ends: BTreeSet<(Vec<bool>, Group)>,
    steps: usize,
}

impl Search<'_> {
    /// Whether there is an order in which the sentence was kept, from here on.
    fn finds_innocent(&mut self, done: &mut Vec<bool>, group: &Group) -> bool {
        self.steps += 1;
        if self.steps >= STEPS || !self.seen.insert((done.clone(), group.clone())) {
            return false;
        }
        for at in self.next(done) {
            let index = self.calls[at];
            let Some(after) = self.step(index, group) else { continue };
            done[at] = true;
            let judged = index == self.broken.fact;
            let innocent = match judged {
                true => !self.breaks(index, group, &after) && self.reaches_end(done, &after),
                false => self.finds_innocent(done, &after),
            };
            done[at] = false;
            if innocent {
                return true;
            }
        }
        false
    }

    /// Whether the rest can have come in some order, and ended as it did.
    fn reaches_end(&mut self, done: &mut Vec<bool>, group: &Group) -> bool {
        self.steps += 1;
        if done.iter().all(|&done| done) {
            return self.same_end(group);
        }
        if self.steps >= STEPS || self.dead_ends.contains(&(done.clone(), group.clone())) {
            return false;
        }
        for at in self.next(done) {
            let Some(after) = self.step(self.calls[at], group) else { continue };
            done[at] = true;
            let reached = self.reaches_end(done, &after);
            done[at] = false;
            if reached {
                return true;
            }
        }
        self.dead_ends.insert((done.clone(), group.clone()));
        false
    }

    /// Which calls can come next: nobody before one who had returned by then.
    fn next(&self, done: &[bool]) -> Vec<usize> {
        let facts = self.reference.facts;
        let open = || (0..done.len()).filter(|&at| !done[at]);
        let earliest = open().map(|at| ended(&facts[self.calls[at]])).min().unwrap_or(0);
        open().filter(|&at| began(&facts[self.calls[at]]) <= earliest).collect()
    }

    fn step(&self, index: usize, group: &Group) -> Option<Group> {
        let fact = &self.reference.facts[index];
        let read = matches!(fact.call, Call::Release { .. } | Call::ReleaseDevice { .. })
            && fact.locked.is_some()
            && self.reference.era.has_locked_release();
        if read && group.state() != self.reference.before[index].state() {
            return None;
        }
        machine::act(self.reference.era, fact, index, group)
    }

    fn breaks(&self, index: usize, before: &Group, after: &Group) -> bool {
        let same = |found: &Broken| {
            found.check == self.broken.check
                && self.broken.pasids.keys().all(|pasid| found.pasids.contains_key(pasid))
        };
        judge(self.reference.facts, index, before, after).iter().any(same)
    }

    /// What concerns the sentence is as it was in the end.
    fn same_end(&self, group: &Group) -> bool {
        match self.broken.check {
            IMBALANCE => self.broken.pasids.keys().all(|pasid| {
                let domain = |group: &Group| group.array.get(pasid).map(|attached| attached.domain);
                domain(group) == domain(self.end)
            }),
            _ => group.state() == self.end.state(),
        }
    }
}

/// Where a call made records under the mutex, it is known when it held it.
fn began(fact: &Fact) -> usize {
    fact.locked.map_or(fact.began, |(_, last)| last)
}

fn ended(fact: &Fact) -> usize {
    fact.locked.map_or(fact.ended, |(first, _)| first)
}
