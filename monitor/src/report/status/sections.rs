//! The parts of the status page, each a table that is bounded.

use crate::{
    check::{CheckState, Severity, Violation},
    model::Actor,
    watcher::{GroupState, Knowledge, Owner},
};

use super::{View, ago, html::Html, moment};

/// How many rows of a table are shown, and how many names and PASIDs in a cell.
const VIOLATIONS: usize = 100;
const GROUPS: usize = 256;
const NAMES: usize = 8;
const PASIDS: usize = 16;

/// What stands, the worst first.
pub fn standing(html: &mut Html, view: &View<'_>) {
    let mut standing: Vec<&Violation> = view.watcher.violations().collect();
    if standing.is_empty() {
        return;
    }
    standing.sort_by_key(|found| {
        (found.expected.is_some(), std::cmp::Reverse(found.severity), std::cmp::Reverse(found.mono_ns))
    });
    html.put("<section>\n<h2>Violations that stand</h2>\n");
    for violation in standing.iter().take(VIOLATIONS) {
        card(html, view, violation);
    }
    more(html, standing.len(), VIOLATIONS, "/api/v1/violations");
    html.put("</section>\n");
}

fn card(html: &mut Html, view: &View<'_>, violation: &Violation) {
    html.put("<article class=\"card ");
    html.put(if violation.expected.is_some() { "expected" } else { class(violation.severity) });
    html.put("\">\n<h3><span class=\"tag\">").put(violation.severity.name()).put("</span> ");
    html.put(violation.check.name).put("</h3>\n<p class=\"summary\">").text(&violation.summary).put("</p>\n");
    if let Some(expected) = &violation.expected {
        html.put("<p class=\"why\">Expected until ").text(&expected.until.to_string()).put(": ");
        html.text(&expected.reason).put("</p>\n");
    }
    html.put("<dl>\n");
    term(html, "since", &format!("{}, {}", ago(view, violation.mono_ns), moment(view, violation.mono_ns)));
    term(
        html,
        "last seen",
        &format!("{}, {}", ago(view, violation.last_ns), moment(view, violation.last_ns)),
    );
    if violation.count > 1 {
        term(html, "happened", &format!("{} times", violation.count));
    }
    if let Some(group) = violation.group {
        term(html, "group", &group.to_string());
    }
    if !violation.devices.is_empty() {
        term(html, "devices", &listed(&violation.devices, NAMES));
    }
    if let Some(driver) = &violation.iommu_driver {
        term(html, "IOMMU driver", driver);
    }
    if !violation.pasids.is_empty() {
        let pasids: Vec<u32> = violation.pasids.iter().map(|pasid| pasid.pasid).collect();
        term(html, "PASIDs", &listed(&pasids, PASIDS));
    }
    if let Some(domain) = &violation.domain {
        term(html, "domain", &format!("{} ({})", domain.name, domain.kind));
    }
    if let Some(by) = violation.attached_by() {
        term(html, "attached by", &task(by));
    }
    if let Some(by) = &violation.triggered_by {
        term(html, "triggered by", &task(by));
    }
    term(html, "fingerprint", &violation.fingerprint.to_string());
    term(html, "what to do", &format!("iommu-watch checks {}", violation.check.name));
    html.put("</dl>\n</article>\n");
}

fn term(html: &mut Html, name: &'static str, value: &str) {
    html.put("<div><dt>").put(name).put("</dt><dd>").text(value).put("</dd></div>\n");
}

fn task(actor: &Actor) -> String {
    format!("{} (pid {})", actor.comm, actor.tgid)
}

/// Those of which there is something to say come first, so that on a large host they are shown.
pub fn groups(html: &mut Html, view: &View<'_>) {
    html.put("<section>\n<h2>Groups</h2>\n");
    if view.groups.is_empty() {
        html.put(
            "<p class=\"muted\">There is none: no IOMMU is on, or no device is behind one.</p>\n</section>\n",
        );
        return;
    }
    let mut shown: Vec<&GroupState> = view.groups.iter().collect();
    shown.sort_by_key(|group| (interest(group), group.id));
    shown.truncate(GROUPS);
    html.put("<div class=\"wide\"><table>\n<thead><tr><th class=\"n\">Group</th><th>Owner</th><th>Domain</th><th>PASIDs</th>");
    html.put("<th class=\"n\">Bonds</th><th>IOMMU</th><th>Devices</th></tr></thead>\n<tbody>\n");
    for group in shown {
        row(html, group);
    }
    html.put("</tbody>\n</table></div>\n");
    more(html, view.groups.len(), GROUPS, "/api/v1/groups");
    html.put("</section>\n");
}

fn interest(group: &GroupState) -> u8 {
    match (group.knowledge, group.owner) {
        (Knowledge::Unknown, _) => 0,
        _ if group.pasids.as_ref().is_some_and(|pasids| !pasids.is_empty()) => 1,
        (_, Some(Owner::User)) => 2,
        _ => 3,
    }
}

fn row(html: &mut Html, group: &GroupState) {
    html.put("<tr><td class=\"n\">").number(group.id).put("</td><td>");
    match group.owner {
        _ if group.knowledge == Knowledge::Unknown => html.put("<span class=\"tag warning\">unknown</span>"),
        Some(Owner::User) => html.put("<span class=\"tag user\">user</span>"),
        Some(owner) => html.put("<span class=\"muted\">").put(owner.name()).put("</span>"),
        None => html.put("<span class=\"muted\">not known</span>"),
    };
    html.put("</td><td>");
    match &group.domain {
        Some(domain) => {
            html.put(domain.kind).put(" <span class=\"muted\">").text(&domain.name).put("</span>")
        }
        None => html.put("<span class=\"muted\">not known</span>"),
    };
    html.put("</td><td class=\"mono\">");
    match &group.pasids {
        Some(pasids) if pasids.is_empty() => html.put("<span class=\"muted\">none</span>"),
        Some(pasids) => {
            let pasids: Vec<u32> = pasids.iter().map(|pasid| pasid.pasid).collect();
            html.text(&listed(&pasids, PASIDS))
        }
        None => html.put("<span class=\"muted\">not known</span>"),
    };
    html.put("</td><td class=\"n\">").number(group.bonds as u64).put("</td><td>");
    html.text(group.iommu_driver.as_deref().unwrap_or_default()).put("</td><td class=\"mono\">");
    html.text(&listed(&group.devices, NAMES)).put("</td></tr>\n");
}

/// What was raised of late, whether it stands or not.
pub fn recent(html: &mut Html, view: &View<'_>) {
    html.put("<section>\n<h2>Recent violations</h2>\n");
    let mut past = view.recent.latest().peekable();
    if past.peek().is_none() {
        html.put("<p class=\"muted\">None since the start.</p>\n</section>\n");
        return;
    }
    html.put("<div class=\"wide\"><table>\n<thead><tr><th>Raised</th><th>Check</th><th class=\"n\">Group</th><th>What</th><th>Now</th></tr></thead>\n<tbody>\n");
    for past in past {
        html.put("<tr><td class=\"time\">")
            .text(&moment(view, past.raised_ns))
            .put("</td><td class=\"time\"><span class=\"tag ");
        html.put(if past.expected { "expected" } else { class(past.severity) })
            .put("\">")
            .put(past.severity.name());
        html.put("</span> ").put(past.check).put("</td><td class=\"n\">");
        if let Some(group) = past.group {
            html.number(group);
        }
        html.put("</td><td>").text(&past.summary).put("</td><td class=\"time\">");
        match past.over {
            Some((ns, reason)) => html.put(reason).put(", ").text(&ago(view, ns)),
            None if past.expected => html.put("stands, expected"),
            None => html.put("stands"),
        };
        html.put("</td></tr>\n");
    }
    html.put("</tbody>\n</table></div>\n</section>\n");
}

/// Those that miss something come first, with what.
pub fn checks(html: &mut Html, view: &View<'_>) {
    html.put("<section>\n<h2>Checks</h2>\n<ul class=\"checks\">\n");
    let mut checks: Vec<_> = view.watcher.checks().collect();
    checks.sort_by_key(|(spec, state)| (rank(state), spec.name));
    for (spec, state) in checks {
        html.put("<li class=\"").put(state.name()).put("\"><span class=\"name\">").put(spec.name);
        html.put("</span> <span class=\"state\">").put(state.name()).put("</span>");
        if let Some(reason) = state.reason() {
            html.put("<p>").text(reason).put("</p>");
        }
        html.put("</li>\n");
    }
    html.put("</ul>\n</section>\n");
}

fn rank(state: &CheckState) -> u8 {
    match state {
        CheckState::Degraded { .. } => 0,
        CheckState::Unavailable { .. } => 1,
        CheckState::Armed => 2,
        CheckState::NotApplicable { .. } => 3,
        CheckState::Off | CheckState::NotAskedFor { .. } => 4,
    }
}

fn class(severity: Severity) -> &'static str {
    severity.name()
}

/// Some of a list, and how many more there are.
fn listed<T: ToString>(list: &[T], most: usize) -> String {
    let mut parts: Vec<String> = list.iter().take(most).map(T::to_string).collect();
    if list.len() > most {
        parts.push(format!("and {} more", list.len() - most));
    }
    parts.join(", ")
}

fn more(html: &mut Html, all: usize, shown: usize, at: &'static str) {
    if all > shown {
        html.put("<p class=\"muted\">")
            .number((all - shown) as u64)
            .put(" more are at <a href=\"")
            .put(at)
            .put("\">");
        html.put(at).put("</a>.</p>\n");
    }
}
