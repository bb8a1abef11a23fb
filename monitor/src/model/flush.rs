//! What a driver flushed while it cleared a PASID entry, and submissions that failed.

use monitor_ebpf::wire::{Hook, Phase};

use crate::event::{Domain, Event, Flush, Key};

use super::group::{Actor, Group};
use super::host::Host;
use super::transition::{Flushed, Transition};

impl Host {
    /// A record with what was flushed.
    pub(super) fn flushed(
        &mut self,
        group: Option<Key>,
        event: Box<Event>,
        flush: Box<Flush>,
        transitions: &mut Vec<Transition>,
    ) {
        if event.phase != Phase::End {
            return;
        }
        let known = group.and_then(|key| self.group_by_key(key));
        let called = known.and_then(|known| caller(known, &event));
        let (by, domain) = called.unwrap_or((Actor::of(&event), None));
        let group = known.map(Group::reference);
        let hook = event.hook;
        let flushed = Flushed { event, flush, by, called: called.is_some(), domain };
        match (hook, group) {
            (Hook::VtdSubmit | Hook::AmdWait | Hook::SmmuQueue, group) if flushed.flush.took.is_some() => {
                let again = self.slow.again(flushed.flush.iommu, flushed.event.mono_ns);
                transitions.push(Transition::SubmissionSlow { group, flushed, again });
            }
            (Hook::VtdSubmit | Hook::AmdQueue | Hook::AmdWait | Hook::SmmuQueue, group) => {
                transitions.push(Transition::SubmissionFailed { group, flushed });
            }
            (Hook::VtdTearDown | Hook::AmdClear | Hook::SmmuRemove, Some(group)) => {
                transitions.push(Transition::TornDown { group, flushed });
            }
            (_, Some(group)) => transitions.push(Transition::SetUpOwed { group, flushed }),
            (_, None) => {}
        }
    }
}

/// Who called the driver, and the domain that the call names: the outermost call of the task that is under way on the
/// group. The drivers clear a PASID when its mm exits, too: then nobody called.
fn caller(group: &Group, event: &Event) -> Option<(Actor, Option<Domain>)> {
    let mut calls = group.in_flight.of(event.task.tid);
    let outermost = calls.next()?;
    let domain = calls.last().unwrap_or(outermost).begin.domain.or(outermost.begin.domain);
    Some((outermost.actor(), domain))
}
