//! Losing events of a run, with their count told: no violation that the whole run doesn't have.

use monitor::input::{Input, Lost, Stage};
use monitor::watcher::{Report, Watcher};

use crate::random::Random;
use crate::rig::{Raised, options};

use super::program::Program;
use super::refusals::faults;
use super::run::Run;

/// How many subsets are dropped of each run, from few events to nearly all.
const SUBSETS: u64 = 4;

pub fn adds_nothing(program: &Program, run: &Run) -> Result<(), String> {
    let whole = run.raised();
    let mut random = Random::new(program.seed);
    for _ in 0..SUBSETS {
        let one_in = [50, 20, 5, 2][random.below(4) as usize];
        let raised = replay(run, |_| random.one_in(one_in));
        let strange = raised.iter().find(|found| !whole.iter().any(|had| covers(had, found)));
        if let Some(strange) = strange {
            return Err(format!("a loss adds a violation: {strange:?} is not in {whole:?}"));
        }
    }
    Ok(())
}

/// The violation itself, or the one that it was folded into.
fn covers(had: &Raised, found: &Raised) -> bool {
    had.group == found.group
        && (had.implied.contains(&found.check)
            || had.check == found.check && found.pasids.iter().all(|pasid| had.pasids.contains(pasid)))
}

/// What is raised by the run's records less those that are dropped.
fn replay(run: &Run, mut drops: impl FnMut(u64) -> bool) -> Vec<Raised> {
    let mut watcher = Watcher::new(options(run.era()));
    let mut reports: Vec<Report> = Vec::new();
    for (at, batch) in (0..).zip(&run.batches) {
        let mut count = 0;
        for event in &batch.events {
            // The first readings stay: without them nothing is known of anything.
            if at > 1 && drops(at) {
                count += 1;
            } else {
                reports.extend(watcher.take(Input::Event(event.clone()), batch.now));
            }
        }
        reports
            .extend(watcher.take(Input::Lost(Lost { stage: Stage::Ring, count, groups: None }), batch.now));
        reports.extend(watcher.take(Input::Settled, batch.now));
    }
    faults(&reports, &watcher)
}
