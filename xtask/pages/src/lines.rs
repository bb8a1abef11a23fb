//! The page on the JSON lines: each kind with its fields, as the schema tells them, and a sample, as the
//! tests of the product have it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::Page;
use crate::schema::Schema;
use crate::text::WIDTH;

const SCHEMA: &str = "docs/schema.json";
/// What the watcher wrote in a test: the golden file that its JSON is held against.
const SAMPLES: &str = "monitor/tests/golden/story.jsonl";

/// What /api/v1/groups gives in the same test.
const GROUPS: &str = "monitor/tests/golden/groups.json";
const GROUP: &str = "group-object";

/// What every line has; told once.
const COMMON: [&str; 7] = ["v", "kind", "ts", "mono_ns", "host", "kernel", "synthetic"];
/// Parts that several kinds have, each with its own table.
const PARTS: [&str; 11] = [
    "domain",
    "expected",
    "actor",
    "attachment",
    "step",
    "value",
    "device-state",
    "pasid-table",
    "table-reading",
    "table-entry",
    "suppressed-check",
];

pub fn page(root: &Path) -> Result<Page> {
    let read = |path: &str| fs::read_to_string(root.join(path)).with_context(|| format!("can't read {path}"));
    let schema = Schema::new(serde_json::from_str(&read(SCHEMA)?).with_context(|| SCHEMA.to_owned())?);
    let lines = read(SAMPLES)?;
    let mut samples = BTreeMap::new();
    for (number, line) in lines.lines().enumerate() {
        let value: Value = serde_json::from_str(line).with_context(|| SAMPLES.to_owned())?;
        let kind = value["kind"].as_str().unwrap_or_default();
        let faults = schema.faults(&value, schema.definition(kind), kind);
        if !faults.is_empty() {
            bail!("{SAMPLES}, line {}, against {SCHEMA}: {}", number + 1, faults.join("; "));
        }
        samples.entry(kind.to_owned()).or_insert(line);
    }
    let group = sample_group(&read(GROUPS)?, &schema)?;
    Ok(Page { path: "docs/json.md".into(), text: text(&schema, &samples, &group)? })
}

/// The first of the groups, all of which must be as the schema says.
fn sample_group(groups: &str, schema: &Schema) -> Result<String> {
    let groups: Vec<Value> = serde_json::from_str(groups).with_context(|| GROUPS.to_owned())?;
    let faults: Vec<String> =
        groups.iter().flat_map(|group| schema.faults(group, schema.definition(GROUP), GROUP)).collect();
    if !faults.is_empty() {
        bail!("{GROUPS} against {SCHEMA}: {}", faults.join("; "));
    }
    let first = groups.first().with_context(|| format!("{GROUPS} has no group"))?;
    Ok(first.to_string())
}

fn text(schema: &Schema, samples: &BTreeMap<String, &str>, group: &str) -> Result<String> {
    let mut text = String::from(
        "# The JSON lines\n\n`iommu-watch daemon` writes one JSON object a line to stdout, or into [a field of the \
         journal](journal.md); so does\n`watch --format json`, with the events as well. [schema.json](schema.json) is their \
         JSON Schema. More fields may be\nadded; one that changes its meaning or goes raises `v`. The samples are from the \
         golden files of the tests, and broken\ninto lines here.\n\n## What every line has\n",
    );
    let first = schema.definition(schema.kinds().first().copied().unwrap_or_default());
    text.push_str(&fields(schema, first, |name| COMMON.contains(&name)));
    for kind in schema.kinds() {
        let definition = schema.definition(kind);
        let _ = write!(text, "\n## {kind}\n{}\n\n", words(definition));
        text.push_str(&fields(schema, definition, |name| !COMMON.contains(&name)));
        let Some(sample) = samples.get(kind) else {
            bail!("{SAMPLES} has no line of kind `{kind}`");
        };
        let _ = write!(text, "\n```json\n{}\n```\n", broken(sample, 0, 0));
    }
    let _ = write!(text, "\n## Groups, over HTTP and at one look\n{}\n\n", words(schema.definition(GROUP)));
    text.push_str(&fields(schema, schema.definition(GROUP), |_| true));
    let _ = write!(text, "\n```json\n{}\n```\n", broken(group, 0, 0));
    text.push_str("\n## Parts\n");
    for part in PARTS {
        let _ = write!(text, "\n### {part}\n{}\n\n", words(schema.definition(part)));
        text.push_str(&fields(schema, schema.definition(part), |_| true));
    }
    let _ =
        write!(text, "\n---\nWritten by `cargo xtask docs` from `{SCHEMA}`, `{SAMPLES}` and `{GROUPS}`.\n");
    Ok(text)
}

/// Compact JSON, broken where it is too long for the rest of its line; its fields stay in their order.
fn broken(json: &str, indent: usize, column: usize) -> String {
    let inner = json.get(1..json.len().saturating_sub(1)).unwrap_or_default();
    let fits = column > 0 && column + json.len() <= WIDTH;
    if fits || !json.starts_with(['{', '[']) || inner.is_empty() {
        return json.to_owned();
    }
    let margin = indent + 2;
    let parts = parts(inner).into_iter().map(|part| {
        let (name, value) = match json.starts_with('{').then(|| part.split_once(':')).flatten() {
            Some((name, value)) => (format!("{name}: "), value),
            None => (String::new(), part),
        };
        format!("{:margin$}{name}{}", "", broken(value, margin, margin + name.len()))
    });
    let (open, close) = (&json[..1], &json[json.len() - 1..]);
    format!("{open}\n{}\n{:indent$}{close}", parts.collect::<Vec<_>>().join(",\n"), "")
}

/// The members of an object or an array: what is between the commas of its own level.
fn parts(inner: &str) -> Vec<&str> {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    let split = inner.split(|c: char| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '{' | '[' if !quoted => depth += 1,
            '}' | ']' if !quoted => depth = depth.saturating_sub(1),
            ',' => return !quoted && depth == 0,
            _ => {}
        }
        false
    });
    split.collect()
}

/// The fields of an object as a table.
fn fields(schema: &Schema, definition: &Value, wanted: impl Fn(&str) -> bool) -> String {
    let mut text = String::from("| field | is | |\n|---|---|---|\n");
    // In the order of `required`: a map of serde_json is sorted. Behind them those that are there at times.
    let required: Vec<&str> =
        definition["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let all = definition["properties"].as_object().into_iter().flatten().map(|(name, _)| name.as_str());
    let rest = all.filter(|name| !required.contains(name));
    for name in required.iter().copied().chain(rest).filter(|name| wanted(name)) {
        let field = &definition["properties"][name];
        let meaning = match words(field) {
            "" => words(schema.resolve(field)),
            meaning => meaning,
        };
        let _ = writeln!(text, "| `{name}` | {} | {meaning} |", shape(schema, field));
    }
    text
}

fn words(schema: &Value) -> &str {
    schema["description"].as_str().unwrap_or_default()
}

/// What a field is, in a word or two.
fn shape(schema: &Schema, field: &Value) -> String {
    if let Some(part) = PARTS.iter().find(|part| field["$ref"] == format!("#/$defs/{part}")) {
        return format!("[{part}](#{part})");
    }
    let field = schema.resolve(field);
    if let Some(all) = field["oneOf"].as_array() {
        return all.iter().map(|one| shape(schema, one)).collect::<Vec<_>>().join(" or ");
    }
    if let Some(all) = field["enum"].as_array() {
        return all.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ");
    }
    if !field["const"].is_null() {
        return format!("`{}`", field["const"]);
    }
    let types: Vec<&str> = match &field["type"] {
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        name => name.as_str().into_iter().collect(),
    };
    let types: Vec<String> = types
        .into_iter()
        .map(|name| match name {
            "array" => format!("list of {}", shape(schema, &field["items"])),
            name => name.to_owned(),
        })
        .collect();
    if types.is_empty() { "any".into() } else { types.join(" or ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn breaking_a_line_changes_nothing_but_its_blanks() {
        let long = "x, {\\\"} [".repeat(20);
        let line = format!(r#"{{"b":1,"a":["{long}",{{"c":[],"d":null}}],"e":{{}}}}"#);
        let text = broken(&line, 0, 0);
        assert_eq!(
            serde_json::from_str::<Value>(&text).unwrap(),
            serde_json::from_str::<Value>(&line).unwrap(),
            "{text}"
        );
        assert!(text.starts_with("{\n  \"b\": 1,\n  \"a\": [\n"), "{text}");
    }
}
