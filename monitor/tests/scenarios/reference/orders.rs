//! Whether what truly happened can be known: every order of the calls that the records allow is tried.
//!
//! The records say of two calls that one came first only if it had returned before the other was entered. An order is
//! allowed if it keeps to that, if every call can have had its result in it, if what was read under the mutex was so,
//! if the judged call's own records can have read in it what they did, and if the group ends as it did. A sentence was
//! certainly broken if it was broken in every order that is allowed.
//!
//! What a record reads without the mutex is no order, but it was so at a moment between two places in the ring, before
//! the call took the mutex or after it dropped it. A call changes who holds the group, and whether a PASID stands in the
//! array, at one moment each, so the readings take their places between the calls like these. (An attach that a
//! driver refuses has put its PASID, up to 6.14, or the RID's handle there, and takes it out again: while one may be
//! under way a reading says nothing of that index.) So a PASID that was there on entry, and that nobody who overlapped attached or detached,
//! was there under the mutex, whatever became of it in calls that had returned before.

use std::collections::BTreeSet;

use super::{Broken, Group, IMBALANCE, KEPT, LOST, RESIDUE, Reference, judge, machine};
use crate::kernel::{Call, Era, Fact, Read, Reads};

/// Orders are tried up to so many steps. A verdict that needs more counts as a guess.
const STEPS: usize = 50_000;

pub fn certain(reference: &Reference<'_>, broken: &Broken) -> bool {
    if [LOST, KEPT].contains(&broken.check) {
        // The driver's own records say it, and are made under the mutex.
        return true;
    }
    let calls = around(reference.facts, broken);
    let Some((&first, &last)) = calls.first().zip(calls.last()) else { return false };
    let own = &reference.facts[broken.fact];
    let mut items: Vec<Item<'_>> = calls.iter().map(|&call| Item::Call(call)).collect();
    if ![IMBALANCE, RESIDUE].contains(&broken.check) {
        items.extend(own.entry.iter().map(Item::Entry));
        items.extend(own.exit.iter().map(Item::Exit));
    }
    let mut search = Search {
        reference,
        broken,
        items: &items,
        end: &reference.after[last],
        seen: BTreeSet::new(),
        dead_ends: BTreeSet::new(),
        steps: 0,
    };
    let innocent = search.finds_innocent(&mut vec![false; items.len()], &reference.before[first]);
    !innocent && search.steps < STEPS
}

/// The calls whose order matters, in the order in which they came: those that overlap with the one that is judged,
/// those that overlap with these, and so on.
fn around(facts: &[Fact], broken: &Broken) -> Vec<usize> {
    let matters = |fact: &Fact| {
        fact.group == broken.group
            // What happens to one PASID hangs on nothing but the calls on it.
            && (![IMBALANCE, RESIDUE].contains(&broken.check) || pasid(&fact.call).is_some_and(|pasid| broken.pasids.contains_key(&pasid)))
    };
    let all: Vec<usize> = (0..facts.len()).filter(|&index| matters(&facts[index])).collect();
    let (mut from, mut to) = (facts[broken.fact].began, facts[broken.fact].returned);
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

/// What has to be put into an order: the calls, and what the judged one read of its group.
#[derive(Clone, Copy)]
enum Item<'a> {
    Call(usize),
    Entry(&'a Read),
    Exit(&'a Read),
}

struct Search<'a> {
    reference: &'a Reference<'a>,
    broken: &'a Broken,
    items: &'a [Item<'a>],
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
            let Some(after) = self.step(self.items[at], group) else { continue };
            done[at] = true;
            let innocent = match self.items[at] {
                Item::Call(index) if index == self.broken.fact => {
                    !self.breaks(index, group, &after) && self.reaches_end(done, &after)
                }
                _ => self.finds_innocent(done, &after),
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
            let Some(after) = self.step(self.items[at], group) else { continue };
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

    /// What can come next: nothing before what had returned by then, and the judged call between its readings.
    fn next(&self, done: &[bool]) -> Vec<usize> {
        let open = || (0..done.len()).filter(|&at| !done[at]);
        let earliest = open().map(|at| self.span(at).1).min().unwrap_or(0);
        let own = |at: usize| matches!(self.items[at], Item::Call(index) if index == self.broken.fact);
        let waits = |at: usize| match self.items[at] {
            Item::Exit(_) => open().any(own),
            Item::Call(_) if own(at) => open().any(|other| matches!(self.items[other], Item::Entry(_))),
            Item::Call(_) | Item::Entry(_) => false,
        };
        open().filter(|&at| self.span(at).0 <= earliest && !waits(at)).collect()
    }

    /// The places between which it came. Where a call made records under the mutex, it is known when it held it.
    fn span(&self, at: usize) -> (usize, usize) {
        match self.items[at] {
            Item::Call(index) => {
                let fact = &self.reference.facts[index];
                fact.locked.map_or((fact.began, fact.ended), |(first, last)| (last, first))
            }
            Item::Entry(read) | Item::Exit(read) => (read.from, read.to),
        }
    }

    fn step(&self, item: Item<'_>, group: &Group) -> Option<Group> {
        let index = match item {
            Item::Call(index) => index,
            Item::Entry(read) | Item::Exit(read) => {
                return self.can_read(read, group).then(|| group.clone());
            }
        };
        let fact = &self.reference.facts[index];
        let read = matches!(fact.call, Call::Release { .. } | Call::ReleaseDevice { .. })
            && fact.locked.is_some()
            && self.reference.era.has_locked_release();
        if read && group.state() != self.reference.before[index].state() {
            return None;
        }
        machine::act(self.reference.era, fact, index, group)
    }

    /// Whether the record can have read this of the group as it is here.
    fn can_read(&self, read: &Read, group: &Group) -> bool {
        match &read.what {
            Reads::Holder { owner, count } => (*owner, *count) == (group.owner, group.count),
            Reads::Attached(read_there) => {
                let there: BTreeSet<u32> = group.array.keys().copied().collect();
                read_there.symmetric_difference(&there).all(|&index| self.flickers(index, read))
            }
        }
    }

    /// Whether an attach that came to nothing may have had this index of the array when the record read it.
    fn flickers(&self, index: u32, read: &Read) -> bool {
        let reserves = self.reference.era == Era::Tagged;
        let refused = |fact: &Fact| match fact.call {
            Call::AttachGroupHandle { .. } => fact.ret != 0 && index == 0,
            Call::Attach { pasid, .. } | Call::AttachBare { pasid, .. } => {
                fact.ret != 0 && index == pasid && !reserves
            }
            _ => false,
        };
        let calls = self.items.iter().filter_map(|item| match item {
            Item::Call(index) => Some(&self.reference.facts[*index]),
            Item::Entry(_) | Item::Exit(_) => None,
        });
        let mut meanwhile = calls.filter(|fact| fact.began <= read.to && fact.ended >= read.from);
        meanwhile.any(refused)
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
            IMBALANCE | RESIDUE => self.broken.pasids.keys().all(|pasid| {
                let domain = |group: &Group| group.array.get(pasid).map(|attached| attached.domain);
                domain(group) == domain(self.end)
            }),
            _ => group.state() == self.end.state(),
        }
    }
}
