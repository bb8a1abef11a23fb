//! The scenarios: what is done in a guest, on which kernels, and what must come out.
//!
//! To add one: its script in `tests/guest/scenarios/NAME.sh`, and a row in [`ALL`], or in [`ON_DEMAND`].

mod amd;
mod audit;
mod cache_tags;
pub(crate) mod expect;
mod faults;
mod flush;
mod flush_range;
mod harmless;
pub(crate) mod hooks;
mod imbalance;
mod kill;
mod left_behind;
mod life;
mod lifetimes;
mod loss;
mod one_shot;
mod ownership;
mod pasid_tables;
mod plants;
mod record;
mod refusals;
mod reload;
mod rid_switch;
mod service;
mod shared_table;
mod systemd;
pub(crate) mod transcript;
mod workloads;

pub use expect::is_a_loss;

use std::time::Duration;

use crate::{Iommu, Series};

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// Its script is `tests/guest/scenarios/NAME.sh`.
    pub name: &'static str,
    pub kernels: &'static [Series],
    /// Scenarios with equal settings share a guest, one after the other.
    pub setting: Setting,
    /// How long its script may take.
    pub limit: Duration,
    /// Holds what the guest said against what must hold; an error says what is wrong.
    pub expect: fn(&Report) -> Result<(), String>,
}

/// The guest that a scenario needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    pub iommu: Iommu,
    /// Modules of the kernel, loaded at boot.
    pub modules: &'static [&'static str],
    /// Test modules, at `/testmod/NAME.ko`.
    pub test_modules: &'static [&'static str],
    /// For the kernel's command line.
    pub append: &'static str,
    /// Further devices of the machine.
    pub devices: &'static [&'static str],
    /// Debian's systemd is PID 1, and there is our package to be installed, instead of the program.
    pub debian: bool,
    /// For a scenario that leaves a kernel behind that no other could use.
    pub alone: bool,
}

impl Scenario {
    /// Enough for what does a few things once.
    pub const SHORT: Duration = Duration::from_secs(60);
    /// For what does things again and again.
    pub const LONG: Duration = Duration::from_secs(300);
}

impl Setting {
    /// VT-d in scalable mode and who calls the IOMMU API, and nothing else.
    pub const PLAIN: Self = Self {
        iommu: Iommu::IntelSm,
        modules: &[],
        test_modules: &["caller"],
        append: "",
        devices: &[],
        debian: false,
        alone: false,
    };
}

/// The kernels that keep an account of PASIDs.
const WITH_PASIDS: [Series; 2] = [Series::V6_12, Series::V7];

/// Beside VT-d a software IOMMU whose faults are switches.
const SOFTIOMMU: Setting = Setting { test_modules: &["softiommu", "caller"], ..Setting::PLAIN };

/// The same, with groups that nobody has used yet.
const ALONE: Setting = Setting { alone: true, ..SOFTIOMMU };

/// The software IOMMU, and faults in the core's functions.
const LIFETIMES: Setting = Setting { test_modules: &["softiommu", "caller", "saboteur"], ..Setting::PLAIN };

/// The kernel may preempt a task anywhere.
const PREEMPTIBLE: Setting = Setting { append: "preempt=full", ..SOFTIOMMU };

/// PASIDs on the NVMes behind VT-d, and faults in its driver.
const INTEL: Setting = Setting { test_modules: &["pasidcap", "saboteur", "caller"], ..Setting::PLAIN };

/// The same, with two NVMes behind a switch whose ports are functions of one device without ACS: a group.
const PAIR: Setting = Setting {
    devices: &[
        "pcie-root-port,id=rp3,bus=pcie.0,chassis=3,slot=3",
        "x3130-upstream,id=up,bus=rp3",
        "xio3130-downstream,id=down1,bus=up,chassis=5,slot=1,addr=0.0,multifunction=on",
        "xio3130-downstream,id=down2,bus=up,chassis=6,slot=2,addr=0.1",
        "nvme,serial=three,bus=down1",
        "nvme,serial=four,bus=down2",
    ],
    ..INTEL
};

/// Every fault that can be planted, in a guest that isn't used any more afterwards.
const PLANTS: Setting =
    Setting { test_modules: &["pasidcap", "saboteur", "softiommu", "caller"], alone: true, ..PAIR };

/// PASIDs on the NVMes, faults in VT-d's driver, and a device that does DMA.
const WORKLOADS: Setting = Setting {
    test_modules: &["pasidcap", "saboteur", "caller", "dmadrv"],
    devices: &["iommu-testdev,bus=pcie.0,addr=0x10"],
    ..Setting::PLAIN
};
/// Behind VT-d and behind the software IOMMU, with all faults; alone, so that its process gets the first PASID.
const SEED: Setting =
    Setting { test_modules: &["pasidcap", "saboteur", "softiommu", "caller"], alone: true, ..Setting::PLAIN };

/// The same by itself: where nothing was watched before, or the kernel has what was freed under it.
const INTEL_ALONE: Setting = Setting { alone: true, ..INTEL };

/// AMD's IOMMU, and faults in its driver, whose devices keep a PASID table while their RIDs are passed through; its tables
/// of processes have four levels, as the emulated one has.
const AMD: Setting = Setting {
    iommu: Iommu::Amd,
    test_modules: &["pasidcap", "saboteur", "caller"],
    append: "iommu=pt no5lvl",
    alone: true,
    ..Setting::PLAIN
};

const LOCKED_DOWN: Setting = Setting { append: "lockdown=confidentiality", ..Setting::PLAIN };

/// A host as an operator has it.
const DEBIAN: Setting = Setting { debian: true, ..Setting::PLAIN };

/// Those of the matrix.
#[rustfmt::skip]
pub const ALL: &[Scenario] = &[
    row("doctor", &Series::ALL, Setting::PLAIN, Scenario::LONG, life::doctor),
    row("commands", &Series::ALL, Setting::PLAIN, Scenario::LONG, life::commands),
    row("refusals", &Series::ALL, Setting::PLAIN, Scenario::LONG, refusals::refused),
    row("service", &Series::ALL, Setting::PLAIN, Scenario::LONG, service::unprivileged),
    row("systemd", &[Series::V6_12], DEBIAN, Scenario::LONG, systemd::run),
    row("container", &[Series::V6_12], Setting::PLAIN, Scenario::LONG, service::contained),
    row("faults", &[Series::V6_12], Setting::PLAIN, Duration::from_secs(600), faults::seen),
    row("vfio", &Series::ALL, Setting::PLAIN, Scenario::LONG, harmless::vfio),
    row("replug", &Series::ALL, Setting::PLAIN, Scenario::LONG, harmless::replug),
    row("lockdown", &Series::ALL, LOCKED_DOWN, Scenario::SHORT, refusals::locked_down),
    row("life", &Series::ALL, SOFTIOMMU, Scenario::LONG, life::life),
    row("record", &Series::ALL, ALONE, Scenario::LONG, record::record),
    row("left-behind", &WITH_PASIDS, SOFTIOMMU, Scenario::LONG, left_behind::on_softiommu),
    row("left-behind-kprobe", &WITH_PASIDS, ALONE, Scenario::LONG, left_behind::by_kprobe),
    row("imbalance", &WITH_PASIDS, SOFTIOMMU, Scenario::LONG, imbalance::on_softiommu),
    row("ownership", &Series::ALL, LIFETIMES, Scenario::LONG, ownership::on_softiommu),
    row("lifetimes", &Series::ALL, LIFETIMES, Scenario::LONG, lifetimes::on_softiommu),
    row("lifetimes-intel", &Series::ALL, INTEL_ALONE, Scenario::LONG, lifetimes::on_intel),
    row("overrun", &WITH_PASIDS, SOFTIOMMU, Scenario::LONG, loss::overrun),
    row("missed", &WITH_PASIDS, SOFTIOMMU, Scenario::LONG, loss::missed),
    row("preempted", &WITH_PASIDS, PREEMPTIBLE, Scenario::LONG, loss::preempted),
    row("left-behind-intel", &WITH_PASIDS, INTEL, Scenario::LONG, left_behind::on_intel),
    row("imbalance-intel", &WITH_PASIDS, INTEL, Scenario::LONG, imbalance::on_intel),
    row("flush", &Series::ALL, INTEL, Scenario::LONG, flush::flushed),
    row("kill", &WITH_PASIDS, INTEL_ALONE, Duration::from_secs(500), kill::killed),
    row("cache-tags", &WITH_PASIDS, INTEL, Scenario::LONG, cache_tags::tagged),
    row("amd", &Series::ALL, AMD, Scenario::LONG, amd::watched),
    row("rid-switch", &WITH_PASIDS, INTEL, Scenario::LONG, rid_switch::on_intel),
    row("seed", &Series::ALL, SEED, Scenario::LONG, rid_switch::seed),
    row("shared-table", &WITH_PASIDS, INTEL, Scenario::LONG, shared_table::watched),
    row("tables-early", &[Series::V6_1], INTEL, Scenario::LONG, shared_table::early),
    row("tables", &WITH_PASIDS, INTEL, Scenario::LONG, audit::tables),
    row("ownership-intel", &Series::ALL, INTEL, Scenario::LONG, ownership::on_intel),
    row("group", &WITH_PASIDS, PAIR, Scenario::LONG, audit::group),
    row("leaky", &WITH_PASIDS, ALONE, Scenario::LONG, audit::leaky),
    row("one-shot", &WITH_PASIDS, INTEL_ALONE, Scenario::LONG, one_shot::one_shot),
    row("workloads", &WITH_PASIDS, WORKLOADS, Scenario::LONG, workloads::harmless),
    row("flush-range", &WITH_PASIDS, WORKLOADS, Scenario::LONG, flush_range::short),
    row("plants", &WITH_PASIDS, PLANTS, Scenario::LONG, plants::proven),
    row("pasid-tables", &WITH_PASIDS, INTEL, Scenario::LONG, pasid_tables::read),
];

/// Those that take too long for every run of the matrix, and prove nothing of a check that it doesn't: run where they are
/// named.
#[rustfmt::skip]
pub const ON_DEMAND: &[Scenario] = &[
    row("kills", &WITH_PASIDS, INTEL_ALONE, Duration::from_secs(2400), kill::often),
    row("hooks", &[Series::V6_12], Setting::PLAIN, Duration::from_secs(1800), hooks::missing),
];

/// Those of these names; of no name: the matrix.
pub fn chosen(names: &[String]) -> Vec<Scenario> {
    match names {
        [] => ALL.to_vec(),
        names => every().filter(|row| names.iter().any(|name| name == row.name)).copied().collect(),
    }
}

/// The matrix, and what is run on demand.
pub fn every() -> impl Iterator<Item = &'static Scenario> {
    ALL.iter().chain(ON_DEMAND)
}

const fn row(
    name: &'static str,
    kernels: &'static [Series],
    setting: Setting,
    limit: Duration,
    expect: fn(&Report) -> Result<(), String>,
) -> Scenario {
    Scenario { name, kernels, setting, limit, expect }
}

/// What came of one scenario on one kernel.
#[derive(Debug, Clone)]
pub struct Report {
    pub series: Series,
    pub exit: i32,
    /// All that the script wrote.
    pub text: String,
}

impl Report {
    /// The JSON objects among the lines.
    pub fn json(&self) -> Vec<serde_json::Value> {
        self.text
            .lines()
            .filter(|line| line.starts_with('{'))
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// The JSON objects of one `kind`.
    pub fn of_kind(&self, kind: &str) -> Vec<serde_json::Value> {
        self.json().into_iter().filter(|value| value["kind"] == kind).collect()
    }

    /// The script must have ended with one of `codes`.
    pub fn exits_with(&self, codes: &[i32]) -> Result<(), String> {
        if codes.contains(&self.exit) {
            Ok(())
        } else {
            Err(format!("the script ended with {}, not with one of {codes:?}", self.exit))
        }
    }

    /// A line must hold `text`.
    pub fn says(&self, text: &str) -> Result<(), String> {
        if self.text.contains(text) { Ok(()) } else { Err(format!("`{text}` is nowhere in the output")) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_scenario_has_its_own_name_and_a_script() {
        let names: BTreeSet<_> = every().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), every().count());
        for name in names {
            let script = crate::vm::guest_scripts().join(format!("scenarios/{name}.sh"));
            assert!(script.is_file(), "{} is missing", script.display());
        }
    }

    #[test]
    fn what_is_run_on_demand_is_run_by_its_name_alone() {
        let names = |asked: &[&str]| {
            let asked: Vec<String> = asked.iter().map(ToString::to_string).collect();
            chosen(&asked).iter().map(|scenario| scenario.name).collect::<Vec<_>>()
        };
        assert_eq!(names(&[]), ALL.iter().map(|scenario| scenario.name).collect::<Vec<_>>());
        assert_eq!(names(&["kills", "doctor"]), ["doctor", "kills"]);
    }

    #[test]
    fn json_lines_are_picked_out_of_the_text() {
        let text = "hello\n{\"kind\":\"violation\",\"check\":\"x\"}\n{broken\n{\"kind\":\"loss\"}\n";
        let report = Report { series: Series::V7, exit: 0, text: text.into() };
        assert_eq!(report.json().len(), 2);
        assert_eq!(report.of_kind("violation")[0]["check"], "x");
    }
}
