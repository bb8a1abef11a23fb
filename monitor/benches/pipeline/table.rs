//! The results, for a person and for a program.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::Results;

/// Tables as they stand in the README.
pub fn markdown(results: &Results) -> String {
    let mut text = format!(
        "{}; one core; CPU time of the thread (CLOCK_THREAD_CPUTIME_ID) in {} rounds\n\n",
        results.processor, results.rounds
    );
    text += "| live PASIDs | ns an event, median | best round | events a second, median | best round |\n";
    text += "|---|---|---|---|---|\n";
    for row in &results.throughput {
        let _ = writeln!(
            text,
            "| {} | {:.0} | {:.0} | {:.2} million | {:.2} million |",
            thousands(row.live),
            row.median_ns,
            row.best_ns,
            1e3 / row.median_ns,
            1e3 / row.best_ns
        );
    }
    let (few, many) = (results.throughput.first(), results.throughput.last());
    if let (Some(few), Some(many)) = (few, many) {
        let _ = writeln!(
            text,
            "\nAn event costs {:.2} times as much with {} live PASIDs as with {}.",
            results.ratio,
            thousands(many.live),
            thousands(few.live)
        );
    }
    for memory in &results.memory {
        let _ =
            writeln!(text, "Memory of a live PASID, {}: {:.0} bytes.", memory.what, memory.bytes_per_pasid());
    }
    let snapshot = &results.snapshot;
    let _ = writeln!(
        text,
        "A reading of {} groups with {} PASIDs together, decoded and reconciled: {:.1} ms; again: {:.1} ms.",
        thousands(results.groups as usize),
        thousands(snapshot.pasids),
        snapshot.first_ms,
        snapshot.again_ms
    );
    let shares: Vec<String> =
        results.mix.iter().map(|(name, share)| format!("{name} {:.1} %", share * 100.0)).collect();
    let _ = writeln!(text, "\nCalls by hook: {}.", shares.join(", "));
    text
}

pub fn json(results: &Results) -> Value {
    let throughput: Vec<Value> = results
        .throughput
        .iter()
        .map(|row| {
            json!({
                "live_pasids": row.live,
                "events": row.events,
                "ns_per_event_median": row.median_ns,
                "ns_per_event_best": row.best_ns,
                "events_per_second_median": 1e9 / row.median_ns,
            })
        })
        .collect();
    let memory: Vec<Value> = results
        .memory
        .iter()
        .map(|memory| {
            json!({
                "pasids": memory.what,
                "live_pasids": memory.live,
                "bytes_per_pasid": memory.bytes_per_pasid(),
                "rss_anon_before": memory.before,
                "rss_anon_after": memory.after,
            })
        })
        .collect();
    let mix: serde_json::Map<String, Value> =
        results.mix.iter().map(|&(name, share)| (name.to_owned(), json!(share))).collect();
    json!({
        "processor": results.processor,
        "groups": results.groups,
        "clock": "CLOCK_THREAD_CPUTIME_ID",
        "rounds": results.rounds,
        "throughput": throughput,
        "cost_ratio": results.ratio,
        "memory": memory,
        "snapshot": {
            "pasids": results.snapshot.pasids,
            "records": results.snapshot.records,
            "first_ms": results.snapshot.first_ms,
            "again_ms": results.snapshot.again_ms,
        },
        "calls_by_hook": mix,
    })
}

/// `1,000,000`
fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<&[u8]> = digits.as_bytes().rchunks(3).rev().collect();
    groups.iter().map(|group| String::from_utf8_lossy(group)).collect::<Vec<_>>().join(",")
}
