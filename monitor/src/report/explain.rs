//! The checks explained, from their specs: the list, and one in full.

use std::fmt::Write;

use serde_json::{Value as Json, json};

use crate::check::{
    CheckState, Spec,
    threshold::{self, Threshold},
};

use super::text::Block;

/// The list of checks, one a line, with their states where they are known.
pub fn list<'a>(checks: impl IntoIterator<Item = (&'static Spec, Option<&'a CheckState>)>) -> String {
    let mut text = format!("{:<28} {:<9} {:<17} {}\n", "CHECK", "SEVERITY", "SECTION", "STATE");
    for (spec, state) in checks {
        let state = state.map_or("-".to_owned(), CheckState::to_string);
        let _ =
            writeln!(text, "{:<28} {:<9} {:<17} {state}", spec.name, spec.severity().name(), spec.section);
    }
    text
}

/// The list as JSON.
pub fn list_json<'a>(checks: impl IntoIterator<Item = (&'static Spec, Option<&'a CheckState>)>) -> Json {
    checks.into_iter().map(|(spec, state)| explain_json(spec, state)).collect()
}

/// One check in full: what it holds true, why it matters, what it needs, what to do.
pub fn explain(spec: &Spec, state: Option<&CheckState>, width: usize) -> String {
    let severities: Vec<&str> = spec.severities.iter().map(|severity| severity.name()).collect();
    let mut block = Block { text: String::new(), width };
    let _ = writeln!(block.text, "{}  ({}; {})", spec.name, severities.join(" or "), spec.section);
    if let Some(state) = state {
        block.wrap(2, 2, &format!("On this kernel: {state}"));
    }
    block.section("Invariant", &[spec.invariant]);
    block.section("Why it matters", &[spec.why]);
    block.bullets("What to do", spec.what_to_do);
    if !spec.implies.is_empty() {
        block.section("Folds in", &[&spec.implies.join(", ")]);
    }
    block.bullets("What does not raise it", spec.traps);
    block.bullets("Thresholds", &thresholds(spec));
    block.bullets("Needs", &needs(spec));
    block.bullets("Seen in the field", spec.seen_in);
    block.section("Docs", &[&spec.docs()]);
    block.text
}

/// One check as JSON.
pub fn explain_json(spec: &Spec, state: Option<&CheckState>) -> Json {
    let names =
        |hooks: &[monitor_ebpf::wire::Hook]| -> Vec<&str> { hooks.iter().map(|hook| hook.name()).collect() };
    let degrades: Vec<Json> = spec
        .needs
        .degrades
        .iter()
        .map(|(hook, missed)| json!({ "hook": hook.name(), "missed": missed }))
        .collect();
    json!({
        "check": spec.name,
        "section": spec.section,
        "severities": spec.severities.iter().map(|severity| severity.name()).collect::<Vec<_>>(),
        "invariant": spec.invariant,
        "why": spec.why,
        "what_to_do": spec.what_to_do,
        "implies": spec.implies,
        "traps": spec.traps,
        "thresholds": threshold::of(spec.name).map(threshold_json).collect::<Vec<_>>(),
        "needs": {
            "core_pasids": spec.needs.core_pasids,
            "required": names(spec.needs.required),
            "required_if_present": names(spec.needs.required_if_present),
            "any_of": names(spec.needs.any_of),
            "degrades": degrades,
        },
        "seen_in": spec.seen_in,
        "docs": spec.docs(),
        "state": state.map(CheckState::name),
        "reason": state.and_then(CheckState::reason),
    })
}

fn thresholds(spec: &Spec) -> Vec<String> {
    let told = threshold::of(spec.name).map(|threshold| {
        let (least, most) = threshold.bounds;
        format!("{}: {}; {least} to {most}, else {}", threshold.key, threshold.what, threshold.default)
    });
    told.collect()
}

fn threshold_json(threshold: &Threshold) -> Json {
    let (least, most) = threshold.bounds;
    json!({
        "key": threshold.key,
        "what": threshold.what,
        "default": threshold.default,
        "least": least,
        "most": most,
    })
}

fn needs(spec: &Spec) -> Vec<String> {
    let names = |hooks: &[monitor_ebpf::wire::Hook]| {
        hooks.iter().map(|hook| hook.name()).collect::<Vec<_>>().join(", ")
    };
    let mut lines = Vec::new();
    if spec.needs.core_pasids {
        lines.push("a core that keeps account of PASIDs (iommu_group::pasid_array, from 6.2)".to_owned());
    }
    if !spec.needs.required.is_empty() {
        lines.push(format!("hooks {}", names(spec.needs.required)));
    }
    if !spec.needs.required_if_present.is_empty() {
        lines.push(format!("where the kernel has them: {}", names(spec.needs.required_if_present)));
    }
    if !spec.needs.any_of.is_empty() {
        lines.push(format!("at least one of {}", names(spec.needs.any_of)));
    }
    lines.extend(
        spec.needs.degrades.iter().map(|(hook, missed)| format!("without {}: {missed}", hook.name())),
    );
    lines
}

impl Block {
    fn section(&mut self, title: &str, sentences: &[&str]) {
        let _ = write!(self.text, "\n{title}\n");
        for sentence in sentences {
            self.wrap(2, 2, sentence);
        }
    }

    fn bullets<T: AsRef<str>>(&mut self, title: &str, items: &[T]) {
        if items.is_empty() {
            return;
        }
        let _ = write!(self.text, "\n{title}\n");
        for item in items {
            self.text.push_str("  - ");
            self.wrap(0, 4, item.as_ref());
        }
    }
}
