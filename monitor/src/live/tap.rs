//! Where a recording is taken: all that the watcher is told passes here.

use crate::{
    input::Input,
    kernel::stacks::Stacks,
    trace::{Recorder, Summary},
    watcher::Report,
};

/// A recorder, if one records.
pub struct Tap {
    recorder: Option<Recorder>,
    /// The record that was taken from the ring last, as it came.
    record: Vec<u8>,
}

impl Tap {
    pub fn new(recorder: Option<Recorder>) -> Tap {
        Tap { recorder, record: Vec::new() }
    }

    /// A record as it came from the ring; the watcher is told of it, decoded, next.
    pub fn keep(&mut self, record: &[u8]) {
        if self.recorder.is_some() {
            self.record.clear();
            self.record.extend(record);
        }
    }

    /// What the watcher is about to be told.
    pub fn record(&mut self, input: &Input, now: u64, stacks: &Stacks) {
        let Some(recorder) = &mut self.recorder else { return };
        let Input::Event(event) = input else { return recorder.input(input, now) };
        if let Some(id) = event.stack
            && recorder.wants_stack(id)
        {
            recorder.stack(id, stacks.frames(id), event.mono_ns);
        }
        recorder.event(&self.record, event.mono_ns);
    }

    /// What the watcher had to say of it.
    pub fn told(&mut self, reports: &[Report]) {
        if let Some(recorder) = &mut self.recorder
            && !reports.is_empty()
        {
            recorder.spoke();
        }
    }

    /// To be called every now and then. Says whether the state of every group must be read again, for a
    /// file to be whole.
    pub fn tick(&mut self) -> bool {
        let Some(recorder) = &mut self.recorder else { return false };
        recorder.tick();
        recorder.wants_state()
    }

    pub fn end(&mut self, now: u64) -> Option<Summary> {
        Some(self.recorder.take()?.finish(now))
    }
}
