//! Loading the eBPF object and attaching each hook by the best means that this kernel allows.
//!
//! The ladder: for a function fentry and fexit, then kprobe and kretprobe; for a tracepoint tp_btf, then
//! raw_tp. A hook that can't be had costs the checks that need it, never the daemon.

use std::{
    collections::HashMap,
    fmt,
    time::{Duration, Instant},
};

use aya::{
    Btf as LoaderBtf, Ebpf, EbpfError, EbpfLoader, Endianness, VerifierLogLevel,
    programs::{BtfTracePoint, FEntry, FExit, KProbe, Program, ProgramError, RawTracePoint},
};
use monitor_ebpf::wire::{ABSENT, Arguments, Hook};
use zerocopy::IntoBytes;

use super::{
    btf::{self, Btf},
    catalogue::{CATALOGUE, Ends, Given, Row, Target},
    host::{self, Denied},
    kallsyms::{self, Kallsyms},
    layout,
};
use crate::coverage::{Backend, Coverage, HookState};

/// The eBPF object, or nothing where it was not built.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/iommu-watch.bpf.o"));

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "this iommu-watch was built without its eBPF object; build it with `cargo xtask build-ebpf`, then build iommu-watch again"
    )]
    NoObject,
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error("{path}: {source}; iommu-watch needs a kernel with CONFIG_DEBUG_INFO_BTF=y", path = btf::VMLINUX)]
    NoBtf { source: std::io::Error },
    #[error("{path}: {source}", path = btf::VMLINUX)]
    Btf { source: btf::Error },
    #[error("{path}: {source}; is /proc mounted?", path = host::PID_NAMESPACE)]
    Namespace { source: std::io::Error },
    #[error("the kernel refuses the eBPF maps: {0}")]
    Load(#[source] Box<EbpfError>),
    #[error("no hook could be attached; the first refusal: {0}")]
    Nothing(String),
}

/// The programs and maps in the kernel. Dropping it detaches everything.
pub struct Probes {
    pub(super) ebpf: Ebpf,
    pub coverage: Coverage,
    pub timing: Timing,
    /// Whose hardware PASID tables can be read.
    pub tables: [layout::Table; 3],
}

impl Probes {
    /// How often each program that is loaded has run, and how long: while BPF statistics are on
    /// (`kernel.bpf_stats_enabled`).
    pub fn run_times(&self) -> impl Iterator<Item = (&str, u64, Duration)> {
        self.ebpf.programs().filter_map(|(name, program)| {
            let info = program.info().ok()?;
            Some((name, info.run_count(), info.run_time()))
        })
    }
}

/// Where the time of attaching went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timing {
    /// Reading what the kernel says of its types.
    pub types: Duration,
    /// The object: its relocations, and its maps in the kernel.
    pub object: Duration,
    /// The programs: verified, compiled and attached.
    pub programs: Duration,
}

impl fmt::Display for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Timing { types, object, programs } = self;
        let [types, object, programs] = [types, object, programs].map(Duration::as_secs_f64);
        let total = types + object + programs;
        write!(f, "{total:.2} s (kernel types {types:.2}, maps {object:.2}, programs {programs:.2})")
    }
}

/// What the running kernel's BTF says, for those who only ask.
pub fn kernel_types() -> Result<Btf, Error> {
    let bytes = std::fs::read(btf::VMLINUX).map_err(|source| Error::NoBtf { source })?;
    Btf::parse(bytes).map_err(|source| Error::Btf { source })
}

/// What to attach, and how.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub wanted: fn(Hook) -> bool,
    pub means: Means,
    /// Of the programs' own diagnostics.
    pub log_level: aya_log::Level,
}

/// By what means hooks may be attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// The best that works: the whole ladder.
    Best,
    /// Its lower rungs only, for a kernel whose trampolines can't be used.
    NoTrampolines,
}

/// Attaches the hooks that are wanted and that this kernel has.
pub fn attach(plan: &Plan) -> Result<Probes, Error> {
    attach_object(OBJECT, plan)
}

fn attach_object(object: &[u8], plan: &Plan) -> Result<Probes, Error> {
    if object.is_empty() {
        return Err(Error::NoObject);
    }
    host::may_attach()?;
    let started = Instant::now();
    // The loader reads the kernel's types for itself; on a slow machine that takes its time, so side by side.
    let (types, loader, kallsyms) = std::thread::scope(|scope| {
        let loader = scope.spawn(loader);
        let kallsyms = scope.spawn(kallsyms::running);
        (kernel_types(), loader.join(), kallsyms.join())
    });
    let (types, mut loader) = (types?, loader.unwrap_or_default());
    let kallsyms = kallsyms.unwrap_or(Kallsyms::NOT_READ);
    let symbols: Vec<&str> = CATALOGUE.iter().filter_map(|row| Some(resolve(&types, row)?.0)).collect();
    let loader_btf = LoaderBtf::parse(&types.skeleton(&symbols), Endianness::default())
        .map_err(|_| Error::Btf { source: btf::Error::Malformed("the loader can't read it") })?;
    let layout = layout::layout(&types).map_err(|source| Error::Btf { source })?;
    let arguments = CATALOGUE.iter().fold([Arguments::NONE; Hook::COUNT], |mut all, row| {
        if let Some((_, parameters)) = resolve(&types, row) {
            all[row.hook as usize] = layout::arguments(&parameters);
        }
        all
    });
    let types_done = Instant::now();
    let own_process = host::own_process().map_err(|source| Error::Namespace { source })?;
    let mut ebpf = loader
        .btf(Some(&loader_btf))
        .verifier_log_level(VerifierLogLevel::DISABLE)
        .override_global("LAYOUT", layout.as_bytes(), true)
        .override_global("SYMBOLS", kallsyms.symbols.as_bytes(), true)
        .override_global("ARGUMENTS", arguments.as_slice().as_bytes(), true)
        .override_global("OWN_PROCESS", own_process.as_bytes(), true)
        .override_global(aya_log::LEVEL, &(plan.log_level as u8), false)
        .load(object)
        .map_err(|error| Error::Load(Box::new(error)))?;
    let object_done = Instant::now();
    let mut coverage = Coverage::default();
    coverage.core_pasids = layout.group_pasid_head != ABSENT;
    for (hook, state) in attach_all(&mut ebpf, &loader_btf, &types, plan) {
        coverage.set(hook, state);
    }
    if !Hook::ALL.iter().any(|&hook| coverage.attached(hook)) {
        let reason = coverage.iter().find_map(|(_, state)| match state {
            HookState::Failed { reason } => Some(reason.clone()),
            _ => None,
        });
        return Err(Error::Nothing(reason.unwrap_or_else(|| "this kernel has none of the functions".into())));
    }
    let timing = Timing {
        types: types_done - started,
        object: object_done - types_done,
        programs: object_done.elapsed(),
    };
    let tables = layout::tables(&layout, kallsyms.symbols, kallsyms.reason);
    for (hook, reason) in tables.iter().filter_map(layout::Table::unread) {
        coverage.set_unread(hook, reason);
    }
    Ok(Probes { ebpf, coverage, timing, tables })
}

/// A loader that has found out what this kernel can do.
fn loader() -> EbpfLoader<'static> {
    aya::features();
    EbpfLoader::new()
}

/// What would be hooked on a kernel with these types, without attaching: the symbol of each call.
pub fn resolve(types: &Btf, row: &Row) -> Option<(&'static str, Vec<btf::Parameter>)> {
    match row.target {
        Target::Call { .. } if !is_given(types, row.given) => None,
        Target::Call { symbols, .. } => {
            symbols.iter().find_map(|&symbol| Some((symbol, types.parameters(symbol)?)))
        }
        Target::Tracepoint { .. } => None,
    }
}

fn is_given(types: &Btf, given: Given) -> bool {
    match given {
        Given::Always => true,
        // What can't be read for sure is looked at.
        Given::Members(structs) => structs.iter().all(|(name, members)| {
            members.iter().any(|member| !matches!(types.member(name, member), Ok(None)))
        }),
        Given::Without(function) => types.parameters(function).is_none(),
    }
}

/// Verifying and attaching a hook takes milliseconds, on an emulated machine a tenth of a second: the
/// rows are dealt out to the CPUs.
fn attach_all(ebpf: &mut Ebpf, btf: &LoaderBtf, types: &Btf, plan: &Plan) -> Vec<(Hook, HookState)> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from).clamp(1, 8);
    let mut programs: HashMap<&str, &mut Program> = ebpf.programs_mut().collect();
    let mut shares: Vec<Vec<(&Row, Programs)>> = Vec::new();
    shares.resize_with(workers, Vec::new);
    for (index, row) in CATALOGUE.iter().filter(|row| (plan.wanted)(row.hook)).enumerate() {
        let own = Programs::take(&mut programs, row.hook.name());
        shares[index % workers].push((row, own));
    }
    std::thread::scope(|scope| {
        let running: Vec<_> = shares
            .into_iter()
            .map(|share| {
                scope.spawn(move || {
                    share
                        .into_iter()
                        .map(|(row, own)| (row.hook, attach_row(own, btf, types, row, plan.means)))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        running.into_iter().filter_map(|worker| worker.join().ok()).flatten().collect()
    })
}

/// The programs of one hook, by their suffix.
struct Programs<'a> {
    by_suffix: HashMap<&'static str, &'a mut Program>,
}

const SUFFIXES: [&str; 6] = ["fentry", "fexit", "kprobe", "kretprobe", "tp", "raw"];

impl<'a> Programs<'a> {
    fn take(all: &mut HashMap<&str, &'a mut Program>, hook: &str) -> Programs<'a> {
        let by_suffix = SUFFIXES
            .iter()
            .filter_map(|&suffix| Some((suffix, all.remove(format!("{hook}_{suffix}").as_str())?)))
            .collect();
        Programs { by_suffix }
    }

    fn get<'p, T>(&'p mut self, suffix: &'static str) -> Result<&'p mut T, ProgramError>
    where
        &'p mut T: TryFrom<&'p mut Program, Error = ProgramError>,
    {
        let program = self.by_suffix.get_mut(suffix);
        program
            .ok_or_else(|| ProgramError::InvalidName { name: suffix.to_owned() })
            .and_then(|p| (&mut **p).try_into())
    }
}

type Attempt = fn(&mut Programs, &LoaderBtf, &str, Ends) -> Result<(), ProgramError>;

fn attach_row(mut programs: Programs, btf: &LoaderBtf, types: &Btf, row: &Row, means: Means) -> HookState {
    let (target, ends, ladder): (_, _, [(Backend, Attempt); 2]) = match row.target {
        Target::Call { ends, .. } => match resolve(types, row) {
            Some((symbol, _)) => (symbol, ends, [(Backend::Fentry, by_fentry), (Backend::Kprobe, by_kprobe)]),
            None => return HookState::Absent,
        },
        Target::Tracepoint { name } if !types.tracepoint(name) => return HookState::Absent,
        Target::Tracepoint { name } => {
            (name, Ends::Entry, [(Backend::Tracepoint, by_tp_btf), (Backend::Tracepoint, by_raw_tp)])
        }
    };
    let mut refusal = None;
    let rungs = if means == Means::Best { &ladder[..] } else { &ladder[1..] };
    for &(backend, attempt) in rungs {
        match attempt(&mut programs, btf, target, ends) {
            Ok(()) => return HookState::Attached { backend },
            // The first refusal tells most: it is of the means that this kernel should have.
            Err(error) => {
                refusal = refusal
                    .or_else(|| Some(format!("{} on `{target}` refused: {}", backend.name(), reason(&error))))
            }
        }
    }
    HookState::Failed { reason: refusal.unwrap_or_default() }
}

/// The innermost cause, in one line: what wraps it repeats it.
fn reason(error: &ProgramError) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string().lines().next().unwrap_or_default().to_owned()
}

/// The exit is attached first: a call that is already running then ends unnoticed, where the other way
/// round its end would be waited for.
fn by_fentry(programs: &mut Programs, btf: &LoaderBtf, symbol: &str, ends: Ends) -> Result<(), ProgramError> {
    if ends != Ends::Entry {
        let program: &mut FExit = programs.get("fexit")?;
        program.load(symbol, btf)?;
        program.attach()?;
    }
    if !matches!(ends, Ends::Exit | Ends::Return) {
        let program: &mut FEntry = programs.get("fentry")?;
        program.load(symbol, btf)?;
        program.attach()?;
    }
    Ok(())
}

fn by_kprobe(programs: &mut Programs, _: &LoaderBtf, symbol: &str, ends: Ends) -> Result<(), ProgramError> {
    // A kretprobe has no arguments any more: it needs the entry too.
    if ends != Ends::Entry {
        let program: &mut KProbe = programs.get("kretprobe")?;
        program.load()?;
        program.attach(symbol, 0)?;
    }
    if ends == Ends::Return {
        return Ok(());
    }
    let program: &mut KProbe = programs.get("kprobe")?;
    program.load()?;
    program.attach(symbol, 0).map(drop)
}

fn by_tp_btf(programs: &mut Programs, btf: &LoaderBtf, name: &str, _: Ends) -> Result<(), ProgramError> {
    let program: &mut BtfTracePoint = programs.get("tp")?;
    program.load(name, btf)?;
    program.attach().map(drop)
}

fn by_raw_tp(programs: &mut Programs, _: &LoaderBtf, name: &str, _: Ends) -> Result<(), ProgramError> {
    let program: &mut RawTracePoint = programs.get("raw")?;
    program.load()?;
    program.attach(name).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_its_object_it_says_how_to_build_it() {
        let plan = Plan { wanted: |_| true, means: Means::Best, log_level: aya_log::Level::Warn };
        let error = attach_object(&[], &plan).err().map(|error| error.to_string());
        assert!(error.is_some_and(|text| text.contains("cargo xtask build-ebpf")));
    }
}
