//! A program under way: many tasks on a simulated kernel, with a watcher that reads the ring.

use std::collections::{BTreeMap, BTreeSet};

use monitor::event::Event;
use monitor::input::{Input, Lost, Resync, Stage};
use monitor::watcher::{Options, Report, Watcher};
use monitor_ebpf::wire::Hook;

use crate::kernel::{Call, Dev, Era, Faults, Kernel, Look, Loss, Running, task};
use crate::rig::Raised;

use super::batch::{Batch, ghost, is_ghost};
use super::going::Went;
use super::moves::Move;
use super::verdicts;
use super::worker::{Scene, Thing, Worker, gives_hold_back, is_reset, works_on_pasids};
use super::world::{CULPRITS, Member, TASKS, World};

pub struct Run {
    pub kernel: Kernel,
    pub watcher: Watcher,
    pub reports: Vec<Report>,
    pub batches: Vec<Batch>,
    pub workers: Vec<Worker>,
    /// Batches are kept.
    pub recorded: bool,
    /// The kernel has nothing for this hook.
    lacking: Option<Hook>,
    /// A program that is not correct: any call may be made.
    pub wild: bool,
    /// The groups of [`Move::Plant`], and the one that the culprits have for themselves.
    pub planted: Vec<u32>,
    pub sealed: Option<u32>,
    guests: bool,
    /// The PASIDs that a culprit leaves.
    pub left: BTreeSet<u32>,
    /// The group that somebody reads, and how far he came.
    look: Option<(u32, usize)>,
    /// Groups that are new, and that nobody has looked at yet.
    renewed: BTreeSet<u32>,
    /// Groups that were renewed at any time.
    pub ever_renewed: BTreeSet<u32>,
    /// A culprit began a call on a group that the watcher did not know.
    pub blind: bool,
    told: (u64, u64),
    /// PASIDs that drivers took for their own use, with the group that it was for.
    pub taken: BTreeMap<u32, u32>,
    /// What was true when something went.
    pub went: Vec<Went>,
}

impl Run {
    pub fn new(world: &World, recorded: bool, options: Options, lacking: Option<Hook>) -> Run {
        let mut kernel = Kernel::new(world.era);
        kernel.driver_reports = true;
        for members in &world.groups {
            let names: Vec<&'static str> = members.devices.iter().map(|member| member.name).collect();
            kernel.group(members.id, &names);
            for (device, member) in kernel.group_mut(members.id).devices.iter_mut().zip(&members.devices) {
                (device.max_pasids, device.bound) = (member.max_pasids, member.bound);
            }
        }
        let worker = |index: usize| {
            let name =
                if index < TASKS { format!("task{index}") } else { format!("culprit{}", index - TASKS) };
            Worker { task: task(40 + index as u32, &name), running: None, debts: Vec::new(), last: None }
        };
        let workers: Vec<Worker> = (0..TASKS + CULPRITS).map(worker).collect();
        kernel.cpus = workers.iter().zip(0..).map(|(worker, cpu)| (worker.task.tid, cpu)).collect();
        let watcher = Watcher::new(options);
        let (reports, batches) = (Vec::new(), Vec::new());
        let mut run = Run {
            kernel,
            watcher,
            reports,
            batches,
            workers,
            recorded,
            lacking,
            wild: false,
            planted: Vec::new(),
            sealed: None,
            guests: true,
            left: BTreeSet::new(),
            look: None,
            renewed: BTreeSet::new(),
            ever_renewed: BTreeSet::new(),
            blind: false,
            told: (0, 0),
            taken: BTreeMap::new(),
            went: Vec::new(),
        };
        run.settle();
        run.kernel.lazy = true;
        run
    }

    /// What gets lost comes from this seed.
    pub fn lossy(&mut self, seed: u64) {
        self.kernel.loss = Some(Loss { seed, ..Loss::default() });
    }

    pub fn era(&self) -> Era {
        self.kernel.era
    }

    /// `false`: it can't be made now, or a correct program would not make it; nothing has happened.
    pub fn make(&mut self, step: &Move) -> bool {
        match step {
            Move::Begin { task, call, faults } => return self.begin(*task, call, *faults),
            Move::Go { task } => return self.go(*task),
            Move::Migrate { task, cpu } => {
                let tid = self.workers[*task].task.tid;
                self.kernel.cpus.insert(tid, *cpu);
            }
            Move::Read => self.read(),
            Move::Snapshot { group } if self.exists(*group) => {
                if !self.kernel.is_free(*group) {
                    return false;
                }
                self.tell(Input::Resync(Resync::Audit));
                self.kernel.snapshot(*group);
                self.renewed.remove(group);
            }
            Move::Look { group } => return self.look(*group),
            Move::Unplug { device } if self.may_unplug(device) => self.kernel.unplug(device),
            Move::Plug { group, device } if self.may_plug(*group, device.name) => {
                if !self.exists(*group) {
                    self.renewed.insert(*group);
                    self.ever_renewed.insert(*group);
                    self.kernel.group(*group, &[]);
                }
                let fresh = self.kernel.device(device.name);
                let Member { max_pasids, bound, .. } = *device;
                self.kernel.plug(*group, Dev { max_pasids, bound, ..fresh });
            }
            Move::Share { device, with } if self.is_there(device) && self.is_there(with) => {
                self.share(device, with)
            }
            Move::Plant { groups, alone, guests } => {
                self.guests = *guests;
                self.sealed = groups.first().copied().filter(|_| *alone);
                self.planted.clone_from(groups);
            }
            Move::Goes { task, what } => return self.goes(*task, *what),
            Move::Sleep if self.is_calm() => {
                self.read();
                self.kernel.sleep(600_000_000);
            }
            Move::Lose { one_in } => match &mut self.kernel.loss {
                Some(loss) => loss.one_in = *one_in,
                None => return false,
            },
            _ => return false,
        }
        true
    }

    fn look(&mut self, group: u32) -> bool {
        let (group, part) = match self.look {
            Some((group, at)) => (group, at + 1),
            None => (group, 0),
        };
        self.look = None;
        let Some(&now) = Look::ALL.get(part).filter(|_| self.exists(group)) else { return false };
        if now == Look::Devices && !self.kernel.is_free(group) {
            self.look = Some((group, part - 1));
            return false;
        }
        self.kernel.look(&task(3, "somebody"), group, now);
        self.look = Some((group, part)).filter(|_| now != Look::Return);
        true
    }

    fn has_driver(&self, group: u32) -> bool {
        self.kernel.groups[&group].devices.iter().any(|device| device.bound)
    }

    pub fn exists(&self, group: u32) -> bool {
        self.kernel.groups.contains_key(&group)
    }

    pub fn is_there(&self, device: &str) -> bool {
        self.kernel.groups.values().flat_map(|group| &group.devices).any(|member| member.name == device)
    }

    /// The group that a call is about, if it and its device are there.
    pub fn group_of(&self, call: &Call) -> Option<u32> {
        match call.device() {
            Some(device) => self.is_there(device).then(|| self.kernel.group_of(device)),
            None => call.group().filter(|&group| self.exists(group)),
        }
    }

    fn begin(&mut self, index: usize, call: &Call, faults: Faults) -> bool {
        let Some(group) = self.group_of(call) else { return false };
        let worker = &self.workers[index];
        if worker.running.is_some() || self.kernel.is_busy(worker.task.tid) {
            return false;
        }
        let scene = self.scene(group);
        if index < TASKS && !self.wild && !scene.allows(index, call, self.sealed) {
            return false;
        }
        // The driver core binds and unbinds a device under the device's lock.
        let of_driver = |call: &Call| match *call {
            Call::Use { device } | Call::Unuse { device } => Some(device),
            _ => None,
        };
        if of_driver(call).is_some()
            && self.busy_with(group).any(|other| of_driver(&other.call) == of_driver(call))
        {
            return false;
        }
        // A process that has exited calls no more.
        if matches!(call, Call::Bind { mm, .. } if self.kernel.mms.get(mm).is_some_and(|mm| mm.exited)) {
            return false;
        }
        // No reset gets in the way of what is planted.
        if matches!(call, Call::ResetPrepare { .. }) && self.planted.contains(&group) {
            return false;
        }
        // Even a wild driver attaches PASIDs only while it is bound, or has claimed the group. Modules do as they like.
        let let_go = || self.busy_with(group).any(|other| gives_hold_back(&other.call));
        let held = self.kernel.groups[&group].owner_cnt > 0 || !self.has_driver(group);
        if self.wild && works_on_pasids(call) && (!held || let_go()) {
            return false;
        }
        self.blind |= index >= TASKS && !self.is_known(group);
        self.kernel.faults = faults;
        self.workers[index].running =
            Some(self.kernel.begin(&self.workers[index].task.clone(), call.clone()));
        self.kernel.faults = Faults::default();
        true
    }

    fn go(&mut self, index: usize) -> bool {
        if self.kernel.fill(self.workers[index].task.tid) {
            return true;
        }
        let Some(mut running) = self.workers[index].running.take() else { return false };
        if !running.acted() {
            let went_on = self.may_go_on(index, &running) && self.kernel.advance(&mut running);
            self.workers[index].running = Some(running);
            return went_on;
        }
        let (call, group) = (running.call.clone(), running.group());
        let ret = self.kernel.end(running);
        self.workers[index].last = Some((group, call.clone()));
        self.workers[index].note(group, &call, ret);
        true
    }

    fn may_go_on(&self, index: usize, running: &Running) -> bool {
        if !running.waits() {
            return true;
        }
        // Nobody lets go in the middle of the attaching of a PASID.
        let attaching = || self.busy_with(running.group()).any(|other| works_on_pasids(&other.call));
        if self.wild {
            return !gives_hold_back(&running.call) || !attaching();
        }
        let left = |index: &u32| self.left.contains(index);
        let guests_are_gone = || self.kernel.state(running.group()).array.keys().all(left);
        match index < TASKS {
            true => self.scene(running.group()).may_go_on(&running.call),
            false => !gives_hold_back(&running.call) || guests_are_gone() && !attaching(),
        }
    }

    pub fn scene(&self, group: u32) -> Scene<'_> {
        Scene { kernel: &self.kernel, workers: &self.workers, group, guests: self.guests }
    }

    /// Reads what the ring has, is told what got lost, and then raises.
    pub fn read(&mut self) {
        let events = self.kernel.take_ready();
        let drained = self.kernel.is_drained();
        if self.recorded {
            self.batches.push(Batch { events: events.clone(), drained, now: self.kernel.now });
        }
        let told = |event: &Event| !is_ghost(event.task.tid) && Some(event.hook) != self.lacking;
        for event in events.into_iter().filter(told).collect::<Vec<_>>() {
            self.tell(Input::Event(event.into()));
        }
        let (dropped, missed) = (self.kernel.dropped - self.told.0, self.kernel.missed - self.told.1);
        self.told = (self.kernel.dropped, self.kernel.missed);
        for (stage, count) in [(Stage::Ring, dropped), (Stage::Kernel, missed)] {
            self.tell(Input::Lost(Lost { stage, count, groups: None }));
        }
        if drained {
            self.tell(Input::Settled);
        }
        for group in self.watcher.unknown_groups().into_iter().chain(self.watcher.wanted_looks()) {
            self.ask(group);
        }
        let free: Vec<u32> =
            self.kernel.groups.keys().copied().filter(|&group| self.kernel.is_free(group)).collect();
        for group in free.into_iter().filter(|_| self.recorded) {
            self.kernel.snapshot_by(&ghost(self.batches.len() - 1), group);
        }
    }

    fn tell(&mut self, input: Input) {
        self.reports.extend(self.watcher.take(input, self.kernel.now));
    }

    /// Nobody is in a call, or has still to do with his last record.
    pub fn is_calm(&self) -> bool {
        let calm = |worker: &Worker| worker.running.is_none() && !self.kernel.is_busy(worker.task.tid);
        self.workers.iter().all(calm)
    }

    pub fn busy_with(&self, group: u32) -> impl Iterator<Item = &Running> {
        let running = self.workers.iter().filter_map(|worker| worker.running.as_ref());
        running.filter(move |running| running.group() == group)
    }

    /// A member is being reset, or is about to be.
    pub fn resets(&self, group: u32) -> bool {
        let owes = |worker: &Worker| worker.owes(group, |thing| matches!(thing, Thing::Reset { .. }));
        self.workers.iter().any(owes) || self.busy_with(group).any(|running| is_reset(&running.call))
    }

    fn share(&mut self, device: &str, with: &str) {
        let mut devices = self.kernel.groups.values().flat_map(|group| &group.devices);
        let table = devices.find(|member| member.name == with).map_or(0, |member| member.table);
        let members = self.kernel.groups.values_mut().flat_map(|group| &mut group.devices);
        members.filter(|member| member.name == device).for_each(|member| member.table = table);
    }

    /// Everybody ends the call he is in. Who waits for others to give something back gets it.
    pub fn quiesce(&mut self) -> Result<(), String> {
        for _ in 0..100_000 {
            if self.is_calm() && self.look.is_none() {
                return Ok(());
            }
            let mut moved = self.look.is_some_and(|(group, _)| self.look(group) || self.look.is_none());
            for task in 0..self.workers.len() {
                moved |= self.go(task);
            }
            if !moved {
                let waited_for: Vec<u32> =
                    self.workers.iter().filter_map(|one| Some(one.running.as_ref()?.group())).collect();
                moved = self.give_back(|group, hold| waited_for.contains(&group) && !hold);
            }
            if !moved {
                break;
            }
        }
        let stuck: Vec<&Running> = self.workers.iter().filter_map(|worker| worker.running.as_ref()).collect();
        Err(format!("the program came to a deadlock: {stuck:?}"))
    }

    /// Whoever has nothing else to do begins to give something back.
    pub fn give_back(&mut self, what: impl Fn(u32, bool) -> bool) -> bool {
        let mut begun = false;
        for task in 0..TASKS {
            let wanted = self.workers[task].debts.iter().filter(|debt| what(debt.group, debt.is_hold()));
            let calls: Vec<Call> = wanted.map(|debt| debt.back()).collect();
            begun |= calls.iter().any(|call| self.begin(task, call, Faults::default()));
        }
        begun
    }

    /// The watcher reads every group when nothing goes on, once more after its time of grace. By then it has given up
    /// the calls whose return got lost.
    pub fn settle(&mut self) {
        self.kernel.loss = None;
        for _ in 0..2 {
            self.read();
            self.kernel.sleep(40_000_000_000);
            self.read();
            self.kernel.snapshot_all();
            self.read();
        }
    }

    /// Asks for a group that is not known, and may be gone.
    fn ask(&mut self, group: u32) {
        if !self.exists(group) {
            self.tell(Input::Gone(group));
        } else if self.kernel.is_free(group) {
            self.kernel.snapshot(group);
            self.renewed.remove(&group);
        }
    }

    /// Who reads the ring so far knows the group.
    pub fn is_known(&self, group: u32) -> bool {
        !self.renewed.contains(&group)
    }

    /// The faults that were raised; refusals are [`super::refusals`]'.
    pub fn raised(&self) -> Vec<Raised> {
        verdicts::blamed(self, &self.reports, &self.watcher)
    }
}
