//! `pasid-tables`: the hardware's own PASID table, read beside the core's account of it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Report;

const DEVICE: &str = "0000:01:00.0";

/// PASID → (translation type, tag).
type Entries = BTreeMap<u64, (u64, u64)>;

/// What one look showed of the device: the PASIDs that the core has, and the hardware's entries.
struct Look {
    core: Vec<u64>,
    entries: Entries,
    state: Value,
    /// The whole table, and what was printed after it.
    table: Value,
    lines: Vec<Value>,
}

pub fn read(report: &Report) -> Result<(), String> {
    report.exits_with(&[0])?;
    let six = [1, 5, 63, 64, 4096, 70000];
    let mut attached = six.to_vec();
    attached.push(7);
    let many: Vec<u64> = [1, 7, 63].into_iter().chain(100..180).collect();

    look(report, "none")?.holds(&[], &[])?;
    let seen = look(report, "attached")?;
    seen.holds(&attached, &attached)?;
    for name in ["ats", "pasid"] {
        if seen.state[name] != true {
            return Err(format!("{name} is {}, not enabled", seen.state[name]));
        }
    }
    // Each domain has its own id, and so has the RID's.
    let kind_and_tag = |pasid| seen.entries.get(&pasid).copied().unwrap_or_default();
    let ((kind, mine), (_, other), (_, rid)) = (kind_and_tag(1), kind_and_tag(7), kind_and_tag(0));
    if six.iter().any(|&pasid| kind_and_tag(pasid) != (kind, mine)) || !(1..=2).contains(&kind) {
        return Err(format!("the PASIDs of one domain differ, or are of no paging type: {:?}", seen.entries));
    }
    if mine == other || mine == rid || other == rid {
        return Err(format!("domains share an id: {:?}", seen.entries));
    }
    let without: Vec<u64> = attached.iter().copied().filter(|&pasid| pasid != 5).collect();
    let hidden = look(report, "hidden")?;
    hidden.holds(&attached, &without)?;
    hidden.is_told_alike()?;
    look(report, "detached")?.holds(&[1, 7, 63], &[1, 7, 63])?;
    let seen = look(report, "many")?;
    seen.holds(&many, &many)?;
    seen.is_told_alike()?;
    look(report, "empty")?.holds(&[], &[])
}

impl Look {
    /// The core has these PASIDs, the hardware those, and the RID's entry beside them.
    fn holds(&self, core: &[u64], hardware: &[u64]) -> Result<(), String> {
        let sorted = |list: &[u64]| {
            let mut list = list.to_vec();
            list.sort_unstable();
            list
        };
        if self.core != sorted(core) {
            return Err(format!("the core has {:?}, not {core:?}", self.core));
        }
        let found: Vec<u64> = self.entries.keys().copied().collect();
        let mut expected = sorted(hardware);
        expected.insert(0, 0);
        if found == expected { Ok(()) } else { Err(format!("the hardware has {found:?}, not {expected:?}")) }
    }

    /// The one-shot that came after it has the same table at the device's group.
    fn is_told_alike(&self) -> Result<(), String> {
        let check =
            self.lines.iter().find(|line| line["kind"] == "check").ok_or("the one-shot said nothing")?;
        let groups = check["groups"].as_array().into_iter().flatten();
        let tables = groups.flat_map(|group| group["tables"].as_array().into_iter().flatten());
        let told: Vec<&Value> = tables.filter(|told| told["device"] == DEVICE).collect();
        let [told] = told.as_slice() else {
            return Err(format!("the one-shot has {} tables of it", told.len()));
        };
        let table = &self.table;
        let differs =
            ["kind", "per_domain", "complete", "entries"].iter().find(|&&field| told[field] != table[field]);
        differs
            .map_or(Ok(()), |field| Err(format!("the one-shot has another `{field}`: {told}, not {table}")))
    }
}

fn look(report: &Report, name: &str) -> Result<Look, String> {
    let mark = format!("@ look {name}");
    let part = report.text.lines().skip_while(|line| *line != mark).skip(1);
    let lines = part.take_while(|line| !line.starts_with("@ look ")).filter(|line| line.starts_with('{'));
    let events: Vec<Value> = lines.filter_map(|line| serde_json::from_str(line).ok()).collect();
    let event = events
        .iter()
        .find(|event| event["name"] == "snapshot_intel" && event["device"] == DEVICE)
        .ok_or_else(|| format!("{name}: no snapshot of {DEVICE}"))?;
    let table = &event["table"];
    if table["kind"] != "vt-d" || table["complete"] != true || event["pasids_complete"] != true {
        return Err(format!("{name}: it is not all of a VT-d table: {event}"));
    }
    let number = |value: &Value| value.as_u64().unwrap_or(u64::MAX);
    let entries = table["entries"].as_array().into_iter().flatten();
    let core = event["pasids"].as_array().into_iter().flatten();
    Ok(Look {
        core: core.map(number).collect(),
        entries: entries
            .map(|entry| (number(&entry["pasid"]), (number(&entry["kind"]), number(&entry["tag"]))))
            .collect(),
        state: event["state"].clone(),
        table: table.clone(),
        lines: events,
    })
}
