//! What was raised, held against what the reference says.

use crate::kernel::State;
use crate::reference::{Broken, LOST, MISMATCH, Reference, astray, fold, seen, shared};
use crate::rig::Raised;

use super::run::Run;

pub fn nothing(run: &Run) -> Result<(), String> {
    let reference = Reference::new(run.era(), &run.kernel.history)?;
    let broken = reference.broken();
    if !broken.is_empty() {
        return Err(format!("the program is not correct: {broken:?}"));
    }
    match run.raised() {
        raised if raised.is_empty() => Ok(()),
        raised => Err(format!("raised on a correct program: {raised:?}")),
    }
}

/// Exactly what the reference says, and that the records leave no doubt of.
pub fn exactly(run: &Run) -> Result<(), String> {
    let reference = Reference::new(run.era(), &run.kernel.history)?;
    let broken = reference.broken();
    if let Some(guess) =
        broken.iter().find(|broken| !reference.is_due(broken) || !reference.is_certain(broken))
    {
        return Err(format!("a planted fault is a guess: {guess:?}"));
    }
    let broken = [broken, standing(run)].concat();
    let mut expected: Vec<Raised> = fold(&broken).iter().map(|(root, implied)| told(root, implied)).collect();
    expected.extend(shared(&run.kernel.groups).into_iter().map(|group| Raised {
        check: "pasid-table-shared".into(),
        group,
        pasids: Vec::new(),
        attached_by: String::new(),
        triggered_by: String::new(),
        implied: Vec::new(),
    }));
    if run.blind {
        return Err("a culprit acts unseen: the group is not known".into());
    }
    if expected.is_empty() {
        return Err("nothing is planted: the reference is silent".into());
    }
    let mut raised = run.raised();
    // Whether looks fell between a loss and its mending is chance.
    for lost in expected.iter_mut().chain(&mut raised).filter(|raised| raised.check == LOST) {
        lost.implied.retain(|implied| !by_tables(implied));
    }
    expected.sort();
    raised.sort();
    match raised == expected {
        true => Ok(()),
        false => Err(format!("raised {raised:?}: the reference says {expected:?}")),
    }
}

/// What every look shows in the end, when nobody does anything any more.
fn standing(run: &Run) -> Vec<Broken> {
    let states = run.kernel.groups.iter().map(|(&group, all)| (group, all, run.kernel.state(group)));
    let broken = states.flat_map(|(group, all, state)| {
        let astray = Some(astray(all, &state)).filter(|astray| !astray.is_empty());
        let astray = astray.map(|pasids| (MISMATCH, pasids));
        seen(&state).into_iter().chain(astray).map(move |(check, pasids)| Broken {
            check,
            group,
            pasids: pasids.into_iter().map(|pasid| (pasid, String::new())).collect(),
            by: String::new(),
            fact: usize::MAX,
        })
    });
    broken.collect()
}

/// In how many looks at a group a sentence was broken. What is raised by them stood at a second one.
fn seen_broken(run: &Run, check: &str, group: Option<u32>) -> usize {
    let shows = |state: &State| seen(state).iter().any(|(found, _)| *found == check);
    run.kernel.looks.iter().filter(|(of, state)| Some(*of) == group && shows(state)).count()
}

fn told(root: &Broken, implied: &[&str]) -> Raised {
    Raised {
        check: root.check.into(),
        group: Some(root.group),
        pasids: root.pasids.keys().copied().collect(),
        attached_by: root.pasids.values().next().cloned().unwrap_or_default(),
        triggered_by: root.by.clone(),
        implied: implied.iter().map(|&check| check.to_owned()).collect(),
    }
}

/// The sentence is about what looks find in hardware tables.
fn by_tables(check: &str) -> bool {
    [MISMATCH, "group-divergence"].contains(&check)
}

/// A driver has lost a PASID of this group, or kept one that it should not: its tables differ from the array then.
fn differs(run: &Run, group: Option<u32>) -> bool {
    let facts = run.kernel.history.iter();
    facts.into_iter().any(|fact| Some(fact.group) == group && !(fact.lost.is_empty() && fact.kept.is_empty()))
}

/// Each violation is one that the reference says, once, and none is a guess.
pub fn no_more(run: &Run) -> Result<(), String> {
    let reference = Reference::new(run.era(), &run.kernel.history)?;
    let mut broken = reference.broken();
    for raised in run.raised() {
        if raised.triggered_by.is_empty() && seen_broken(run, &raised.check, raised.group) > 1 {
            continue;
        }
        if by_tables(&raised.check) && differs(run, raised.group) {
            continue;
        }
        let explains = |broken: &Broken| {
            broken.check == raised.check
                && Some(broken.group) == raised.group
                && broken.by == raised.triggered_by
                && raised.pasids.iter().all(|pasid| broken.pasids.contains_key(pasid))
                && raised.pasids.first().is_none_or(|first| {
                    raised.attached_by.is_empty() || broken.pasids[first] == raised.attached_by
                })
        };
        let said: Vec<usize> = (0..broken.len()).filter(|&at| explains(&broken[at])).collect();
        if said.is_empty() {
            return Err(format!("raised what never was: {raised:?}; the reference says {broken:?}"));
        }
        // Of the PASIDs that it names, and no others, it must be certain.
        let named = |broken: &Broken| Broken {
            pasids: raised.pasids.iter().map(|pasid| (*pasid, broken.pasids[pasid].clone())).collect(),
            ..broken.clone()
        };
        let Some(&certain) = said.iter().find(|&&at| reference.is_certain(&named(&broken[at]))) else {
            return Err(format!("raised on a guess: {raised:?}"));
        };
        broken.remove(certain);
        let stray = raised.implied.iter().find(|implied| {
            !(by_tables(implied) && differs(run, raised.group))
                && seen_broken(run, implied, raised.group) == 0
                && !reference
                    .broken()
                    .iter()
                    .any(|one| one.check == **implied && Some(one.group) == raised.group)
        });
        if let Some(stray) = stray {
            return Err(format!("implied what never was: {stray} in {raised:?}"));
        }
    }
    Ok(())
}
