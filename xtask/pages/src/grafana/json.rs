//! A dashboard in Grafana's JSON, its panels laid out from left to right.

use serde_json::{Value, json};

use super::{ALL, Dashboard, Kind, Panel, Query, Row, Variable};

/// What Grafana divides a dashboard's width into.
const WIDTH: u32 = 24;

/// Words whose colour says how things are, in the cells of tables.
const COLOURS: [(&str, &str); 13] = [
    ("critical", "red"),
    ("warning", "orange"),
    ("firing", "red"),
    ("pending", "orange"),
    ("armed", "green"),
    ("degraded", "orange"),
    ("unavailable", "red"),
    ("affected", "red"),
    ("fixed", "green"),
    ("undecided", "orange"),
    ("violates", "red"),
    ("conforms", "green"),
    ("unknown", "orange"),
];

pub fn dashboard(of: &Dashboard) -> Value {
    let variables = of.variables.iter().enumerate().map(|(place, it)| variable(it, &of.variables[..place]));
    let variables: Vec<Value> = [source()].into_iter().chain(variables).collect();
    json!({
        "__requires": [
            { "type": "grafana", "id": "grafana", "name": "Grafana", "version": "11.0.0" },
            { "type": "datasource", "id": "prometheus", "name": "Prometheus", "version": "1.0.0" },
        ],
        "id": null,
        "uid": of.uid(),
        "title": of.title,
        "description": of.description,
        "tags": ["iommu", "iommu-watch"],
        "editable": true,
        "fiscalYearStartMonth": 0,
        "graphTooltip": 1,
        "links": [{
            "type": "dashboards",
            "title": "iommu-watch",
            "icon": "external link",
            "tooltip": "",
            "url": "",
            "tags": ["iommu-watch"],
            "asDropdown": false,
            "targetBlank": false,
            "includeVars": true,
            "keepTime": true,
        }],
        "liveNow": false,
        "preload": false,
        "refresh": "30s",
        "schemaVersion": 41,
        "timezone": "utc",
        "weekStart": "",
        "version": 1,
        "time": { "from": "now-6h", "to": "now" },
        "timepicker": {},
        "annotations": { "list": [] },
        "templating": { "list": variables },
        "panels": panels(of),
    })
}

/// The variable that all queries take their data from.
fn source() -> Value {
    json!({
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "regex": "",
        "hide": 0,
        "includeAll": false,
        "multi": false,
        "options": [],
        "refresh": 1,
        "skipUrlSync": false,
    })
}

fn variable(of: &Variable, before: &[Variable]) -> Value {
    let chosen: Vec<String> =
        before.iter().map(|other| format!("{name}=~\"${name}\"", name = other.name)).collect();
    let chosen = if chosen.is_empty() { String::new() } else { format!("{{{}}}", chosen.join(", ")) };
    let query = format!("label_values({}{chosen}, {})", of.metric, of.name);
    let mut json = json!({
        "name": of.name,
        "label": of.title,
        "type": "query",
        "datasource": datasource(),
        "query": { "query": query, "refId": of.name, "qryType": 1 },
        "regex": "",
        "sort": 3,
        "refresh": 2,
        "multi": of.many,
        "includeAll": of.many,
        "hide": 0,
        "options": [],
        "skipUrlSync": false,
    });
    if of.many {
        json["allValue"] = ".*".into();
        json["current"] = json!({ "text": ["All"], "value": ["$__all"] });
    }
    json
}

fn datasource() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

fn panels(of: &Dashboard) -> Vec<Value> {
    let mut panels = Vec::new();
    let mut top = 0;
    for Row { title, panels: row } in of.rows {
        let at = grid(0, top, WIDTH, 1);
        panels.push(json!({
            "id": panels.len() + 1, "type": "row", "title": title, "collapsed": false, "panels": [], "gridPos": at,
        }));
        top += 1;
        let (mut left, mut below) = (0, top);
        for panel in *row {
            if left + panel.width > WIDTH {
                (left, top) = (0, below);
            }
            let mut json = render(panel);
            json["id"] = (panels.len() + 1).into();
            json["gridPos"] = grid(left, top, panel.width, panel.height);
            panels.push(json);
            left += panel.width;
            below = below.max(top + panel.height);
        }
        top = below;
    }
    panels
}

fn grid(x: u32, y: u32, w: u32, h: u32) -> Value {
    json!({ "x": x, "y": y, "w": w, "h": h })
}

fn render(panel: &Panel) -> Value {
    let (kind, options, field) = match panel.kind {
        Kind::Stat { bad } => ("stat", stat_options(), stat_field(panel.unit, bad)),
        Kind::Lines { stacked } => ("timeseries", lines_options(), lines_field(panel.unit, stacked)),
        Kind::Table { .. } => ("table", table_options(), table_field(panel.unit)),
    };
    let overrides = if let Kind::Table { columns } = panel.kind { links(columns) } else { Vec::new() };
    let targets: Vec<Value> =
        panel.queries.iter().zip('A'..='Z').map(|(query, id)| target(panel.kind, query, id)).collect();
    let mut json = json!({
        "type": kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": datasource(),
        "targets": targets,
        "fieldConfig": { "defaults": field, "overrides": overrides },
        "options": options,
    });
    if let Kind::Table { columns } = panel.kind {
        json["transformations"] = transformations(columns, panel.queries.len());
    }
    json
}

fn target(kind: Kind, query: &Query, id: char) -> Value {
    let lines = matches!(kind, Kind::Lines { .. });
    json!({
        "datasource": datasource(),
        "editorMode": "code",
        "expr": query.expr,
        "legendFormat": query.legend,
        "refId": id.to_string(),
        "instant": !lines,
        "range": lines,
        "format": if matches!(kind, Kind::Table { .. }) { "table" } else { "time_series" },
    })
}

fn stat_options() -> Value {
    json!({
        "colorMode": "background",
        "graphMode": "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "textMode": "auto",
        "wideLayout": true,
        "showPercentChange": false,
        "percentChangeColorMode": "standard",
        "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false },
    })
}

fn stat_field(unit: &str, bad: Option<(f64, &str)>) -> Value {
    let start = json!({ "color": if bad.is_some() { "green" } else { "text" }, "value": null });
    let steps: Vec<Value> = [start]
        .into_iter()
        .chain(bad.map(|(value, color)| json!({ "color": color, "value": value })))
        .collect();
    json!({
        "unit": unit,
        "noValue": "no data",
        "mappings": [],
        "color": { "mode": "thresholds" },
        "thresholds": { "mode": "absolute", "steps": steps },
    })
}

fn lines_options() -> Value {
    json!({
        "legend": { "displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": [] },
        "tooltip": { "mode": "multi", "sort": "desc" },
    })
}

fn lines_field(unit: &str, stacked: bool) -> Value {
    json!({
        "unit": unit,
        "min": 0,
        "mappings": [],
        "color": { "mode": "palette-classic" },
        "custom": {
            "drawStyle": "line",
            "lineInterpolation": "stepAfter",
            "lineWidth": 1,
            "fillOpacity": if stacked { 20 } else { 0 },
            "showPoints": "never",
            "spanNulls": false,
            "stacking": { "mode": if stacked { "normal" } else { "none" }, "group": "A" },
        },
    })
}

fn table_options() -> Value {
    json!({ "frameIndex": 0, "cellHeight": "sm", "showHeader": true })
}

fn table_field(unit: &str) -> Value {
    let colours: serde_json::Map<String, Value> = COLOURS
        .iter()
        .enumerate()
        .map(|(index, (word, color))| ((*word).into(), json!({ "color": color, "index": index })))
        .collect();
    json!({
        "unit": unit,
        "mappings": [{ "type": "value", "options": colours }],
        "color": { "mode": "thresholds" },
        "thresholds": { "mode": "absolute", "steps": [{ "color": "text", "value": null }] },
        "custom": { "align": "auto", "filterable": true, "inspect": false, "cellOptions": { "type": "color-text" } },
    })
}

/// Leaves the columns, in their order and with their titles; several queries become one table by their labels.
fn transformations(columns: &[(&str, &str)], queries: usize) -> Value {
    let order: serde_json::Map<String, Value> =
        columns.iter().enumerate().map(|(place, (name, _))| ((*name).into(), place.into())).collect();
    let titles: serde_json::Map<String, Value> =
        columns.iter().map(|(name, title)| ((*name).into(), (*title).into())).collect();
    let left_out = ["Time", "__name__", "job", "instance", "group", "backend", "Value", "Value #A"];
    let left_out: serde_json::Map<String, Value> = left_out
        .iter()
        .filter(|name| !order.contains_key(**name))
        .map(|name| ((*name).into(), true.into()))
        .collect();
    let organize = json!({
        "id": "organize",
        "options": { "excludeByName": left_out, "indexByName": order, "renameByName": titles },
    });
    if queries > 1 { json!([{ "id": "merge", "options": {} }, organize]) } else { json!([organize]) }
}

/// From a host or a group to its own dashboard.
fn links(columns: &[(&str, &str)]) -> Vec<Value> {
    let host_is_shown = columns.iter().any(|(name, _)| *name == "instance");
    let host = if host_is_shown { "${__data.fields.host}" } else { "${instance}" };
    let target = |label: &str| match label {
        "instance" => Some(("host", "var-instance=${__value.raw}".to_owned())),
        "group" => Some(("group", format!("var-instance={host}&var-group=${{__value.raw}}"))),
        _ => None,
    };
    let link = |(label, title): &(&str, &str)| {
        let (name, variables) = target(label)?;
        let to = ALL.iter().find(|dashboard| dashboard.name == name)?;
        Some(json!({
            "matcher": { "id": "byName", "options": title },
            "properties": [{ "id": "links", "value": [{
                "title": to.title,
                "url": format!("/d/{}?${{datasource:queryparam}}&{variables}&${{__url_time_range}}", to.uid()),
                "targetBlank": false,
            }] }],
        }))
    };
    columns.iter().filter_map(link).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn number(panel: &Value, key: &str) -> u64 {
        panel["gridPos"][key].as_u64().unwrap()
    }

    #[test]
    fn no_two_panels_of_a_dashboard_overlap_or_share_an_id() {
        for of in ALL {
            let panels = panels(of);
            let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
            assert_eq!(ids.len(), panels.len(), "{}", of.title);
            let mut cells = BTreeSet::new();
            for panel in &panels {
                assert!(number(panel, "x") + number(panel, "w") <= u64::from(WIDTH), "{panel}");
                for x in number(panel, "x")..number(panel, "x") + number(panel, "w") {
                    for y in number(panel, "y")..number(panel, "y") + number(panel, "h") {
                        assert!(cells.insert((x, y)), "{}: {} overlaps", of.title, panel["title"]);
                    }
                }
            }
        }
    }

    /// What a query asks the variables for, its dashboard has.
    #[test]
    fn every_variable_of_a_query_is_there() {
        for of in ALL {
            for query in of.rows.iter().flat_map(|row| row.panels).flat_map(|panel| panel.queries) {
                for asked in query.expr.split('$').skip(1) {
                    let name = asked
                        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                        .next()
                        .unwrap_or_default();
                    let known = of.variables.iter().any(|variable| variable.name == name);
                    assert!(
                        known || ["__rate_interval", "__range"].contains(&name),
                        "{}: {}",
                        of.title,
                        query.expr
                    );
                }
            }
        }
    }

    #[test]
    fn panels_that_do_not_fit_begin_a_line_below_the_highest() {
        const PANELS: [Panel; 3] = [
            Panel::stat("a", &[]).size(20, 3),
            Panel::stat("b", &[]).size(4, 9),
            Panel::stat("c", &[]).size(4, 4),
        ];
        const OF: Dashboard = Dashboard {
            name: "x",
            title: "x",
            description: "",
            variables: &[],
            rows: &[Row { title: "row", panels: &PANELS }],
        };
        let places: Vec<_> =
            panels(&OF).iter().map(|panel| (number(panel, "x"), number(panel, "y"))).collect();
        assert_eq!(places, [(0, 0), (0, 1), (20, 1), (0, 10)]);
    }
}
