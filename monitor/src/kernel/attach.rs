//! The programs of the hooks: loaded, that is verified and compiled by the kernel, then attached, each hook by the
//! best means that this kernel allows.
//!
//! The ladder: for a function fentry and fexit, then kprobe and kretprobe; for a tracepoint tp_btf, then raw_tp.

use std::{
    collections::HashMap,
    fmt,
    os::fd::AsFd,
    sync::Mutex,
    time::{Duration, Instant},
};

use aya::{
    Btf as LoaderBtf, Ebpf,
    programs::{Program, ProgramError, links::FdLink},
};
use monitor_ebpf::wire::{Hook, is_snapshot};

use super::{
    btf::{self, Btf},
    catalogue::{CATALOGUE, Driver, Ends, Given, Row, Target},
    probes::{Attached, Means, Plan},
};
use crate::{
    coverage::{Backend, HookState},
    lock::lock,
};

/// What a program cost at the start.
#[derive(Clone, Debug)]
pub struct Cost {
    /// Its hook and its means: `pasid_attach_fentry`.
    pub program: String,
    pub load: Duration,
    pub attach: Duration,
    /// Instructions that the verifier went through, each time anew; `None` where the kernel doesn't say (before 5.16).
    pub verified: Option<u32>,
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [load, attach] = [self.load, self.attach].map(|took| took.as_secs_f64());
        write!(f, "{}: loaded in {load:.3} s", self.program)?;
        if let Some(verified) = self.verified {
            write!(f, " ({verified} instructions verified)")?;
        }
        write!(f, ", attached in {attach:.3} s")
    }
}

/// What came of all hooks.
#[derive(Default)]
pub(super) struct Outcome {
    pub states: Vec<(Hook, HookState)>,
    pub costs: Vec<Cost>,
    pub attached: Vec<Attached>,
}

/// The function that is hooked on a kernel with these types, and what it takes.
pub fn resolve(types: &Btf, row: &Row) -> Option<(&'static str, Vec<btf::Parameter>)> {
    match row.target {
        Target::Call { .. } if !is_given(types, row.given) => None,
        Target::Call { symbols, .. } => symbols
            .iter()
            .find_map(|&symbol| Some((symbol, types.parameters(symbol)?)))
            .filter(|(_, takes)| !matches!(row.given, Given::Arguments(count) if count != takes.len())),
        Target::Reduced { .. } | Target::Tracepoint { .. } => None,
    }
}

/// Whether a kernel with these types has what a row listens to, as far as they tell.
pub fn is_there(types: &Btf, row: &Row) -> bool {
    match row.target {
        Target::Call { .. } => resolve(types, row).is_some(),
        Target::Reduced { beside, .. } => types.parameters(beside).is_some(),
        Target::Tracepoint { name } => types.tracepoint(name),
    }
}

fn is_given(types: &Btf, given: Given) -> bool {
    match given {
        Given::Always | Given::Arguments(_) => true,
        // What can't be read for sure is looked at.
        Given::Members(structs) => structs.iter().all(|(name, members)| {
            members.iter().any(|member| !matches!(types.member(name, member), Ok(None)))
        }),
        Given::With(function) => types.parameters(function).is_some(),
        Given::Without(function) => types.parameters(function).is_none(),
    }
}

/// Loads and attaches the hooks of a plan. On an emulated machine a program takes a tenth of a second, so they are
/// dealt out to the CPUs.
pub(super) fn attach_all(ebpf: &mut Ebpf, btf: &LoaderBtf, types: &Btf, plan: &Plan) -> Outcome {
    let mut programs: HashMap<&str, &mut Program> = ebpf.programs_mut().collect();
    let mut outcome = Outcome::default();
    let mut found = Vec::new();
    let idle = |row: &Row| row.driver.filter(|&driver| !plan.drivers.has(driver)).map(Driver::name);
    for row in CATALOGUE.iter().filter(|row| (plan.wanted)(row.hook)) {
        if row.hook.on_demand() && !plan.demanded.contains(&row.hook) {
            outcome.states.push((row.hook, HookState::Off));
            continue;
        }
        if let Some(driver) = idle(row).filter(|_| is_there(types, row)) {
            outcome.states.push((row.hook, HookState::Idle { driver }));
            continue;
        }
        match Found::new(row, &mut programs, types, plan.means) {
            Some(_) if matches!(row.hook, Hook::VtdSubmit | Hook::AmdWait) && !plan.submission_returns => {
                let reason = "left out, by --no-submission-returns".into();
                outcome.states.push((row.hook, HookState::Failed { reason }));
            }
            Some(hook) => found.push(hook),
            None => outcome.states.push((row.hook, HookState::Absent)),
        }
    }
    // The largest are taken first, from the end: a small one is better left for last.
    found.sort_by_key(|hook| is_snapshot(hook.hook));
    for (hook, state, programs) in in_two_stages(found, |hook| hook.loaded(btf), |hook| hook.attach(btf)) {
        outcome.states.push((hook, state));
        for (cost, attached) in programs {
            outcome.costs.push(cost);
            outcome.attached.extend(attached);
        }
    }
    outcome
}

/// What is to be done, and what waits for its second stage.
struct Stages<T, U> {
    todo: Vec<T>,
    ready: Vec<U>,
    /// Somebody is at the second stage.
    busy: bool,
}

/// Does two things with each item: the first on all CPUs, last item first, and the second for one at a time, which
/// others would only wait for (the kernel attaches under locks of its own), beside it.
fn in_two_stages<T: Send, U: Send, R: Send>(
    items: Vec<T>,
    first: impl Fn(T) -> U + Sync,
    second: impl Fn(U) -> R + Sync,
) -> Vec<R> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from).clamp(1, 8);
    let stages = Mutex::new(Stages { todo: items, ready: Vec::new(), busy: false });
    let worker = || {
        let mut done = Vec::new();
        loop {
            let mut now = lock(&stages);
            if let Some(item) = if now.busy { None } else { now.ready.pop() } {
                now.busy = true;
                drop(now);
                done.push(second(item));
                lock(&stages).busy = false;
            } else if let Some(item) = now.todo.pop() {
                drop(now);
                let item = first(item);
                lock(&stages).ready.push(item);
            } else {
                // What is ready still, whoever is busy comes to it.
                return done;
            }
        }
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        running.into_iter().filter_map(|worker| worker.join().ok()).flatten().collect()
    })
}

/// One rung of the ladder: which programs it takes, by their suffix.
#[derive(Clone, Copy)]
struct Rung {
    backend: Backend,
    suffixes: &'static [&'static str],
}

/// The exit comes first: a call that is already running when it is attached then ends unnoticed, where the other
/// way round its end would be waited for. A kretprobe has no arguments any more; where they are of interest, it needs
/// the entry too.
fn ladder(target: Target) -> [Rung; 2] {
    let rung = |backend, suffixes| Rung { backend, suffixes };
    let call = |trampolines, kprobes| [rung(Backend::Fentry, trampolines), rung(Backend::Kprobe, kprobes)];
    match target {
        Target::Call { ends: Ends::Entry, .. } => call(&["fentry"], &["kprobe"]),
        Target::Call { ends: Ends::Exit, .. } => call(&["fexit"], &["kretprobe", "kprobe"]),
        Target::Call { ends: Ends::Return, .. } => call(&["fexit"], &["kretprobe"]),
        Target::Call { ends: Ends::Both, .. } => call(&["fexit", "fentry"], &["kretprobe", "kprobe"]),
        // There is no program for the first.
        Target::Reduced { .. } => call(&["fexit"], &["kretprobe"]),
        Target::Tracepoint { .. } => {
            [rung(Backend::Tracepoint, &["tp"]), rung(Backend::Tracepoint, &["raw"])]
        }
    }
}

/// A hook that this kernel has.
struct Found<'a> {
    hook: Hook,
    /// The function or tracepoint.
    target: &'static str,
    /// Further names that it may have, which the kernel alone knows.
    or: &'static [&'static str],
    /// What is left to try of the ladder, with the programs of each rung.
    rungs: Vec<(Rung, Vec<Own<'a>>)>,
    /// The first refusal tells most: it is of the means that this kernel should have.
    refusal: Option<String>,
}

/// A program, and what it has cost.
struct Own<'a> {
    program: &'a mut Program,
    cost: Cost,
    attached: Option<Attached>,
}

impl<'a> Found<'a> {
    fn new(
        row: &Row,
        programs: &mut HashMap<&str, &'a mut Program>,
        types: &Btf,
        means: Means,
    ) -> Option<Found<'a>> {
        let (target, or) = match row.target {
            Target::Call { .. } => (resolve(types, row)?.0, &[][..]),
            Target::Reduced { symbols, .. } => {
                let (&first, others) = symbols.split_first().filter(|_| is_there(types, row))?;
                (first, others)
            }
            Target::Tracepoint { name } => (types.tracepoint(name).then_some(name)?, &[][..]),
        };
        let ladder = ladder(row.target);
        let rungs = if means == Means::Best { &ladder[..] } else { &ladder[1..] };
        let mut take = |suffix: &&str| {
            let (name, program) = programs.remove_entry(format!("{}_{suffix}", row.hook.name()).as_str())?;
            let cost = Cost {
                program: name.to_owned(),
                load: Duration::ZERO,
                attach: Duration::ZERO,
                verified: None,
            };
            Some(Own { program, cost, attached: None })
        };
        let rungs = rungs.iter().filter_map(|&rung| {
            let programs: Option<Vec<_>> = rung.suffixes.iter().map(&mut take).collect();
            Some((rung, programs?))
        });
        Some(Found { hook: row.hook, target, or, rungs: rungs.collect(), refusal: None })
    }

    fn loaded(mut self, btf: &LoaderBtf) -> Found<'a> {
        self.load(btf);
        self
    }

    /// Loads the programs of the first rung that the kernel takes, and gives up those above it.
    fn load(&mut self, btf: &LoaderBtf) {
        while let Some((rung, programs)) = self.rungs.first_mut() {
            let loaded = programs.iter_mut().try_for_each(|own| own.load(self.target, btf));
            let Err(error) = loaded else { return };
            let rung = *rung;
            self.refuse(rung, &error);
        }
    }

    /// Attaches what was loaded; a rung that doesn't hold is left for those below it.
    fn attach(mut self, btf: &LoaderBtf) -> (Hook, HookState, Vec<(Cost, Option<Attached>)>) {
        while let Some((rung, programs)) = self.rungs.first_mut() {
            let attached = attach_by(programs, self.target, self.or);
            let rung = *rung;
            let Err(error) = attached else {
                let (_, programs) = self.rungs.swap_remove(0);
                let programs = programs.into_iter().map(|own| (own.cost, own.attached)).collect();
                return (self.hook, HookState::Attached { backend: rung.backend }, programs);
            };
            self.refuse(rung, &error);
            self.load(btf);
        }
        let reason = self.refusal.unwrap_or_else(|| "the eBPF object has no program for it".into());
        (self.hook, HookState::Failed { reason }, Vec::new())
    }

    fn refuse(&mut self, rung: Rung, error: &ProgramError) {
        let text = || format!("{} on `{}` refused: {}", rung.backend.name(), self.target, reason(error));
        self.refusal = self.refusal.take().or_else(|| Some(text()));
        self.rungs.remove(0);
    }
}

/// Attaches programs to a function by its names, in turn.
fn attach_by(programs: &mut [Own<'_>], name: &str, or: &[&str]) -> Result<(), ProgramError> {
    let mut attach = |name: &str| programs.iter_mut().try_for_each(|own| own.attach(name));
    let first = attach(name);
    if first.is_err() && or.iter().any(|name| attach(name).is_ok()) { Ok(()) } else { first }
}

impl Own<'_> {
    fn load(&mut self, target: &str, btf: &LoaderBtf) -> Result<(), ProgramError> {
        let started = Instant::now();
        match &mut *self.program {
            Program::FEntry(program) => program.load(target, btf),
            Program::FExit(program) => program.load(target, btf),
            Program::KProbe(program) => program.load(),
            Program::BtfTracePoint(program) => program.load(target, btf),
            Program::RawTracePoint(program) => program.load(),
            _ => Err(ProgramError::UnexpectedProgramType),
        }?;
        self.cost.load = started.elapsed();
        self.cost.verified = self.program.info().ok().and_then(|info| info.verified_instruction_count());
        Ok(())
    }

    fn attach(&mut self, target: &str) -> Result<(), ProgramError> {
        let started = Instant::now();
        let program = &mut *self.program;
        let kprobe = matches!(program, Program::KProbe(_));
        // Taken out of the program, so that it can be pinned. What the kernel has no link for (before 5.15) can't be held.
        let link: FdLink = match program {
            Program::FEntry(program) => {
                let id = program.attach()?;
                program.take_link(id)?.into()
            }
            Program::FExit(program) => {
                let id = program.attach()?;
                program.take_link(id)?.into()
            }
            Program::KProbe(program) => {
                let id = program.attach(target, 0)?;
                program.take_link(id)?.try_into().map_err(|_| ProgramError::UnexpectedProgramType)?
            }
            Program::BtfTracePoint(program) => {
                let id = program.attach()?;
                program.take_link(id)?.into()
            }
            Program::RawTracePoint(program) => {
                let id = program.attach(target)?;
                program.take_link(id)?.into()
            }
            _ => return Err(ProgramError::UnexpectedProgramType),
        };
        let program = program.fd()?.as_fd().try_clone_to_owned()?;
        let name = self.cost.program.clone();
        self.attached = Some(Attached { name, program, kprobe, link: Some(link) });
        self.cost.attach = started.elapsed();
        Ok(())
    }
}

/// The innermost cause, in one line: what wraps it repeats it.
fn reason(error: &ProgramError) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string().lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn every_item_goes_through_both_stages_and_the_second_one_by_one() {
        let busy = AtomicBool::new(false);
        let second = |number: u32| {
            assert!(!busy.swap(true, Ordering::SeqCst), "one at a time");
            std::thread::yield_now();
            busy.store(false, Ordering::SeqCst);
            number + 1
        };
        let mut done = in_two_stages((0..1000).collect(), |number: u32| number * 2, second);
        done.sort_unstable();
        assert!(done.into_iter().eq((0..1000).map(|number| number * 2 + 1)));
        assert!(in_two_stages(Vec::<u32>::new(), |number| number, |number| number).is_empty());
    }
}
