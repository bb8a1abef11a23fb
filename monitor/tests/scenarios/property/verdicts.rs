//! What was raised, held against what the reference says.

use std::collections::BTreeMap;

use monitor::check::{Severity, Violation};
use monitor::watcher::{Report, Watcher};

use crate::kernel::Sight;
use crate::reference::{Broken, DIVERGENCE, LOST, MISMATCH, Reference, Seen, fold, seen, shared};
use crate::rig::Raised;

use super::batch::is_ghost;
use super::going;
use super::refusals::CONFLICT;
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
    let mut last: BTreeMap<u32, &Sight> = BTreeMap::new();
    let there = |sight: &&Sight| run.kernel.groups.contains_key(&sight.group) && !is_ghost(sight.reader);
    last.extend(run.kernel.looks.iter().filter(there).map(|sight| (sight.group, sight)));
    let broken = last.values().flat_map(|sight| {
        seen(&run.kernel.history, sight).into_iter().filter(|seen| !seen.excused).map(move |seen| Broken {
            check: seen.check,
            group: sight.group,
            pasids: seen.pasids.into_iter().map(|pasid| (pasid, String::new())).collect(),
            by: String::new(),
            fact: usize::MAX,
        })
    });
    broken.collect()
}

/// Who may have looked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// Those of the run.
    Real,
    /// And those of a run that had lost more.
    Any,
}

/// Whether two looks at a group showed this broken, and one of them with these PASIDs: what is raised by looks stood at
/// a second one. That members differ by one's fault is proved by one.
fn seen_enough(run: &Run, raised: &Raised, readers: Readers) -> bool {
    let looks = sights(run, raised.group, readers);
    let shown: Vec<Vec<Seen>> = looks
        .map(|sight| seen(&run.kernel.history, sight))
        .map(|all| all.into_iter().filter(|seen| seen.check == raised.check).collect())
        .collect();
    let shows = |seen: &&Seen| raised.pasids.iter().all(|pasid| seen.pasids.contains(pasid));
    let with_these = shown.iter().flatten().any(|seen| shows(&seen));
    let proved = raised.check == DIVERGENCE;
    with_these && (proved || shown.iter().filter(|seen| !seen.is_empty()).count() > 1)
}

fn sights(run: &Run, group: Option<u32>, readers: Readers) -> impl Iterator<Item = &Sight> {
    let looked = move |sight: &&Sight| {
        Some(sight.group) == group && (readers == Readers::Any || !is_ghost(sight.reader))
    };
    run.kernel.looks.iter().filter(looked)
}

/// That members differ since one of them joined later is no fault, and is told as such.
fn is_excused(run: &Run, violation: &Violation) -> bool {
    let excused = |sight: &Sight| {
        seen(&run.kernel.history, sight).iter().any(|seen| {
            seen.excused
                && seen.check == violation.check.name
                && violation.pasids.iter().all(|pasid| seen.pasids.contains(&pasid.pasid))
        })
    };
    violation.severity == Severity::Info && sights(run, violation.group, Readers::Any).any(excused)
}

/// What was raised, but for what is excused and told as such, and for refusals, which are [`super::refusals`]'.
pub fn blamed(run: &Run, reports: &[Report], watcher: &Watcher) -> Vec<Raised> {
    let blames = |report: &&Report| match report {
        Report::Violation(violation) => violation.check.name != CONFLICT && !is_excused(run, violation),
        _ => false,
    };
    let reports: Vec<Report> = reports.iter().filter(blames).cloned().collect();
    let mut blamed = Raised::all(&reports, watcher);
    for raised in &mut blamed {
        raised.implied.retain(|implied| implied != CONFLICT);
    }
    blamed
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
    [MISMATCH, DIVERGENCE].contains(&check)
}

/// Each violation is one that the reference says, once, and none is a guess.
pub fn no_more(run: &Run) -> Result<(), String> {
    let reference = Reference::new(run.era(), &run.kernel.history)?;
    let mut broken = reference.broken();
    for raised in run.raised() {
        if let Some(said) = is_true(run, &reference, &broken, &raised, Readers::Real)? {
            broken.remove(said);
        }
    }
    Ok(())
}

/// Whether the reference says so, and that it is no guess: which of the broken sentences it was; `None`: looks showed it.
pub fn is_true(
    run: &Run,
    reference: &Reference<'_>,
    broken: &[Broken],
    raised: &Raised,
    readers: Readers,
) -> Result<Option<usize>, String> {
    if let Some(verdict) = going::is_true(run, raised) {
        return verdict.map(|()| None);
    }
    if raised.triggered_by.is_empty() && seen_enough(run, raised, readers) {
        return Ok(None);
    }
    let explains = |broken: &Broken| {
        broken.check == raised.check
            && Some(broken.group) == raised.group
            && broken.by == raised.triggered_by
            && raised.pasids.iter().all(|pasid| broken.pasids.contains_key(pasid))
            && (raised.pasids.is_empty()
                || raised.attached_by.is_empty()
                // It is the first whose attach was seen.
                || raised.pasids.iter().any(|pasid| broken.pasids[pasid] == raised.attached_by))
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
    let all = reference.broken();
    let shown = |check: &str| {
        let mut looks = sights(run, raised.group, readers);
        looks.any(|sight| seen(&run.kernel.history, sight).iter().any(|seen| seen.check == check))
    };
    let was = |check: &str| all.iter().any(|one| one.check == check && Some(one.group) == raised.group);
    match raised.implied.iter().find(|implied| !shown(implied) && !was(implied)) {
        Some(stray) => Err(format!("implied what never was: {stray} in {raised:?}")),
        None => Ok(Some(certain)),
    }
}
