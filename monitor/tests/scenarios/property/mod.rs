//! Order is proved: random programs of many tasks, with every legal skew of what the ring delivers ([`moves`]), held
//! against a reference that knows what truly happened ([`crate::reference`]).
//!
//! A program comes from its seed alone. `PROPERTY_CASES` says how many are tried for each property, `PROPERTY_FROM` from
//! which seed on; `PROPERTY_SEED` tries one again. What fails is shrunk to the moves that it takes; those of the bugs
//! that were found are kept as tests of their own.

mod batch;
mod ends;
mod going;
mod hotplug;
mod lossy;
mod moves;
mod plant;
mod program;
mod refusals;
mod run;
mod shrink;
mod verdicts;
mod worker;
mod world;

use std::cell::Cell;

use monitor::watcher::Report;

use crate::kernel::Faults;

use program::{Kind, Program};
use run::Run;

/// How many programs of a property are tried when nobody says.
const CASES: u64 = 200;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Tries the property on every seed. Says how many violations were raised of what came after a first loss.
#[track_caller]
fn hold(kind: Kind, property: impl Fn(&Program, &mut Run) -> Result<(), String>) -> Tally {
    let mut tally = Tally::default();
    let seeds = match number("PROPERTY_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            let first = number("PROPERTY_FROM").unwrap_or(0);
            first..first.saturating_add(number("PROPERTY_CASES").unwrap_or(CASES))
        }
    };
    for seed in seeds {
        let told = Told(seed);
        let (program, mut run) = Program::random(seed, kind);
        if let Err(first) = property(&program, &mut run) {
            let (program, error) = shrink::shrink(program, first.clone(), &property);
            let right = format!(", faults: {:?}", Faults::default());
            let moves = program.moves.iter().map(|step| format!("    {step:?},\n").replace(&right, ""));
            let moves: Vec<String> = moves.collect();
            panic!(
                "seed {seed}, {:?}: {first}\nshrunk: {error}\n{:?}\n{}",
                kind,
                program.world,
                moves.concat()
            );
        }
        drop(told);
        tally.programs += 1;
        tally.raised_after_a_loss += raised_after_a_loss(&run);
    }
    println!("{kind:?}: {tally:?}");
    tally
}

/// What the programs of a property came to.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    programs: u64,
    raised_after_a_loss: u64,
}

fn raised_after_a_loss(run: &Run) -> u64 {
    let lost = |report: &&Report| matches!(report, Report::Loss(_));
    let after = run.reports.iter().skip_while(|report| !lost(report));
    after.filter(|report| lossy::blames(report)).count() as u64
}

/// Tells the seed of a program that panics.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the program of seed {} failed", self.0);
        }
    }
}

#[test]
fn correct_programs_raise_nothing_and_the_model_ends_where_the_kernel_is() {
    hold(Kind::default(), |_, run| {
        ends::finish(run)?;
        verdicts::nothing(run)?;
        refusals::all_told(run)?;
        ends::same(run)
    });
}

#[test]
fn correct_programs_raise_nothing_whatever_gets_lost() {
    hold(Kind { lossy: true, ..Kind::default() }, |_, run| {
        ends::finish(run)?;
        verdicts::nothing(run)?;
        refusals::none_invented(run)?;
        ends::same_state(run)
    });
}

/// Each hook by itself: what it would have told explains what others tell.
#[test]
fn correct_programs_raise_nothing_whichever_hook_the_kernel_has_not() {
    hold(Kind { lacking: true, ..Kind::default() }, |_, run| {
        run.quiesce()?;
        run.read();
        verdicts::nothing(run)
    });
}

#[test]
fn a_planted_fault_is_raised_in_every_program() {
    hold(Kind { planted: true, ..Kind::default() }, |_, run| {
        ends::finish(run)?;
        verdicts::exactly(run)?;
        refusals::all_told(run)?;
        ends::same(run)
    });
}

#[test]
fn wild_programs_raise_nothing_that_the_reference_does_not() {
    let gone = Cell::new(0);
    let tally = hold(Kind { wild: true, ..Kind::default() }, |_, run| {
        ends::finish(run)?;
        gone.set(gone.get() + going::raised(run));
        verdicts::no_more(run)?;
        refusals::all_told(run)?;
        ends::same(run)
    });
    assert!(
        tally.programs < CASES || 10 * gone.get() > tally.programs,
        "of what went too early {gone:?} are told"
    );
}

#[test]
fn wild_programs_raise_nothing_else_whatever_gets_lost() {
    let tally = hold(Kind { wild: true, lossy: true, ..Kind::default() }, |_, run| {
        ends::finish(run)?;
        verdicts::no_more(run)?;
        refusals::none_invented(run)?;
        ends::same_state(run)
    });
    // Silence would be easy: what is known again must be judged.
    assert!(tally.programs < CASES || 4 * tally.raised_after_a_loss > tally.programs, "{tally:?}");
}

#[test]
fn losing_events_of_a_run_adds_no_violation() {
    let judged = Cell::new(0);
    let tally = hold(Kind { wild: true, recorded: true, ..Kind::default() }, |program, run| {
        ends::finish(run)?;
        judged.set(judged.get() + lossy::adds_nothing(program, run)?);
        Ok(())
    });
    println!("{} violations raised after a loss", judged.get());
    assert!(tally.programs < CASES || judged.get() > tally.programs, "{judged:?}");
}
