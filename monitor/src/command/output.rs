//! Where reports go: stdout, as text or as JSON lines.

use std::{
    fs,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use prometheus::TextEncoder;

use crate::{
    check::{Severity, Violation},
    kernel::{self, clock},
    report::{
        Clock, Context, Stacks, json,
        metrics::{self, Build},
        text,
    },
    watcher::{Options, Report, Watcher},
};

use super::{Color, Format, Global};

/// Writes reports to stdout.
pub struct Output {
    json: bool,
    style: text::Style,
}

impl Output {
    pub fn new(global: &Global, default: Format) -> Output {
        let color = match global.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        };
        Output {
            json: global.format.unwrap_or(default) == Format::Json,
            style: text::Style { color, ..text::Style::default() },
        }
    }

    pub fn is_json(&self) -> bool {
        self.json
    }

    pub fn style(&self) -> text::Style {
        self.style
    }

    /// Writes them all, at once.
    pub fn write(&self, reports: &[Report], context: &Context<'_>) -> io::Result<()> {
        self.write_those(reports, |_| true, context)
    }

    /// The same, but of text only what is wrong, mended or lost.
    pub fn write_findings(&self, reports: &[Report], context: &Context<'_>) -> io::Result<()> {
        let is_finding = |report: &Report| {
            use Report::{Loss, Resolved, Restated, Violation};
            matches!(report, Violation(_) | Restated(_) | Resolved(_) | Loss(_))
        };
        self.write_those(reports, |report| self.json || is_finding(report), context)
    }

    fn write_those(
        &self,
        reports: &[Report],
        which: impl Fn(&Report) -> bool,
        context: &Context<'_>,
    ) -> io::Result<()> {
        let lines = self.lines(reports, which, context);
        if lines.is_empty() { Ok(()) } else { put(&lines) }
    }

    /// What is written of those reports.
    fn lines(&self, reports: &[Report], which: impl Fn(&Report) -> bool, context: &Context<'_>) -> String {
        let mut lines = String::new();
        for report in reports.iter().filter(|report| which(report)) {
            lines += &self.line(report, context);
            lines.push('\n');
        }
        lines
    }

    /// One of them, without its newline.
    pub fn line(&self, report: &Report, context: &Context<'_>) -> String {
        match self.json {
            true => json::line(report, context),
            false => text::report(report, context, self.style),
        }
    }
}

/// With `--format prom`: the metrics, to `--output FILE` if there is one.
pub fn put_metrics(global: &Global, watcher: &mut Watcher) -> Result<()> {
    let build = Build { version: env!("CARGO_PKG_VERSION").into(), ..Build::default() };
    let text = TextEncoder::new().encode_to_string(&metrics::collect(watcher, &build))?;
    match &global.output {
        Some(file) => replace(file, text.as_bytes()).with_context(|| format!("--output {}", file.display())),
        None => Ok(put(&text)?),
    }
}

/// Writes a file in one piece: who reads it sees the old one or the new one.
fn replace(file: &Path, content: &[u8]) -> io::Result<()> {
    let mut draft = PathBuf::from(file).into_os_string();
    draft.push(format!(".{}.tmp", std::process::id()));
    fs::write(&draft, content).and_then(|()| fs::rename(&draft, file)).inspect_err(|_| {
        // Nothing half-written is left; that it can't be removed either adds nothing.
        let _ = fs::remove_file(&draft);
    })
}

/// Writes text to stdout and sees it through.
pub fn put(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

impl Stacks for kernel::stacks::Stacks {
    fn frames(&self, id: u32) -> Option<Vec<String>> {
        kernel::stacks::Stacks::frames(self, id)
    }
}

/// Whether a report changes the exit code.
pub fn is_wrong(report: &Report) -> bool {
    matches!(report, Report::Violation(found) | Report::Restated(found) if counts(found))
}

/// Whether a violation changes the exit code: it is for more than information, and nobody expects it.
pub fn counts(found: &Violation) -> bool {
    found.severity > Severity::Info && found.expected.is_none()
}

/// What every line is told with, as of now.
pub fn context<'a>(options: &'a Options, stacks: &'a dyn Stacks) -> Context<'a> {
    Context {
        host: &options.host,
        kernel: &options.kernel,
        synthetic: false,
        clock: Clock { offset_ns: clock::wall_offset_ns() },
        stacks,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_in_one_piece_and_nothing_is_left_of_a_failure() -> io::Result<()> {
        let folder = std::env::temp_dir().join(format!("iommu-watch-output-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let file = folder.join("iommu.prom");
        replace(&file, b"old")?;
        replace(&file, b"new")?;
        assert_eq!(fs::read(&file)?, b"new");
        assert!(replace(&folder.join("nothing/iommu.prom"), b"x").is_err());
        assert_eq!(fs::read_dir(&folder)?.count(), 1);
        fs::remove_dir_all(&folder)
    }
}
