//! The eBPF object in the running kernel: what it must know of this kernel, its maps, and its programs. A hook that
//! can't be had costs the checks that need it, never the daemon.

use std::{
    cmp::Reverse,
    collections::HashMap,
    fmt,
    os::fd::OwnedFd,
    path::PathBuf,
    time::{Duration, Instant},
};

use aya::{
    Btf as LoaderBtf, Ebpf, EbpfError, EbpfLoader, Endianness, VerifierLogLevel,
    maps::{Array, Map, MapError},
    programs::links::FdLink,
};
use monitor_ebpf::wire::{ABSENT, Arguments, Hook, Process, SLOW_NS};
use zerocopy::IntoBytes;

use super::{
    attach::{self, Cost, attach_all, resolve},
    btf::{self, Btf},
    catalogue::{CATALOGUE, Drivers},
    defects::Kernel,
    host::{self, Denied},
    kallsyms::{self, Kallsyms},
    layout,
};
use crate::{
    advisory::Data,
    coverage::{Coverage, HookState},
};

/// The eBPF object, or nothing where it was not built.
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/iommu-watch.bpf.o"));

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
    #[error("the eBPF object has no map `{OWNER}`")]
    NoOwner,
    #[error("map `{OWNER}`: {0}")]
    Owner(#[source] MapError),
    #[error("the eBPF object has no map `{RECORDING}`")]
    NoTurn,
    #[error("map `{RECORDING}`: {0}")]
    Turn(#[source] MapError),
    #[error("the kernel refuses the eBPF maps: {0}")]
    Load(#[source] Box<EbpfError>),
    #[error("no hook could be attached; the first refusal: {0}")]
    Nothing(String),
}

/// A submission that takes longer is told, where nobody says otherwise.
pub const SLOW: Duration = Duration::from_nanos(SLOW_NS);

/// The map that says whose reads of groups' state are of interest.
pub(super) const OWNER: &str = "OWNER";

/// The word that says which of the sets record that share it ([`SHARED`]): a bit for each.
pub(super) const RECORDING: &str = "RECORDING";

/// The maps that a set takes over from the one that it succeeds: where its records and their stacks go, what was lost of
/// them, who tears which entry down, and which set it is that records. All else each has for itself.
pub(super) const SHARED: [&str; 6] = ["EVENTS", "COUNTS", "LOSSES", "STACKS", "TEARDOWNS", RECORDING];

/// What a set joins that is to succeed another.
pub(super) struct Joined<'a> {
    /// Its own bit of [`RECORDING`].
    pub number: u8,
    /// Where each of [`SHARED`] is pinned.
    pub maps: &'a [(&'static str, PathBuf)],
}

/// The programs and maps in the kernel. Dropping it detaches what isn't pinned.
pub struct Probes {
    pub(super) loaded: Loaded,
    pub(super) attached: Vec<Attached>,
    pub coverage: Coverage,
    pub timing: Timing,
    /// What each program cost, the dearest first.
    pub costs: Vec<Cost>,
    /// Whose hardware PASID tables can be read.
    pub tables: Vec<layout::Table>,
    /// Runs that the kernel left out of the programs that these have succeeded.
    pub missed_before: u64,
}

/// Where the maps come from.
pub(super) enum Loaded {
    Here(Box<Ebpf>),
    /// By a process before this one, which left them pinned: by their names in the object.
    Before(HashMap<String, Map>),
}

/// A program that is attached.
pub(super) struct Attached {
    pub name: String,
    pub program: OwnedFd,
    pub kprobe: bool,
    /// `None` while it is being pinned.
    pub link: Option<FdLink>,
}

impl Probes {
    pub(super) fn map(&self, name: &str) -> Option<&Map> {
        match &self.loaded {
            Loaded::Here(ebpf) => ebpf.map(name),
            Loaded::Before(maps) => maps.get(name),
        }
    }

    pub(super) fn take_map(&mut self, name: &str) -> Option<Map> {
        match &mut self.loaded {
            Loaded::Here(ebpf) => ebpf.take_map(name),
            Loaded::Before(maps) => maps.remove(name),
        }
    }

    /// How often each program that is loaded has run, and how long: while BPF statistics are on
    /// (`kernel.bpf_stats_enabled`).
    pub fn run_times(&self) -> impl Iterator<Item = (&str, u64, Duration)> {
        let ebpf = match &self.loaded {
            Loaded::Here(ebpf) => Some(ebpf),
            Loaded::Before(_) => None,
        };
        ebpf.into_iter().flat_map(|ebpf| ebpf.programs()).filter_map(|(name, program)| {
            let info = program.info().ok()?;
            Some((name, info.run_count(), info.run_time()))
        })
    }
}

/// Where the time of attaching went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timing {
    /// Reading what the kernel says of its types, and its symbols.
    pub types: Duration,
    /// The object: its relocations, and its maps in the kernel.
    pub object: Duration,
    /// The programs.
    pub programs: Duration,
    /// Of all programs together, which are dealt out to the CPUs: verified and compiled.
    pub loading: Duration,
    /// The same: attached.
    pub attaching: Duration,
}

impl fmt::Display for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Timing { types, object, programs, loading, attaching } = self;
        let total = (*types + *object + *programs).as_secs_f64();
        let [types, object, programs, loading, attaching] =
            [types, object, programs, loading, attaching].map(Duration::as_secs_f64);
        write!(
            f,
            "{total:.2} s (kernel types {types:.2}, maps {object:.2}, programs {programs:.2}: {loading:.2} of loading \
             beside {attaching:.2} of attaching)"
        )
    }
}

/// What the running kernel's BTF says, for those who only ask.
pub fn kernel_types() -> Result<Btf, Error> {
    let bytes = std::fs::read(btf::VMLINUX).map_err(|source| Error::NoBtf { source })?;
    Btf::parse(bytes).map_err(|source| Error::Btf { source })
}

/// What to attach, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    pub wanted: fn(Hook) -> bool,
    pub means: Means,
    /// The IOMMU drivers whose hooks are of use here.
    pub drivers: Drivers,
    /// Of the hooks that are attached on demand alone ([`Hook::on_demand`]), those that are to be.
    pub demanded: Vec<Hook>,
    /// Attach to the returns of submissions to a command queue, too.
    pub submission_returns: bool,
    /// A submission that takes longer is told.
    pub flush_slow: Duration,
    /// Of the programs' own diagnostics.
    pub log_level: aya_log::Level,
    /// Known defects to ask the kernel's types for.
    pub advisories: Option<Data>,
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
    attach_object(OBJECT, plan, None)
}

/// The same beside a set that records; these don't, until it is their turn.
pub(super) fn attach_beside(plan: &Plan, joined: &Joined<'_>) -> Result<Probes, Error> {
    attach_object(OBJECT, plan, Some(joined))
}

fn attach_object(object: &[u8], plan: &Plan, joined: Option<&Joined<'_>>) -> Result<Probes, Error> {
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
    let arguments = arguments(&types)?;
    let types_done = Instant::now();
    let number = joined.map_or(0, |joined| joined.number);
    for (name, path) in joined.iter().flat_map(|joined| joined.maps) {
        loader.map_pin_path(name, path.as_path());
    }
    let mut ebpf = loader
        .btf(Some(&loader_btf))
        .verifier_log_level(VerifierLogLevel::DISABLE)
        .override_global("LAYOUT", layout.as_bytes(), true)
        .override_global("SYMBOLS", kallsyms.symbols.as_bytes(), true)
        .override_global("ARGUMENTS", arguments.as_slice().as_bytes(), true)
        .override_global("SLOW", &slow_ns(plan.flush_slow), true)
        .override_global("SET", &u64::from(number), true)
        .override_global(aya_log::LEVEL, &(plan.log_level as u8), false)
        .load(object)
        .map_err(|error| Error::Load(Box::new(error)))?;
    own(ebpf.map_mut(OWNER).ok_or(Error::NoOwner)?)?;
    if joined.is_none() {
        records(ebpf.map_mut(RECORDING).ok_or(Error::NoTurn)?, 1 << number)?;
    }
    let object_done = Instant::now();
    let mut coverage = Coverage::default();
    coverage.core_pasids = layout.group_pasid_head != ABSENT;
    coverage.advisories =
        plan.advisories.as_ref().map(|data| data.of(&Kernel { types: &types, listed: None }));
    let attach::Outcome { states, mut costs, attached } = attach_all(&mut ebpf, &loader_btf, &types, plan);
    let programs_done = Instant::now();
    costs.sort_by_key(|cost| Reverse(cost.load + cost.attach));
    for (hook, state) in states {
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
        programs: programs_done - object_done,
        loading: costs.iter().map(|cost| cost.load).sum(),
        attaching: costs.iter().map(|cost| cost.attach).sum(),
    };
    let tables = layout::tables(&layout, kallsyms.symbols, kallsyms.reason);
    for (hook, reason) in tables.iter().filter_map(layout::Table::unread) {
        coverage.set_unread(hook, reason);
    }
    let loaded = Loaded::Here(Box::new(ebpf));
    Ok(Probes { loaded, attached, coverage, timing, costs, tables: tables.to_vec(), missed_before: 0 })
}

/// Says to the programs that it is this process whose reads are of interest.
pub(super) fn own(map: &mut Map) -> Result<(), Error> {
    let process = host::own_process().map_err(|source| Error::Namespace { source })?;
    let mut owner: Array<_, [u8; size_of::<Process>()]> = Array::try_from(map).map_err(Error::Owner)?;
    let bytes = process.as_bytes().first_chunk().copied().ok_or(Error::NoOwner)?;
    owner.set(0, bytes, 0).map_err(Error::Owner)
}

/// Says which sets record.
pub(super) fn records(map: &mut Map, sets: u64) -> Result<(), Error> {
    let mut word: Array<_, u64> = Array::try_from(map).map_err(Error::Turn)?;
    word.set(0, sets, 0).map_err(Error::Turn)
}

/// As the programs have it.
fn slow_ns(slow: Duration) -> u64 {
    u64::try_from(slow.as_nanos()).unwrap_or(u64::MAX)
}

/// Where the functions of a kernel with these types take what they are about.
pub(super) fn arguments(types: &Btf) -> Result<[Arguments; Hook::COUNT], Error> {
    let mut arguments = [Arguments::NONE; Hook::COUNT];
    for row in CATALOGUE {
        if let Some((_, parameters)) = resolve(types, row) {
            let found = layout::arguments(types, &parameters).map_err(|source| Error::Btf { source })?;
            arguments[row.hook as usize] = found;
        }
    }
    Ok(arguments)
}

/// A loader that has found out what this kernel can do.
fn loader() -> EbpfLoader<'static> {
    aya::features();
    EbpfLoader::new()
}

#[cfg(test)]
impl Plan {
    /// Every hook, by the best means.
    pub fn for_tests() -> Plan {
        Plan {
            wanted: |_| true,
            means: Means::Best,
            drivers: Drivers::EVERY,
            demanded: Vec::new(),
            submission_returns: true,
            flush_slow: SLOW,
            log_level: aya_log::Level::Warn,
            advisories: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_its_object_it_says_how_to_build_it() {
        let error = attach_object(&[], &Plan::for_tests(), None).err().map(|error| error.to_string());
        assert!(error.is_some_and(|text| text.contains("cargo xtask build-ebpf")));
    }
}
