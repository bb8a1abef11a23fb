//! What two sets of programs tell of one call, taken once.
//!
//! At a switch both have their turn for a moment (`monitor-ebpf/src/probe/turn.rs`). At each end of a call each of them then
//! makes a record, one right after the other: between them the task does nothing that makes a third.

use std::collections::HashMap;

use monitor_ebpf::wire::{Hook, Operation, is_snapshot};
use zerocopy::FromBytes;

/// The record that each task made last, as far as it can have a twin.
#[derive(Debug, Default)]
pub struct Twins {
    last: HashMap<Task, Record>,
}

/// By its number; what each CPU's idle task does, which all have number 0, stays on that CPU.
type Task = (u32, u32);

#[derive(Debug)]
struct Record {
    set: u8,
    hook: u16,
    phase: u8,
    about: Option<About>,
}

/// What it says of its call, which both sets read alike.
#[derive(Debug, PartialEq, Eq)]
struct About {
    objects: [u64; 7],
    pasid: u32,
    ret: i64,
}

impl Twins {
    /// Whether a record was told already, by the other set. To be asked of each one, in the order of the ring.
    pub fn is_second(&mut self, record: &[u8]) -> bool {
        let Some((task, record)) = read(record) else { return false };
        if self.last.get(&task).is_some_and(|last| last.is_twin(&record)) {
            // Each has but one.
            self.last.remove(&task);
            return true;
        }
        self.last.insert(task, record);
        false
    }

    /// A process before this one has seen the second of a task's last one.
    pub fn had_second(&mut self, record: &[u8]) {
        if let Some((task, _)) = read(record) {
            self.last.remove(&task);
        }
    }
}

impl Record {
    fn is_twin(&self, other: &Record) -> bool {
        self.set != other.set
            && self.hook == other.hook
            && self.phase == other.phase
            && self.about == other.about
    }
}

fn read(record: &[u8]) -> Option<(Task, Record)> {
    let (operation, _) = Operation::read_from_prefix(record).ok()?;
    let header = operation.header;
    let hook = Hook::from_number(header.hook)?;
    if is_snapshot(hook) {
        // Of the reads of one process, which one set answers.
        return None;
    }
    let task = (header.task.tid, if header.task.tid == 0 { header.cpu } else { 0 });
    // Of a submission in a window the other set knows whose it is only if it has one, too.
    let of_queue = matches!(hook, Hook::VtdSubmit | Hook::AmdQueue | Hook::AmdWait | Hook::SmmuQueue);
    let about = About {
        objects: [
            operation.group.key,
            operation.device.key,
            operation.domain.key,
            operation.old.key,
            operation.owner,
            operation.handle,
            operation.mm,
        ],
        pasid: operation.pasid,
        ret: operation.ret,
    };
    let about = (!of_queue).then_some(about);
    Some((task, Record { set: header.set, hook: header.hook, phase: header.phase, about }))
}

#[cfg(test)]
mod tests {
    use monitor_ebpf::wire::Phase;
    use zerocopy::{FromZeros, IntoBytes};

    use super::*;

    fn of(set: u8, tid: u32, hook: Hook, phase: Phase, pasid: u32) -> Vec<u8> {
        let mut record = Operation::new_zeroed();
        record.header.set = set;
        record.header.task.tid = tid;
        record.header.hook = hook as u16;
        record.header.phase = phase as u8;
        record.pasid = pasid;
        record.as_bytes().to_vec()
    }

    /// Which of these are taken, by index.
    fn taken(records: &[Vec<u8>]) -> Vec<usize> {
        let mut twins = Twins::default();
        (0..records.len()).filter(|&at| !twins.is_second(&records[at])).collect()
    }

    #[test]
    fn a_call_that_both_sets_tell_is_taken_once_whichever_comes_first() {
        let call = |set, phase| of(set, 7, Hook::PasidAttach, phase, 1);
        let (begin, end) = (Phase::Begin, Phase::End);
        assert_eq!(taken(&[call(0, begin), call(1, begin), call(1, end), call(0, end)]), [0, 2]);
        // One that began when but one had its turn, and ended when both had.
        assert_eq!(taken(&[call(0, begin), call(0, end), call(1, begin), call(1, end)]), [0, 1, 2, 3]);
    }

    #[test]
    fn calls_of_one_set_are_no_twins_nor_are_those_of_two_tasks() {
        let point = |set, tid| of(set, tid, Hook::PasidFree, Phase::Point, 1);
        assert_eq!(taken(&[point(0, 7), point(0, 7), point(0, 7)]), [0, 1, 2]);
        assert_eq!(taken(&[point(0, 7), point(1, 8)]), [0, 1]);
        // Two calls of a task, each told by both.
        assert_eq!(taken(&[point(0, 7), point(1, 7), point(0, 7), point(1, 7)]), [0, 2]);
        // Both tell at the same time on two CPUs.
        assert_eq!(taken(&[point(0, 7), point(0, 8), point(1, 8), point(1, 7)]), [0, 1]);
    }

    #[test]
    fn what_only_one_of_them_tells_has_no_twin_in_the_next_call() {
        let point = |set, pasid| of(set, 7, Hook::PasidFree, Phase::Point, pasid);
        // The first when the old set alone had its turn, the last when the new one had.
        assert_eq!(taken(&[point(0, 1), point(1, 2), point(0, 2), point(1, 3)]), [0, 1, 3]);
        assert_eq!(taken(&[point(0, 1), point(1, 1), point(0, 1)]), [0, 2], "as many as there were");
    }

    #[test]
    fn the_idle_tasks_are_told_apart() {
        let on = |set, cpu: u32| {
            let mut record = of(set, 0, Hook::PasidFree, Phase::Point, 1);
            record[std::mem::offset_of!(Operation, header.cpu)] = cpu as u8;
            record
        };
        assert_eq!(taken(&[on(0, 1), on(1, 2), on(1, 1)]), [0, 1]);
    }

    #[test]
    fn a_failed_submission_is_told_once_though_one_set_has_no_window_of_it() {
        let failed = |set, pasid| of(set, 7, Hook::VtdSubmit, Phase::End, pasid);
        assert_eq!(taken(&[failed(1, 0), failed(0, 5)]), [0]);
    }

    #[test]
    fn what_a_process_before_has_taken_is_known() {
        let point = |set| of(set, 7, Hook::PasidFree, Phase::Point, 1);
        let mut twins = Twins::default();
        // It has taken the first, and died.
        twins.is_second(&point(0));
        assert!(twins.is_second(&point(1)));
        // It has taken both.
        twins.is_second(&point(0));
        twins.had_second(&point(1));
        assert!(!twins.is_second(&point(1)), "another call");
    }

    #[test]
    fn what_is_no_record_has_no_twin() {
        assert_eq!(taken(&[vec![0; 5], vec![0; 5], vec![0xff; 400], vec![0xff; 400]]), [0, 1, 2, 3]);
        let read = |set| of(set, 7, Hook::SnapshotGroup, Phase::Begin, 0);
        assert_eq!(taken(&[read(0), read(1)]), [0, 1]);
    }
}
