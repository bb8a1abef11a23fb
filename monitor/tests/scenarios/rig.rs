//! The rig: a reference kernel, a watcher that reads its ring, and what was raised.

use std::collections::BTreeMap;

use monitor::advisory::Advisories;
use monitor::check::Violation;
use monitor::coverage::{Backend, Coverage, HookState};
use monitor::event::{Event, Task};
use monitor::input::{Input, Lost, Stage};
use monitor::watcher::{Filter, Options, Report, Watcher};
use monitor_ebpf::wire::Hook;

use crate::kernel::{Call, Era, Kernel, task};

/// What a scenario must raise: everything that the issue asks of a violation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Raised {
    pub check: String,
    pub group: Option<u32>,
    pub pasids: Vec<u32>,
    /// The comm of who attached the first PASID; empty if that was not seen.
    pub attached_by: String,
    pub triggered_by: String,
    pub implied: Vec<String>,
}

pub fn raised(check: &str, group: u32, pasids: &[u32], attached_by: &str, triggered_by: &str) -> Raised {
    Raised {
        check: check.into(),
        group: Some(group),
        pasids: pasids.into(),
        attached_by: attached_by.into(),
        triggered_by: triggered_by.into(),
        implied: Vec::new(),
    }
}

impl Raised {
    pub fn implying(mut self, checks: &[&str]) -> Raised {
        self.implied = checks.iter().map(|&check| check.to_owned()).collect();
        self
    }

    /// All that was raised. What followed from it later is in the violation that is open.
    pub fn all(reports: &[Report], watcher: &Watcher) -> Vec<Raised> {
        let violations = reports.iter().filter_map(|report| match report {
            Report::Violation(violation) => Some(violation.as_ref()),
            _ => None,
        });
        let same = |raised: &Violation, open: &Violation| {
            (raised.fingerprint, raised.mono_ns) == (open.fingerprint, open.mono_ns)
        };
        let now = |raised: &Violation| watcher.violations().find(|open| same(raised, open)).cloned();
        violations.map(|raised| Raised::of(now(raised).as_ref().unwrap_or(raised))).collect()
    }

    fn of(violation: &Violation) -> Raised {
        Raised {
            check: violation.check.name.into(),
            group: violation.group,
            pasids: violation.pasids.iter().map(|pasid| pasid.pasid).collect(),
            attached_by: violation.attached_by().map_or(String::new(), |by| by.comm.to_string()),
            triggered_by: violation.triggered_by.as_ref().map_or(String::new(), |by| by.comm.to_string()),
            implied: violation.implied.iter().map(|implied| implied.check.to_owned()).collect(),
        }
    }
}

pub struct Rig {
    pub kernel: Kernel,
    pub watcher: Watcher,
    pub reports: Vec<Report>,
    /// The sequence that each CPU's next event should have.
    next: BTreeMap<u32, u64>,
    /// What the kernel side counted as dropped.
    pub dropped: u64,
}

/// Every hook that a kernel of this era has is attached.
pub fn coverage(era: Era) -> Coverage {
    let mut coverage = Coverage::default();
    coverage.core_pasids = era.has_pasids();
    coverage.advisories = Some(Advisories { date: "2026-11-22".parse().expect("a date"), told: Vec::new() });
    for &hook in Hook::ALL {
        let absent = match hook {
            Hook::PasidAttach | Hook::PasidDetach | Hook::ClaimDevice | Hook::ReleaseDevice => {
                !era.has_pasids()
            }
            Hook::PasidReplace => era < Era::Tagged,
            Hook::ReleaseLocked => era < Era::Handles,
            _ => false,
        };
        if !absent {
            coverage.set(hook, HookState::Attached { backend: Backend::Fentry });
        }
    }
    coverage
}

pub fn options(era: Era) -> Options {
    Options {
        host: "node7".into(),
        kernel: "6.12.117".into(),
        boot_id: "3f1c".into(),
        coverage: coverage(era),
        ..Options::default()
    }
}

/// Who calls in the scenarios.
pub fn driver() -> Task {
    task(100, "driver")
}

pub fn vfio() -> Task {
    task(201, "vfio")
}

pub fn other() -> Task {
    task(302, "other")
}

pub const NVME: &str = "0000:01:00.0";
pub const NIC: &str = "0000:01:00.1";
/// Domains: unmanaged ones, and an owner's cookie.
pub const D1: u64 = 3001;
pub const D2: u64 = 3002;
pub const OWNER: u64 = 77_777;

impl Rig {
    /// A group 7 with an nvme and a nic, known to the watcher by a snapshot.
    pub fn new(era: Era) -> Rig {
        let mut rig = Rig::unwatched(era);
        rig.bootstrap();
        rig
    }

    /// All other checks are off.
    pub fn only_check(&mut self, name: &str) {
        let filter = Filter { checks: vec![name.into()], ..Filter::default() };
        self.watcher = Watcher::new(Options { filter, ..options(self.kernel.era) });
        self.bootstrap();
    }

    /// The watcher reads every group, and waits until no call from before can be under way.
    pub fn bootstrap(&mut self) {
        self.kernel.snapshot_all();
        self.idle(1_000_000_000);
        self.assert_synced();
    }

    /// The same, of which the watcher knows nothing yet.
    pub fn unwatched(era: Era) -> Rig {
        let mut kernel = Kernel::new(era);
        kernel.group(7, &[NVME, NIC]);
        Rig {
            kernel,
            watcher: Watcher::new(options(era)),
            reports: Vec::new(),
            next: BTreeMap::new(),
            dropped: 0,
        }
    }

    pub fn call(&mut self, task: &Task, call: Call) -> i32 {
        let ret = self.kernel.call(task, call);
        self.watch();
        ret
    }

    /// Calls that must succeed.
    pub fn calls(&mut self, task: &Task, calls: impl IntoIterator<Item = Call>) {
        for call in calls {
            assert_eq!(self.call(task, call.clone()), 0, "{call:?}");
        }
    }

    /// The watcher reads the ring until it is empty, and looks where a call did what only a look tells.
    pub fn watch(&mut self) {
        self.read();
        for group in self.watcher.wanted_looks() {
            if self.kernel.groups.contains_key(&group) && self.kernel.is_free(group) {
                self.kernel.snapshot(group);
                self.read();
            }
        }
    }

    fn read(&mut self) {
        for event in self.kernel.take_ready() {
            self.feed(event);
        }
        let told = self.watcher.counters().lost(Stage::Ring);
        self.lose(Stage::Ring, self.dropped.saturating_sub(told));
        if self.kernel.is_drained() {
            self.tell(Input::Settled);
        }
    }

    /// The ring is found empty after each event.
    pub fn watch_closely(&mut self) {
        for event in std::mem::take(&mut self.kernel.log) {
            self.feed(event);
            self.tell(Input::Settled);
        }
    }

    /// The watcher is told of something now.
    pub fn tell(&mut self, input: Input) {
        self.reports.extend(self.watcher.take(input, self.kernel.now));
    }

    /// Events of any group were lost.
    pub fn lose(&mut self, stage: Stage, count: u64) {
        self.tell(Input::Lost(Lost { stage, count, groups: None }));
    }

    /// What a CPU's sequence lacks is what its ring had no room for, and the kernel side counted that.
    pub fn feed(&mut self, event: Event) {
        let next = self.next.entry(event.cpu).or_insert(event.sequence);
        self.dropped += event.sequence.saturating_sub(*next);
        *next = (*next).max(event.sequence + 1);
        self.tell(Input::Event(event.into()));
    }

    /// Nothing happens for so long.
    pub fn idle(&mut self, ns: u64) {
        self.watch();
        self.kernel.sleep(ns);
        self.tell(Input::Settled);
    }

    pub fn raised(&self) -> Vec<Raised> {
        let violations = self.reports.iter().filter_map(|report| match report {
            Report::Violation(violation) => Some(Raised::of(violation)),
            _ => None,
        });
        violations.collect()
    }

    /// The severities of what was raised.
    pub fn severities(&self) -> Vec<&'static str> {
        let violations = self.reports.iter().filter_map(|report| match report {
            Report::Violation(violation) => Some(violation.severity.name()),
            _ => None,
        });
        violations.collect()
    }

    /// The reasons of what was resolved, with the checks.
    pub fn resolved(&self) -> Vec<(&'static str, &'static str)> {
        let resolved = self.reports.iter().filter_map(|report| match report {
            Report::Resolved(resolved) => Some((resolved.check.name, resolved.reason.name())),
            _ => None,
        });
        resolved.collect()
    }

    /// After everything settled, exactly this was raised.
    #[track_caller]
    pub fn expect(&mut self, expected: &[Raised]) {
        self.idle(1_000_000_000);
        assert_eq!(self.raised(), expected);
    }

    /// Nothing was raised, and not because nobody looked.
    #[track_caller]
    pub fn expect_silence(&mut self) {
        self.expect(&[]);
        for (spec, state) in self.watcher.checks() {
            let needs = spec.needs.core_pasids && !self.kernel.era.has_pasids();
            assert!(state.judges() || needs, "{}: {state}", spec.name);
        }
        assert!(Hook::ALL.iter().any(|&hook| self.watcher.counters().events(hook) > 0), "events were seen");
        for &hook in Hook::ALL {
            assert_eq!(self.watcher.counters().leaks(hook), 0, "{} missed no call", hook.name());
        }
    }

    #[track_caller]
    pub fn assert_synced(&self) {
        assert_eq!(self.watcher.unknown_groups(), Vec::<u32>::new());
    }
}
