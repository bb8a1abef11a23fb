//! A line of JSON as an entry of the journal.

use serde_json::Value;

/// A field of an entry: its name, the members of the line that it has its values from, and what it is.
pub struct Field {
    pub name: &'static str,
    member: &'static str,
    pub is: &'static str,
}

const fn field(name: &'static str, member: &'static str, is: &'static str) -> Field {
    Field { name, member, is }
}

/// The fields of our own. A member that is a list gives a field for each of its elements.
pub const FIELDS: [Field; 15] = [
    field(
        "IOMMU_WATCH_KIND",
        "kind",
        "The kind of the line: violation, resolved, loss, suppressed, check-state, state.",
    ),
    field("IOMMU_WATCH_CHECK", "check", "The check, by name."),
    field("IOMMU_WATCH_SEVERITY", "severity", "`critical`, `warning` or `info`."),
    field(
        "IOMMU_WATCH_FINGERPRINT",
        "fingerprint",
        "The same for the same cause on the same object, also after a restart.",
    ),
    field("IOMMU_WATCH_GROUP", "group", "The number of the IOMMU group."),
    field("IOMMU_WATCH_DEVICE", "devices", "A device, by name; one field for each."),
    field("IOMMU_WATCH_PASID", "pasid", "A PASID; one field for each."),
    field("IOMMU_WATCH_IOMMU_DRIVER", "iommu_driver", "The driver of the IOMMU."),
    field(
        "IOMMU_WATCH_IMPLIED",
        "implied",
        "A check whose violation follows from this one; one field for each.",
    ),
    field("IOMMU_WATCH_CONFIDENCE", "confidence", "`observed` or `read-back`."),
    field("IOMMU_WATCH_REASON", "reason", "Why it is resolved, suppressed, or not armed."),
    field("IOMMU_WATCH_STATE", "state", "The state of a check."),
    field("IOMMU_WATCH_STAGE", "stage", "Where events were lost."),
    field(
        "IOMMU_WATCH_KNOWLEDGE",
        "knowledge",
        "Whether the state of a group is known: `synced` or `unknown`.",
    ),
    field("IOMMU_WATCH_DOCS", "docs", "The page of the check."),
];

/// The whole line, as it is written to stdout elsewhere.
const LINE: &str = "IOMMU_WATCH_JSON";

/// The other fields, and what they are.
pub const OTHERS: [(&str, &str); 5] = [
    ("MESSAGE", "What a person reads."),
    (
        "PRIORITY",
        "2 (critical) and 4 (warning) of a violation as its severity says, 6 (info) if it is expected; 4 of lost events and \
         missing lines; 5 (notice) of what is resolved; else 6.",
    ),
    ("MESSAGE_ID", "Of the kind of line, [below](#message-ids)."),
    ("SYSLOG_IDENTIFIER", "`iommu-watch`."),
    (LINE, "The whole line: evidence, stacks and all."),
];

/// What `MESSAGE_ID=` says of a kind of line. They never change.
pub const MESSAGE_IDS: [(&str, &str); 4] = [
    ("violation", "ad3f55b12b5a4d00b7c145b915b3dbe6"),
    ("resolved", "4d36907120da42beac6bed4b63b10384"),
    ("suppressed", "b806ebd609d241f381112d1d1476553e"),
    ("loss", "8ad691fc9f7c45a2be297d5b13a3f992"),
];

/// Of syslog(3).
const CRITICAL: u8 = 2;
const WARNING: u8 = 4;
const NOTICE: u8 = 5;
const INFORMATION: u8 = 6;

/// The datagram for a line. One that isn't JSON (a spool may hold what another version wrote) is all message.
pub fn of_line(line: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(line);
    let mut entry = Vec::with_capacity(2 * line.len());
    put(&mut entry, "SYSLOG_IDENTIFIER", "iommu-watch");
    let Ok(told) = serde_json::from_slice::<Value>(line) else {
        put(&mut entry, "PRIORITY", &INFORMATION.to_string());
        put(&mut entry, "MESSAGE", &text);
        return entry;
    };
    put(&mut entry, "PRIORITY", &priority(&told).to_string());
    put(&mut entry, "MESSAGE", &message(&told));
    if let Some((_, id)) = MESSAGE_IDS.iter().find(|(kind, _)| told["kind"] == *kind) {
        put(&mut entry, "MESSAGE_ID", id);
    }
    for Field { name, member, .. } in &FIELDS {
        match &told[*member] {
            Value::Array(values) => values.iter().for_each(|value| put_value(&mut entry, name, value)),
            value => put_value(&mut entry, name, value),
        }
    }
    put(&mut entry, LINE, &text);
    entry
}

fn put_value(entry: &mut Vec<u8>, name: &str, value: &Value) {
    match value {
        Value::Null => {}
        Value::String(text) => put(entry, name, text),
        other => put(entry, name, &other.to_string()),
    }
}

/// A value that has lines of its own goes with its length.
fn put(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}

fn priority(told: &Value) -> u8 {
    match (text(told, "kind"), text(told, "severity")) {
        ("violation", _) if !told["expected"].is_null() => INFORMATION,
        ("violation", "critical") => CRITICAL,
        ("violation", "warning") | ("loss" | "suppressed", _) => WARNING,
        ("resolved", _) => NOTICE,
        _ => INFORMATION,
    }
}

/// What a person reads.
fn message(told: &Value) -> String {
    let word = |member: &str| text(told, member);
    let check = word("check");
    match word("kind") {
        "violation" => {
            let expected = told["expected"]["reason"].as_str();
            let expected = expected.map_or(String::new(), |reason| format!(" (expected: {reason})"));
            format!("{}: {check}: {}{expected}", word("severity"), word("summary"))
        }
        "resolved" => format!("resolved: {check} on {}: {}", whom(told), word("reason")),
        "loss" => format!("{} events were lost ({})", told["count"], word("stage")),
        "suppressed" => format!("{} lines are missing here ({})", told["lines"], word("reason")),
        "check-state" => {
            let reason = told["reason"].as_str().map_or(String::new(), |reason| format!(": {reason}"));
            format!("{check} is {}{reason}", word("state"))
        }
        "state" => format!("{} is {}", whom(told), word("knowledge")),
        other => format!("{other}: {check}"),
    }
}

fn whom(told: &Value) -> String {
    let devices: Vec<&str> =
        told["devices"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    match (&told["group"], devices.join(" ")) {
        (Value::Null, devices) if devices.is_empty() => "the host".into(),
        (Value::Null, devices) => devices,
        (group, devices) => format!("group {group} ({devices})"),
    }
}

fn text<'a>(told: &'a Value, member: &str) -> &'a str {
    told[member].as_str().unwrap_or_default()
}
