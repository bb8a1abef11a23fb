//! `systemd`: the package on a host with systemd, as its maintainer scripts and its unit have it run there: readiness, the
//! watchdog, the sandbox, a reload, a kill that loses nothing, a stop that leaves the programs, a removal that leaves nothing.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Report;
use super::expect::{self, Expect};
use super::harmless::conflict;
use super::service;
use super::transcript::{Phase, Transcript};

const DEVICE: &str = "0000:01:00.0";
const OTHER: &str = "0000:02:00.0";
/// The places of its own: what is there for one run, its pins, its state.
const WRITABLE: [&str; 3] = ["/run/iommu-watch", "/sys/fs/bpf/iommu-watch", "/var/lib/iommu-watch"];
const LIMITS: [(&str, &str); 3] = [("memory.max", "268435456"), ("pids.max", "64"), ("cpu.max", "100000")];
/// Of /proc/PID/status: a filter is in force.
const FILTERED: &str = "2";

pub fn run(report: &Report) -> Result<(), String> {
    report.exits_with(&[0])?;
    let transcript = Transcript::read(&report.text);
    let phases =
        ["start", "reloaded", "killed", "stop", "again", "removed"].map(|name| transcript.phase(name));
    let [start, reloaded, killed, stop, again, removed] = phases;

    let start = start?;
    ends(start, &[0])?;
    stands(start, "active", "0", true)?;
    sandboxed(start)?;
    if let Some(state) = start.metrics.keys().find(|series| series.contains("state=\"unavailable\"")) {
        return Err(format!("what the unit gives isn't enough: {state}"));
    }
    one_conflict("refused", &[DEVICE], "info", &transcript)?;
    let reloaded = reloaded?;
    ends(reloaded, &[0])?;
    if reloaded.status.get("beaten").map(String::as_str) != Some("yes") {
        return Err("the watchdog starves".into());
    }
    // The same one, told again as what the configuration takes it for now.
    one_conflict("reloaded", &[DEVICE], "warning", &transcript)?;
    let killed = killed?;
    stands(killed, "active", "1", true)?;
    one_conflict("killed", &[OTHER], "warning", &transcript)?;
    says(killed, " hooks taken over, ")?;
    let stop = stop?;
    ends(stop, &[0])?;
    stands(stop, "inactive", "0", true)?;
    let again = again?;
    ends(again, &[0, 0])?;
    stands(again, "active", "0", true)?;
    says(again, " hooks taken over, ")?;
    let removed = removed?;
    ends(removed, &[0, 0])?;
    stands(removed, "inactive", "0", false)?;
    found_by_fields(removed, &transcript)?;
    if removed.left.is_empty() { Ok(()) } else { Err(format!("the purge leaves {:?}", removed.left)) }
}

fn ends(phase: &Phase, codes: &[i32]) -> Result<(), String> {
    if phase.exits == codes {
        Ok(())
    } else {
        Err(format!("{}: {:?}, not {codes:?}", phase.name, phase.exits))
    }
}

/// How systemd has the service, how often it has started it again, and whether something is pinned.
fn stands(phase: &Phase, active: &str, restarts: &str, pinned: bool) -> Result<(), String> {
    let is = |name: &str| phase.status.get(name).map(String::as_str).unwrap_or_default();
    if (is("active"), is("restarts"), is("pinned") != "0") == (active, restarts, pinned) {
        Ok(())
    } else {
        Err(format!("{}: the service is {:?}", phase.name, phase.status))
    }
}

fn sandboxed(phase: &Phase) -> Result<(), String> {
    let status: &BTreeMap<String, String> = &phase.status;
    let user = status.get("Uid").cloned().unwrap_or_default();
    // DynamicUser= takes one of these.
    if !user.parse().is_ok_and(|user: u32| (61184..=65519).contains(&user)) {
        return Err(format!("it runs as {user}"));
    }
    service::runs_as(&user, status)?;
    let wanted = LIMITS.into_iter().chain([("Seccomp", FILTERED)]);
    if let Some((name, _)) =
        wanted.into_iter().find(|(name, value)| status.get(*name).map(String::as_str) != Some(value))
    {
        return Err(format!("{name} is not in force: {status:?}"));
    }
    if phase.wrote != WRITABLE || !phase.left.is_empty() {
        return Err(format!("it may write to {:?}, and has {:?}", phase.wrote, phase.left));
    }
    Ok(())
}

/// What `journalctl` found by the fields of its query: the one of the phase `killed`, with the others.
fn found_by_fields(phase: &Phase, transcript: &Transcript) -> Result<(), String> {
    let told = transcript.phase("killed")?.violations().next().unwrap_or(&Value::Null);
    let found: Vec<&Value> = phase.json.iter().filter(|entry| !entry["IOMMU_WATCH_KIND"].is_null()).collect();
    let [entry] = found[..] else {
        return Err(format!("{} entries were found by their fields", found.len()));
    };
    let group = told["group"].to_string();
    let message = told["summary"].as_str().map(|summary| format!("warning: ownership-conflict: {summary}"));
    for (name, value) in [
        ("IOMMU_WATCH_CHECK", told["check"].as_str()),
        ("IOMMU_WATCH_FINGERPRINT", told["fingerprint"].as_str()),
        ("IOMMU_WATCH_GROUP", Some(group.as_str())),
        ("IOMMU_WATCH_SEVERITY", Some("warning")),
        ("MESSAGE", message.as_deref()),
        ("MESSAGE_ID", Some("ad3f55b12b5a4d00b7c145b915b3dbe6")),
        ("PRIORITY", Some("4")),
        ("SYSLOG_IDENTIFIER", Some("iommu-watch")),
        ("_SYSTEMD_UNIT", Some("iommu-watch.service")),
    ] {
        if value.is_none() || entry[name].as_str() != value {
            return Err(format!("{name} is {} and not {value:?}", entry[name]));
        }
    }
    Ok(())
}

/// A claim was refused, and the journal has it once, with this severity.
fn one_conflict(
    name: &'static str,
    devices: &'static [&'static str; 1],
    severity: &str,
    transcript: &Transcript,
) -> Result<(), String> {
    let phase = transcript.phase(name)?;
    let expected = Expect::clean(name, &[]).raises(conflict(devices[0], devices, "rival"));
    expect::one(&expected, phase, transcript)?;
    match phase.violations().find(|told| told["severity"] != severity) {
        None => Ok(()),
        Some(told) => Err(format!("{}: it isn't told as {severity}: {told}", phase.name)),
    }
}

fn says(phase: &Phase, words: &str) -> Result<(), String> {
    let said = phase.said.join("\n");
    if said.contains(words) { Ok(()) } else { Err(format!("{}: `{words}` is not in: {said}", phase.name)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RIGHT: &str = "@ phase start\n@ status Uid 65227\n@ status CapPrm 400000000\n@ status CapEff 400000000\n\
        @ status CapBnd c400000000\n@ status NoNewPrivs 1\n@ status Seccomp 2\n@ status memory.max 268435456\n\
        @ status pids.max 64\n@ status cpu.max 100000\n@ wrote /run/iommu-watch\n@ wrote /sys/fs/bpf/iommu-watch\n\
        @ wrote /var/lib/iommu-watch\n";

    fn judged(text: &str) -> Result<(), String> {
        sandboxed(Transcript::read(text).phase("start").unwrap())
    }

    #[test]
    fn a_sandbox_with_a_hole_is_none() {
        judged(RIGHT).unwrap();
        for (from, to) in [
            ("Uid 65227", "Uid 0"),
            ("CapEff 4", "CapEff c4"),
            ("Seccomp 2", "Seccomp 0"),
            ("memory.max 268435456", "memory.max max"),
            ("@ wrote /run/iommu-watch", "@ wrote /\n@ wrote /run/iommu-watch"),
            ("@ wrote /var/lib/iommu-watch", "@ left kmsg\n@ wrote /var/lib/iommu-watch"),
        ] {
            judged(&RIGHT.replace(from, to)).unwrap_err();
        }
    }
}
