//! The status page: what is watched on this host, what stands and what was, for a person at night. One document, without
//! script, without anything that is loaded; however large the host is, the page isn't.

mod html;
mod recent;
mod sections;

use crate::{
    check::{CheckState, Severity},
    watcher::{GroupState, Knowledge, Watcher},
};

use super::{Context, metrics::Build};
use html::Html;

pub use recent::{Past, Recent};

/// How the page looks: the one thing that it may use.
pub const STYLE: &str = include_str!("status/style.css");

/// What is shown, and as of when.
pub struct View<'a> {
    pub watcher: &'a Watcher,
    pub groups: &'a [GroupState],
    pub recent: &'a Recent,
    pub build: &'a Build,
    pub context: &'a Context<'a>,
    /// Now, in CLOCK_MONOTONIC ns.
    pub now_ns: u64,
}

/// The whole page.
pub fn page(view: &View<'_>) -> String {
    let mut html = Html::default();
    html.put("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n")
        .put("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n")
        .put("<meta name=\"color-scheme\" content=\"light dark\">\n<title>")
        .text(&title(view))
        .put("</title>\n<style>")
        .put(STYLE)
        .put("</style>\n</head>\n<body>\n");
    header(&mut html, view);
    html.put("<main>\n");
    sections::standing(&mut html, view);
    sections::groups(&mut html, view);
    sections::recent(&mut html, view);
    sections::checks(&mut html, view);
    html.put("</main>\n");
    footer(&mut html, view);
    html.put("</body>\n</html>\n");
    html.into_string()
}

/// What stands comes first: it is all that a tab shows.
fn title(view: &View<'_>) -> String {
    let Standing { critical, warning, .. } = Standing::of(view.watcher);
    match (critical, warning) {
        (0, 0) => format!("{} · iommu-watch", view.context.host),
        (0, _) => format!("{warning} warning · {} · iommu-watch", view.context.host),
        _ => format!("{critical} critical · {} · iommu-watch", view.context.host),
    }
}

/// How many violations stand.
#[derive(Default)]
struct Standing {
    critical: usize,
    warning: usize,
    info: usize,
    expected: usize,
}

impl Standing {
    fn of(watcher: &Watcher) -> Standing {
        let mut standing = Standing::default();
        for violation in watcher.violations() {
            let count = match violation.severity {
                _ if violation.expected.is_some() => &mut standing.expected,
                Severity::Critical => &mut standing.critical,
                Severity::Warning => &mut standing.warning,
                Severity::Info => &mut standing.info,
            };
            *count += 1;
        }
        standing
    }
}

fn header(html: &mut Html, view: &View<'_>) {
    let Standing { critical, warning, info, expected } = Standing::of(view.watcher);
    html.put("<header>\n<p class=\"brand\">iommu-watch</p>\n<h1>").text(view.context.host).put("</h1>\n");
    html.put("<p class=\"muted\">Linux ").text(view.context.kernel).put("</p>\n<p class=\"verdict ");
    html.put(if critical > 0 {
        "critical"
    } else if warning > 0 {
        "warning"
    } else {
        "ok"
    })
    .put("\">");
    if critical + warning == 0 {
        html.put("No violation stands");
    } else {
        let parts = [(critical, "critical"), (warning, "warning")];
        let parts: Vec<String> = parts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, name)| format!("{count} {name}"))
            .collect();
        html.text(&parts.join(", "));
    }
    html.put("</p>\n");
    let more = [(info, "for information"), (expected, "expected")];
    for (count, what) in more.into_iter().filter(|(count, _)| *count > 0) {
        html.put("<p class=\"muted\">").number(count as u64).put(" ").put(what).put("</p>\n");
    }
    html.put("<dl class=\"facts\">\n");
    let unknown = view.groups.iter().filter(|group| group.knowledge == Knowledge::Unknown).count();
    let pasids: usize = view.groups.iter().filter_map(|group| Some(group.pasids.as_ref()?.len())).sum();
    let armed = view.watcher.checks().filter(|(_, state)| **state == CheckState::Armed).count();
    fact(html, "groups", view.groups.len());
    if unknown > 0 {
        fact(html, "of them unknown", unknown);
    }
    fact(html, "PASIDs attached", pasids);
    fact(html, "checks armed", armed);
    html.put("</dl>\n</header>\n");
}

fn fact(html: &mut Html, name: &'static str, number: usize) {
    html.put("<div><dt>").put(name).put("</dt><dd>").number(number as u64).put("</dd></div>\n");
}

fn footer(html: &mut Html, view: &View<'_>) {
    html.put("<footer>\n<p>As of <time>").text(&moment(view, view.now_ns)).put("</time>, iommu-watch ");
    html.text(&view.build.version).put("</p>\n<p class=\"links\">");
    html.put("<a href=\"/metrics\">metrics</a> <a href=\"/api/v1/violations\">violations</a> ")
        .put("<a href=\"/api/v1/groups\">groups</a> <a href=\"/api/v1/conformance\">conformance</a> ")
        .put("<a href=\"/-/ready\">ready</a> <a href=\"/-/healthy\">healthy</a></p>\n</footer>\n");
}

/// A time of the kernel's as the world's, to the second.
fn moment(view: &View<'_>, mono_ns: u64) -> String {
    let time = view.context.clock.rfc3339(mono_ns);
    format!("{} UTC", time.split('.').next().unwrap_or_default().replace('T', " "))
}

/// How long ago that was.
fn ago(view: &View<'_>, mono_ns: u64) -> String {
    let seconds = view.now_ns.saturating_sub(mono_ns) / 1_000_000_000;
    match seconds {
        0..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}
