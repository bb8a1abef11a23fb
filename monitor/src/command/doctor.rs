//! `doctor`: what can be seen on this kernel, and what stands in the way of the rest.

mod offline;

use std::{fmt::Write, path::PathBuf};

use anyhow::Result;
use serde_json::{Value, json};

use crate::{
    check::{CheckState, REGISTRY},
    coverage::{Coverage, HookState},
    inventory::Inventory,
    kernel::{
        attach::Cost,
        catalogue::{CATALOGUE, Driver, Drivers, Row, Target},
        host::{self, Identity, Lockdown},
        layout::{State, Table},
        missed::{Missed, Misses},
        probes,
        sysfs::Sysfs,
    },
    report::advisories,
};

use super::{FAILED, Format, Global, RIGHT, WRONG, output};

/// What was found.
struct Findings {
    identity: Identity,
    lockdown: Lockdown,
    inventory: Inventory,
    /// `Err`: nothing could be attached at all, and why.
    attached: Result<Attached, probes::Error>,
}

/// What was attached, for a moment.
struct Attached {
    coverage: Coverage,
    timing: probes::Timing,
    costs: Vec<Cost>,
    missed: Missed,
    tables: Vec<Table>,
}

/// Ask about a kernel that isn't running.
#[derive(clap::Args)]
pub struct Arguments {
    /// Answer for the kernel of this BTF (its /sys/kernel/btf/vmlinux), which need not run
    #[arg(long, value_name = "FILE")]
    btf: Option<PathBuf>,
    /// With --btf: that kernel's symbols (its /proc/kallsyms)
    #[arg(long, value_name = "FILE", requires = "btf")]
    kallsyms: Option<PathBuf>,
    /// Attach the hooks of IOMMU drivers too that have no hardware here
    #[arg(long, conflicts_with = "btf")]
    every_driver: bool,
}

pub fn run(global: &Global, arguments: &Arguments) -> Result<u8> {
    if let Some(btf) = &arguments.btf {
        return offline::run(global, btf, arguments.kallsyms.as_deref());
    }
    // The probes are let go at once: this only asks.
    let mut plan = global.plan(|_| true)?;
    if arguments.every_driver {
        plan.drivers = Drivers::EVERY;
    }
    let attached = probes::attach(&plan).map(|probes| Attached {
        coverage: probes.coverage.clone(),
        timing: probes.timing,
        missed: Misses::new(&probes).read(&probes),
        costs: probes.costs,
        tables: probes.tables,
    });
    let findings = Findings {
        identity: host::identity(),
        lockdown: host::lockdown(),
        inventory: Sysfs::default().inventory()?,
        attached,
    };
    match global.format {
        Some(Format::Json) => output::put(&(findings.json(global)?.to_string() + "\n"))?,
        _ => output::put(&findings.text(global)?)?,
    }
    let states = states(&findings.attached?.coverage, Some(&findings.inventory), global)?;
    Ok(verdict(&states))
}

type States = Vec<(&'static str, CheckState)>;

fn states(coverage: &Coverage, inventory: Option<&Inventory>, global: &Global) -> Result<States> {
    let (filter, settings) = (global.filter(), global.over(&global.config()?.checks));
    let state = |check: &&dyn crate::check::Check| {
        let name = check.spec().name;
        let wanted = filter.check(name) && !settings.off.contains(name);
        (name, if wanted { check.state(coverage, inventory) } else { CheckState::Off })
    };
    Ok(REGISTRY.iter().map(state).collect())
}

/// 0: all that apply and aren't off are armed; 1: some not; 2: none.
fn verdict(states: &States) -> u8 {
    let of_use: Vec<_> = states
        .iter()
        .filter(|(_, state)| !matches!(state, CheckState::NotApplicable { .. }) && !state.is_off())
        .collect();
    if of_use.iter().all(|(_, state)| *state == CheckState::Armed) {
        RIGHT
    } else if of_use.iter().any(|(_, state)| state.judges()) {
        WRONG
    } else {
        FAILED
    }
}

impl Findings {
    fn text(&self, global: &Global) -> Result<String> {
        let mut text = String::new();
        let _ = writeln!(text, "kernel      {}", self.identity.kernel);
        let _ = writeln!(text, "lockdown    {}", self.lockdown.name());
        let _ = writeln!(text, "privileges  {}", if host::capable() { "enough" } else { "not enough" });
        let _ = writeln!(text, "iommu       {}", self.iommus());
        let Ok(Attached { coverage, timing, missed, tables, .. }) = &self.attached else { return Ok(text) };
        let (attached, there) = count(coverage);
        let _ = writeln!(text, "hooks       {attached} of {there} attached in {timing}");
        let _ = writeln!(text, "missed runs {}\n", missed_text(missed));
        for (row, state) in CATALOGUE.iter().map(|row| (row, coverage.get(row.hook))) {
            if matches!(state, HookState::Absent | HookState::Idle { .. } | HookState::Off)
                && global.verbose == 0
            {
                continue;
            }
            let _ = writeln!(text, "  {:<28}{}", row.hook.name(), hook_text(row, state));
        }
        let absent: Vec<_> =
            CATALOGUE.iter().filter(|row| *coverage.get(row.hook) == HookState::Absent).collect();
        if !absent.is_empty() && global.verbose == 0 {
            let names: Vec<_> = absent.iter().map(|row| row.hook.name()).collect();
            let _ = writeln!(text, "  not in this kernel: {}", names.join(", "));
        }
        for driver in Driver::ALL.map(Driver::name) {
            let idle = |row: &&Row| *coverage.get(row.hook) == HookState::Idle { driver };
            let idle: Vec<_> = CATALOGUE.iter().filter(idle).map(|row| row.hook.name()).collect();
            if !idle.is_empty() && global.verbose == 0 {
                let _ = writeln!(text, "  no {driver} IOMMU on this host: {}", idle.join(", "));
            }
        }
        text += &tables_text(tables);
        text += &advisories::text(coverage.advisories.as_ref(), global.verbose > 0);
        let _ = writeln!(text, "\nchecks");
        for (name, state) in states(coverage, Some(&self.inventory), global)? {
            let _ = writeln!(text, "  {name:<28}{state}");
        }
        Ok(text)
    }

    fn json(&self, global: &Global) -> Result<Value> {
        let mut report = json!({
            "v": 1,
            "kind": "doctor",
            "host": self.identity.host,
            "kernel": self.identity.kernel,
            "lockdown": self.lockdown.name(),
            "capable": host::capable(),
            "groups": self.inventory.groups.len(),
            "iommu": self.iommus(),
        });
        if let Ok(Attached { coverage, timing, costs, missed, tables }) = &self.attached {
            report["tables"] = tables_json(tables);
            report["advisories"] = advisories::json(coverage.advisories.as_ref());
            report["uncounted_kprobes"] = json!(missed.untold);
            report["attach_seconds"] = json!({
                "types": timing.types.as_secs_f64(),
                "maps": timing.object.as_secs_f64(),
                "programs": timing.programs.as_secs_f64(),
            });
            report["programs"] = costs
                .iter()
                .map(|cost| {
                    json!({
                        "program": cost.program,
                        "verified": cost.verified,
                        "load_seconds": cost.load.as_secs_f64(),
                        "attach_seconds": cost.attach.as_secs_f64(),
                    })
                })
                .collect();
            report["hooks"] = coverage
                .iter()
                .map(|(hook, state)| match state {
                    HookState::Attached { backend } => {
                        json!({"hook": hook.name(), "backend": backend.name()})
                    }
                    HookState::Absent => {
                        json!({"hook": hook.name(), "backend": "none", "reason": "not in this kernel"})
                    }
                    HookState::Idle { driver } => {
                        let reason = format!("no {driver} IOMMU on this host");
                        json!({"hook": hook.name(), "backend": "none", "reason": reason})
                    }
                    HookState::Off => {
                        json!({"hook": hook.name(), "backend": "none", "reason": "not asked for"})
                    }
                    HookState::Failed { reason } => {
                        json!({"hook": hook.name(), "backend": "none", "reason": reason})
                    }
                })
                .collect();
            report["checks"] = states(coverage, Some(&self.inventory), global)?
                .iter()
                .map(|(name, state)| json!({"check": name, "state": state.name(), "reason": state.reason()}))
                .collect();
        }
        Ok(report)
    }

    fn iommus(&self) -> String {
        let groups = self.inventory.groups.len();
        let mut drivers: Vec<&str> =
            self.inventory.groups.iter().filter_map(|group| group.iommu_driver()).collect();
        drivers.sort_unstable();
        drivers.dedup();
        match (groups, drivers.is_empty()) {
            (0, _) => {
                "no groups: this kernel translates for no device (is an IOMMU there and switched on?)".into()
            }
            (_, true) => format!("{groups} groups"),
            (_, false) => format!("{} ({groups} groups)", drivers.join(", ")),
        }
    }
}

/// Whose hardware PASID tables can be read.
fn tables_text(tables: &[Table]) -> String {
    let mut text = String::from("\ntables\n");
    for table in tables {
        let shared = if table.per_domain { ", each the domain's: shared by design" } else { "" };
        let told = match table.state {
            State::Whole => format!("root and entries{shared}"),
            State::Root { reason } => format!("root only{shared}: {reason}"),
            State::Absent => "not in this kernel".into(),
            State::Unknown { missing } => format!("not known: this kernel's driver has no {missing}"),
        };
        let _ = writeln!(text, "  {:<28}{told}", table.vendor);
    }
    text
}

fn tables_json(tables: &[Table]) -> Value {
    let row = |table: &Table| {
        let (state, reason) = match table.state {
            State::Whole => ("whole", None),
            State::Root { reason } => ("root", Some(reason.to_owned())),
            State::Absent => ("absent", None),
            State::Unknown { missing } => ("unknown", Some(format!("no {missing}"))),
        };
        let mut row = json!({"table": table.vendor, "state": state, "reason": reason});
        if !matches!(table.state, State::Absent | State::Unknown { .. }) {
            row["per_domain"] = json!(table.per_domain);
        }
        row
    };
    tables.iter().map(row).collect()
}

/// The hooks that are attached, and those that this kernel has and this host has hardware for.
pub fn count(coverage: &Coverage) -> (usize, usize) {
    let of_use =
        |state: &HookState| !matches!(state, HookState::Absent | HookState::Idle { .. } | HookState::Off);
    let there = CATALOGUE.iter().filter(|row| of_use(coverage.get(row.hook)));
    let attached = CATALOGUE.iter().filter(|row| coverage.attached(row.hook));
    (attached.count(), there.count())
}

/// Whether a run that the kernel leaves out is noticed.
fn missed_text(missed: &Missed) -> String {
    match missed.untold {
        0 => "counted".into(),
        kprobes => {
            format!("not told by this kernel for {kprobes} kprobes (from 6.7): what one misses goes unseen")
        }
    }
}

fn hook_text(row: &Row, state: &HookState) -> String {
    match state {
        HookState::Attached { backend } => backend.name().to_owned(),
        HookState::Failed { reason } => reason.clone(),
        HookState::Off => "not asked for".to_owned(),
        HookState::Idle { driver } => format!("no {driver} IOMMU on this host"),
        HookState::Absent => {
            let what = match row.target {
                Target::Call { symbols, .. } | Target::Reduced { symbols, .. } => symbols.join(" or "),
                Target::Tracepoint { name } => format!("tracepoint {name}"),
            };
            let since = if row.since.is_empty() { String::new() } else { format!(" ({})", row.since) };
            format!("not in this kernel: {what}{since}")
        }
    }
}
