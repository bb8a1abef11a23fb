//! `flush-range`: what is unmapped is flushed, or half of it, or nothing; by a domain's owner, and by a process that is bound. The device's DMA is the truth: after a short
//! flush it arrives where nothing is mapped any more.

use super::Report;
use super::expect::{self, Expect, Violation};
use super::transcript::Transcript;
use crate::Series;

const SHORT: &str = "flush-range-short";

const DMA: Violation = Violation {
    check: SHORT,
    group_of: Some("0000:00:10.0"),
    devices: &["0000:00:10.0"],
    pasids: &[],
    attached_by: None,
    triggered_by: Some("clumsy"),
    implied: &[],
};

/// What the script says of each phase.
const SAID: [(&str, &[&str]); 8] = [
    ("strict", &["judged covered", "DMA arrived=100 lost=0 blocked=100 stale=0"]),
    ("short", &["judged short", "DMA arrived=100 lost=0 blocked=0 stale=100"]),
    ("strict-again", &["judged covered", "DMA arrived=100 lost=0 blocked=100 stale=0"]),
    ("lazy", &["judged nothing", "DMA-FQ arrived=100 lost=0 blocked=0 stale=100"]),
    ("mapped", &["judged covered"]),
    ("mapped-short", &["judged short"]),
    ("skipped", &["judged short"]),
    ("unattached", &["judged nothing"]),
];

/// The same of a process that is bound, which x86 allows from 7.0 on.
const SAID_SVA: [(&str, &[&str]); 3] =
    [("sva", &["judged covered"]), ("sva-short", &["judged short"]), ("sva-again", &["judged covered"])];

pub fn short(report: &Report) -> Result<(), String> {
    let sva = report.series == Series::V7;
    let of = |device: &'static str, devices| Violation { group_of: Some(device), devices, ..DMA };
    let mut rows = vec![
        Expect::clean("strict", &[]),
        Expect::clean("short", &[]).raises(DMA),
        Expect::clean("strict-again", &[]),
        Expect::clean("lazy", &[]),
        Expect::clean("mapped", &[("attach_device", 1)]),
        Expect::clean("mapped-short", &[("detach_device", 1)]).raises(of("0000:01:00.0", &["0000:01:00.0"])),
        Expect::clean("skipped", &[]).raises(of("0000:02:00.0", &["0000:02:00.0"])),
        Expect::clean("unattached", &[]),
    ];
    let (mut said, mut worded) =
        (SAID.to_vec(), vec![("short", "the IOTLB was told to drop only"), ("skipped", "to drop nothing")]);
    if sva {
        let process = Violation {
            pasids: &[1],
            attached_by: Some("tenant"),
            triggered_by: Some("churn"),
            ..of("0000:01:00.0", &["0000:01:00.0"])
        };
        rows.push(Expect::clean("sva", &[]));
        rows.push(Expect::clean("sva-short", &[]).raises(process));
        rows.push(Expect::clean("sva-again", &[]));
        said.extend(SAID_SVA);
        worded.push(("sva-short", "of what an mm notifier asked for (0x40000000-0x4000ffff) the"));
    }
    expect::phases(report, &[SHORT], &rows)?;
    let transcript = Transcript::read(&report.text);
    for (name, lines) in said {
        let said = &transcript.phase(name)?.said;
        if said != lines {
            return Err(format!("{name}: `{said:?}` was said, not `{lines:?}`"));
        }
    }
    for (name, told) in worded {
        let violations = transcript.phase(name)?.of_kind("violation");
        let summaries: Vec<String> = violations.map(|line| line["summary"].to_string()).collect();
        if !summaries.iter().any(|summary| summary.contains(told)) {
            return Err(format!("{name}: `{told}` is not in `{summaries:?}`"));
        }
    }
    Ok(())
}
