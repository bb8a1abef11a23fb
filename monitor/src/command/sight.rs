//! What the daemon says at its start of what it can't see on this host, and what to do about it.

use std::collections::BTreeMap;

use crate::{
    check::CheckState,
    kernel::{host, kallsyms, limits},
    live::Live,
    watcher::Watcher,
};

use super::Global;

/// What the start takes at its height, programs and maps included: 65 MiB with two CPUs, of each of which maps have their
/// part.
const START_TAKES: u64 = 80 << 20;
/// Lines about checks; what doesn't fit is for `doctor`.
const LINES: usize = 6;

/// Where the kernel will kill the process for its memory: afterwards nobody can say so.
pub fn tell_of_memory() {
    if let Some(bound) = limits::memory().filter(|bound| bound.bytes < START_TAKES) {
        eprintln!(
            "iommu-watch: {} is {} MiB and the start takes {}: the kernel may end it; raise MemoryMax=",
            bound.of,
            bound.bytes >> 20,
            START_TAKES >> 20
        );
    }
}

/// Once the groups were read.
pub fn tell(global: &Global, live: &Live) {
    if global.quiet {
        return;
    }
    let symbols = kallsyms::hides_addresses().then_some(
        "the kernel hides its symbols, so the stacks of violations have no names; give CAP_SYSLOG \
         (AmbientCapabilities=), with kernel.kptr_restrict below 2",
    );
    let compiler = host::compiles_no_programs().then_some(
        "net.core.bpf_jit_enable is 0, so the kernel refuses programs that can't be interpreted; set it to 1 and restart",
    );
    let host = [symbols, compiler].into_iter().flatten().map(str::to_owned);
    let lines = groups(&live.watcher).into_iter().chain(host);
    for line in lines.chain(checks(live.watcher.checks().map(|(check, state)| (check.name, state)))) {
        eprintln!("iommu-watch: {line}");
    }
}

/// Groups that there are not, or that could not be read.
fn groups(watcher: &Watcher) -> Option<String> {
    let there = &watcher.known_inventory()?.groups;
    if there.is_empty() {
        return Some(
            "there are no IOMMU groups: this kernel translates for no device. Is the IOMMU on in the firmware (VT-d, \
             AMD-Vi) and by the kernel's parameters (intel_iommu=on)? Groups that come are watched"
                .into(),
        );
    }
    let unread = there.iter().filter(|group| watcher.host().group_by_id(group.id).is_none()).count();
    (unread > 0).then(|| {
        format!("{unread} of {} groups can't be read: nothing of them is judged until they are", there.len())
    })
}

/// Checks that can't judge, and those that do in part, by reason.
fn checks<'a>(states: impl Iterator<Item = (&'static str, &'a CheckState)>) -> Vec<String> {
    let mut by_reason: BTreeMap<(bool, &str), Vec<&str>> = BTreeMap::new();
    for (check, state) in states {
        let in_part = matches!(state, CheckState::Degraded { .. });
        if let CheckState::Degraded { reason } | CheckState::Unavailable { reason } = state {
            by_reason.entry((in_part, reason)).or_default().push(check);
        }
    }
    let more: usize = by_reason.values().skip(LINES).map(Vec::len).sum();
    let lines = by_reason.iter().take(LINES).map(|((in_part, reason), checks)| {
        let how = if *in_part { "judged in part" } else { "not judged" };
        format!("{how}: {}: {reason}", checks.join(", "))
    });
    let rest = (more > 0).then(|| format!("{more} more checks: `iommu-watch doctor` tells"));
    lines.chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_that_lack_the_same_are_told_of_in_one_line() {
        let lacks = |hook: &str| CheckState::Unavailable { reason: format!("no {hook}") };
        let in_part = CheckState::Degraded { reason: "no table".into() };
        let (attach, bind) = (lacks("attach"), lacks("bind"));
        let states =
            [("a", &attach), ("b", &CheckState::Armed), ("c", &bind), ("d", &attach), ("e", &in_part)];
        assert_eq!(
            checks(states.into_iter()),
            ["not judged: a, d: no attach", "not judged: c: no bind", "judged in part: e: no table"]
        );
    }

    #[test]
    fn of_many_reasons_the_rest_is_counted() {
        let states: Vec<_> =
            (0..9).map(|n| ("x", CheckState::Unavailable { reason: n.to_string() })).collect();
        let said = checks(states.iter().map(|(check, state)| (*check, state)));
        assert_eq!(
            (said.len(), said.last().map(String::as_str)),
            (7, Some("3 more checks: `iommu-watch doctor` tells"))
        );
        assert!(checks([("b", &CheckState::Armed), ("c", &CheckState::Off)].into_iter()).is_empty());
    }
}
