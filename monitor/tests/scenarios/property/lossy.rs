//! Losing events of a run, with their count told: no violation that the whole run doesn't have.
//!
//! Who loses events asks for the groups that he doesn't know any more, and would be silent if nobody answered. So a run
//! that is kept holds the answers to all questions that could have been asked; each replay gets those to what it does ask.

use std::collections::BTreeSet;

use monitor::check::Severity;
use monitor::event::{Event, Key};
use monitor::input::{Input, Lost, Stage};
use monitor::watcher::{Report, Watcher};

use crate::random::Random;
use crate::reference::Reference;
use crate::rig::{Raised, options};

use super::batch::{ghost, is_ghost};
use super::program::Program;
use super::run::Run;
use super::verdicts::{Readers, blamed, is_true};

/// How many subsets are dropped of each run, from few events to nearly all.
const SUBSETS: u64 = 6;

/// Says how many violations were raised after a loss.
pub fn adds_nothing(program: &Program, run: &Run) -> Result<u64, String> {
    let whole = run.raised();
    let reference = Reference::new(run.era(), &run.kernel.history)?;
    let broken = reference.broken();
    let mut random = Random::new(program.seed);
    let mut judged = 0;
    for _ in 0..SUBSETS {
        let losses = Losses::random(&mut random, run.batches.len());
        let (raised, after) = replay(run, &losses, &mut random);
        judged += after;
        for found in raised.iter().filter(|found| !whole.iter().any(|had| covers(had, found))) {
            // The answers may show more than the run itself had looked at.
            if let Err(error) = is_true(run, &reference, &broken, found, Readers::Any) {
                return Err(format!("a loss adds a violation: {error}; {losses:?}, whole: {whole:?}"));
            }
        }
    }
    Ok(judged)
}

/// Which events get lost.
#[derive(Debug)]
struct Losses {
    /// In these batches.
    from: usize,
    to: usize,
    one_in: u64,
    /// It is told which groups they were about.
    by_group: bool,
}

impl Losses {
    fn random(random: &mut Random, batches: usize) -> Losses {
        let one_in = [50, 20, 5, 2, 1][random.below(5) as usize];
        let (from, length) = match random.one_in(4) {
            true => (0, batches),
            // The first readings stay: without them nothing is known of anything.
            false => (random.below(batches as u64) as usize, 1 + random.below(6) as usize),
        };
        Losses { from: from.max(2), to: from + length, one_in, by_group: random.one_in(2) }
    }

    fn strikes(&self, batch: usize, random: &mut Random) -> bool {
        (self.from..self.to).contains(&batch) && random.one_in(self.one_in)
    }
}

/// The violation itself, or the one that it was folded into.
fn covers(had: &Raised, found: &Raised) -> bool {
    had.group == found.group
        && (had.implied.contains(&found.check)
            || had.check == found.check && found.pasids.iter().all(|pasid| had.pasids.contains(pasid)))
}

/// It says that something is wrong, and doesn't only inform.
pub fn blames(report: &Report) -> bool {
    matches!(report, Report::Violation(violation) if violation.severity != Severity::Info)
}

/// What is raised by the run's records less those that are lost, and how much of it after the first loss.
fn replay(run: &Run, losses: &Losses, random: &mut Random) -> (Vec<Raised>, u64) {
    let mut watcher = Watcher::new(options(run.era()));
    let mut reports: Vec<Report> = Vec::new();
    // By reader and group.
    let mut asked: BTreeSet<(u32, u32)> = BTreeSet::new();
    let mut lost_at = None;
    for (at, batch) in run.batches.iter().enumerate() {
        let mut lost: Vec<Option<Key>> = Vec::new();
        let answers = |event: &&Event| {
            let group = event.group.map_or(0, |group| group.id);
            !is_ghost(event.task.tid) || asked.contains(&(event.task.tid, group))
        };
        for event in batch.events.iter().filter(answers) {
            if losses.strikes(at, random) {
                lost.push(event.group.map(|group| group.key));
            } else {
                reports.extend(watcher.take(Input::Event(event.clone().into()), batch.now));
            }
        }
        if !lost.is_empty() {
            lost_at.get_or_insert(reports.len());
        }
        let count = lost.len() as u64;
        let groups = if losses.by_group { lost.into_iter().collect() } else { None };
        reports.extend(watcher.take(Input::Lost(Lost { stage: Stage::Ring, count, groups }), batch.now));
        if batch.drained {
            reports.extend(watcher.take(Input::Settled, batch.now));
        }
        asked.extend(watcher.unknown_groups().into_iter().map(|group| (ghost(at).tid, group)));
    }
    let after = lost_at.map_or(0, |at| reports[at..].iter().filter(|report| blames(report)).count());
    (blamed(run, &reports, &watcher), after as u64)
}
