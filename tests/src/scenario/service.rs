//! `service`: the daemon as its systemd unit starts it sees as much as root does, keeps one capability, tells the service
//! manager what that waits for, and leaves its programs to the next one. `container`: as its DaemonSet starts it, too,
//! and what happens between two pods is told by the second.

use std::collections::BTreeMap;

use super::Report;
use super::expect::{self, Expect};
use super::harmless::{armed, conflict, names_the_owner};
use super::transcript::Transcript;

/// `nobody`.
const USER: &str = "65534";
const ROOT: &str = "0";
/// Bits 39, 38 and 34: what the unit gives; and what is kept of it.
const GIVEN: u64 = 1 << 39 | 1 << 38 | SYSLOG;
const SYSLOG: u64 = 1 << 34;

pub fn unprivileged(report: &Report) -> Result<(), String> {
    let rows = [Expect::clean("refused", &[("claim_group", 2), ("release_group", 1)]).raises(conflict(
        "0000:01:00.0",
        &["0000:01:00.0"],
        "rival",
    ))];
    expect::phases(report, armed(report.series), &rows)?;

    let transcript = Transcript::read(&report.text);
    names_the_owner(transcript.phase("refused")?)?;
    runs_as(USER, &transcript.phase("start")?.status)?;
    let told = &transcript.phase("stop")?.notified;
    let beats = told.iter().filter(|state| *state == "WATCHDOG=1").count();
    let others: Vec<&str> = told.iter().map(String::as_str).filter(|state| *state != "WATCHDOG=1").collect();
    // One in the second that it takes at most to come around, of three that it may.
    if others != ["READY=1", "STATUS=watching", "STOPPING=1"] || beats < 3 {
        return Err(format!("the service manager heard {told:?}"));
    }
    match transcript.phase("stop")?.said.as_slice() {
        [said] if said == "taken over" => Ok(()),
        said => Err(format!("what it left pinned: {said:?}")),
    }
}

pub fn contained(report: &Report) -> Result<(), String> {
    let calls = &[("claim_group", 1), ("release_group", 1)];
    expect::phases(report, armed(report.series), &[Expect::clean("claimed", calls)])?;
    let transcript = Transcript::read(&report.text);
    let status = &transcript.phase("start")?.status;
    match transcript.phase("stop")?.said.as_slice() {
        [next, told, left] if next == "taken over" && told == "1 told" && left == "0 pinned" => {}
        said => return Err(format!("what the next pod found: {said:?}")),
    }
    if status.get("NSpid").map(String::as_str) != Some("1") {
        return Err(format!("it is in no container: {status:?}"));
    }
    runs_as(ROOT, status)
}

/// With one capability of three that it may have.
pub fn runs_as(expected: &str, status: &BTreeMap<String, String>) -> Result<(), String> {
    let capabilities = |set: &str| status.get(set).and_then(|set| u64::from_str_radix(set, 16).ok());
    let is = ["CapBnd", "CapPrm", "CapEff"].map(capabilities);
    let user = status.get("Uid").map(String::as_str);
    let no_new = status.get("NoNewPrivs").map(String::as_str);
    if (user, no_new, is) == (Some(expected), Some("1"), [Some(GIVEN), Some(SYSLOG), Some(SYSLOG)]) {
        Ok(())
    } else {
        Err(format!("it runs as {status:?}"))
    }
}
