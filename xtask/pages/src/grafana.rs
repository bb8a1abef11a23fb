//! The Grafana dashboards: what is on them is data, in a file for each; how that becomes Grafana's JSON is here.

mod fleet;
mod group;
mod host;
mod json;

use anyhow::Result;

use crate::Page;

/// All of them, from the fleet down to one group.
const ALL: [&Dashboard; 3] = [&fleet::DASHBOARD, &host::DASHBOARD, &group::DASHBOARD];

struct Dashboard {
    /// Its file's name, and its end in the address.
    name: &'static str,
    title: &'static str,
    description: &'static str,
    variables: &'static [Variable],
    rows: &'static [Row],
}

/// What is chosen at the top.
struct Variable {
    name: &'static str,
    title: &'static str,
    /// Which metric's label has the choices; of the hosts that were chosen before.
    metric: &'static str,
    /// Several can be chosen, or all.
    many: bool,
}

struct Row {
    title: &'static str,
    panels: &'static [Panel],
}

#[derive(Clone, Copy)]
struct Panel {
    kind: Kind,
    title: &'static str,
    description: &'static str,
    unit: &'static str,
    width: u32,
    height: u32,
    queries: &'static [Query],
}

#[derive(Clone, Copy)]
enum Kind {
    /// One number; from which on it is bad, and which colour that is.
    Stat {
        bad: Option<(f64, &'static str)>,
    },
    Lines {
        stacked: bool,
    },
    /// Labels, or `Value`, and their titles.
    Table {
        columns: &'static [(&'static str, &'static str)],
    },
}

struct Query {
    expr: &'static str,
    legend: &'static str,
}

/// A query, and how its lines are called.
const fn query(expr: &'static str, legend: &'static str) -> Query {
    Query { expr, legend }
}

impl Panel {
    const fn new(kind: Kind, title: &'static str, queries: &'static [Query]) -> Self {
        Self { kind, title, description: "", unit: "short", width: 8, height: 7, queries }
    }

    const fn stat(title: &'static str, queries: &'static [Query]) -> Self {
        Self::new(Kind::Stat { bad: None }, title, queries).size(4, 4)
    }

    const fn lines(title: &'static str, queries: &'static [Query]) -> Self {
        Self::new(Kind::Lines { stacked: false }, title, queries)
    }

    const fn stack(title: &'static str, queries: &'static [Query]) -> Self {
        Self::new(Kind::Lines { stacked: true }, title, queries)
    }

    const fn table(
        title: &'static str,
        columns: &'static [(&'static str, &'static str)],
        queries: &'static [Query],
    ) -> Self {
        Self::new(Kind::Table { columns }, title, queries)
    }

    const fn size(self, width: u32, height: u32) -> Self {
        Self { width, height, ..self }
    }

    const fn unit(self, unit: &'static str) -> Self {
        Self { unit, ..self }
    }

    const fn about(self, description: &'static str) -> Self {
        Self { description, ..self }
    }

    /// Its number turns to this colour from `value` on.
    const fn bad(self, value: f64, colour: &'static str) -> Self {
        Self { kind: Kind::Stat { bad: Some((value, colour)) }, ..self }
    }
}

pub fn pages() -> Result<Vec<Page>> {
    let page = |dashboard: &&Dashboard| {
        let text = serde_json::to_string_pretty(&json::dashboard(dashboard))?;
        Ok(Page { path: format!("dashboards/grafana/{}.json", dashboard.uid()), text: text + "\n" })
    };
    ALL.iter().map(page).collect()
}

impl Dashboard {
    fn uid(&self) -> String {
        format!("iommu-watch-{}", self.name)
    }
}
