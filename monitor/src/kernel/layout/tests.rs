//! The layouts and prototypes of twenty Debian kernels, by reductions of their BTF in `tests/kernels`. What they
//! are held against was taken from the same kernels by other tools (see the README there).

mod asked;

use std::{collections::BTreeSet, fs, path::PathBuf};

use monitor_ebpf::wire::{Hook, Symbols, Variable};

use asked::ASKED;

use super::{
    members::{CORE, FLUSHES, Place, RANGES, TAGS, VENDORS},
    *,
};
use crate::advisory::Data;
use crate::coverage::companion::COMPANIONS;
use crate::kernel::{
    attach::{is_there, resolve},
    catalogue::{CATALOGUE, Given, Row, Target},
    defects::Kernel,
};

const KERNELS: [&str; 20] = [
    "amd64-6.1",
    "amd64-6.12",
    "amd64-6.16",
    "amd64-6.17",
    "amd64-6.18",
    "amd64-6.19",
    "amd64-7.0",
    "amd64-7.1",
    "amd64-7.2",
    "amd64-7.3",
    "arm64-6.1",
    "arm64-6.12",
    "arm64-6.16",
    "arm64-6.17",
    "arm64-6.18",
    "arm64-6.19",
    "arm64-7.0",
    "arm64-7.1",
    "arm64-7.2",
    "arm64-7.3",
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/kernels")
}

fn kernel(name: &str) -> Btf {
    let path = folder().join(format!("{name}.btf"));
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Btf::parse(bytes).expect("well-formed")
}

/// The rows of a table about one kernel, without its name.
fn rows(table: &str, kernel: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(folder().join(table)).expect("a table");
    let cells = text.lines().map(|line| line.split('\t').map(str::to_owned).collect::<Vec<_>>());
    cells.filter(|cells| cells[0] == kernel).map(|cells| cells[1..].to_vec()).collect()
}

/// The functions that a kernel's list of symbols has.
fn functions(kernel: &str) -> BTreeSet<String> {
    rows("functions.tsv", kernel).into_iter().map(|row| row[0].clone()).collect()
}

fn calls() -> impl Iterator<Item = &'static &'static str> {
    CATALOGUE.iter().flat_map(|row| match row.target {
        Target::Call { symbols, .. } => symbols.iter(),
        Target::Reduced { .. } | Target::Tracepoint { .. } => [].iter(),
    })
}

/// Where the other tool has a member.
fn place(text: &str) -> Place {
    match text.split_once(':') {
        _ if text == "-" => Place::Absent,
        Some((offset, bit)) => Place::Bit(offset.parse().expect("a number"), bit.parse().expect("a number")),
        None => Place::Offset(text.parse().expect("a number")),
    }
}

#[test]
fn every_member_lies_where_another_tool_has_it() {
    for name in KERNELS {
        let layout = layout(&kernel(name)).expect("no two structs are taken for one");
        let expected = rows("offsets.tsv", name);
        assert!(expected.len() > 30, "{name}: {} rows", expected.len());
        for row in expected {
            let (_, at) = CORE
                .iter()
                .chain(VENDORS)
                .chain(FLUSHES)
                .chain(TAGS)
                .chain(RANGES)
                .find(|(member, _)| *member == row[0])
                .expect("a member");
            // A `bool` is a flag of bit 0, and a flag that is there says more than its offset.
            let found = match (at(&layout), place(&row[1])) {
                (Place::Bit(offset, 0), Place::Offset(_)) => Place::Offset(offset),
                (found, _) => found,
            };
            assert_eq!(found, place(&row[1]), "{name}: {}", row[0]);
        }
    }
}

#[test]
fn every_function_of_a_kernel_is_found_and_no_other() {
    let listed: BTreeSet<String> = KERNELS.iter().flat_map(|name| functions(name)).collect();
    for name in KERNELS {
        let types = kernel(name);
        let found =
            calls().filter(|symbol| types.parameters(symbol).is_some()).map(|&symbol| symbol.to_owned());
        // Of a hook that came later the other tool has said nothing.
        let found: BTreeSet<String> = found.filter(|symbol| listed.contains(symbol)).collect();
        assert_eq!(found, functions(name), "{name}");
        for row in CATALOGUE {
            if let Target::Tracepoint { name: tracepoint } = row.target {
                // VT-d's own is where its driver is.
                let there = tracepoint != "qi_submit" || name.starts_with("amd64");
                assert_eq!(types.tracepoint(tracepoint), there, "{name}: {tracepoint}");
            }
        }
    }
}

#[test]
fn no_kernel_has_a_function_without_what_comes_with_it() {
    for name in KERNELS {
        let types = kernel(name);
        let has = |hook: Hook| CATALOGUE.iter().any(|row| row.hook == hook && is_there(&types, row));
        for (hook, companions) in COMPANIONS {
            let companions_there = companions.iter().all(|&companion| has(companion));
            assert!(has(hook) || !companions_there, "{name}: {companions:?} without {hook:?}");
        }
    }
}

#[test]
fn every_function_says_what_it_is_about() {
    for name in KERNELS {
        let types = kernel(name);
        for row in CATALOGUE {
            let Some((symbol, parameters)) = resolve(&types, row) else { continue };
            let found = arguments(&types, &parameters).expect("no two structs are taken for one");
            let told = [
                found.group,
                found.device,
                found.handle,
                found.domain,
                found.mm,
                found.pasid,
                found.commands,
                found.pci,
            ];
            // Of some the return tells.
            let told = told.iter().any(|&at| at != NO_ARGUMENT) || row.hook == Hook::DomainAlloc;
            assert!(told, "{name}: {symbol}{parameters:?}");
        }
    }
}

/// Offsets by the dumps of the same kernels' types: amd64's 6.12 and 7.3.
#[test]
fn a_device_is_found_in_what_a_driver_has_around_it() {
    let reached = |name: &str, hook: Hook| {
        let found = arguments_of(name, hook);
        (found.device, found.device_at, found.device_pointed)
    };
    for (name, pci, data, table) in [("amd64-6.12", 200, 96, 72), ("amd64-7.3", 208, 88, 64)] {
        for hook in [Hook::PasidOff, Hook::AtsOff, Hook::PasidOn, Hook::AtsOn] {
            assert_eq!(reached(name, hook), (0, pci, 0), "{name}: {}", hook.name());
        }
        assert_eq!(reached(name, Hook::AmdClear), (0, data, 1), "{name}");
        assert_eq!(reached(name, Hook::AmdTableFree), (0, data - table, 1), "{name}");
    }
    assert_eq!(reached("amd64-7.3", Hook::ResetPrepare), (0, 208, 0));
    let smmu = arguments_of("arm64-7.3", Hook::SmmuClear);
    assert_eq!((smmu.device, smmu.device_pointed, smmu.pasid, smmu.descriptor), (0, 1, 1, 3));
    let blocked = arguments_of("arm64-7.3", Hook::SmmuDetach);
    assert_eq!((blocked.domain, blocked.device, blocked.pasid, blocked.old), (0, 1, 2, 3));
}

fn arguments_of(name: &str, hook: Hook) -> Arguments {
    let types = kernel(name);
    let row = CATALOGUE.iter().find(|row| row.hook == hook).expect("in the catalogue");
    let (_, parameters) = resolve(&types, row).expect("this kernel has it");
    arguments(&types, &parameters).expect("no two structs are taken for one")
}

#[test]
fn the_tables_of_three_vendors_can_be_read_where_the_driver_is() {
    const FOUND: Symbols = Symbols { page_offset_base: Variable::at(1), sme_me_mask: Variable::value(0) };
    for name in KERNELS {
        let layout = layout(&kernel(name)).expect("no two structs are taken for one");
        let [vtd, amd, smmu] = tables(&layout, FOUND, "");
        let (x86, old) = (name.starts_with("amd64"), name.ends_with("-6.1"));
        let there = |there: bool| if there { State::Whole } else { State::Absent };
        assert_eq!(
            [vtd, amd, smmu].map(|table| table.state),
            [there(x86), there(x86), there(!x86)],
            "{name}"
        );
        // The table was the domain's: AMD's up to 6.8, SMMUv3's up to 6.6. VT-d's never since 5.16.
        let on_domain = [vtd, amd, smmu].map(|table| table.per_domain);
        assert_eq!(on_domain, [false, old && x86, old && !x86], "{name}");
        assert_eq!(layout.smmu.list_width, if x86 { ABSENT } else { u32::from(old) }, "{name}");
        // Without the address only what is virtual can be read.
        let blind = tables(&layout, Symbols::UNKNOWN, "hidden").map(|table| table.state);
        let root = if x86 { State::Root { reason: "hidden" } } else { State::Absent };
        assert_eq!(blind, [root, root, there(!x86)], "{name}");
    }
}

#[test]
fn what_decides_over_flushes_is_known_where_the_driver_is() {
    for name in KERNELS {
        let (types, x86) = (kernel(name), name.starts_with("amd64"));
        let layout = layout(&types).expect("no two structs are taken for one");
        let known = FLUSHES.iter().filter(|(_, at)| at(&layout) != Place::Absent).count();
        // VT-d's six and AMD's two, or SMMUv3's three; and the PCI core's three.
        assert_eq!(known, if x86 { 11 } else { 6 }, "{name}");
        // Whether a task that is timed has left its CPU, and for how long.
        let of_task = [layout.task_slept, layout.task_preempted, layout.task_runs, layout.task_delayed];
        assert!(!of_task.contains(&ABSENT) && layout.task_moved != ABSENT, "{name}");
        let submit = CATALOGUE.iter().find(|row| row.hook == Hook::VtdSubmit).expect("a row");
        let found = resolve(&types, submit)
            .map(|(_, parameters)| arguments(&types, &parameters).expect("no two structs are taken for one"));
        // `qi_submit_sync(struct intel_iommu *iommu, struct qi_desc *desc, unsigned int count, …)`
        let places = found.map(|found| (found.iommu, found.commands, found.count));
        assert_eq!(places, x86.then_some((0, 1, 2)), "{name}");
    }
}

/// By the sources of 6.12 and 7.3: `cache_tag_assign_domain(struct dmar_domain *domain, struct device *dev, ioasid_t pasid)`
#[test]
fn cache_tags_are_found_on_every_kernel_that_has_them() {
    for name in KERNELS {
        let types = kernel(name);
        let there = name.starts_with("amd64") && !name.ends_with("-6.1");
        for hook in [Hook::VtdTagAssign, Hook::VtdTagUnassign] {
            let places = found(&types, hook).map(|(_, at)| (at.vtd_domain, at.device, at.pasid));
            assert_eq!(places, there.then_some((0, 1, 2)), "{name}");
        }
        // `intel_iommu_attach_device` is there on all, and of interest where there are tags to read.
        let places = found(&types, Hook::VtdAttach).map(|(_, at)| (at.domain, at.device));
        assert_eq!(places, there.then_some((0, 1)), "{name}");
    }
}

/// By the sources of 6.1, 6.12 and 7.3.
#[test]
fn the_caches_of_a_domain_are_known_where_the_driver_keeps_a_list_of_them() {
    for name in KERNELS {
        let types = kernel(name);
        let layout = layout(&types).expect("no two structs are taken for one");
        let tagged = name.starts_with("amd64") && name != "amd64-6.1";
        let known = RANGES.iter().filter(|(_, at)| at(&layout) != Place::Absent).count();
        assert_eq!(known == RANGES.len(), tagged, "{name}: {known} of {}", RANGES.len());
        // `intel_iommu_tlb_sync(struct iommu_domain *domain, struct iommu_iotlb_gather *gather)`
        let sync = found(&types, Hook::VtdSync).map(|(_, at)| (at.domain, at.gather));
        assert_eq!(sync, tagged.then_some((0, 1)), "{name}");
        // `intel_arch_invalidate_secondary_tlbs(struct mmu_notifier *mn, struct mm_struct *mm, start, end)`
        let notice = found(&types, Hook::VtdMmFlush).map(|(_, at)| (at.notifier, at.mm, at.start, at.end));
        assert_eq!(notice, tagged.then_some((0, 1, 2, 3)), "{name}");
    }
}

/// What a kernel has for a hook, and where its function takes what.
fn found(types: &Btf, hook: Hook) -> Option<(&'static str, Arguments)> {
    let row = CATALOGUE.iter().find(|row| row.hook == hook).expect("in the catalogue");
    let (symbol, parameters) = resolve(types, row)?;
    Some((symbol, arguments(types, &parameters).expect("no two structs are taken for one")))
}

/// By the sources of 6.1, 6.12 and 7.3 and by another tool's dump of the prototypes.
#[test]
fn amds_commands_and_entries_are_found_on_every_kernel_that_has_them() {
    for name in KERNELS {
        let (types, x86, old) = (kernel(name), name.starts_with("amd64"), name.ends_with("-6.1"));
        let queue = found(&types, Hook::AmdQueue).map(|(_, at)| (at.commands, at.sync));
        assert_eq!(queue, x86.then_some((1, 2)), "{name}");
        for hook in [Hook::AmdClear, Hook::AmdSet] {
            let entry = found(&types, hook).map(|(_, at)| (at.device, at.device_pointed, at.pasid));
            // The device's own table came with 6.9.
            assert_eq!(entry, (x86 && !old).then_some((0, 1, 1)), "{name}");
        }
        let left = found(&types, Hook::AmdTableLeft).map(|(_, at)| (at.device, at.device_pointed));
        assert_eq!(left, (x86 && !old).then_some((0, 1)), "{name}");
        let wait = CATALOGUE.iter().find(|row| row.hook == Hook::AmdWait).expect("in the catalogue");
        assert_eq!(is_there(&types, wait), x86, "{name}");
        assert!(resolve(&types, wait).is_none(), "{name}: its prototype is not that of what is called");
    }
}

#[test]
fn smmuv3s_commands_and_descriptors_are_found_on_every_kernel_that_has_them() {
    for name in KERNELS {
        let types = kernel(name);
        let (arm, release) =
            name.split_once('-').map(|(arch, release)| (arch == "arm64", release)).expect("a name");
        let queue =
            found(&types, Hook::SmmuQueue).map(|(symbol, at)| (symbol, at.commands, at.count, at.sync));
        let expected = match release {
            "6.1" => ("arm_smmu_cmdq_issue_cmdlist", 1, 2, 3),
            "7.3" => ("__arm_smmu_cmdq_issue_cmdlist", 2, 3, 4),
            _ => ("arm_smmu_cmdq_issue_cmdlist", 2, 3, 4),
        };
        assert_eq!(queue, arm.then_some(expected), "{name}");
        let remove = found(&types, Hook::SmmuRemove).map(|(symbol, at)| (symbol, at.device, at.pasid));
        let expected = match release {
            "6.12" => ("arm_smmu_remove_dev_pasid", 0, 1),
            _ => ("arm_smmu_blocking_set_dev_pasid", 1, 2),
        };
        assert_eq!(remove, (arm && release != "6.1").then_some(expected), "{name}");
        for hook in [Hook::SmmuClear, Hook::SmmuSet] {
            let entry =
                found(&types, hook).map(|(_, at)| (at.device_pointed, at.pasid, at.entry, at.descriptor));
            assert_eq!(entry, (arm && release != "6.1").then_some((1, 1, 2, 3)), "{name}");
        }
        let left = found(&types, Hook::SmmuTableLeft).map(|(symbol, at)| (symbol, at.device));
        assert_eq!(left, (arm && release != "6.1").then_some(("iommu_deinit_device", 0)), "{name}");
    }
}

#[test]
fn a_function_whose_program_counts_on_its_arguments_is_taken_only_with_so_many() {
    let submit = CATALOGUE.iter().find(|row| row.hook == Hook::VtdSubmit).expect("a row");
    let types = kernel("amd64-7.3");
    assert!(matches!(submit.given, Given::Arguments(_)) && resolve(&types, submit).is_some());
    let other = Row { given: Given::Arguments(5), ..*submit };
    assert!(resolve(&types, &other).is_none());
}

#[test]
fn a_member_that_is_renamed_is_missed_by_name() {
    let whole = layout(&kernel("arm64-7.3")).expect("no two structs are taken for one");
    let mut other = whole;
    other.smmu.list = ABSENT;
    let [.., smmu] = tables(&other, Symbols::UNKNOWN, "");
    assert_eq!(smmu.state, State::Unknown { missing: "the list of second-level tables" });
}

/// Makes the reductions anew out of whole BTF files: `BTF_FOLDER=… cargo test -p monitor --lib -- --ignored cut`.
#[test]
#[ignore = "writes the fixtures"]
fn cut_the_kernels() {
    let whole =
        PathBuf::from(std::env::var_os("BTF_FOLDER").expect("BTF_FOLDER names the folder of NAME.btf"));
    let members: Vec<(&str, &str)> =
        ASKED.iter().flat_map(|(name, paths)| paths.iter().map(move |path| (*name, *path))).collect();
    let mut functions: Vec<&str> = calls().copied().collect();
    let advisories = Data::built_in().expect("well-formed");
    functions.extend(advisories.functions());
    functions.sort_unstable();
    functions.dedup();
    let tracepoints: Vec<&str> = CATALOGUE
        .iter()
        .filter_map(|row| match row.target {
            Target::Tracepoint { name } => Some(name),
            Target::Call { .. } | Target::Reduced { .. } => None,
        })
        .collect();
    for name in KERNELS {
        let bytes = fs::read(whole.join(format!("{name}.btf"))).expect("a whole BTF file");
        let types = Btf::parse(bytes).expect("well-formed");
        let cut = types.cut(&members, &functions, &tracepoints);
        let again = Btf::parse(cut.clone()).expect("well-formed");
        assert_eq!(layout(&again), layout(&types), "{name}: the reduction says the same");
        let told = |types| advisories.of(&Kernel { types, listed: None });
        assert_eq!(told(&again), told(&types), "{name}: of known defects, too");
        fs::write(folder().join(format!("{name}.btf")), cut).expect("written");
    }
}
