//! What the tasks of the host do: correct calls, each a few records, of several tasks at once.

use std::collections::VecDeque;

use monitor_ebpf::wire::{Hook, Phase};

use crate::step::{Step, attach_rid, bond, process_goes, rid};
use crate::world::{Batch, Call, Entry, SVA_DOMAINS, Use, World, address, domain};

/// Tasks that are in a call at the same time.
const TASKS: usize = 8;
/// PASIDs have 20 bits (PCIe 6.0, 10.5).
const PASID_BITS: u32 = 20;

#[derive(Default)]
struct Worker {
    group: usize,
    steps: VecDeque<Step>,
}

/// The host with its tasks at work.
pub struct Workload {
    pub world: World,
    workers: Vec<Worker>,
    /// How many PASIDs are to be live.
    target: usize,
    /// PASIDs that are attached, or about to be.
    live: usize,
    random: u64,
    /// By PASID: groups that a process is bound to with it, or about to be. With the first its PASID is taken, with the
    /// last the process goes.
    bound: Vec<u16>,
}

impl Workload {
    /// Of eight groups five have a tenant, two a driver that binds processes, one is spare.
    pub fn new(groups: u32) -> Workload {
        let serves = |id| match id % 8 {
            0 => Use::Spare,
            1 | 2 => Use::Driver,
            _ => Use::Tenant,
        };
        let workers = (0..TASKS).map(|_| Worker::default()).collect();
        let bound = vec![0; 1 << PASID_BITS];
        Workload { world: World::new(groups, serves), workers, target: 0, live: 0, random: 1, bound }
    }

    /// Attaches as many PASIDs as there shall be, in groups at random: a batch of at most `records`; says
    /// whether there are more to come.
    pub fn fill(&mut self, target: usize, records: usize, batch: &mut Batch, sva: Option<bool>) -> bool {
        self.target = target;
        while self.live < target && batch.len() < records {
            let group = self.pick(sva);
            self.workers[0].group = group;
            self.attach(0, group);
            while self.step(0, batch) {}
        }
        self.live < target
    }

    /// The tasks go on until `records` were made.
    pub fn work(&mut self, records: usize, batch: &mut Batch) {
        while batch.len() < records {
            let task = self.below(TASKS);
            if !self.step(task, batch) {
                self.start(task);
            }
        }
    }

    /// Every call that is under way returns.
    pub fn finish(&mut self, batch: &mut Batch) {
        for task in 0..TASKS {
            while self.step(task, batch) {}
        }
    }

    /// A fault: somebody detaches a PASID that isn't attached.
    pub fn misbehave(&mut self, batch: &mut Batch) {
        let group = self.pick(Some(false));
        let pasid = self.free_pasid(group);
        let call = Call { pasid, domain: Some(domain(1, 2)), ..Call::on(Hook::PasidDetach, group, 0) };
        self.world.record(&call, Phase::Begin, 0, batch);
        self.world.record(&call, Phase::End, 0, batch);
    }

    /// One step of what the task does; `false`: it is idle.
    fn step(&mut self, task: usize, batch: &mut Batch) -> bool {
        let Worker { group, steps } = &mut self.workers[task];
        let Some(step) = steps.pop_front() else { return false };
        let state = &mut self.world.groups[*group];
        match step {
            Step::Record(call, phase, ret) => self.world.record(&call, phase, ret, batch),
            Step::Attach(entry) => {
                if let Err(index) = state.find(entry.pasid) {
                    state.array.insert(index, entry);
                }
            }
            Step::Replace(pasid, domain) => {
                if let Ok(index) = state.find(pasid) {
                    state.array[index].domain = domain;
                }
            }
            Step::Detach(pasid) => {
                if let Ok(index) = state.find(pasid) {
                    state.array.remove(index);
                }
            }
            Step::Calm(pasid) => {
                if let Ok(index) = state.find(pasid) {
                    state.array[index].busy = false;
                }
            }
            Step::Own(owner, count, domain) => {
                (state.owner, state.count, state.domain) = (owner, count, domain);
            }
            Step::Count(change) => {
                state.count = state.count.saturating_add_signed(change);
                state.leaving -= u32::from(change < 0);
            }
            Step::Domain(domain) => state.domain = domain,
            Step::Leave => state.taken = false,
        }
        true
    }

    /// The task begins something that is right to do now.
    fn start(&mut self, task: usize) {
        let other = self.below(TASKS);
        let group = if self.below(4) == 0 { self.workers[other].group } else { self.pick(None) };
        if self.below(32) == 0 {
            return self.serve(task);
        }
        if self.world.groups[group].serves == Use::Spare {
            return;
        }
        self.workers[task].group = group;
        match self.below(16) {
            0 => self.count(task, group),
            1 if self.world.groups[group].serves == Use::Tenant => self.switch(task, group),
            2 if self.world.groups[group].serves == Use::Tenant => self.replace(task, group),
            _ if self.live < self.target => self.attach(task, group),
            _ => self.detach(task, group),
        }
    }

    /// A new PASID: a tenant's attach, or a driver's bind of a process.
    fn attach(&mut self, task: usize, group: usize) {
        let pasid = self.free_pasid(group);
        let sva = self.world.groups[group].serves == Use::Driver;
        let id = self.world.groups[group].id;
        let number = if sva { SVA_DOMAINS + (pasid % 1024) as u16 } else { 2 + (pasid % 4) as u16 };
        let to = Some(domain(id, number));
        let set_up = if sva { Hook::VtdSetupFirst } else { Hook::VtdSetupSecond };
        let call = Call { pasid, domain: to, ..Call::on(Hook::PasidAttach, group, task) };
        let bind = Call { mm: address(7, pasid), ..Call::on(Hook::SvaBind, group, task) };
        let steps = &mut self.workers[task].steps;
        if sva {
            steps.push_back(Step::Record(bind, Phase::Begin, 0));
            let bound = &mut self.bound[pasid as usize];
            *bound += 1;
            if *bound == 1 {
                let take = Call { hook: Hook::PasidAlloc, ..bind };
                steps.push_back(Step::Record(take, Phase::End, i64::from(pasid)));
            }
        }
        steps.extend([
            Step::Record(call, Phase::Begin, 0),
            Step::Record(Call { pasid, ..Call::on(set_up, group, task) }, Phase::End, 0),
            Step::Attach(Entry { pasid, domain: number, busy: true }),
            Step::Record(call, Phase::End, 0),
        ]);
        if sva {
            steps.push_back(Step::Record(bind, Phase::End, bond(group, pasid)));
        }
        steps.push_back(Step::Calm(pasid));
        self.live += 1;
    }

    fn detach(&mut self, task: usize, group: usize) {
        let Some(Entry { pasid, domain: number, .. }) = self.choose(group) else { return };
        let domain = domain(self.world.groups[group].id, number);
        let sva = self.world.groups[group].serves == Use::Driver;
        let unbind = Call {
            handle: bond(group, pasid) as u64,
            domain: Some(domain),
            mm: address(7, pasid),
            ..Call::on(Hook::SvaUnbind, group, task)
        };
        let call = Call { pasid, domain: Some(domain), ..Call::on(Hook::PasidDetach, group, task) };
        let tear_down = Call { pasid, ..Call::on(Hook::VtdTearDown, group, task) };
        let steps = &mut self.workers[task].steps;
        if sva {
            steps.push_back(Step::Record(unbind, Phase::Begin, 0));
        }
        steps.extend([
            Step::Record(call, Phase::Begin, 0),
            Step::Record(tear_down, Phase::Begin, 0),
            Step::Record(tear_down, Phase::End, 0),
            Step::Detach(pasid),
            Step::Record(call, Phase::End, 0),
        ]);
        if sva {
            let mm = address(7, pasid);
            let free = Call { pasid, domain: Some(domain), mm, ..Call::on(Hook::DomainFree, group, task) };
            let free = Call { device: false, ..free };
            steps.push_back(Step::Record(free, Phase::Point, 0));
            steps.push_back(Step::Record(unbind, Phase::End, 0));
            let bound = &mut self.bound[pasid as usize];
            *bound -= 1;
            if *bound == 0 {
                steps.extend(process_goes(pasid, group, task));
            }
        }
        self.live -= 1;
    }

    fn replace(&mut self, task: usize, group: usize) {
        let Some(Entry { pasid, domain: had, .. }) = self.choose(group) else { return };
        let number = had ^ 1;
        let to = Some(domain(self.world.groups[group].id, number));
        let call = Call { pasid, domain: to, ..Call::on(Hook::PasidReplace, group, task) };
        self.workers[task].steps.extend([
            Step::Record(call, Phase::Begin, 0),
            Step::Replace(pasid, number),
            Step::Record(call, Phase::End, 0),
            Step::Calm(pasid),
        ]);
    }

    /// Another claim of the tenant or another driver's use, or one of them given back.
    fn count(&mut self, task: usize, group: usize) {
        let state = &mut self.world.groups[group];
        let (take, give) = match state.serves {
            Use::Tenant => (Hook::ClaimDevice, Hook::ReleaseDevice),
            Use::Driver | Use::Spare => (Hook::UseDefault, Hook::UnuseDefault),
        };
        let gives = state.count - state.leaving >= 2;
        state.leaving += u32::from(gives);
        let hook = if gives { give } else { take };
        let owner = if hook == Hook::ClaimDevice { state.owner } else { 0 };
        let call = Call { owner, ..Call::on(hook, group, task) };
        self.workers[task].steps.extend([
            Step::Record(call, Phase::Begin, 0),
            Step::Count(if gives { -1 } else { 1 }),
            Step::Record(call, Phase::End, 0),
        ]);
    }

    /// iommufd moves a group's RIDs to another domain.
    fn switch(&mut self, task: usize, group: usize) {
        if std::mem::replace(&mut self.world.groups[group].taken, true) {
            return;
        }
        let to = domain(self.world.groups[group].id, 2 + self.below(4) as u16);
        self.workers[task].steps.extend(rid(group, task, to, Hook::ReplaceGroupHandle));
        self.workers[task].steps.push_back(Step::Leave);
    }

    /// A group that nobody has is given to a tenant, who makes a domain for it, uses a PASID and gives all of it back.
    fn serve(&mut self, task: usize) {
        let group = self.below(self.world.groups.len() / 8) * 8 + 7;
        if std::mem::replace(&mut self.world.groups[group].taken, true) {
            return;
        }
        self.workers[task].group = group;
        let id = self.world.groups[group].id;
        let owner = address(6, id);
        let (default, blocking, own) = (domain(id, 0), domain(id, 1), domain(id, 2));
        let claim = Call { owner, ..Call::on(Hook::ClaimDevice, group, task) };
        let release = Call::on(Hook::ReleaseDevice, group, task);
        let locked = Call { device: false, ..Call::on(Hook::ReleaseLocked, group, task) };
        let steps = &mut self.workers[task].steps;
        steps.push_back(Step::Record(claim, Phase::Begin, 0));
        steps.extend(attach_rid(group, task, blocking));
        steps.push_back(Step::Own(owner, 1, blocking));
        steps.push_back(Step::Record(claim, Phase::End, 0));
        let alloc = Call { domain: Some(own), ..Call::on(Hook::DomainAlloc, group, task) };
        steps.push_back(Step::Record(alloc, Phase::End, own.key as i64));
        steps.extend(rid(group, task, own, Hook::AttachGroupHandle));
        self.attach(task, group);
        // What it has attached is known by now: the last entry of its steps names it.
        let attached = self.workers[task].steps.iter().rev().find_map(|step| match step {
            Step::Attach(entry) => Some(*entry),
            _ => None,
        });
        if let Some(Entry { pasid, domain: number, .. }) = attached {
            let domain = domain(id, number);
            let call = Call { pasid, domain: Some(domain), ..Call::on(Hook::PasidDetach, group, task) };
            let tear_down = Call { pasid, ..Call::on(Hook::VtdTearDown, group, task) };
            self.workers[task].steps.extend([
                Step::Record(call, Phase::Begin, 0),
                Step::Record(tear_down, Phase::Begin, 0),
                Step::Record(tear_down, Phase::End, 0),
                Step::Detach(pasid),
                Step::Record(call, Phase::End, 0),
            ]);
            self.live -= 1;
        }
        let steps = &mut self.workers[task].steps;
        steps.extend(rid(group, task, blocking, Hook::DetachGroupHandle));
        steps.push_back(Step::Record(release, Phase::Begin, 0));
        steps.push_back(Step::Record(locked, Phase::Begin, 0));
        steps.extend(attach_rid(group, task, default));
        steps.extend([
            Step::Own(0, 0, default),
            Step::Record(locked, Phase::End, 0),
            Step::Record(release, Phase::End, 0),
            Step::Record(Call { hook: Hook::DomainFree, device: false, ..alloc }, Phase::Point, 0),
            Step::Leave,
        ]);
    }

    /// A group with PASIDs, at random; of drivers or of tenants where that is asked for.
    fn pick(&mut self, sva: Option<bool>) -> usize {
        loop {
            let group = self.below(self.world.groups.len());
            let serves = self.world.groups[group].serves;
            if serves != Use::Spare && sva.is_none_or(|sva| sva == (serves == Use::Driver)) {
                return group;
            }
        }
    }

    /// A PASID of the group that no call is on, at random; it is busy from now on.
    fn choose(&mut self, group: usize) -> Option<Entry> {
        let len = self.world.groups[group].array.len();
        let index = self.below(len.max(1));
        let entry = self.world.groups[group].array.get_mut(index).filter(|entry| !entry.busy)?;
        entry.busy = true;
        Some(*entry)
    }

    /// A PASID that is not in the group's array, nor about to be.
    fn free_pasid(&mut self, group: usize) -> u32 {
        loop {
            let pasid = 1 + self.below((1 << PASID_BITS) - 1) as u32;
            let coming = self.workers.iter().any(|worker| {
                worker.steps.iter().any(|step| match step {
                    Step::Attach(entry) => worker.group == group && entry.pasid == pasid,
                    // The process is about to get it, or to go with it.
                    Step::Record(Call { hook: Hook::PasidAlloc | Hook::MmDrop, mm, .. }, ..) => {
                        *mm == address(7, pasid)
                    }
                    _ => false,
                })
            });
            if !coming && self.world.groups[group].find(pasid).is_err() {
                return pasid;
            }
        }
    }

    /// The same numbers in every run (splitmix64).
    fn below(&mut self, bound: usize) -> usize {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}
