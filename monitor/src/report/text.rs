//! What a person reads: short, aligned, and enough to act on.

use std::fmt::Write;

use monitor_ebpf::wire::Phase;

use crate::check::{Pasid, Read, Resolved, Severity, Value, Violation};
use crate::model::{Actor, DomainName};
use crate::watcher::{CheckChange, EventLine, GroupState, Loss, Report, Suppressed, SuppressedBy};

use super::Context;

/// How text is laid out.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Terminal colours.
    pub color: bool,
    /// Columns; longer sentences are wrapped.
    pub width: usize,
}

impl Default for Style {
    fn default() -> Style {
        Style { color: false, width: 100 }
    }
}

/// One report, without a newline at its end. A violation is a block, all else is a line.
pub fn report(report: &Report, context: &Context<'_>, style: Style) -> String {
    match report {
        Report::Violation(found) | Report::Restated(found) => violation(found, context, style),
        Report::Resolved(gone) => resolved(gone, context, style),
        Report::Loss(lost) => loss(lost, context, style),
        Report::State(state) => group(state),
        Report::CheckState(change) => check(change),
        Report::Suppressed(told) => suppressed(told, context, style),
        Report::Event(line) => event(line, context),
    }
}

/// A violation: what happened, to what, by whom, what was expected, what to do.
pub fn violation(violation: &Violation, context: &Context<'_>, style: Style) -> String {
    let mut block = Block { text: String::new(), width: style.width };
    let severity = paint(&violation.severity.name().to_uppercase(), violation.severity, style);
    let group = violation.group.map_or(String::new(), |group| format!("  group {group}"));
    let synthetic = if context.synthetic { "  (synthetic)" } else { "" };
    let known = if violation.expected.is_some() { "  (expected)" } else { "" };
    let _ = writeln!(block.text, "{severity}  {}{group}{known}{synthetic}", violation.check.name);
    block.wrap(2, 2, &violation.summary);
    if let Some(expectation) = &violation.expected {
        block.field("known", &format!("until {}: {}", expectation.until, expectation.reason));
    }
    let again = match violation.count {
        0 | 1 => String::new(),
        count => format!(", {count} times until {}", context.clock.rfc3339(violation.last_ns)),
    };
    block.field("when", &format!("{}{again}", context.clock.rfc3339(violation.mono_ns)));
    let driver =
        violation.iommu_driver.as_deref().map_or(String::new(), |driver| format!("  (IOMMU: {driver})"));
    if !violation.devices.is_empty() {
        block.field("devices", &format!("{}{driver}", violation.devices.join(", ")));
    }
    for pasid in &violation.pasids {
        let (line, stack) = attached(pasid, violation.mono_ns, context);
        block.field(&format!("PASID {}", pasid.pasid), &line);
        block.stack(stack);
    }
    if let Some(actor) = &violation.triggered_by {
        block.field("triggered", &format!("by {}[{}]", actor.comm, actor.tid));
        block.stack(frames(actor, context));
    }
    for read in &violation.read {
        block.field("read", &format!("{}: {}", read.what, value(read, context)));
    }
    for implied in &violation.implied {
        block.field("implied", &format!("{}: {}", implied.check, implied.summary));
    }
    block.field("expected", violation.check.invariant);
    for (index, step) in violation.check.what_to_do.iter().enumerate() {
        block.field(if index == 0 { "do" } else { "" }, &format!("{}. {step}", index + 1));
    }
    block.field("docs", &violation.check.docs());
    block.field("id", &violation.fingerprint.to_string());
    block.text.truncate(block.text.trim_end().len());
    block.text
}

/// A group on one line.
pub fn group(state: &GroupState) -> String {
    let owner = match (state.owner, state.owner_cnt) {
        (Some(owner), Some(count)) if count > 0 => format!("{} ({count})", owner.name()),
        (Some(owner), _) => owner.name().to_owned(),
        (None, _) => "?".to_owned(),
    };
    let pasids = match &state.pasids {
        None => "PASIDs ?".to_owned(),
        Some(pasids) if pasids.is_empty() => "no PASIDs".to_owned(),
        Some(pasids) => {
            let pasids: Vec<String> = pasids.iter().map(|pasid| pasid.pasid.to_string()).collect();
            format!("PASIDs {}", pasids.join(", "))
        }
    };
    let group = format!("group {}", state.id);
    let domain = state.domain.as_ref().map_or("domain ?".to_owned(), name);
    let devices = state.devices.join(", ");
    let line =
        format!("{group:<10} {:<8} {owner:<11} {domain:<24} {pasids:<16} {devices}", state.knowledge.name());
    line.trim_end().to_owned()
}

/// An event on one line, as `watch` shows it.
pub fn event(line: &EventLine, context: &Context<'_>) -> String {
    let ts = context.clock.rfc3339(line.actor.mono_ns);
    let time = ts.split_once('T').map_or(ts.as_str(), |(_, time)| time.trim_end_matches('Z'));
    let group = line.group.map_or(String::new(), |group| format!("group {group}"));
    let mark = match line.phase {
        Phase::Begin => ">",
        Phase::End => "<",
        Phase::Point => " ",
    };
    let mut about = Vec::new();
    about.extend(line.pasid.map(|pasid| format!("PASID {pasid}")));
    about.extend(line.domain.as_ref().map(name));
    about.extend(line.ownership.map(|ownership| format!("owner_cnt {}", ownership.count)));
    if let Some((pasids, complete)) = &line.pasids {
        let pasids: Vec<String> = pasids.iter().map(u32::to_string).collect();
        about.push(format!("[{}{}]", pasids.join(" "), if *complete { "" } else { " …" }));
    }
    about.extend(line.table.as_deref().map(|table| {
        let entries: Vec<String> = table.entries.iter().map(|entry| entry.pasid.to_string()).collect();
        let more = if table.complete { "" } else { " …" };
        format!("{} table [{}{more}]", table.kind.name(), entries.join(" "))
    }));
    about.extend(line.ret.map(|ret| match ret {
        0 => "= 0".to_owned(),
        ret => format!("= {ret} {}", crate::errno::errno_name(ret)),
    }));
    let who = format!("{}[{}]", line.actor.comm, line.actor.tid);
    let device = line.device.as_deref().unwrap_or_default();
    let call = line.hook.name();
    format!("{time} {group:<10} {device:<13} {mark} {call:<24} {who:<22} {}", about.join("  "))
        .trim_end()
        .to_owned()
}

fn resolved(resolved: &Resolved, context: &Context<'_>, style: Style) -> String {
    let group = resolved.group.map_or(String::new(), |group| format!("  group {group}"));
    let word = if style.color { "\x1b[32mRESOLVED\x1b[0m" } else { "RESOLVED" };
    let after = span(resolved.mono_ns.saturating_sub(resolved.raised_ns));
    let times = if resolved.count > 1 { format!(", {} times", resolved.count) } else { String::new() };
    format!(
        "{word}  {}{group}: {} after {after}{times}, {} ({})",
        resolved.check.name,
        resolved.reason.name(),
        context.clock.rfc3339(resolved.mono_ns),
        resolved.fingerprint
    )
}

fn loss(loss: &Loss, context: &Context<'_>, style: Style) -> String {
    let word = if style.color { "\x1b[33mLOST\x1b[0m" } else { "LOST" };
    format!(
        "{word}  {} events at stage {} ({} so far), {}: {}",
        loss.count,
        loss.stage.name(),
        loss.total,
        context.clock.rfc3339(loss.mono_ns),
        unjudged(loss.groups.as_deref())
    )
}

fn suppressed(told: &Suppressed, context: &Context<'_>, style: Style) -> String {
    let word = if style.color { "\x1b[33mMISSING\x1b[0m" } else { "MISSING" };
    let why = match told.by {
        SuppressedBy::Rate => "violations came faster than they are told",
        SuppressedBy::Output => "whoever reads this did not keep up",
        SuppressedBy::Spool => "what an earlier run had left was damaged",
    };
    let checks: Vec<String> =
        told.checks.iter().map(|(check, lines)| format!("{lines} of {check}")).collect();
    let checks = if checks.is_empty() { String::new() } else { format!(" ({})", checks.join(", ")) };
    format!(
        "{word}  {} lines are missing from here{checks}, {} so far: {why}, {}; what stands is in /api/v1/violations",
        told.lines,
        told.total,
        context.clock.rfc3339(told.mono_ns)
    )
}

/// Whom nothing is said of after a loss.
fn unjudged(groups: Option<&[u32]>) -> String {
    /// How many groups are named.
    const NAMED: usize = 8;
    let Some(groups) = groups else { return "no group is judged until it is read again".into() };
    let mut names: Vec<String> = groups.iter().take(NAMED).map(u32::to_string).collect();
    match groups.len().saturating_sub(NAMED) {
        0 => {}
        more => names.push(format!("{more} more")),
    }
    match names.as_slice() {
        [] => "a group that was not known yet is read".into(),
        [one] => format!("group {one} is not judged until it is read again"),
        _ => format!("groups {} are not judged until they are read again", names.join(", ")),
    }
}

fn check(change: &CheckChange) -> String {
    format!("check {:<28} {}", change.check.name, change.state)
}

fn attached(pasid: &Pasid, violation_ns: u64, context: &Context<'_>) -> (String, Vec<String>) {
    let domain = pasid.domain.as_ref().map_or("domain ?".to_owned(), name);
    match &pasid.attached_by {
        Some(actor) => {
            let before = span(violation_ns.saturating_sub(actor.mono_ns));
            let line = format!("{domain}, attached by {}[{}] {before} before", actor.comm, actor.tid);
            (line, frames(actor, context))
        }
        None => (format!("{domain}, attached before we watched, or not at all"), Vec::new()),
    }
}

fn frames(actor: &Actor, context: &Context<'_>) -> Vec<String> {
    actor.stack.and_then(|id| context.stacks.frames(id)).unwrap_or_default()
}

fn name(domain: &DomainName) -> String {
    format!("{} ({})", domain.name, domain.kind)
}

fn value(read: &Read, context: &Context<'_>) -> String {
    match &read.value {
        Value::Count(count) => count.to_string(),
        Value::Flag(flag) => if *flag { "yes" } else { "no" }.to_owned(),
        Value::Pasids(pasids) if pasids.is_empty() => "none".to_owned(),
        Value::Pasids(pasids) => pasids.iter().map(u32::to_string).collect::<Vec<_>>().join(", "),
        Value::Domain(domain) => domain.as_ref().map_or("?".to_owned(), name),
        Value::Names(names) => names.join(", "),
        Value::Task(None) => "somebody whose call was not seen".to_owned(),
        Value::Task(Some(by)) => {
            format!("{}[{}], {}", by.comm, by.tid, context.clock.rfc3339(by.mono_ns))
        }
    }
}

/// `3.2 s`, `15 min`
fn span(ns: u64) -> String {
    match ns {
        0..1_000_000 => format!("{} µs", ns / 1_000),
        1_000_000..1_000_000_000 => format!("{} ms", ns / 1_000_000),
        1_000_000_000..120_000_000_000 => format!("{:.1} s", ns as f64 / 1e9),
        _ => format!("{} min", ns / 60_000_000_000),
    }
}

fn paint(word: &str, severity: Severity, style: Style) -> String {
    if !style.color {
        return word.to_owned();
    }
    let code = match severity {
        Severity::Critical => "1;31",
        Severity::Warning => "1;33",
        Severity::Info => "1;34",
    };
    format!("\x1b[{code}m{word}\x1b[0m")
}

/// Text in the making: labels to the left, wrapped sentences to the right.
pub(super) struct Block {
    pub text: String,
    pub width: usize,
}

/// The columns of a label and of what stands before it.
const LABEL: usize = 10;
const INDENT: usize = 2;

impl Block {
    pub fn field(&mut self, label: &str, sentence: &str) {
        let _ = write!(self.text, "{:INDENT$}{label:<LABEL$} ", "");
        self.wrap(0, INDENT + LABEL + 1, sentence);
    }

    /// A sentence, its first line after `first` spaces and the others after `rest`.
    pub fn wrap(&mut self, first: usize, rest: usize, sentence: &str) {
        let _ = write!(self.text, "{:first$}", "");
        let mut column = rest;
        for word in sentence.split_whitespace() {
            let length = word.chars().count();
            if column > rest && column + 1 + length > self.width {
                let _ = write!(self.text, "\n{:rest$}", "");
                column = rest;
            }
            if column > rest {
                self.text.push(' ');
                column += 1;
            }
            self.text.push_str(word);
            column += length;
        }
        self.text.push('\n');
    }

    fn stack(&mut self, frames: Vec<String>) {
        for frame in frames {
            let _ = writeln!(self.text, "{:width$}{frame}", "", width = INDENT + LABEL + 3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_tells_whom_nothing_is_said_of() {
        assert_eq!(unjudged(None), "no group is judged until it is read again");
        assert_eq!(unjudged(Some(&[7])), "group 7 is not judged until it is read again");
        assert_eq!(unjudged(Some(&[7, 9])), "groups 7, 9 are not judged until they are read again");
        let many: Vec<u32> = (1..=20).collect();
        assert!(unjudged(Some(&many)).starts_with("groups 1, 2, 3, 4, 5, 6, 7, 8, 12 more are"));
        assert_eq!(unjudged(Some(&[])), "a group that was not known yet is read");
    }
}
