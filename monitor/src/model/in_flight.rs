//! The calls that are under way on a group: which of them could have met.

use monitor_ebpf::wire::Hook;

use super::group::Presence;
use super::order::Operation;
use super::touches::{Overlap, Touches};

/// Whether a call to `inner` can run inside a call to `outer` of the same task on the same group.
fn encloses(outer: Hook, inner: Hook) -> bool {
    match inner {
        // The choke point of every switch of a RID's domain.
        Hook::RidAttach => outer != Hook::RidAttach,
        Hook::ReleaseLocked => matches!(outer, Hook::ReleaseGroup | Hook::ReleaseDevice),
        Hook::PasidAttach | Hook::PasidReplace | Hook::PasidDetach => {
            matches!(outer, Hook::SvaBind | Hook::SvaUnbind)
        }
        _ => false,
    }
}

/// The calls under way on one group, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct InFlight {
    calls: Vec<Call>,
}

/// A call under way, with what it is looked for by.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Call {
    tid: u32,
    hook: Hook,
    operation: Box<Operation>,
}

impl Call {
    fn touches(&self) -> Touches {
        Touches::by(&self.operation.begin)
    }
}

/// More calls than this at once on one group, and the oldest is given up.
const MAX_IN_FLIGHT: usize = 1024;

impl InFlight {
    /// Before a call begins: gives up the calls whose end must have been missed, since the task can't be
    /// in them any more, or there are too many. Says whether there were any.
    pub fn give_up(&mut self, tid: u32, hook: Hook) -> bool {
        let before = self.calls.len();
        self.calls.retain(|call| call.tid != tid || encloses(call.hook, hook));
        if self.calls.len() >= MAX_IN_FLIGHT {
            self.calls.remove(0);
        }
        self.calls.len() != before
    }

    /// A call begins, and may meet those of other tasks that are under way.
    pub fn begin(&mut self, mut operation: Box<Operation>) {
        let (tid, hook) = (operation.begin.task.tid, operation.hook);
        let touches = Touches::by(&operation.begin);
        for call in self.calls.iter_mut().filter(|call| call.tid != tid) {
            call.operation.overlap.add(touches);
            operation.overlap.add(call.touches());
        }
        self.calls.push(Call { tid, hook, operation });
    }

    /// A call returns: the innermost of this task and hook. `None`: its begin was not seen.
    pub fn end(&mut self, tid: u32, hook: Hook) -> Option<Box<Operation>> {
        let index = self.calls.iter().rposition(|call| call.tid == tid && call.hook == hook)?;
        Some(self.calls.remove(index).operation)
    }

    /// Whether a call of this task to this hook is under way.
    pub fn holds(&self, tid: u32, hook: Hook) -> bool {
        self.calls.iter().any(|call| call.tid == tid && call.hook == hook)
    }

    /// A call returned whose begin was not seen: it may have met every call that is under way.
    pub fn disturb(&mut self, tid: u32, touches: Touches) {
        for call in self.calls.iter_mut().filter(|call| call.tid != tid) {
            call.operation.overlap.add(touches);
        }
    }

    /// The innermost call of this task.
    pub fn innermost(&mut self, tid: u32) -> Option<&mut Operation> {
        self.calls.iter_mut().rfind(|call| call.tid == tid).map(|call| call.operation.as_mut())
    }

    /// The calls of a task, the outermost first.
    pub fn of(&self, tid: u32) -> impl Iterator<Item = &Operation> {
        self.calls.iter().filter(move |call| call.tid == tid).map(|call| call.operation.as_ref())
    }

    /// When the outermost call of this task began; the end of time if it is in none.
    pub fn began(&self, tid: u32) -> u64 {
        self.of(tid).next().map_or(u64::MAX, |call| call.begin.mono_ns)
    }

    /// The calls of the other tasks that are under way.
    pub fn others(&self, tid: u32) -> Others<'_> {
        Others { calls: &self.calls, tid }
    }

    /// What all calls that are under way may change.
    pub fn all(&self) -> Overlap {
        let mut overlap = Overlap::default();
        self.calls.iter().for_each(|call| overlap.add(call.touches()));
        overlap
    }

    /// Whether a call that is under way, of whatever task, may change this PASID.
    pub fn touches(&self, pasid: u32) -> bool {
        self.calls.iter().any(|call| call.touches().pasid.is_some_and(|pasids| pasids.has(pasid)))
    }

    /// Whether a call to one of these hooks is under way.
    pub fn any(&self, hooks: &[Hook]) -> bool {
        self.calls.iter().any(|call| hooks.contains(&call.hook))
    }

    /// Gives up the calls that began before `mono_ns`: their end was missed. Says whether there were any.
    pub fn expire(&mut self, mono_ns: u64) -> bool {
        let before = self.calls.len();
        self.calls.retain(|call| call.operation.begin.mono_ns >= mono_ns);
        self.calls.len() != before
    }

    /// When the oldest call began; the end of time if none is under way.
    pub fn oldest(&self) -> u64 {
        self.calls.iter().map(|call| call.operation.begin.mono_ns).min().unwrap_or(u64::MAX)
    }

    /// Anything may have happened in between: no verdict on a call that is under way.
    pub fn distrust(&mut self) {
        for Call { operation, .. } in &mut self.calls {
            operation.synced = false;
            operation.presence = Presence::Unknown;
            operation.overlap = Overlap::everything();
        }
    }

    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }
}

/// The calls of the other tasks that are under way: what they may change at any moment. Mostly there is none, so it
/// is asked of them anew each time rather than put together.
#[derive(Clone, Copy)]
pub(super) struct Others<'a> {
    calls: &'a [Call],
    tid: u32,
}

impl Others<'_> {
    pub fn ownership(self) -> bool {
        self.touches().any(|touches| touches.ownership)
    }

    pub fn domain(self) -> bool {
        self.touches().any(|touches| touches.domain)
    }

    pub fn pasid(self, pasid: u32) -> bool {
        self.touches().any(|touches| touches.pasid.is_some_and(|pasids| pasids.has(pasid)))
    }

    /// All that they may change, put together.
    pub fn overlap(self) -> Overlap {
        let mut overlap = Overlap::default();
        self.touches().for_each(|touches| overlap.add(touches));
        overlap
    }

    fn touches(&self) -> impl Iterator<Item = Touches> {
        self.calls.iter().filter(|call| call.tid != self.tid).map(Call::touches)
    }
}
