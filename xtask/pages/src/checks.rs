//! A page for each check, in the order in which somebody on call needs it, and the index.

use std::fmt::Write;

use monitor::check::{REGISTRY, Spec, threshold};
use monitor::kernel::catalogue::{CATALOGUE, Target};
use monitor_ebpf::wire::Hook;

use crate::Page;
use crate::rules::alert_name;
use crate::text::{code, wrap};

pub fn pages() -> Vec<Page> {
    let mut pages = vec![Page { path: "docs/checks/README.md".into(), text: index() }];
    pages.extend(specs().map(|spec| Page { path: spec.docs(), text: page(spec) }));
    pages
}

pub fn specs() -> impl Iterator<Item = &'static Spec> {
    REGISTRY.iter().map(|check| check.spec())
}

fn index() -> String {
    let mut text = String::from(
        "# The checks\n\nEach check is one invariant of the Linux IOMMU API. A violation's `docs` field and an \
         alert's `runbook_url`\nname its page here; `iommu-watch checks NAME` prints the same.\n\n\
         | check | severity | section | alert |\n|---|---|---|---|\n",
    );
    for spec in specs() {
        let _ = writeln!(
            text,
            "| [{name}]({name}.md) | {} | {} | `{}` |",
            severities(spec),
            spec.section,
            alert_name(spec),
            name = spec.name,
        );
    }
    text.push_str(
        "\nSeverity: **critical**: isolation or memory safety is at stake now; **warning**: a leak or a sign; \
         **info**: worth\nknowing, never pages and never changes an exit code.\n",
    );
    text.push_str(&written_from("monitor/src/check/"));
    text
}

fn page(spec: &Spec) -> String {
    let mut text = format!("# {}\n\n", spec.name);
    let _ = writeln!(
        text,
        "Severity: {}. Section: {}. Alert: `{}`.\n",
        severities(spec),
        spec.section,
        alert_name(spec)
    );
    text.push_str(&wrap(&code(spec.invariant), "> ", "> "));

    text.push_str("\n## What to do\n");
    for (number, step) in spec.what_to_do.iter().enumerate() {
        text.push_str(&wrap(&linked(step, spec), &format!("{}. ", number + 1), "   "));
    }
    text.push_str("\n## Why it matters\n");
    text.push_str(&wrap(&linked(spec.why, spec), "", ""));

    let within: Vec<&str> =
        specs().filter(|root| root.implies.contains(&spec.name)).map(|root| root.name).collect();
    if !spec.implies.is_empty() || !within.is_empty() {
        text.push_str("\n## One root, one alarm\n");
    }
    if !spec.implies.is_empty() {
        let sentence = format!(
            "A violation of this check explains {} on the same group: such a consequence goes into its `implied` and \
             isn't raised by itself.",
            links(spec.implies)
        );
        text.push_str(&wrap(&sentence, "", ""));
    }
    if !within.is_empty() {
        let sentence = format!(
            "While a violation of {} is open on the same group, this one is its consequence: it is in its `implied`, \
             and not raised by itself.",
            links(&within)
        );
        text.push_str(&wrap(&sentence, "", ""));
    }

    text.push_str("\n## What doesn't raise it\n");
    for trap in spec.traps {
        text.push_str(&wrap(&linked(trap, spec), "- ", "  "));
    }
    if threshold::of(spec.name).next().is_some() {
        text.push_str("\n## Thresholds\n");
    }
    for threshold in threshold::of(spec.name) {
        let (least, most) = threshold.bounds;
        let line = format!(
            "`{}`: {}; {least} to {most}, else {}.",
            threshold.key, threshold.what, threshold.default
        );
        text.push_str(&wrap(&line, "- ", "  "));
    }
    text.push_str("\n## What it needs\n");
    text.push_str(&needs(spec));
    if !spec.seen_in.is_empty() {
        text.push_str("\n## Seen in the field\n");
        for place in spec.seen_in {
            text.push_str(&wrap(place, "- ", "  "));
        }
    }
    text.push_str(&written_from(&format!("monitor/src/check/{}.rs", spec.name.replace('-', "_"))));
    text
}

fn needs(spec: &Spec) -> String {
    let needs = &spec.needs;
    let mut text = String::new();
    if needs.core_pasids {
        text.push_str(
            "A core that keeps account of PASIDs: `iommu_group::pasid_array`, which came with 6.2.\n\n",
        );
    }
    if needs.hooks().next().is_none() {
        text.push_str("No hook: what the kernel is decides it, not what it does.\n");
        return text;
    }
    text.push_str("| hook | kernel | without it |\n|---|---|---|\n");
    let mut row = |hook: Hook, without: &str| {
        let _ = writeln!(text, "| `{}` | {} | {without} |", hook.name(), places(hook));
    };
    for &hook in needs.required {
        row(hook, "the check is unavailable");
    }
    for &hook in needs.required_if_present {
        row(hook, "unavailable, where the kernel has it and it can't be attached");
    }
    for &hook in needs.any_of {
        let missed = needs.degrades.iter().find(|(other, _)| *other == hook).map(|(_, missed)| *missed);
        let missed = missed.map(|missed| format!("; {missed}")).unwrap_or_default();
        row(hook, &format!("at least one of these{missed}"));
    }
    for (hook, missed) in needs.degrades.iter().filter(|(hook, _)| !needs.any_of.contains(hook)) {
        row(*hook, &format!("degraded: {missed}"));
    }
    let in_driver = |hook| CATALOGUE.iter().any(|row| row.hook == hook && row.driver.is_some());
    if needs.hooks().any(in_driver) {
        text.push('\n');
        text.push_str(&wrap(HARDWARE, "", ""));
    }
    text
}

/// What was tried on what.
const HARDWARE: &str = "Hooks in an IOMMU driver are attached where the host has that driver's hardware. What VT-d's \
    and AMD's drivers do is caught live, on the real drivers in a guest: AMD's with PASIDs on 7.3 alone, behind an \
    emulated IOMMU that has none itself. What SMMUv3's driver does is proved by sequences written from its source, and by \
    the layouts of ten kernels, on no hardware.";

/// What the kernel calls a hook, and which releases have it.
fn places(hook: Hook) -> String {
    let Some(row) = CATALOGUE.iter().find(|row| row.hook == hook) else { return "-".into() };
    let names = match row.target {
        Target::Call { symbols, .. } | Target::Reduced { symbols, .. } => {
            symbols.iter().map(|symbol| format!("`{symbol}`")).collect::<Vec<_>>().join(" or ")
        }
        Target::Tracepoint { name } => format!("tracepoint `iommu:{name}`"),
    };
    if row.since.is_empty() { names } else { format!("{names}, {}", row.since) }
}

fn severities(spec: &Spec) -> String {
    spec.severities.iter().map(|severity| severity.name()).collect::<Vec<_>>().join(" or ")
}

fn links(names: &[&str]) -> String {
    names.iter().map(|name| format!("[{name}]({name}.md)")).collect::<Vec<_>>().join(" and ")
}

/// A sentence with the kernel's names as code, and the other checks as links.
fn linked(sentence: &str, of: &Spec) -> String {
    specs().filter(|spec| spec.name != of.name).fold(code(sentence), |text, spec| {
        text.replace(spec.name, &format!("[{name}]({name}.md)", name = spec.name))
    })
}

fn written_from(source: &str) -> String {
    format!("\n---\nWritten by `cargo xtask docs` from `{source}`.\n")
}
