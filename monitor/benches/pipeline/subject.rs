//! A watcher and the host that it watches.

use monitor::advisory::Advisories;
use monitor::coverage::{Backend, Coverage, HookState};
use monitor::event;
use monitor::input::Input;
use monitor::watcher::{Options, Report, Watcher};
use monitor_ebpf::wire::Hook;

use crate::measure::cpu_time;
use crate::script::Workload;
use crate::world::{Batch, World};
use crate::{BATCH, RING};

/// What the watcher told of a batch.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told {
    pub reports: usize,
    pub violations: usize,
}

/// A watcher as on a kernel that has every hook.
pub fn watcher() -> Watcher {
    let mut coverage = Coverage::default();
    coverage.core_pasids = true;
    coverage.advisories = Some(Advisories { date: "2026-11-22".parse().expect("a date"), told: Vec::new() });
    for &hook in Hook::ALL {
        coverage.set(hook, HookState::Attached { backend: Backend::Fentry });
    }
    let mut watcher = Watcher::new(Options { coverage, ..Options::default() });
    watcher.take(Input::Start, 0);
    assert!(watcher.checks().all(|(_, state)| state.judges()), "every check is armed");
    watcher
}

/// What is measured: records from their bytes to the reports. In between others have their turn, as in `live.rs`.
pub fn drive(watcher: &mut Watcher, records: &Batch, now: u64) -> Told {
    let mut told = Told::default();
    for (index, bytes) in records.records().enumerate() {
        if index % BATCH == BATCH - 1 {
            told.count(&watcher.take(Input::Settled, now));
        }
        let event = event::decode(bytes).expect("a record");
        told.count(&watcher.take(Input::Event(event), now));
    }
    told.count(&watcher.take(Input::Settled, now));
    told
}

impl Told {
    fn count(&mut self, reports: &[Report]) {
        self.reports += reports.len();
        self.violations += reports.iter().filter(|report| matches!(report, Report::Violation(_))).count();
    }
}

/// How many PASIDs the model has, in groups that it knows.
pub fn pasids(watcher: &Watcher) -> usize {
    watcher.host().groups().map(|group| group.pasids().map_or(0, Iterator::count)).sum()
}

pub struct Subject {
    workload: Workload,
    watcher: Watcher,
    batch: Batch,
    /// What was counted when all PASIDs were attached.
    filled: Vec<u64>,
}

impl Subject {
    /// The watcher has read every group, and seen as many PASIDs attached.
    pub fn filled(workload: Workload, live: usize) -> Subject {
        eprintln!("bench: attaching {live} PASIDs");
        let mut subject =
            Subject { workload, watcher: watcher(), batch: Batch::default(), filled: Vec::new() };
        subject.workload.world.snapshot(&mut subject.batch);
        drive(&mut subject.watcher, &subject.batch, subject.workload.world.now);
        loop {
            subject.batch.clear();
            let more = subject.workload.fill(live, BATCH, &mut subject.batch, None);
            subject.feed();
            if !more {
                subject.filled.clone_from(&subject.batch.counted);
                return subject;
            }
        }
    }

    /// One round; the CPU time of an event in ns.
    pub fn round(&mut self, rings: usize) -> f64 {
        let mut seconds = 0.0;
        let mut events = 0;
        for _ in 0..rings {
            self.batch.clear();
            self.workload.work(RING, &mut self.batch);
            seconds += cpu_time(|| self.feed()).as_secs_f64();
            events += self.batch.len();
        }
        seconds * 1e9 / events as f64
    }

    /// Gives the batch to the watcher. Nothing may come of it.
    fn feed(&mut self) {
        let told = drive(&mut self.watcher, &self.batch, self.workload.world.now);
        assert_eq!(told.reports, 0, "something was told of a host that behaves");
    }

    /// The share of each hook in the calls since all PASIDs were attached, the greatest first.
    pub fn mix(&self) -> Vec<(&'static str, f64)> {
        let counted = |hook: &Hook| self.batch.counted[*hook as usize] - self.filled[*hook as usize];
        let total: u64 = Hook::ALL.iter().map(counted).sum();
        let mut mix: Vec<_> =
            Hook::ALL.iter().map(|hook| (hook.name(), counted(hook) as f64 / total as f64)).collect();
        mix.retain(|&(_, share)| share > 0.0);
        mix.sort_by(|a, b| b.1.total_cmp(&a.1));
        mix
    }

    /// What was measured did all its work: the model is where the host is, and the checks find a fault.
    pub fn verify(mut self) {
        self.batch.clear();
        self.workload.finish(&mut self.batch);
        self.feed();
        let watcher = &self.watcher;
        assert_eq!(watcher.unknown_groups(), [0; 0], "every group is known");
        assert_same(watcher, &self.workload.world);
        for &hook in Hook::ALL {
            let made = self.batch.counted[hook as usize];
            assert_eq!(watcher.counters().events(hook), made, "events of {}", hook.name());
        }
        self.batch.clear();
        self.workload.misbehave(&mut self.batch);
        let told = drive(&mut self.watcher, &self.batch, self.workload.world.now);
        assert_eq!(told.violations, 1, "the fault that was planted");
    }
}

/// Group by group the model has what the host has.
pub fn assert_same(watcher: &Watcher, world: &World) {
    for group in &world.groups {
        let known = watcher.host().group_by_id(group.id).expect("a group that is known");
        let pasids = known.pasids().expect("PASIDs that are known");
        assert!(
            pasids.map(|(pasid, _)| pasid).eq(group.array.iter().map(|entry| entry.pasid)),
            "PASIDs of group {}",
            group.id
        );
        let count = known.ownership.map(|ownership| ownership.count);
        assert_eq!(count, Some(group.count), "owner_cnt of group {}", group.id);
    }
    assert_eq!(pasids(watcher), world.live(), "PASIDs of the host");
}
