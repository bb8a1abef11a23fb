//! A process is killed after any of the things that a recording of a kernel told it, and the next one goes on: both
//! together say what one alone says.

use std::fs::File;

use zerocopy::FromBytes;

use super::*;
use crate::{
    input::Input,
    kernel::journal::{Entry, LEN, Memory},
    live::keeper::Keeper,
    trace::{Item, Reader},
    watcher::Options,
};

/// What was told, and as what.
struct Step {
    input: Input,
    mono_ns: u64,
    record: Vec<u8>,
}

fn recorded() -> (Options, Vec<Step>) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recordings/golden/7.iwrec");
    let mut reader = Reader::open(File::open(path).expect("a recording")).expect("it begins");
    let options = Options { coverage: reader.head().coverage(), ..Options::default() };
    let mut steps = Vec::new();
    while let Some(entry) = reader.next() {
        let entry = entry.expect("an entry");
        if let Item::Input(input) = entry.item {
            steps.push(Step { input, mono_ns: entry.mono_ns, record: reader.body().to_vec() });
        }
    }
    (options, steps)
}

/// A process with a journal; nobody has told anything of what it says but up to `told`.
struct Process {
    watcher: Watcher,
    keeper: Keeper,
}

impl Process {
    fn begin(options: &Options) -> Process {
        let journal = Journal::begin(Memory::private(LEN).expect("memory"));
        Process { watcher: Watcher::new(options.clone()), keeper: Keeper::new(Some(journal)) }
    }

    /// As `Live` does it.
    fn tell(&mut self, step: &Step, position: u64) -> Vec<Report> {
        if let Input::Event(_) = step.input {
            self.keeper.record(&step.record, position);
        }
        let kept = self.keeper.before(&step.input, step.mono_ns);
        let reports = self.watcher.take(step.input.clone(), step.mono_ns);
        self.keeper.after(kept, step.mono_ns, !reports.is_empty());
        reports
    }

    fn journal(&self) -> &Journal {
        self.keeper.journal.as_ref().expect("it is kept")
    }

    /// Killed; another one takes its journal up.
    fn killed(self, options: &Options) -> (Process, Replayed) {
        let journal = self.keeper.journal.expect("it is kept");
        let mut watcher = Watcher::new(options.clone());
        let replayed = replay(&mut watcher, &journal, &mut Twins::default()).expect("it can be read");
        (Process { watcher, keeper: Keeper::new(Some(journal)) }, replayed)
    }
}

fn text(reports: &[Report]) -> Vec<String> {
    reports.iter().map(|report| format!("{report:?}")).collect()
}

#[test]
fn whenever_it_is_killed_all_is_told_and_nothing_twice() {
    let (options, steps) = recorded();
    let mut alone = Process::begin(&options);
    let all: Vec<Vec<String>> =
        steps.iter().enumerate().map(|(at, step)| text(&alone.tell(step, at as u64))).collect();
    let whole: Vec<String> = all.concat();
    assert!(whole.iter().filter(|report| report.starts_with("Violation(")).count() > 1, "it shows something");
    // Each kill costs all that came before it: some of them, and for each whether the last was told.
    for (at, last_is_told) in
        (0..steps.len()).step_by(steps.len() / 40 + 1).flat_map(|at| [(at, false), (at, true)])
    {
        let mut process = Process::begin(&options);
        let mut told: Vec<String> = Vec::new();
        for (position, step) in steps[..=at].iter().enumerate() {
            let reports = process.tell(step, position as u64);
            if position < at || last_is_told {
                told.extend(text(&reports));
                process.journal().teller().told(process.journal().count());
            }
        }
        let (mut process, replayed) = process.killed(&options);
        told.extend(text(&replayed.reports));
        let last = steps[..=at].iter().rposition(|step| matches!(step.input, Input::Event(_)));
        assert_eq!(replayed.position, last.map(|at| at as u64));
        for (position, step) in steps.iter().enumerate().skip(at + 1) {
            told.extend(text(&process.tell(step, position as u64)));
        }
        assert_eq!(told, whole, "killed after {at}, the last told: {last_is_told}");
    }
}

#[test]
fn what_was_told_is_not_counted_again() {
    let (options, steps) = recorded();
    let mut process = Process::begin(&options);
    for (position, step) in steps.iter().enumerate() {
        process.tell(step, position as u64);
    }
    process.journal().teller().told(process.journal().count());
    let raised = |watcher: &Watcher| -> u64 {
        watcher.checks().map(|(spec, _)| watcher.raised(spec.name, spec.severity())).sum()
    };
    assert!(raised(&process.watcher) > 0);
    let open: Vec<_> = process.watcher.violations().map(|violation| violation.fingerprint).collect();
    let (next, replayed) = process.killed(&options);
    assert_eq!((raised(&next.watcher), replayed.reports.len()), (0, 0));
    assert!(next.watcher.violations().map(|violation| violation.fingerprint).eq(open), "what stands stands");
}

#[test]
fn what_is_kept_is_read_as_what_it_was() {
    let lost = |groups| Input::Lost(Lost { stage: Stage::Ring, count: 7, groups });
    let key = crate::event::Key::new(0xffff_8880_1234_5678);
    let inputs = [
        Input::Start,
        Input::Settled,
        lost(None),
        lost(Some(Vec::new())),
        lost(Some(key.into_iter().collect())),
        Input::Resync(Resync::Audit),
        Input::Gone(7),
    ];
    let mut keeper = Keeper::new(Process::begin(&Options::default()).keeper.journal);
    for input in &inputs {
        let kept = keeper.before(input, 5);
        keeper.after(kept, 5, true);
    }
    let journal = keeper.journal.expect("it is kept");
    let read: Vec<String> =
        journal.entries().map(|entry| format!("{:?}", keeper::read(&entry).expect("an input"))).collect();
    assert_eq!(read, inputs.each_ref().map(|input| format!("{input:?}")));
    for entry in journal.entries() {
        for kind in 0..=u8::MAX {
            // Whatever it is, it is none, or one: nothing dies of it.
            let _ = keeper::read(&Entry { kind, ..entry.clone() });
        }
    }
}

/// A violation stands for longer than the journal reaches back: the next process knows it by what was carried.
#[test]
fn what_stands_is_known_when_what_gave_it_away_is_not_at_hand_and_resolves() {
    let (options, steps) = recorded();
    let mut process = Process::begin(&options);
    let mut standing = None;
    for (position, step) in steps.iter().enumerate() {
        process.tell(step, position as u64);
        let mut open = process.watcher.violations();
        if let Some(violation) = open.find(|violation| violation.check.name == "pasid-left-on-release") {
            standing = Some((position, violation.fingerprint, violation.summary.clone()));
            break;
        }
    }
    let (at, fingerprint, summary) = standing.expect("the recording has one");
    let carried = serde_json::to_vec(&process.watcher.carried()).expect("JSON");
    // What begins now has nothing of what was before, as a half of the journal that has turned twice.
    let mut next = Watcher::new(options);
    next.take(Input::Start, steps[at].mono_ns);
    next.carry(serde_json::from_slice(&carried).expect("what was carried"), steps[at].mono_ns);
    next.carry(serde_json::from_slice(&carried).expect("once more"), steps[at].mono_ns);
    assert_eq!(next.carried().len(), process.watcher.carried().len());
    let mut reports = Vec::new();
    for step in &steps[at + 1..] {
        reports.extend(next.take(step.input.clone(), step.mono_ns));
        if let Some(violation) = next.violations().find(|violation| violation.fingerprint == fingerprint) {
            assert_eq!(violation.summary, summary);
        }
    }
    let raised = |report: &&Report| matches!(report, Report::Violation(it) if it.fingerprint == fingerprint);
    let resolved = |report: &&Report| matches!(report, Report::Resolved(it) if it.fingerprint == fingerprint);
    assert_eq!(reports.iter().filter(raised).count(), 0, "it was told");
    assert_eq!(reports.iter().filter(resolved).count(), 1, "it is mended later in the recording");
}

/// A storm fills half after half; that is no host whose state doesn't fit.
#[test]
fn a_storm_ends_no_journal_and_too_much_state_does() {
    let (options, steps) = recorded();
    let records =
        || steps.iter().filter(|step| matches!(step.input, Input::Event(_))).map(|step| &step.record);
    let of_state = |record: &&Vec<u8>| {
        let header = monitor_ebpf::wire::Header::read_from_prefix(record).expect("a record").0;
        monitor_ebpf::wire::Hook::from_number(header.hook).is_some_and(monitor_ebpf::wire::is_snapshot)
    };
    let call = records().find(|record| !of_state(record)).expect("a call").clone();
    let state = records().find(of_state).expect("a reading").clone();
    for (record, ends) in [(call, false), (state, true)] {
        let mut keeper = Process::begin(&options).keeper;
        keeper.wants_state();
        for position in 0..3 * LEN / record.len() {
            keeper.record(&record, position as u64);
        }
        assert!(keeper.wants_state(), "it has turned");
        for position in 0..LEN / 2 / record.len() {
            keeper.record(&record, position as u64);
        }
        keeper.has_state();
        assert_eq!(keeper.journal.is_none(), ends);
    }
}

/// The fingerprint of the violation that stands first, and of what comes up to that, of the recording; and how much comes up
/// to its end.
fn a_violation(options: &Options, steps: &[Step]) -> (usize, usize, crate::check::Fingerprint) {
    let mut alone = Process::begin(options);
    let (mut raised, mut resolved) = (None, None);
    for (at, step) in steps.iter().enumerate() {
        for report in alone.tell(step, at as u64) {
            match report {
                Report::Violation(it) if it.check.name == "pasid-left-on-release" => {
                    raised = raised.or(Some((at, it.fingerprint)));
                }
                Report::Resolved(it) if raised.is_some_and(|(_, of)| of == it.fingerprint) => {
                    resolved = resolved.or(Some(at));
                }
                _ => {}
            }
        }
    }
    let (raised, fingerprint) = raised.expect("the recording has one");
    (raised, resolved.expect("it is mended later in the recording"), fingerprint)
}

impl Process {
    /// So much comes that a half of the journal is full, before any group is read again.
    fn turn(&mut self, junk: &[u8]) {
        self.keeper.wants_state();
        while !self.keeper.wants_state() {
            self.keeper.second(junk, 0);
        }
        self.keeper.carry(&self.watcher);
    }

    fn tell_all(&mut self, steps: &[Step], from: usize) {
        for (at, step) in steps.iter().enumerate() {
            self.tell(step, (from + at) as u64);
        }
        self.journal().teller().told(self.journal().count());
    }
}

/// What the older half has of it is of groups that nobody has read, and shows nothing.
#[test]
fn what_was_found_in_a_storm_stands_and_resolves_once() {
    let (options, steps) = recorded();
    let (raised, resolved, fingerprint) = a_violation(&options, &steps);
    let mut process = Process::begin(&options);
    process.tell_all(&steps[..raised], 0);
    process.turn(&[0; 500]);
    process.tell_all(&steps[raised..=raised], raised);
    process.turn(&[0; 500]);
    process.journal().teller().told(process.journal().count());
    let (mut next, replayed) = process.killed(&options);
    assert!(replayed.reports.is_empty(), "{:?}", replayed.reports);
    assert!(next.watcher.carried().len() == 1);
    let mut reports = Vec::new();
    for (at, step) in steps.iter().enumerate().skip(raised + 1) {
        reports.extend(next.tell(step, at as u64));
    }
    let is_over = |report: &&Report| matches!(report, Report::Resolved(it) if it.fingerprint == fingerprint);
    assert!(resolved > raised);
    assert_eq!(reports.iter().filter(is_over).count(), 1);
}

#[test]
fn what_was_over_in_a_storm_is_told_no_more() {
    let (options, steps) = recorded();
    let (raised, resolved, fingerprint) = a_violation(&options, &steps);
    let mut process = Process::begin(&options);
    process.tell_all(&steps[..=raised], 0);
    process.turn(&[0; 500]);
    process.tell_all(&steps[raised + 1..=resolved], raised + 1);
    process.turn(&[0; 500]);
    process.journal().teller().told(process.journal().count());
    let (mut next, replayed) = process.killed(&options);
    assert!(replayed.reports.is_empty(), "{:?}", replayed.reports);
    let mut reports = Vec::new();
    for (at, step) in steps.iter().enumerate().skip(resolved + 1) {
        reports.extend(next.tell(step, at as u64));
    }
    let is_about = |report: &&Report| match report {
        Report::Violation(it) => it.fingerprint == fingerprint,
        Report::Resolved(it) => it.fingerprint == fingerprint,
        _ => false,
    };
    let first = reports.iter().find(is_about);
    assert!(!matches!(first, Some(Report::Resolved(_))), "{first:?}");
}
