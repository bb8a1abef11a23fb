//! The course of a call: its entry, its work under the mutex, its return.

use std::collections::VecDeque;

use monitor::event::Task;
use monitor_ebpf::wire::{Hook, Phase};

use super::plan::{self, Step};
use super::ring::{phases, seen};
use super::{Bond, Call, Fact, Kernel, Moment, Running, domain, sva_domain};

/// What VT-d calls to write an entry, or to clear it.
fn driver_hook(domain: Option<u64>) -> Hook {
    if domain.is_some() { Hook::VtdSetupSecond } else { Hook::VtdTearDown }
}

impl Kernel {
    /// The whole call at once.
    pub fn call(&mut self, task: &Task, call: Call) -> i32 {
        let mut running = self.begin(task, call);
        self.act(&mut running);
        self.end(running)
    }

    /// Calls that were made before anybody watched, or that nobody saw.
    pub fn calls_before(&mut self, task: &Task, calls: impl IntoIterator<Item = Call>) {
        for call in calls {
            assert_eq!(self.call(task, call.clone()), 0, "{call:?}");
        }
        let unseen = std::mem::take(&mut self.log);
        for event in unseen {
            *self.sequences.entry(event.cpu).or_default() -= 1;
        }
    }

    pub fn begin(&mut self, task: &Task, call: Call) -> Running {
        let hook = call.hook();
        let named = call.group().or_else(|| call.device().map(|device| self.group_of(device)));
        let group = named.expect("a call names a group or a device");
        let began = self.place();
        self.entries.remove(&task.tid);
        let mut running = Running {
            call,
            task: *task,
            group,
            hook,
            ret: 0,
            moment: Moment::Begun,
            bond: None,
            faults: self.faults,
            unseen: false,
            nested: None,
            fact: None,
            began,
            locked: None,
            lost: Vec::new(),
            kept: Vec::new(),
        };
        running.unseen = self.misses(task.tid);
        if let Call::Unbind { mm, .. } = running.call {
            running.bond = self.groups[&group].bonds.get(&mm).map(|bond| bond.handle);
        }
        self.report(&running, Phase::Begin, None);
        running
    }

    pub fn end(&mut self, running: Running) -> i32 {
        assert!(running.acted(), "a call returns after it did its work");
        if let Some(fact) = running.fact {
            let place = self.place();
            (self.history[fact].ended, self.history[fact].returned) = (place, place);
        }
        self.report(&running, Phase::End, Some(running.ret));
        running.ret
    }

    /// All its work.
    pub fn act(&mut self, running: &mut Running) {
        while !running.acted() {
            while self.fill(running.task.tid) {}
            assert!(self.advance(running), "nobody else holds a lock");
        }
    }

    /// The next thing that the call does. `false`: it waits for a lock, or has done all its work.
    pub fn advance(&mut self, running: &mut Running) -> bool {
        match (&mut running.moment, &running.call) {
            (Moment::Acted, _) => return false,
            (Moment::Begun, Call::Bind { .. } | Call::Unbind { .. }) => return self.advance_sva(running),
            (Moment::Bonding, _) => self.finish_bind(running),
            (Moment::Begun, call) => {
                let group = self.groups.get_mut(&running.group).expect("a group that is there");
                if group.holder.is_some() {
                    return false;
                }
                group.holder = Some(running.task.tid);
                let (steps, ret) = plan::plan(call, self.era, running.faults, group);
                running.ret = ret;
                running.moment =
                    Moment::Inside { steps: VecDeque::from(steps), before: self.state(running.group) };
            }
            (Moment::Inside { steps, .. }, _) => match steps.pop_front() {
                Some(step) => self.step(running, step),
                None => self.unlock(running),
            },
        }
        true
    }

    fn step(&mut self, running: &mut Running, step: Step) {
        let place = self.place();
        if matches!(step, Step::Locked(_) | Step::Rid { .. }) {
            running.locked = Some((running.locked.map_or(place, |(first, _)| first), place));
        }
        match step {
            Step::Locked(phase) => self.locked(running, phase),
            Step::Rid { index, phase, domain, ret } => {
                let device = self.groups[&running.group].devices[index].clone();
                if ret == Some(0) {
                    self.group_mut(running.group).devices[index].on = domain;
                }
                self.rid(&running.task, running.group, &device, phase, domain, ret);
            }
            Step::Owner { owner, count } => {
                let group = self.group_mut(running.group);
                (group.owner, group.owner_cnt) = (owner, count);
            }
            Step::Sit(domain) => self.group_mut(running.group).domain = domain,
            Step::Store(pasid, entry) => drop(self.group_mut(running.group).array.insert(pasid, entry)),
            Step::Erase(pasid) => drop(self.group_mut(running.group).array.remove(&pasid)),
            Step::Hardware { index, pasid, domain } => {
                self.driver(running, index, driver_hook(domain), Some(pasid), Some(0));
                let present = &mut self.group_mut(running.group).devices[index].present;
                match domain {
                    // Entry 0 is the RID's own.
                    _ if pasid == 0 => None,
                    Some(domain) => present.insert(pasid, domain),
                    None => present.remove(&pasid),
                };
            }
            Step::Lose { index, table } => {
                if table && self.driver_reports {
                    // `detach_device` frees it, whoever switches.
                    self.table_left(Hook::AmdTableLeft, running.group, index, &running.task);
                }
                let present = std::mem::take(&mut self.group_mut(running.group).devices[index].present);
                running.lost.extend(present.keys().filter(|&&pasid| pasid != 0));
                if table {
                    self.driver(running, index, Hook::AmdTableFree, None, None);
                } else {
                    for &pasid in present.keys().filter(|&&pasid| pasid != 0) {
                        self.driver(running, index, Hook::VtdTearDown, Some(pasid), None);
                    }
                }
            }
            Step::Off { index, hook } => self.driver(running, index, hook, None, None),
            Step::Detached { index, pasid, ret } => {
                if ret != 0 {
                    running.kept.push(pasid);
                }
                self.driver(running, index, Hook::VtdDetach, Some(pasid), Some(ret));
            }
            Step::Reset { index, resets, blocked } => {
                let group = self.group_mut(running.group);
                (group.devices[index].resets, group.recovery_cnt) = (resets, blocked);
            }
        }
    }

    /// The driver's own functions report.
    fn driver(&mut self, running: &Running, index: usize, hook: Hook, pasid: Option<u32>, ret: Option<i32>) {
        if !self.driver_reports {
            return;
        }
        let device = self.groups[&running.group].devices[index].clone();
        for phase in phases(hook) {
            let mut event = self.event(hook, phase, running.group, &running.task);
            event.device = Some(seen(&device));
            event.pasid = pasid;
            event.ret = ret.filter(|_| phase == Phase::End && hook != Hook::VtdTearDown);
            let group = &self.groups[&running.group];
            if hook == Hook::VtdDetach {
                event.domain = domain(group.blocking_domain);
            }
            self.push(event);
        }
    }

    fn unlock(&mut self, running: &mut Running) {
        self.group_mut(running.group).holder = None;
        let after = self.state(running.group);
        let Moment::Inside { before, .. } = std::mem::replace(&mut running.moment, Moment::Acted) else {
            return;
        };
        running.fact = Some(self.history.len());
        self.history.push(Fact {
            call: running.call.clone(),
            group: running.group,
            who: running.task.comm.to_string(),
            ret: running.ret,
            before,
            after,
            faults: running.faults,
            entry: self.entries.remove(&running.task.tid).unwrap_or_default(),
            exit: Vec::new(),
            began: running.began,
            ended: usize::MAX,
            returned: usize::MAX,
            locked: running.locked,
            lost: std::mem::take(&mut running.lost),
            kept: std::mem::take(&mut running.kept),
        });
    }

    /// `iommu_sva_bind_device` and its counterpart, under `iommu_sva_lock`: an mm that is bound already only counts.
    fn advance_sva(&mut self, running: &mut Running) -> bool {
        let tid = running.task.tid;
        if let Some(nested) = &mut running.nested {
            if !nested.acted() {
                return self.advance(nested);
            }
            let nested = running.nested.take().expect("just seen");
            running.ret = self.end(*nested);
            // It goes on when the record of that return is made.
            running.moment = Moment::Bonding;
            return true;
        }
        if self.sva_lock.is_some() {
            return false;
        }
        self.sva_lock = Some(tid);
        let faults = running.faults;
        if let Call::Bind { device, mm, pasid } = running.call {
            self.give_pasid(&running.task, device, mm, pasid);
        }
        let group = self.group_mut(running.group);
        let inner = match running.call {
            Call::Bind { device, mm, pasid } => match group.bonds.get_mut(&mm) {
                Some(bond) => {
                    bond.users += 1;
                    running.bond = Some(bond.handle);
                    None
                }
                None => Some(Call::Attach { device, pasid, domain: sva_domain(mm) }),
            },
            Call::Unbind { device, mm } => group.bonds.get_mut(&mm).and_then(|bond| {
                bond.users -= 1;
                let (pasid, domain) = (bond.pasid, bond.domain);
                let detaches = bond.users == 0 && !faults.unbind_keeps || faults.unbind_detaches;
                detaches.then_some(Call::Detach { device, pasid, domain })
            }),
            _ => None,
        };
        match inner {
            Some(call) => {
                let task = running.task;
                running.nested = Some(Box::new(self.begin(&task, call)));
            }
            None => self.unlock_sva(running),
        }
        true
    }

    fn finish_bind(&mut self, running: &mut Running) {
        match running.call {
            Call::Bind { mm, pasid, .. } if running.ret == 0 => {
                let handle = self.pointer();
                running.bond = Some(handle);
                let bond = Bond { handle, pasid, domain: sva_domain(mm), users: 1 };
                self.group_mut(running.group).bonds.insert(mm, bond);
            }
            Call::Unbind { mm, .. } => self.unbound(running, mm),
            _ => {}
        }
        self.unlock_sva(running);
    }

    /// The last unbind has detached. With the last group's the domain goes.
    fn unbound(&mut self, running: &Running, mm: u64) {
        self.group_mut(running.group).bonds.remove(&mm);
        if !self.groups.values().any(|group| group.bonds.contains_key(&mm)) {
            self.free_domain(&running.task, sva_domain(mm));
        }
        self.put_mm(&running.task, mm);
    }

    fn unlock_sva(&mut self, running: &mut Running) {
        self.sva_lock = None;
        running.moment = Moment::Acted;
    }
}
