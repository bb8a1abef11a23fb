//! The one seam: events in, reports out. The daemon, the one-shot, the live view and the replay all
//! drive this same piece, so that a recording gives the verdict that the live run gave.

mod advice;
mod asks;
mod configure;
mod conformance;
mod counters;
mod filter;
mod report;

use std::sync::Arc;

use monitor_ebpf::wire::{Hook, is_snapshot};

use crate::check::{self, Book, CheckState, Dispatch, Outcome, REGISTRY, Settings, Severity, Violation};
use crate::conformance::Ledger;
use crate::coverage::Coverage;
use crate::event::Event;
use crate::input::{Input, Lost};
use crate::invalidations::Invalidations;
use crate::inventory::Inventory;
use crate::model::{Group, Host, Names, Transition};

pub use counters::{Calls, Configured, Counters, LATENCY_BOUNDS, Latency, Pushed, Spooled, Told};
pub use filter::Filter;
pub use report::{
    CheckChange, EventLine, GroupState, Knowledge, Loss, Owner, Report, Suppressed, SuppressedBy, Tables,
};

/// What a run watches, and where.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub host: String,
    /// The kernel's release.
    pub kernel: String,
    /// /proc/sys/kernel/random/boot_id: part of the fingerprints.
    pub boot_id: String,
    pub coverage: Coverage,
    pub filter: Filter,
    /// Give every event back as a report, too.
    pub events: bool,
    /// Our own reads of the kernel among them.
    pub readings: bool,
    /// What the operator says of the checks.
    pub settings: Arc<Settings>,
}

/// Rebuilds the state from events and holds it against the checks.
pub struct Watcher {
    options: Options,
    host: Host,
    book: Book,
    names: Names,
    inventory: Option<Inventory>,
    states: Vec<CheckState>,
    ledger: Ledger,
    /// The checks that judge here, by what they judge.
    dispatch: Dispatch,
    counters: Counters,
    mono_ns: u64,
    /// Empty between two events; its room is used again.
    transitions: Vec<Transition>,
}

impl Watcher {
    pub fn new(options: Options) -> Watcher {
        let mut watcher = Watcher {
            host: Host::new(options.coverage.core_pasids),
            options,
            book: Book::default(),
            names: Names::default(),
            inventory: None,
            states: Vec::new(),
            ledger: Ledger::default(),
            dispatch: Dispatch::default(),
            counters: Counters::default(),
            mono_ns: 0,
            transitions: Vec::new(),
        };
        let settings = Settings::clone(&watcher.options.settings);
        // Nothing is known yet of which there were something to say.
        watcher.adopt(settings, 0);
        watcher
    }

    /// Takes in one thing, at a time in CLOCK_MONOTONIC ns, and gives back what there is to say of it. (An
    /// event has its own time.) Violations come out of [`Input::Settled`] alone: tell it after every batch
    /// of events, and by [`Watcher::deadline`].
    pub fn take(&mut self, input: Input, mono_ns: u64) -> Vec<Report> {
        match input {
            Input::Start => self.start(mono_ns),
            Input::Event(event) => self.feed(event),
            Input::Inventory(inventory) => {
                self.ledger.inventory(&inventory);
                self.inventory = Some(inventory);
                self.restate(mono_ns)
            }
            Input::Coverage(coverage) => {
                self.options.coverage = coverage;
                let reports = self.restate(mono_ns);
                self.advise(mono_ns);
                reports
            }
            Input::Lost(lost) => self.lose(&lost, mono_ns),
            Input::Resync(reason) => {
                self.counters.resync(reason);
                Vec::new()
            }
            Input::Gone(group) => self.gone(group, mono_ns),
            Input::Settled => self.settle(mono_ns),
        }
    }

    fn start(&mut self, mono_ns: u64) -> Vec<Report> {
        self.host.watched_from(mono_ns);
        self.mono_ns = self.mono_ns.max(mono_ns);
        self.advise(mono_ns);
        let changes = REGISTRY.iter().zip(&self.states);
        changes.map(|(check, state)| Report::check(mono_ns, check.spec(), state)).collect()
    }

    fn feed(&mut self, event: Box<Event>) -> Vec<Report> {
        let mut reports = Vec::new();
        let mono_ns = event.mono_ns;
        self.counters.count(&event);
        if self.options.events && self.passes_event(&event) {
            reports.push(Report::Event(Box::new(EventLine::new(&event, &mut self.names))));
        }
        let mut transitions = std::mem::take(&mut self.transitions);
        self.host.apply(event, &mut transitions);
        self.follow(&transitions, mono_ns, &mut reports);
        transitions.clear();
        self.transitions = transitions;
        reports
    }

    fn gone(&mut self, group: u32, mono_ns: u64) -> Vec<Report> {
        let (mut reports, mut transitions) = (Vec::new(), Vec::new());
        self.host.gone(group, &mut transitions);
        self.follow(&transitions, mono_ns, &mut reports);
        let mut outcomes = Vec::new();
        self.book.release_carried(group, mono_ns, &mut outcomes);
        self.tell(outcomes, &mut reports);
        reports
    }

    fn settle(&mut self, mono_ns: u64) -> Vec<Report> {
        let mut reports = Vec::new();
        let mut transitions = Vec::new();
        self.host.tick(mono_ns, &mut transitions);
        self.follow(&transitions, mono_ns, &mut reports);
        let mut outcomes = Vec::new();
        self.book.expire(mono_ns, &mut outcomes);
        self.book.end_expectations(mono_ns, &mut outcomes);
        self.book.raise(mono_ns, &self.host, &mut outcomes);
        self.conclude(outcomes, mono_ns, &mut reports);
        reports
    }

    /// When the next [`Input::Settled`] has something to do, in CLOCK_MONOTONIC ns.
    pub fn deadline(&self) -> Option<u64> {
        self.book.deadline()
    }

    /// Reports were written at this time: counts how long a violation took from the kernel to there.
    pub fn reported(&mut self, reports: &[Report], now_ns: u64) {
        for report in reports {
            if let Report::Violation(violation) = report {
                self.counters.latency(now_ns.saturating_sub(violation.mono_ns));
            }
        }
    }

    /// What became so far of what there was to tell.
    pub fn told(&mut self, told: Told) {
        self.counters.told = told;
    }

    /// What the kernel side has counted was read.
    pub fn counted(&mut self, invalidations: Invalidations) {
        self.counters.invalidations = invalidations;
    }

    pub fn options(&self) -> &Options {
        &self.options
    }

    pub fn host(&self) -> &Host {
        &self.host
    }

    pub fn known_inventory(&self) -> Option<&Inventory> {
        self.inventory.as_ref()
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The violations that stand, by fingerprint.
    pub fn violations(&self) -> impl Iterator<Item = &Violation> {
        self.book.open()
    }

    /// How many of this check and severity were raised so far that nobody expected.
    pub fn raised(&self, check: &'static str, severity: Severity) -> u64 {
        self.book.raised(check, severity)
    }

    /// How many violations were not raised because too many were open.
    pub fn suppressed(&self) -> u64 {
        self.book.suppressed()
    }

    /// Every check with its state.
    pub fn checks(&self) -> impl Iterator<Item = (&'static check::Spec, &CheckState)> {
        REGISTRY.iter().map(|check| check.spec()).zip(&self.states)
    }

    /// Every group that passes the filter, in the order of the ids.
    pub fn groups(&mut self) -> Vec<GroupState> {
        let mut groups: Vec<&Group> = self.host.groups().filter(|group| self.passes_group(group)).collect();
        groups.sort_by_key(|group| group.id);
        let (host, inventory) = (&self.host, self.inventory.as_ref());
        let states =
            groups.iter().map(|group| GroupState::new(group, host, inventory, &mut self.names, self.mono_ns));
        states.collect()
    }

    /// The hardware PASID tables of a group, if a look has read them.
    pub fn tables(&self, group: u32) -> Option<Tables<'_>> {
        Tables::of(self.host.group_by_id(group)?, &self.host)
    }

    /// What became known goes to the checks, and what they find to the book.
    fn follow(&mut self, transitions: &[Transition], mono_ns: u64, reports: &mut Vec<Report>) {
        self.mono_ns = self.mono_ns.max(mono_ns);
        let mut findings = Vec::new();
        for transition in transitions {
            if let Transition::Synced { group } = transition {
                self.book.reopen_of(*group);
            }
            self.report_state(transition, mono_ns, reports);
            if let Transition::Leaked { hook, .. } = transition {
                self.leak(*hook, mono_ns, reports);
            }
            self.ledger.note(transition, &self.host, self.inventory.as_ref());
            self.judge(transition, &mut findings);
        }
        if findings.is_empty() && self.book.is_idle() {
            return;
        }
        let findings = self.book.fold_into_open(findings);
        let mut outcomes = Vec::new();
        for transition in transitions {
            self.review(transition, mono_ns, &mut outcomes);
        }
        self.book.expire(mono_ns, &mut outcomes);
        self.tell(outcomes, reports);
        self.file(findings);
    }

    /// Looks again at what a transition may have changed.
    fn review(&mut self, transition: &Transition, mono_ns: u64, outcomes: &mut Vec<Outcome>) {
        match transition {
            // Somebody else has taken hold of it since, or switched it: what waits can't be told from that.
            Transition::Returned { group, operation, end }
                if operation.takes_hold() && end.ret == Some(0) =>
            {
                self.book.withdraw_unproved(*group);
            }
            Transition::Disturbed { group } => self.book.withdraw(*group),
            Transition::Unknown { group } => {
                self.book.withdraw(*group);
                self.book.review_group(*group, mono_ns, &self.host, outcomes);
            }
            Transition::Updated { group }
            | Transition::Looked { group, .. }
            | Transition::Leaked { group, .. }
            | Transition::Synced { group }
            | Transition::GroupGone { group, .. } => {
                self.book.review_group(*group, mono_ns, &self.host, outcomes);
            }
            Transition::Table { .. } | Transition::TableGone { .. } | Transition::DeviceGone { .. } => {
                self.book.review_devices(mono_ns, &self.host, outcomes);
            }
            // The others are about what happened, and change nothing that was found.
            _ => {}
        }
    }

    fn report_state(&mut self, transition: &Transition, mono_ns: u64, reports: &mut Vec<Report>) {
        let (Transition::Synced { group } | Transition::Unknown { group }) = transition else { return };
        let Some(group) = self.host.group(*group).filter(|group| self.passes_group(group)) else { return };
        let state = GroupState::new(group, &self.host, self.inventory.as_ref(), &mut self.names, mono_ns);
        reports.push(Report::State(Box::new(state)));
    }

    fn lose(&mut self, lost: &Lost, mono_ns: u64) -> Vec<Report> {
        let mut reports = Vec::new();
        if lost.count == 0 {
            return reports;
        }
        self.counters.lose(lost.stage, lost.count);
        let mut groups: Option<Vec<u32>> = lost
            .groups
            .as_ref()
            .map(|keys| keys.iter().filter_map(|&key| Some(self.host.group_by_key(key)?.id)).collect());
        groups.iter_mut().for_each(|ids| ids.sort_unstable());
        let total = self.counters.lost(lost.stage);
        reports.push(Report::Loss(Loss { mono_ns, stage: lost.stage, count: lost.count, total, groups }));
        match &lost.groups {
            None => self.book.withdraw_all(),
            Some(keys) => {
                for group in keys.iter().filter_map(|&key| self.host.group_by_key(key)) {
                    self.book.withdraw(group.reference());
                }
                self.book.withdraw_pairs();
            }
        }
        let mut transitions = Vec::new();
        self.host.mark_unknown(lost.groups.as_deref(), mono_ns, &mut transitions);
        self.follow(&transitions, mono_ns, &mut reports);
        reports
    }

    /// Every check that one look at the groups decides, with how far it can do so here.
    pub fn by_look(&self) -> impl Iterator<Item = (&'static check::Spec, CheckState)> {
        let states = REGISTRY.iter().zip(self.look_states());
        states.filter_map(|(check, state)| Some((check.spec(), state?)))
    }

    fn look_states(&self) -> Vec<Option<CheckState>> {
        let state = |check: &&dyn check::Check| match self.wants(check.spec().name) {
            true => check.look_state(&self.options.coverage, self.inventory.as_ref()),
            false => None,
        };
        REGISTRY.iter().map(state).collect()
    }

    /// A read of the kernel's state showed what this hook should have: it is our own missed event.
    fn leak(&mut self, hook: Hook, mono_ns: u64, reports: &mut Vec<Report>) {
        self.counters.leak(hook);
        if self.options.coverage.mark_leaky(hook) {
            reports.extend(self.restate(mono_ns));
        }
    }

    fn check_states(&self) -> Vec<CheckState> {
        let state = |check: &&dyn check::Check| match self.wants(check.spec().name) {
            true => check.state(&self.options.coverage, self.inventory.as_ref()),
            false => CheckState::Off,
        };
        REGISTRY.iter().map(state).collect()
    }

    fn restate(&mut self, mono_ns: u64) -> Vec<Report> {
        let states = self.check_states();
        let changed = REGISTRY.iter().zip(&states).zip(&self.states).filter(|((_, now), then)| now != then);
        let reports = changed.map(|((check, now), _)| Report::check(mono_ns, check.spec(), now)).collect();
        self.dispatch = Dispatch::new(&states, &self.look_states());
        self.states = states;
        reports
    }

    /// Our own reads are no news, unless they are asked for.
    fn passes_event(&self, event: &Event) -> bool {
        if is_snapshot(event.hook) && !self.options.readings {
            return false;
        }
        let device: Vec<String> = event.device.iter().map(|device| device.name.to_string()).collect();
        self.options.filter.passes(event.group.map(|group| group.id), &device)
    }

    fn passes_group(&self, group: &Group) -> bool {
        let filter = &self.options.filter;
        let devices = if filter.devices.is_empty() { Vec::new() } else { self.host.names(group) };
        filter.passes(Some(group.id), &devices)
    }
}
