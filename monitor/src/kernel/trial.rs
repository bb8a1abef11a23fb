//! The programs on functions that the running kernel hasn't got, given to its verifier all the same: by the types of the
//! kernel that has them, and on another function in their place. Nothing is attached.

use aya::{Btf as LoaderBtf, EbpfLoader, Endianness, VerifierLogLevel, programs::Program};
use monitor_ebpf::wire::{Hook, SLOW_NS, Symbols, Variable};
use zerocopy::IntoBytes;

use super::{
    attach::is_there,
    btf::{self, Btf},
    catalogue::CATALOGUE,
    host, layout,
    probes::{self, Error},
};

/// A function that every kernel has. The verifier holds programs against how they reach arguments, not against which.
const IN_PLACE: &str = "iommu_get_group_resv_regions";
/// An address for each variable: with none, what needs it is left out before it is verified.
const SYMBOLS: Symbols =
    Symbols { page_offset_base: Variable::at(1 << 63), sme_me_mask: Variable::at(1 << 63 | 8) };

/// What the verifier said of one program: how many instructions it went through, or why it refuses.
pub type Verdict = (String, Result<u32, String>);

/// Gives it the programs of the wanted hooks that a kernel with these types has.
pub fn verify(types: &Btf, wanted: impl Fn(Hook) -> bool) -> Result<Vec<Verdict>, Error> {
    host::may_attach()?;
    let malformed = |source| Error::Btf { source };
    let skeleton = probes::kernel_types()?.skeleton(&[IN_PLACE]);
    let loader_btf = LoaderBtf::parse(&skeleton, Endianness::default())
        .map_err(|_| malformed(btf::Error::Malformed("the loader can't read it")))?;
    let mut layout = layout::layout(types).map_err(malformed)?;
    // Members of the running task are read as the verifier knows them: it holds their places against its own kernel's types.
    let here = layout::layout(&probes::kernel_types()?).map_err(malformed)?;
    (layout.task_slept, layout.task_preempted) = (here.task_slept, here.task_preempted);
    (layout.task_runs, layout.task_delayed) = (here.task_runs, here.task_delayed);
    layout.task_moved = here.task_moved;
    let arguments = probes::arguments(types)?;
    let mut ebpf = EbpfLoader::new()
        .btf(Some(&loader_btf))
        .verifier_log_level(VerifierLogLevel::DISABLE)
        .override_global("LAYOUT", layout.as_bytes(), true)
        .override_global("SYMBOLS", SYMBOLS.as_bytes(), true)
        .override_global("ARGUMENTS", arguments.as_slice().as_bytes(), true)
        .override_global("SLOW", &SLOW_NS, true)
        .load(probes::OBJECT)
        .map_err(|error| Error::Load(Box::new(error)))?;
    let mut verdicts = Vec::new();
    for row in CATALOGUE.iter().filter(|row| wanted(row.hook) && is_there(types, row)) {
        for (name, program) in ebpf.programs_mut() {
            let suffix = name.strip_prefix(row.hook.name()).and_then(|rest| rest.strip_prefix('_'));
            if suffix.is_some_and(|suffix| !suffix.contains('_')) {
                let name = name.to_owned();
                verdicts.push((name, load(program, &loader_btf)));
            }
        }
    }
    Ok(verdicts)
}

fn load(program: &mut Program, btf: &LoaderBtf) -> Result<u32, String> {
    let loaded = match &mut *program {
        Program::FEntry(program) => program.load(IN_PLACE, btf),
        Program::FExit(program) => program.load(IN_PLACE, btf),
        Program::KProbe(program) => program.load(),
        _ => return Err("it is on no function".into()),
    };
    loaded.map_err(|error| error.to_string())?;
    Ok(program.info().ok().and_then(|info| info.verified_instruction_count()).unwrap_or_default())
}
