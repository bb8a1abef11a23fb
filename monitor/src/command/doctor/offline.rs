//! `doctor --btf FILE`: what could be seen on a kernel that isn't running, from its BTF and its symbols.

use std::{collections::HashSet, fmt::Write, fs, path::Path};

use anyhow::{Context, Result, bail};
use monitor_ebpf::wire::{ABSENT, Layout};
use serde_json::{Value, json};

use crate::{
    coverage::{Backend, Coverage, HookState},
    kernel::{
        attach::{is_there, resolve},
        btf::Btf,
        catalogue::{CATALOGUE, Row, Target},
        defects::Kernel,
        kallsyms::{self, Kallsyms},
        layout::{
            self, Table,
            members::{CORE, FLUSHES, Place, RANGES, TAGS, VENDORS},
        },
    },
    report::advisories,
};

use super::{
    super::{Format, Global, output},
    States, hook_text, states, tables_json, tables_text, verdict,
};

/// No kernel's BTF is nearly as large.
const MOST: u64 = 256 << 20;

/// What a kernel that isn't running would show.
struct Forecast {
    file: String,
    coverage: Coverage,
    /// The members that it has, of those that are read.
    found: Vec<(&'static str, Place)>,
    missing: Vec<&'static str>,
    tables: [Table; 3],
    states: States,
}

pub fn run(global: &Global, btf: &Path, symbols: Option<&Path>) -> Result<u8> {
    let forecast = forecast(global, btf, symbols)?;
    match global.format {
        Some(Format::Json) => output::put(&(forecast.json().to_string() + "\n"))?,
        _ => output::put(&forecast.text(global))?,
    }
    Ok(verdict(&forecast.states))
}

fn forecast(global: &Global, btf: &Path, symbols: Option<&Path>) -> Result<Forecast> {
    let file = btf.display().to_string();
    let data = global.advisories()?;
    let types = Btf::parse(bytes(btf)?).with_context(|| file.clone())?;
    let layout = layout::layout(&types).with_context(|| file.clone())?;
    let mut wanted = symbols_of_calls();
    wanted.extend(data.functions());
    let (kallsyms, listed) = match symbols {
        Some(path) => {
            let shown = || path.display().to_string();
            (
                kallsyms::read(path).with_context(shown)?,
                Some(kallsyms::names(path, &wanted).with_context(shown)?),
            )
        }
        None => (Kallsyms::NOT_READ, None),
    };
    let mut coverage = Coverage::default();
    coverage.core_pasids = layout.group_pasid_head != ABSENT;
    coverage.advisories = Some(data.of(&Kernel { types: &types, listed: listed.as_ref() }));
    for row in CATALOGUE {
        coverage.set(row.hook, hook_state(&types, row, listed.as_ref()));
    }
    let (found, missing) = members(&layout);
    // What runs there isn't known, so no check is found not to apply.
    let mut asked = coverage.clone();
    let demanded = global.demanded()?;
    let left_out = CATALOGUE.iter().map(|row| row.hook).filter(|hook| hook.on_demand());
    for hook in left_out.filter(|hook| !demanded.contains(hook)) {
        asked.set(hook, HookState::Off);
    }
    let states = states(&asked, None, global)?;
    let tables = layout::tables(&layout, kallsyms.symbols, kallsyms.reason);
    Ok(Forecast { file, coverage, found, missing, tables, states })
}

/// The whole of a file, if it can be BTF at all.
fn bytes(path: &Path) -> Result<Vec<u8>> {
    let shown = || path.display().to_string();
    let about = fs::metadata(path).with_context(shown)?;
    if !about.is_file() || about.len() > MOST {
        bail!("{}: a kernel's BTF is a regular file of some megabytes", path.display());
    }
    fs::read(path).with_context(shown)
}

fn symbols_of_calls() -> Vec<&'static str> {
    let symbols = CATALOGUE.iter().filter_map(|row| match row.target {
        Target::Call { symbols, .. } | Target::Reduced { symbols, .. } => Some(symbols),
        Target::Tracepoint { .. } => None,
    });
    symbols.flatten().copied().collect()
}

/// What would become of a hook; `listed` are the symbols that the kernel has, where that is known.
fn hook_state(types: &Btf, row: &Row, listed: Option<&HashSet<&str>>) -> HookState {
    match row.target {
        Target::Tracepoint { name } if types.tracepoint(name) => {
            HookState::Attached { backend: Backend::Tracepoint }
        }
        Target::Tracepoint { .. } => HookState::Absent,
        Target::Reduced { .. } if !is_there(types, row) => HookState::Absent,
        Target::Reduced { symbols, .. } => match listed {
            Some(listed) if !symbols.iter().any(|symbol| listed.contains(symbol)) => {
                HookState::Failed { reason: format!("no symbol {}: it is inlined", symbols.join(" or ")) }
            }
            _ => HookState::Attached { backend: Backend::Kprobe },
        },
        Target::Call { .. } => match resolve(types, row) {
            None => HookState::Absent,
            Some((symbol, _)) if listed.is_some_and(|listed| !listed.contains(symbol)) => HookState::Failed {
                reason: format!("`{symbol}` has a prototype but no symbol: it is inlined"),
            },
            Some(_) => HookState::Attached { backend: Backend::Fentry },
        },
    }
}

/// The members that a layout has, and those that it hasn't. A kernel has one vendor's of an architecture, so
/// what of the vendors' is absent is told by their tables.
fn members(layout: &Layout) -> (Vec<(&'static str, Place)>, Vec<&'static str>) {
    let place = |(name, at): &(&'static str, fn(&Layout) -> Place)| (*name, at(layout));
    let all = CORE.iter().chain(VENDORS).chain(FLUSHES).chain(TAGS).chain(RANGES).map(place);
    let found = all.filter(|(_, place)| *place != Place::Absent).collect();
    let missing = CORE.iter().map(place).filter(|(_, place)| *place == Place::Absent);
    (found, missing.map(|(name, _)| name).collect())
}

impl Forecast {
    fn text(&self, global: &Global) -> String {
        let there = CATALOGUE.iter().filter(|row| self.coverage.attached(row.hook)).count();
        let mut text = String::new();
        let _ = writeln!(text, "kernel      {} (not running: nothing was attached)", self.file);
        let _ = writeln!(text, "hooks       {there} of {} would be there\n", CATALOGUE.len());
        for row in CATALOGUE {
            let told = match (self.coverage.get(row.hook), row.target) {
                (HookState::Attached { .. }, Target::Tracepoint { name }) => format!("tracepoint {name}"),
                (
                    HookState::Attached { .. },
                    Target::Call { symbols, .. } | Target::Reduced { symbols, .. },
                ) => symbols.join(" or "),
                (state, _) => hook_text(row, state),
            };
            let _ = writeln!(text, "  {:<28}{told}", row.hook.name());
        }
        let _ = writeln!(text, "\nmembers     {} found", self.found.len());
        if global.verbose > 0 {
            for (name, place) in &self.found {
                let _ = writeln!(text, "  {name:<40}{}", place_text(*place));
            }
        }
        if !self.missing.is_empty() {
            let _ = writeln!(text, "  not in this kernel: {}", self.missing.join(", "));
        }
        text += &tables_text(&self.tables);
        text += &advisories::text(self.coverage.advisories.as_ref(), global.verbose > 0);
        let _ = writeln!(text, "\nchecks");
        for (name, state) in &self.states {
            let _ = writeln!(text, "  {name:<28}{state}");
        }
        text
    }

    fn json(&self) -> Value {
        let hooks = self.coverage.iter().map(|(hook, state)| match state {
            HookState::Attached { .. } => json!({"hook": hook.name(), "there": true}),
            HookState::Absent | HookState::Idle { .. } | HookState::Off => {
                json!({"hook": hook.name(), "there": false, "reason": "not in this kernel"})
            }
            HookState::Failed { reason } => json!({"hook": hook.name(), "there": false, "reason": reason}),
        });
        let checks = self
            .states
            .iter()
            .map(|(name, state)| json!({"check": name, "state": state.name(), "reason": state.reason()}));
        let found = self.found.iter().map(|(name, place)| (name.to_string(), json!(place_text(*place))));
        json!({
            "v": 1,
            "kind": "doctor",
            "btf": self.file,
            "hooks": hooks.collect::<Value>(),
            "members": found.collect::<serde_json::Map<_, _>>(),
            "missing_members": self.missing,
            "tables": tables_json(&self.tables),
            "advisories": advisories::json(self.coverage.advisories.as_ref()),
            "checks": checks.collect::<Value>(),
        })
    }
}

/// In bytes, and the bit of a flag.
fn place_text(place: Place) -> String {
    match place {
        Place::Offset(offset) => offset.to_string(),
        Place::Bit(offset, bit) => format!("{offset}:{bit}"),
        Place::Absent => "-".into(),
    }
}
