//! Random correct programs of several tasks, with every overlap of calls and every delay of a record
//! that the ring allows: nothing is raised, and the model ends where the kernel is.

use std::collections::{BTreeMap, BTreeSet};

use monitor::event::{Event, Task};
use monitor::input::Stage;
use proptest::prelude::*;

use crate::kernel::{Call, Era, Running, task};
use crate::rig::{NIC, NVME, Rig, raised};

const TASKS: u32 = 4;
const PASIDS: u32 = 4;
const DEVICES: [&str; 3] = [NVME, NIC, "0000:09:00.0"];

/// What a task has of a correct program: it gives back what it took, and nothing else.
struct Worker {
    task: Task,
    running: Option<Running>,
    /// Records of the running call that are reserved and not filled yet.
    device: &'static str,
    uses: bool,
    claims: bool,
    pasids: BTreeMap<u32, u64>,
    bound: bool,
}

struct Program {
    rig: Rig,
    workers: Vec<Worker>,
    /// Records that are reserved and not filled: the ring can't be read beyond them.
    late: Vec<usize>,
    /// Events that get lost on the way.
    losing: bool,
    lost: u64,
    random: u32,
}

impl Program {
    fn new(era: Era, losing: bool) -> Program {
        let mut rig = Rig::unwatched(era);
        rig.kernel.group(8, &[DEVICES[2]]);
        rig.bootstrap();
        let worker = |index: u32| Worker {
            task: task(40 + index, &format!("task{index}")),
            running: None,
            device: DEVICES[index as usize % DEVICES.len()],
            uses: false,
            claims: false,
            pasids: BTreeMap::new(),
            bound: false,
        };
        Program {
            rig,
            workers: (0..TASKS).map(worker).collect(),
            late: Vec::new(),
            losing,
            lost: 0,
            random: 7,
        }
    }

    /// One step: a choice says who moves, and how.
    fn step(&mut self, choice: u32) {
        self.random = self.random.wrapping_mul(1_664_525).wrapping_add(choice);
        let index = (choice % TASKS) as usize;
        let what = choice / TASKS;
        if what.is_multiple_of(7) {
            self.read();
        }
        if what.is_multiple_of(29) && self.late.is_empty() {
            self.rig.kernel.snapshot_all();
        }
        // Longer than any call takes: but for those under way, whatever was lost is over.
        if what.is_multiple_of(13) && self.workers.iter().all(|worker| worker.running.is_none()) {
            self.read();
            self.rig.kernel.sleep(600_000_000);
        }
        match self.workers[index].running.take() {
            None => self.start(index, what),
            Some(running) => self.advance(index, running, what),
        }
    }

    fn start(&mut self, index: usize, what: u32) {
        let Some(call) = self.next(index, what) else { return };
        let task = self.workers[index].task;
        let at = self.rig.kernel.log.len();
        self.workers[index].running = Some(self.rig.kernel.begin(&task, call));
        // Some calls are seen by their return alone.
        if what.is_multiple_of(3) && self.rig.kernel.log.len() > at {
            self.late.push(at);
        }
    }

    fn advance(&mut self, index: usize, mut running: Running, what: u32) {
        if !running.acted() {
            // A program runs before the function that it is attached to: its record is filled by then.
            self.fill();
            if self.may_act(&running) {
                self.rig.kernel.act(&mut running);
            }
            self.workers[index].running = Some(running);
            return;
        }
        let call = running.call.clone();
        let at = self.rig.kernel.log.len();
        let ret = self.rig.kernel.end(running);
        if what.is_multiple_of(2) {
            self.late.push(at);
        }
        self.note(index, call, ret);
    }

    /// What the task holds after a call.
    fn note(&mut self, index: usize, call: Call, ret: i32) {
        let worker = &mut self.workers[index];
        match call {
            Call::Use { .. } => worker.uses |= ret == 0,
            Call::Unuse { .. } => worker.uses = false,
            Call::ClaimDevice { .. } | Call::Claim { .. } => worker.claims |= ret == 0,
            Call::ReleaseDevice { .. } | Call::Release { .. } => worker.claims = false,
            Call::Attach { pasid, domain, .. } | Call::Replace { pasid, domain, .. } if ret == 0 => {
                worker.pasids.insert(pasid, domain);
            }
            Call::Detach { pasid, .. } => drop(worker.pasids.remove(&pasid)),
            Call::Bind { .. } => worker.bound |= ret == 0,
            Call::Unbind { .. } => worker.bound = false,
            _ => {}
        }
    }

    /// A call that is right for the task to make now.
    fn next(&self, index: usize, what: u32) -> Option<Call> {
        let worker = &self.workers[index];
        let device = worker.device;
        let group = self.rig.kernel.group_of(device);
        let pasid = 1 + what % PASIDS;
        let domain = 3000 + u64::from(what % 3) + 1;
        let holds = worker.uses || worker.claims;
        let letting_go = self.in_group(group).any(|running| is_release(&running.call));
        let mine = worker.pasids.get(&pasid);
        match what % 11 {
            0 if !holds => Some(Call::Use { device }),
            1 if !holds => Some(Call::ClaimDevice { device, owner: 70_000 + index as u64 }),
            2 if !holds => Some(Call::Claim { group, owner: 80_000 + index as u64 }),
            3 | 4 if holds && !letting_go && mine.is_none() => Some(Call::Attach { device, pasid, domain }),
            5 | 6 if mine.is_some() => mine.map(|&domain| Call::Detach { device, pasid, domain }),
            7 if self.rig.kernel.era == Era::Tagged && mine.is_some_and(|&had| had != domain) => {
                Some(Call::Replace { device, pasid, domain })
            }
            8 if holds && !letting_go && !worker.bound => {
                Some(Call::Bind { device, mm: 9 + index as u64, pasid: 50 + index as u32 })
            }
            9 if worker.bound => Some(Call::Unbind { device, mm: 9 + index as u64 }),
            10 if holds && self.empties(group, index) => Some(match (worker.uses, what % 2) {
                (true, _) => Call::Unuse { device },
                (false, _) if self.rig.kernel.groups[&group].owner >= 80_000 => Call::Release { group },
                (false, _) => Call::ReleaseDevice { device },
            }),
            _ => None,
        }
    }

    /// Every PASID of the group is gone, or about to go.
    fn empties(&self, group: u32, index: usize) -> bool {
        let worker = &self.workers[index];
        let own = worker.pasids.is_empty() && !worker.bound;
        let coming = self.in_group(group).any(|running| {
            matches!(running.call, Call::Attach { .. } | Call::Bind { .. } | Call::Replace { .. })
        });
        let going: BTreeSet<u32> = self
            .in_group(group)
            .filter_map(|running| match running.call {
                Call::Detach { pasid, .. } => Some(pasid),
                _ => None,
            })
            .collect();
        own && !coming && self.rig.kernel.pasids(group).iter().all(|pasid| going.contains(pasid))
    }

    /// A correct program has waited for the detaches before it lets go.
    fn may_act(&self, running: &Running) -> bool {
        let group = group_of(&self.rig, &running.call);
        !is_release(&running.call) || self.rig.kernel.pasids(group).is_empty()
    }

    fn in_group(&self, group: u32) -> impl Iterator<Item = &Running> {
        let running = self.workers.iter().filter_map(|worker| worker.running.as_ref());
        running.filter(move |running| group_of(&self.rig, &running.call) == group)
    }

    /// What is reserved gets filled, with what is there now.
    fn fill(&mut self) {
        for index in std::mem::take(&mut self.late) {
            self.rig.kernel.fill_late(index);
        }
    }

    /// The watcher reads the ring until it is empty, and then asks what was dropped.
    fn read(&mut self) {
        self.fill();
        for event in std::mem::take(&mut self.rig.kernel.log) {
            if self.losing && self.chance(&event) {
                self.lost += 1;
            } else {
                self.rig.feed(event);
            }
        }
        self.rig.dropped = self.rig.dropped.max(self.lost);
        self.rig.watch();
    }

    fn chance(&mut self, event: &Event) -> bool {
        self.random = self.random.wrapping_mul(1_103_515_245).wrapping_add(event.mono_ns as u32 | 1);
        self.random >> 16 & 31 == 0
    }

    /// Everybody finishes what he began and gives back what he has.
    fn finish(&mut self) {
        let mut guard = 0;
        while self.workers.iter().any(|worker| worker.running.is_some()) {
            for index in 0..self.workers.len() {
                if let Some(running) = self.workers[index].running.take() {
                    self.advance(index, running, 1);
                }
            }
            guard += 1;
            assert!(guard < 100, "a deadlock of the program");
        }
        self.read();
        self.losing = false;
    }
}

impl Program {
    /// Everybody gives back what he has.
    fn give_back(&mut self) {
        for index in 0..self.workers.len() {
            let worker = &self.workers[index];
            let (task, device) = (worker.task, worker.device);
            let mut calls: Vec<Call> = Vec::new();
            calls.extend(worker.pasids.iter().map(|(&pasid, &domain)| Call::Detach {
                device,
                pasid,
                domain,
            }));
            calls.extend(worker.bound.then_some(Call::Unbind { device, mm: 9 + index as u64 }));
            self.rig.calls(&task, calls);
        }
        for worker in &self.workers {
            let device = worker.device;
            let owner = self.rig.kernel.groups[&self.rig.kernel.group_of(device)].owner;
            let call = match (worker.uses, worker.claims) {
                (true, _) => Call::Unuse { device },
                (false, true) if owner >= 80_000 => Call::Release { group: self.rig.kernel.group_of(device) },
                (false, true) => Call::ReleaseDevice { device },
                (false, false) => continue,
            };
            self.rig.calls(&worker.task, [call]);
        }
    }
}

fn is_release(call: &Call) -> bool {
    matches!(call, Call::Unuse { .. } | Call::Release { .. } | Call::ReleaseDevice { .. })
}

fn group_of(rig: &Rig, call: &Call) -> u32 {
    match call {
        Call::Claim { group, .. }
        | Call::Release { group }
        | Call::AttachGroup { group, .. }
        | Call::DetachGroup { group, .. } => *group,
        Call::ClaimDevice { device, .. }
        | Call::ReleaseDevice { device }
        | Call::Use { device }
        | Call::Unuse { device }
        | Call::Attach { device, .. }
        | Call::AttachBare { device, .. }
        | Call::Replace { device, .. }
        | Call::Detach { device, .. }
        | Call::Bind { device, .. }
        | Call::Unbind { device, .. } => rig.kernel.group_of(device),
    }
}

fn run(era: usize, choices: &[u32], losing: bool) -> Program {
    let mut program = Program::new(Era::WITH_PASIDS[era], losing);
    choices.iter().for_each(|&choice| program.step(choice));
    program.finish();
    program.rig.idle(1_000_000_000);
    program
}

/// How many programs are tried: `PROPTEST_CASES` says otherwise.
fn config() -> ProptestConfig {
    ProptestConfig { max_shrink_iters: 20_000, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn correct_programs_raise_nothing_and_the_model_follows(
        era in 0..3_usize,
        choices in prop::collection::vec(any::<u32>(), 0..400),
    ) {
        let mut program = run(era, &choices, false);
        prop_assert_eq!(program.rig.raised(), []);
        prop_assert_eq!(program.rig.watcher.counters().lost(Stage::Ring), 0);
        for group in program.rig.watcher.groups() {
            let truth = &program.rig.kernel.groups[&group.id];
            prop_assert_eq!(group.owner_cnt, Some(truth.owner_cnt));
            let pasids = group.pasids.expect("known");
            let pasids: Vec<u32> = pasids.iter().map(|pasid| pasid.pasid).collect();
            prop_assert_eq!(pasids, program.rig.kernel.pasids(group.id));
        }
    }

    #[test]
    fn correct_programs_raise_nothing_whatever_gets_lost(
        era in 0..3_usize,
        choices in prop::collection::vec(any::<u32>(), 0..400),
    ) {
        let program = run(era, &choices, true);
        prop_assert_eq!(program.rig.raised(), []);
    }

    #[test]
    fn a_fault_is_caught_after_any_correct_program(
        era in 0..3_usize,
        choices in prop::collection::vec(any::<u32>(), 0..200),
    ) {
        let mut program = run(era, &choices, false);
        let rig = &mut program.rig;
        let free = PASIDS + 10;
        let culprit = task(90, "culprit");
        rig.kernel.call(&culprit, Call::Detach { device: NVME, pasid: free, domain: 3001 });
        rig.expect(&[raised("attach-imbalance", 7, &[free], "", "culprit")]);
    }

    #[test]
    fn a_leftover_is_caught_after_any_correct_program(
        era in 0..3_usize,
        choices in prop::collection::vec(any::<u32>(), 0..200),
    ) {
        let mut program = run(era, &choices, false);
        program.give_back();
        let culprit = task(90, "culprit");
        let rig = &mut program.rig;
        let device = DEVICES[2];
        rig.calls(&culprit, [Call::Use { device }, Call::Attach { device, pasid: 3, domain: 3001 }]);
        rig.calls(&culprit, [Call::Unuse { device }]);
        let expected = raised("pasid-left-on-release", 8, &[3], "culprit", "culprit");
        rig.expect(&[expected.implying(&["ownership-leaked"])]);
    }
}
