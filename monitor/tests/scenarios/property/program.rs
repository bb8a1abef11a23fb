//! Programs: random moves on a random world, from a seed.

use monitor::coverage::HookState;
use monitor_ebpf::wire::Hook;

use crate::kernel::{Call, Faults};
use crate::random::Random;
use crate::rig::options;

use super::going::Going;
use super::moves::Move;
use super::plant::Plant;
use super::run::Run;
use super::worker::{Debt, Thing, Way, call_is_in};
use super::world::{Member, TASKS, World};

/// What kind of program a property wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kind {
    /// Any call may be made, and the kernel has faults of its own.
    pub wild: bool,
    /// Records get lost.
    pub lossy: bool,
    /// One fault is planted.
    pub planted: bool,
    /// What the watcher is told is kept.
    pub recorded: bool,
    /// The kernel has nothing for one of the hooks, or refuses it; each in its turn.
    pub lacking: bool,
}

#[derive(Clone, Debug)]
pub struct Program {
    pub seed: u64,
    pub kind: Kind,
    pub world: World,
    pub moves: Vec<Move>,
}

const MOVES: u64 = 500;

impl Program {
    /// The program of this seed. It is made by being run.
    pub fn random(seed: u64, kind: Kind) -> (Program, Run) {
        let mut random = Random::new(seed);
        let world = World::random(&mut random);
        let mut program = Program { seed, kind, world, moves: Vec::new() };
        let mut run = program.start();
        let mut plant = kind.planted.then(|| Plant::random(&mut random, run.era()));
        let length = random.below(MOVES);
        let at = random.below(length + 1);
        let (mut count, mut lull) = (0, Lull::default());
        while count < length || plant.as_ref().is_some_and(|plant| !plant.is_done(&run)) {
            assert!(count < 200 * MOVES, "seed {seed}: {plant:?} can't be planted");
            if let Some(step) = lull.next(kind, &run, &mut random) {
                if run.make(&step) {
                    program.moves.push(step);
                }
                continue;
            }
            count += 1;
            let active = plant.as_mut().filter(|_| count >= at && random.one_in(4));
            let step = active.and_then(|plant| plant.next(&run, &mut random));
            let step = step.unwrap_or_else(|| propose(&program.world, &run, &mut random, count < length));
            if run.make(&step) {
                program.moves.push(step);
            }
        }
        (program, run)
    }

    /// Runs its moves; those that can't be made any more are left out.
    pub fn replay(&self) -> Run {
        let mut run = self.start();
        for step in &self.moves {
            run.make(step);
        }
        run
    }

    fn start(&self) -> Run {
        let mut options = options(self.world.era);
        let lacking = self.kind.lacking.then(|| {
            let (hooks, seed) = (Hook::ALL.len(), self.seed as usize);
            let refused = HookState::Failed { reason: "the kernel refuses it".into() };
            let state = if (seed / hooks).is_multiple_of(2) { HookState::Absent } else { refused };
            options.coverage.set(Hook::ALL[seed % hooks], state);
            Hook::ALL[seed % hooks]
        });
        let mut run = Run::new(&self.world, self.kind.recorded, options, lacking);
        run.wild = self.kind.wild;
        run.left = Plant::left().collect();
        if self.kind.lossy {
            run.lossy(self.seed);
        }
        run
    }
}

/// Now and then nobody begins anything, until all are done or some can't be, and then nothing happens for a while. It is
/// then that what a loss made unknown is known again. Losses come in bursts, and stop as often.
#[derive(Default)]
struct Lull {
    left: u32,
}

impl Lull {
    fn next(&mut self, kind: Kind, run: &Run, random: &mut Random) -> Option<Move> {
        if kind.lossy && random.one_in(40) {
            let one_in = [0, 0, 0, 3, 10, 40][random.below(6) as usize];
            return Some(Move::Lose { one_in });
        }
        if self.left == 0 {
            self.left = if random.one_in(if kind.lossy { 60 } else { 400 }) { 500 } else { return None };
        }
        self.left -= 1;
        if run.is_calm() {
            self.left = 0;
            return Some(Move::Sleep);
        }
        Some(match random.one_in(20) {
            true => Move::Read,
            false => Move::Go { task: random.below(run.workers.len() as u64) as usize },
        })
    }
}

/// A random move. `more`: not only what ends what was begun.
fn propose(world: &World, run: &Run, random: &mut Random, more: bool) -> Move {
    let members = random.pick(&world.groups).expect("a world has groups").clone();
    let member = random.pick(&members.devices).copied();
    match (random.below(60), member) {
        (0..=2, _) => return Move::Read,
        (3, _) => return Move::Snapshot { group: members.id },
        (4, _) => return Move::Look { group: members.id },
        (5, _) => {
            let task = random.below(TASKS as u64) as usize;
            return Move::Migrate { task, cpu: random.below(10) as u32 };
        }
        (6, Some(Member { name, .. })) if more && random.one_in(4) => return Move::Unplug { device: name },
        (7, Some(device)) => return Move::Plug { group: members.id, device },
        (8, _) if random.one_in(4) => return Move::Sleep,
        (9..=11, Some(Member { name, .. })) => {
            let task = random.below(TASKS as u64) as usize;
            return Move::Goes { task, what: going(run, name, random) };
        }
        _ => {}
    }
    let task = random.below(run.workers.len() as u64) as usize;
    let worker = &run.workers[task];
    if task >= TASKS || worker.running.is_some() || run.kernel.is_busy(worker.task.tid) {
        return Move::Go { task };
    }
    // What the culprits wait for comes soon.
    let awaited = |debt: &Debt| {
        more || run.sealed == Some(debt.group)
            || run.planted.contains(&debt.group) && matches!(debt.thing, Thing::Reset { .. })
    };
    let debts: Vec<Call> = worker.debts.iter().filter(|debt| awaited(debt)).map(Debt::back).collect();
    let back = random.pick(&debts).cloned();
    if let Some(call) = back.filter(|_| !more || random.one_in(2)) {
        return Move::Begin { task, call, faults: Faults::default() };
    }
    let group = match random.one_in(4) {
        true => members.id,
        false => world.groups[task % world.groups.len()].id,
    };
    match call(run, task, group, random).filter(|call| more && call_is_in(call, run.era())) {
        Some(call) => Move::Begin { task, call, faults: faults(run, random) },
        None => Move::Go { task },
    }
}

/// What attachments stand on, and goes.
fn going(run: &Run, device: &'static str, random: &mut Random) -> Going {
    let (pasid, mm) = (1 + random.below(4) as u32, 1 + random.below(3));
    let debts: Vec<&Debt> = run.workers.iter().flat_map(|worker| &worker.debts).collect();
    if let Some(debt) = random.pick(&debts).filter(|_| run.wild && random.one_in(3))
        && let Thing::Rid { domain, .. } | Thing::Pasid { domain, .. } = debt.thing
    {
        return Going::Domain(domain);
    }
    match random.below(if run.wild { 10 } else { 8 }) {
        0..=2 => Going::Domain(3001 + random.below(4)),
        3 => Going::Domain(3900 + random.below(3)),
        4 => Going::Take { device, pasid },
        5 => Going::Back(pasid),
        6..=7 => Going::Exit(mm),
        8 => Going::Domain(crate::kernel::sva_domain(mm)),
        _ => Going::Drop { mm, gives_back: random.one_in(2) },
    }
}

/// A random call of a task to a group.
fn call(run: &Run, task: usize, group: u32, random: &mut Random) -> Option<Call> {
    let devices = &run.kernel.groups.get(&group)?.devices;
    let device = random.pick(devices)?.name;
    let domain = if random.one_in(8) { 3900 + random.below(3) } else { 3001 + random.below(4) };
    let pasid = 1 + random.below(4) as u32;
    let owner = 70_000 + 100 * u64::from(group) + random.below(2);
    let debts = &run.workers[task].debts;
    let own = debts.iter().find(|debt| debt.group == group && matches!(debt.thing, Thing::Pasid { .. }));
    if random.one_in(12) {
        return Some(Call::ResetPrepare { device });
    }
    Some(match random.below(if run.wild { 24 } else { 17 }) {
        0 => Call::Use { device },
        // A claim of the group is the only one.
        1 => Call::Claim { group, owner: owner + 5 + task as u64 },
        2..=3 => Call::ClaimDevice { device, owner },
        4 => Call::AttachDevice { device, domain },
        5 => Call::AttachGroup { group, domain },
        6 => Call::AttachGroupHandle { group, domain },
        7 => {
            let handle =
                run.workers[task].owes(group, |thing| matches!(thing, Thing::Rid { way: Way::Handle, .. }));
            match handle {
                true => Call::ReplaceGroupHandle { group, domain },
                false => Call::ReplaceGroup { group, domain },
            }
        }
        8..=11 => Call::Attach { device, pasid, domain },
        12 => Call::AttachBare { device, pasid, domain },
        13..=14 => match own?.thing {
            Thing::Pasid { device, pasid, .. } => Call::Replace { device, pasid, domain },
            _ => return None,
        },
        15..=16 => {
            let mm = 1 + random.below(3);
            Call::Bind { device, mm, pasid: 50 + mm as u32 }
        }
        17..=18 => Call::Detach { device, pasid, domain },
        19 => Call::Unuse { device },
        20 => Call::Release { group },
        21 => Call::ReleaseDevice { device },
        22 => Call::DetachGroup { group, domain },
        _ => Call::Replace { device, pasid, domain },
    })
}

/// In a wild program the kernel is wrong every now and then.
fn faults(run: &Run, random: &mut Random) -> Faults {
    let mut faults = Faults::default();
    if run.wild && random.one_in(8) {
        match random.below(10) {
            7 => faults.switch_clears = true,
            8 => faults.switch_frees = true,
            9 => faults.detach_fails = true,
            0 => faults.release_keeps_owner = true,
            1 => faults.release_keeps_domain = true,
            2 => faults.unuse_keeps_count = true,
            3 => faults.attach_over = true,
            4 => faults.detach_keeps_entry = true,
            5 => faults.skips_last = true,
            _ => faults.replace_nothing = true,
        }
    }
    faults
}
