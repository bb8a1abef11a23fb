//! Hooks that are attached and report nothing: the kernel was told to call none of them.
//!
//! While the sysctl `kernel.ftrace_enabled` is 0 no function calls what is attached to it, and who has attached is not told
//! (`ftrace_enable_sysctl`, kernel/trace/ftrace.c; seen on 6.12). Our own reads of groups show it: each calls into a hooked
//! function. From then on nothing is known of any group, and no check that needs such a hook judges, until a read is heard
//! again.

use monitor_ebpf::wire::Hook;

use super::{Error, Live};
use crate::{
    aside::say,
    coverage::{Backend, Coverage, HookState},
    input::{Input, Lost, Resync, Stage},
    kernel::{host, snapshot},
    watcher::Report,
};

/// Whether what is attached is heard.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    /// What was attached when it fell silent.
    silenced: Option<Box<Coverage>>,
}

/// What had been heard when a group was asked, and lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    snapshots: u64,
    lost: u64,
}

/// What the silence, or its end, comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Deaf,
    HearsAgain,
}

impl Hearing {
    /// A group was asked in between; `drained`: all that it may have said was read.
    fn judge(&self, before: Heard, after: Heard, drained: bool) -> Option<Verdict> {
        let heard = after.snapshots != before.snapshots;
        match self.silenced {
            Some(_) => heard.then_some(Verdict::HearsAgain),
            // A kernel in which this was never heard has it compiled into its caller. And what was lost may have been the answer.
            None => (!heard && drained && before.snapshots > 0 && after.lost == before.lost)
                .then_some(Verdict::Deaf),
        }
    }
}

impl Live {
    pub(super) fn heard(&self) -> Heard {
        let counters = self.watcher.counters();
        let lost = [Stage::Kernel, Stage::Ring].map(|stage| counters.lost(stage)).iter().sum();
        Heard { snapshots: counters.events(Hook::SnapshotGroup), lost }
    }

    /// This group was asked after that had been heard.
    pub(super) fn listen(&mut self, group: u32, before: Heard) -> Result<Vec<Report>, Error> {
        let verdict =
            |live: &Live, before| live.hearing.judge(before, live.heard(), live.ring.waiting().is_none());
        let mut reports = Vec::new();
        let mut told = verdict(self, before);
        if told == Some(Verdict::Deaf) {
            // A single run may be left out.
            let before = self.heard();
            if !matches!(snapshot::request(&self.sysfs.groups(), group), Ok(snapshot::Answer::Asked)) {
                return Ok(reports);
            }
            reports.extend(self.drain()?.0);
            told = verdict(self, before);
        }
        match told {
            None => {}
            Some(Verdict::Deaf) => reports.extend(self.falls_silent()),
            Some(Verdict::HearsAgain) => reports.extend(self.hears_again()?),
        }
        Ok(reports)
    }

    fn falls_silent(&mut self) -> Vec<Report> {
        let coverage = self.watcher.options().coverage.clone();
        let why = if host::functions_call_nothing() {
            "kernel.ftrace_enabled is 0, so functions call nothing that is attached; set it to 1"
        } else {
            "attached, and not called any more"
        };
        say(&format!("iommu-watch: the hooks report nothing ({why}): nothing is judged until they do"));
        let silent = silent(&coverage, why);
        self.hearing.silenced = Some(Box::new(coverage));
        let mut reports = self.tell_lost(Lost { stage: Stage::Kernel, count: 1, groups: None });
        reports.extend(self.tell(Input::Coverage(silent)));
        reports
    }

    fn hears_again(&mut self) -> Result<Vec<Report>, Error> {
        let Some(coverage) = self.hearing.silenced.take() else { return Ok(Vec::new()) };
        say("iommu-watch: the hooks report again: every group is read anew");
        // Up to here; what the reads have told so far may be older than what was missed.
        let mut reports = self.tell_lost(Lost { stage: Stage::Kernel, count: 1, groups: None });
        reports.extend(self.tell(Input::Coverage(*coverage)));
        reports.extend(self.resync_all(Resync::Loss)?);
        Ok(reports)
    }
}

/// The same hooks, of which those on functions are not called. Tracepoints are no affair of ftrace's.
fn silent(coverage: &Coverage, why: &str) -> Coverage {
    let mut silent = coverage.clone();
    let on_functions = |state: &HookState| {
        matches!(state, HookState::Attached { backend: Backend::Fentry | Backend::Kprobe })
    };
    for (hook, _) in coverage.iter().filter(|(_, state)| on_functions(state)) {
        silent.set(hook, HookState::Failed { reason: why.to_owned() });
    }
    silent
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(snapshots: u64, lost: u64) -> Heard {
        Heard { snapshots, lost }
    }

    #[test]
    fn a_read_that_nobody_hears_shows_that_the_hooks_are_silent() {
        let hearing = Hearing::default();
        assert_eq!(hearing.judge(heard(7, 0), heard(7, 0), true), Some(Verdict::Deaf));
        assert_eq!(hearing.judge(heard(7, 0), heard(9, 0), true), None);
    }

    #[test]
    fn what_may_have_been_lost_or_waits_or_was_never_heard_shows_nothing() {
        let hearing = Hearing::default();
        assert_eq!(hearing.judge(heard(7, 0), heard(7, 1), true), None, "lost");
        assert_eq!(hearing.judge(heard(7, 0), heard(7, 0), false), None, "behind what was not read yet");
        assert_eq!(hearing.judge(heard(0, 0), heard(0, 0), true), None, "a kernel that never says it");
    }

    #[test]
    fn whoever_is_deaf_hears_again_by_one_answer() {
        let hearing = Hearing { silenced: Some(Box::default()) };
        assert_eq!(hearing.judge(heard(7, 0), heard(7, 0), true), None, "told once");
        assert_eq!(hearing.judge(heard(7, 0), heard(9, 5), false), Some(Verdict::HearsAgain));
    }

    #[test]
    fn what_is_attached_to_functions_fails_and_a_tracepoint_does_not() {
        let mut coverage = Coverage::default();
        let attached = |backend| HookState::Attached { backend };
        coverage.set(Hook::PasidAttach, attached(Backend::Fentry));
        coverage.set(Hook::AmdWait, attached(Backend::Kprobe));
        coverage.set(Hook::DeviceAdd, attached(Backend::Tracepoint));
        let silent = silent(&coverage, "off");
        let failed = HookState::Failed { reason: "off".into() };
        assert_eq!([Hook::PasidAttach, Hook::AmdWait].map(|hook| silent.get(hook)), [&failed; 2]);
        assert_eq!(silent.get(Hook::DeviceAdd), &attached(Backend::Tracepoint));
        assert_eq!(silent.get(Hook::PasidDetach), &HookState::Absent);
    }
}
