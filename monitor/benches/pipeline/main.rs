//! What the userspace path costs: decode, model and all checks, over the records of a host that behaves.
//!
//! Run by `cargo xtask bench`. A host of 4,096 groups is simulated (`world`), on which several tasks make
//! correct calls at once (`script`). Nothing may be raised, the model must end with the PASIDs that the
//! host has, and a fault planted at the end must be found: so what is measured did all of its work.
//!
//! `--replay-day` runs 24 hours of a host of a fleet instead, and shows whether memory grows (`day`).
//!
//! `--profile=LIVE` runs the events alone with as many live PASIDs, for a profiler; `--profile=LIVE:GROUPS` those of a host
//! of so many groups. The instructions that they take don't depend on what else the machine does:
//!
//!     valgrind --tool=callgrind --toggle-collect='*cpu_time*' target/release/examples/pipeline --profile=1000

mod day;
mod measure;
mod memory;
mod reading;
mod script;
mod step;
mod subject;
mod table;
mod world;

use std::process::ExitCode;

use measure::median;
use script::Workload;
use subject::Subject;
use world::{Batch, World};

/// How much is run.
#[derive(Clone, Copy)]
struct Scale {
    groups: u32,
    /// How many PASIDs are live, one measurement for each.
    live: [usize; 3],
    /// Rounds that are measured of each, in turn.
    rounds: usize,
    /// How often the ring is filled and taken in, in a round.
    rings: usize,
}

const FULL: Scale = Scale { groups: 4096, live: [1_000, 100_000, 1_000_000], rounds: 15, rings: 16 };
/// Enough to see that it works, in a build without optimisation too; its numbers mean nothing.
const SMOKE: Scale = Scale { groups: 64, live: [100, 1_000, 5_000], rounds: 1, rings: 1 };

/// What a profiler is to see; its tools make everything slow.
const PROFILE: Scale = Scale { rounds: 32, rings: 8, ..FULL };

/// The argument by which a day is replayed, and nothing else.
const DAY: &str = "--replay-day";

/// Records from the ring that are taken at one go, as `live.rs` does.
const BATCH: usize = 4096;
/// Records in a full ring: it has 4 MiB.
const RING: usize = 3 * BATCH;
/// PASIDs in each group of the snapshot.
const SNAPSHOT_PASIDS: u32 = 16;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let known = ["--json", "--smoke", DAY, memory::CHILD];
    if let Some((live, groups)) = arguments.iter().find_map(|argument| profiled(argument)) {
        profile(live, groups);
        return ExitCode::SUCCESS;
    }
    if let Some(unknown) = arguments.iter().find(|argument| !known.contains(&argument.as_str())) {
        eprintln!("error: `{unknown}`: there are --json, --smoke, {DAY} and --profile=LIVE[:GROUPS]");
        return ExitCode::from(2);
    }
    if has(memory::CHILD) {
        memory::child();
        return ExitCode::SUCCESS;
    }
    if has(DAY) {
        return replay_day(has("--json"));
    }
    if has("--smoke") {
        day::run(day::SMOKE);
    }
    let results = run(if has("--smoke") { SMOKE } else { FULL });
    if has("--json") {
        println!("{:#}", table::json(&results));
    } else {
        print!("{}", table::markdown(&results));
    }
    ExitCode::SUCCESS
}

/// A whole day; it fails where what is kept has grown.
fn replay_day(json: bool) -> ExitCode {
    let course = day::run(day::FULL);
    if json {
        println!("{:#}", course.json());
    } else {
        print!("{}", course.told());
    }
    if course.is_flat() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What came out.
pub struct Results {
    groups: u32,
    rounds: usize,
    processor: String,
    throughput: Vec<Throughput>,
    /// Cost of an event with the most PASIDs over that with the fewest, the median of all rounds.
    ratio: f64,
    /// Share of the records by hook, of the last throughput.
    mix: Vec<(&'static str, f64)>,
    memory: Vec<memory::Memory>,
    snapshot: Snapshot,
}

pub struct Throughput {
    live: usize,
    events: usize,
    /// CPU time of an event in ns.
    median_ns: f64,
    best_ns: f64,
}

/// CPU time to take in a reading of every group, in ms.
pub struct Snapshot {
    pasids: usize,
    records: usize,
    first_ms: f64,
    again_ms: f64,
}

fn run(scale: Scale) -> Results {
    let memory = [("tenants' PASIDs", false), ("SVA bonds", true)]
        .map(|(what, sva)| memory::measure(what, scale, sva))
        .into();
    let (throughput, ratio, mix) = throughput(scale);
    Results {
        groups: scale.groups,
        rounds: scale.rounds,
        processor: measure::processor(),
        throughput,
        ratio,
        mix,
        memory,
        snapshot: snapshot(scale),
    }
}

fn throughput(scale: Scale) -> (Vec<Throughput>, f64, Vec<(&'static str, f64)>) {
    let mut subjects = scale.live.map(|live| Subject::filled(Workload::new(scale.groups), live));
    // In turn, so that what else the machine does meets all of them.
    let mut costs = [(); 3].map(|()| Vec::new());
    for round in 0..=scale.rounds {
        eprintln!("bench: throughput, round {round} of {}", scale.rounds);
        for (subject, costs) in subjects.iter_mut().zip(&mut costs) {
            let cost = subject.round(scale.rings);
            // The first one warms up.
            if round > 0 {
                costs.push(cost);
            }
        }
    }
    let ratios = costs[0].iter().zip(&costs[2]).map(|(few, many)| many / few);
    let ratio = median(ratios.collect());
    let rows = scale.live.iter().zip(costs).map(|(&live, costs)| Throughput {
        live,
        events: scale.rounds * scale.rings * RING,
        best_ns: costs.iter().copied().fold(f64::INFINITY, f64::min),
        median_ns: median(costs),
    });
    let rows = rows.collect();
    let mix = subjects[2].mix();
    subjects.into_iter().for_each(Subject::verify);
    (rows, ratio, mix)
}

/// How many live PASIDs in how many groups a profiler is to see.
fn profiled(argument: &str) -> Option<(usize, u32)> {
    let scale = argument.strip_prefix("--profile=")?;
    match scale.split_once(':') {
        None => Some((scale.parse().ok()?, PROFILE.groups)),
        Some((live, groups)) => Some((live.parse().ok()?, groups.parse().ok()?)),
    }
}

/// The events alone.
fn profile(live: usize, groups: u32) {
    let Scale { rounds, rings, .. } = PROFILE;
    let mut subject = Subject::filled(Workload::new(groups), live);
    eprintln!("bench: throughput");
    let costs: Vec<f64> = (0..rounds).map(|_| subject.round(rings)).collect();
    let best = costs.iter().copied().fold(f64::INFINITY, f64::min);
    println!("{} events; {:.0} ns each, in the best round {best:.0}", rounds * rings * RING, median(costs));
    subject.verify();
}

fn snapshot(scale: Scale) -> Snapshot {
    eprintln!("bench: reading {} groups with {SNAPSHOT_PASIDS} PASIDs each", scale.groups);
    let (mut first, mut again) = (Vec::new(), Vec::new());
    let pasids = (scale.groups * SNAPSHOT_PASIDS) as usize;
    let mut world = World::with_pasids(scale.groups, SNAPSHOT_PASIDS);
    let mut batch = Batch::default();
    for _ in 0..scale.rounds {
        let mut watcher = subject::watcher();
        for costs in [&mut first, &mut again] {
            batch.clear();
            world.snapshot(&mut batch);
            let mut told = subject::Told::default();
            let took = measure::cpu_time(|| told = subject::drive(&mut watcher, &batch, world.now));
            costs.push(took.as_secs_f64() * 1e3);
            assert_eq!(told.violations, 0, "a violation on a host that behaves");
            assert_eq!(subject::pasids(&watcher), pasids, "PASIDs after a reading");
        }
    }
    Snapshot { pasids, records: batch.len(), first_ms: median(first), again_ms: median(again) }
}
