//! Loading the eBPF object and attaching each hook by the best means that this kernel allows.
//!
//! The ladder: for a function fentry and fexit, then kprobe and kretprobe; for a tracepoint tp_btf, then
//! raw_tp. A hook that can't be had costs the checks that need it, never the daemon.

use aya::{
    Btf as LoaderBtf, Ebpf, EbpfError, EbpfLoader, VerifierLogLevel,
    programs::{BtfTracePoint, FEntry, FExit, KProbe, ProgramError, RawTracePoint},
};
use monitor_ebpf::wire::{ABSENT, Arguments, Hook};
use zerocopy::IntoBytes;

use super::{
    btf::{self, Btf},
    catalogue::{CATALOGUE, Ends, Row, Target},
    host::{self, Denied},
    layout,
};
use crate::coverage::{Backend, Coverage, HookState};

/// The eBPF object, or nothing where it was not built.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/iommu-watch.bpf.o"));

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("this iommu-watch was built without its eBPF object; build it with `cargo xtask build-ebpf`, then build iommu-watch again")]
    NoObject,
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error("{path}: {source}; iommu-watch needs a kernel with CONFIG_DEBUG_INFO_BTF=y", path = btf::VMLINUX)]
    NoBtf { source: std::io::Error },
    #[error("{path}: {source}", path = btf::VMLINUX)]
    Btf { source: btf::Error },
    #[error("the kernel refuses the eBPF maps: {0}")]
    Load(#[source] Box<EbpfError>),
    #[error("no hook could be attached; the first refusal: {0}")]
    Nothing(String),
}

/// The programs and maps in the kernel. Dropping it detaches everything.
pub struct Probes {
    pub(super) ebpf: Ebpf,
    pub coverage: Coverage,
}

/// Whether this binary carries an eBPF object.
pub fn has_object() -> bool {
    !OBJECT.is_empty()
}

/// What the running kernel's BTF says, for those who only ask.
pub fn kernel_types() -> Result<Btf, Error> {
    let bytes = std::fs::read(btf::VMLINUX).map_err(|source| Error::NoBtf { source })?;
    Btf::parse(bytes).map_err(|source| Error::Btf { source })
}

/// Attaches every hook that this kernel has. `log_level` is that of the programs' own diagnostics.
pub fn attach(log_level: aya_log::Level) -> Result<Probes, Error> {
    if !has_object() {
        return Err(Error::NoObject);
    }
    host::may_attach()?;
    // Both indexes of the kernel's types take their time on a slow machine, so each gets a core.
    let (types, loader_btf) = std::thread::scope(|scope| {
        let ours = scope.spawn(kernel_types);
        let theirs = LoaderBtf::from_sys_fs();
        (ours.join(), theirs)
    });
    let types = types.map_err(|_| Error::Btf { source: btf::Error::Malformed("it can't be indexed") })??;
    let loader_btf = loader_btf.map_err(|_| Error::Btf { source: btf::Error::Malformed("the loader can't read it") })?;
    let layout = layout::layout(&types).map_err(|source| Error::Btf { source })?;
    let arguments = CATALOGUE.iter().fold([Arguments::NONE; Hook::COUNT], |mut all, row| {
        if let Some((_, parameters)) = resolve(&types, row) {
            all[row.hook as usize] = layout::arguments(&parameters);
        }
        all
    });
    let own_tgid = std::process::id();
    let mut ebpf = EbpfLoader::new()
        .btf(Some(&loader_btf))
        .verifier_log_level(VerifierLogLevel::DISABLE)
        .override_global("LAYOUT", layout.as_bytes(), true)
        .override_global("ARGUMENTS", arguments.as_slice().as_bytes(), true)
        .override_global("OWN_TGID", &own_tgid, true)
        .override_global(aya_log::LEVEL, &(log_level as u8), false)
        .load(OBJECT)
        .map_err(|error| Error::Load(Box::new(error)))?;
    let mut coverage = Coverage::default();
    coverage.core_pasids = layout.group_pasid_head != ABSENT;
    for row in CATALOGUE {
        coverage.set(row.hook, attach_row(&mut ebpf, &loader_btf, &types, row));
    }
    if !Hook::ALL.iter().any(|&hook| coverage.attached(hook)) {
        let reason = coverage.iter().find_map(|(_, state)| match state {
            HookState::Failed { reason } => Some(reason.clone()),
            _ => None,
        });
        return Err(Error::Nothing(reason.unwrap_or_else(|| "this kernel has none of the functions".into())));
    }
    Ok(Probes { ebpf, coverage })
}

/// What would be hooked on a kernel with these types, without attaching: the symbol of each call.
pub fn resolve(types: &Btf, row: &Row) -> Option<(&'static str, Vec<btf::Parameter>)> {
    match row.target {
        Target::Call { symbols, .. } => {
            symbols.iter().find_map(|&symbol| Some((symbol, types.parameters(symbol)?)))
        }
        Target::Tracepoint { .. } => None,
    }
}

fn attach_row(ebpf: &mut Ebpf, btf: &LoaderBtf, types: &Btf, row: &Row) -> HookState {
    let attempts: &[(Backend, fn(&mut Ebpf, &LoaderBtf, &str, &str, Ends) -> Result<(), ProgramError>)] =
        match row.target {
            Target::Call { .. } => &[(Backend::Fentry, by_fentry), (Backend::Kprobe, by_kprobe)],
            Target::Tracepoint { .. } => &[(Backend::Tracepoint, by_tp_btf), (Backend::Tracepoint, by_raw_tp)],
        };
    let (target, ends) = match row.target {
        Target::Call { ends, .. } => match resolve(types, row) {
            Some((symbol, _)) => (symbol, ends),
            None => return HookState::Absent,
        },
        Target::Tracepoint { name } => (name, Ends::Entry),
    };
    let mut refusal = None;
    for (backend, attempt) in attempts {
        match attempt(ebpf, btf, row.hook.name(), target, ends) {
            Ok(()) => return HookState::Attached { backend: *backend },
            Err(error) => {
                // The first refusal tells most: it is of the means that this kernel should have.
                refusal.get_or_insert_with(|| format!("{} on `{target}` refused: {}", backend.name(), reason(&error)));
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
fn by_fentry(ebpf: &mut Ebpf, btf: &LoaderBtf, hook: &str, symbol: &str, ends: Ends) -> Result<(), ProgramError> {
    if ends == Ends::Both {
        let program: &mut FExit = program(ebpf, &format!("{hook}_fexit"))?;
        program.load(symbol, btf)?;
        program.attach()?;
    }
    let program: &mut FEntry = program(ebpf, &format!("{hook}_fentry"))?;
    program.load(symbol, btf)?;
    program.attach()?;
    Ok(())
}

fn by_kprobe(ebpf: &mut Ebpf, _: &LoaderBtf, hook: &str, symbol: &str, ends: Ends) -> Result<(), ProgramError> {
    if ends == Ends::Both {
        let program: &mut KProbe = program(ebpf, &format!("{hook}_kretprobe"))?;
        program.load()?;
        program.attach(symbol, 0)?;
    }
    let program: &mut KProbe = program(ebpf, &format!("{hook}_kprobe"))?;
    program.load()?;
    program.attach(symbol, 0)?;
    Ok(())
}

fn by_tp_btf(ebpf: &mut Ebpf, btf: &LoaderBtf, hook: &str, name: &str, _: Ends) -> Result<(), ProgramError> {
    let program: &mut BtfTracePoint = program(ebpf, &format!("{hook}_tp"))?;
    program.load(name, btf)?;
    program.attach()?;
    Ok(())
}

fn by_raw_tp(ebpf: &mut Ebpf, _: &LoaderBtf, hook: &str, name: &str, _: Ends) -> Result<(), ProgramError> {
    let program: &mut RawTracePoint = program(ebpf, &format!("{hook}_raw"))?;
    program.load()?;
    program.attach(name)?;
    Ok(())
}

fn program<'a, T>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut T, ProgramError>
where
    &'a mut T: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
{
    ebpf.program_mut(name).ok_or(ProgramError::InvalidName { name: name.to_owned() })?.try_into()
}
