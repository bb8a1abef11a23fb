//! `check`, and no command at all: read the kernel's IOMMU state once and hold it against the checks.

use std::{
    fmt,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use serde_json::json;

use crate::{
    kernel::{host, probes, snapshot},
    live::{Live, Upkeep},
    report::{json, text},
    watcher::{GroupState, Knowledge},
};

use super::{
    FAILED, Format, Global, RIGHT, WRONG,
    output::{Output, context, counts, put, put_metrics},
};

pub fn run(global: &Global) -> Result<u8> {
    if global.output.is_some() && global.format != Some(Format::Prom) {
        bail!("--output is for --format prom; for text and JSON redirect stdout");
    }
    let probes = probes::attach(&global.plan(snapshot::is_needed)?)?;
    global.tell_costs(&probes.costs);
    let (attaching, attached) = (probes.timing, Instant::now());
    let (mut live, _) = Live::start(probes, global.options()?, Upkeep::default())?;
    host::drop_privileges()?;
    // What was asked for at the start and did not fit the ring is asked for once more.
    live.tick()?;
    let read = attached.elapsed();
    live.look_again()?;
    let took = Took { attaching, reading: read, looking_again: attached.elapsed() - read };
    if global.verbose > 0 {
        eprintln!("iommu-watch: {took}");
    }
    let groups = live.watcher.groups();
    let unread = groups.iter().filter(|group| group.knowledge == Knowledge::Unknown).count();
    match global.format {
        Some(Format::Json) => put(&(as_json(&live, &groups, &took).to_string() + "\n"))?,
        Some(Format::Prom) => {
            live.count()?;
            put_metrics(global, &mut live.watcher)?;
        }
        _ => put(&as_text(&live, &groups, &Output::new(global, Format::Text), global.quiet))?,
    }
    if unread > 0 {
        bail!(
            "{unread} of {} groups could not be read; `iommu-watch doctor` tells what is missing",
            groups.len()
        );
    }
    if groups.is_empty() && global.groups.is_empty() && global.devices.is_empty() {
        eprintln!(
            "iommu-watch: this kernel has no IOMMU groups: is an IOMMU there and switched on (intel_iommu=on)?"
        );
        return Ok(FAILED);
    }
    let wrong = live.watcher.violations().any(counts);
    Ok(if wrong { WRONG } else { RIGHT })
}

/// Where the time went.
struct Took {
    attaching: probes::Timing,
    reading: Duration,
    looking_again: Duration,
}

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [reading, again] = [self.reading, self.looking_again].map(|took| took.as_secs_f64());
        write!(f, "attached in {}, groups read in {reading:.3} s, second look {again:.3} s", self.attaching)
    }
}

fn as_text(live: &Live, groups: &[GroupState], output: &Output, quiet: bool) -> String {
    let context = context(live.watcher.options(), live.stacks());
    let mut lines = Vec::new();
    if !quiet {
        lines.extend(groups.iter().map(text::group));
    }
    lines.extend(live.watcher.violations().map(|found| text::violation(found, &context, output.style())));
    if !quiet {
        lines.push(summary(live, groups.len()));
    }
    lines.iter().fold(String::new(), |text, line| text + line + "\n")
}

/// What was looked at, what was found, and what this look can't find.
fn summary(live: &Live, groups: usize) -> String {
    let found = match live.watcher.violations().count() {
        1 => "1 violation".to_owned(),
        count => format!("{count} violations"),
    };
    let found = match live.watcher.violations().filter(|violation| violation.expected.is_some()).count() {
        0 => found,
        expected => format!("{found} ({expected} expected)"),
    };
    match judged(live).as_slice() {
        [] => format!(
            "{groups} groups read; none of the checks can be judged by one look: run `iommu-watch daemon`"
        ),
        judged => format!(
            "{groups} groups read, {found} of {}\nThe other checks need events: run `iommu-watch daemon`, or `watch`.",
            judged.join(", ")
        ),
    }
}

/// The checks that the state alone decides.
fn judged(live: &Live) -> Vec<&'static str> {
    live.watcher.by_look().filter(|(_, state)| state.judges()).map(|(check, _)| check.name).collect()
}

fn as_json(live: &Live, groups: &[GroupState], took: &Took) -> serde_json::Value {
    let context = context(live.watcher.options(), live.stacks());
    let object = |group: &GroupState| json::group(group, live.watcher.tables(group.id).as_ref(), &context);
    json!({
        "v": 1,
        "kind": "check",
        "host": context.host,
        "kernel": context.kernel,
        "groups": groups.iter().map(object).collect::<Vec<_>>(),
        "judged": judged(live),
        "took_seconds": {
            "types": took.attaching.types.as_secs_f64(),
            "maps": took.attaching.object.as_secs_f64(),
            "programs": took.attaching.programs.as_secs_f64(),
            "groups": took.reading.as_secs_f64(),
            "second_look": took.looking_again.as_secs_f64(),
        },
        "violations": live.watcher.violations().map(|found| json::violation(found, &context)).collect::<Vec<_>>(),
    })
}
