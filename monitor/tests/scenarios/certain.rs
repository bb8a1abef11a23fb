//! The reference itself: what whoever saw only the records can know, and what he can only guess.

use std::collections::BTreeMap;

use monitor::event::Task;

use crate::kernel::{Call, Era, Kernel, Running};
use crate::reference::{Broken, LEFT, Reference};
use crate::rig::{D1, NIC, NVME, Rig, driver, other, raised};

/// No member takes it.
const REFUSED: u64 = 3900;

fn attach(pasid: u32, domain: u64) -> Call {
    Call::Attach { device: NVME, pasid, domain }
}

fn detach(pasid: u32) -> Call {
    Call::Detach { device: NVME, pasid, domain: D1 }
}

/// The program at a function's entry has made its record, and the function goes on to wait for the mutex.
fn begin(kernel: &mut Kernel, task: &Task, call: Call) -> Running {
    let running = kernel.begin(task, call);
    while kernel.fill(task.tid) {}
    running
}

fn end(kernel: &mut Kernel, running: Running) {
    let tid = running.task.tid;
    kernel.end(running);
    while kernel.fill(tid) {}
}

fn call(kernel: &mut Kernel, task: &Task, call: Call) {
    let mut running = begin(kernel, task, call);
    kernel.act(&mut running);
    end(kernel, running);
}

/// Whether it is certain that this PASID was left.
fn is_certain(rig: &Rig, pasid: u32) -> bool {
    let reference = Reference::new(rig.kernel.era, &rig.kernel.history).expect("two tellings of one kernel");
    let left = reference.broken().into_iter().find(|broken| broken.check == LEFT).expect("PASIDs are left");
    let by = left.pasids[&pasid].clone();
    reference.is_certain(&Broken { pasids: BTreeMap::from([(pasid, by)]), ..left })
}

fn rig(era: Era) -> Rig {
    let mut rig = Rig::new(era);
    rig.kernel.lazy = true;
    rig
}

/// Which of an attach and a detach that overlapped came last is told by what was read afterwards, though another PASID
/// comes in the middle of the letting go, and a detach makes an end that tells nothing. (Seed 91221.)
#[test]
fn what_stood_on_entry_and_was_left_alone_was_left() {
    for era in Era::WITH_PASIDS {
        let mut rig = rig(era);
        let kernel = &mut rig.kernel;
        call(kernel, &driver(), Call::Use { device: NVME });
        let mut detaching = begin(kernel, &other(), detach(4));
        let mut attaching = begin(kernel, &driver(), attach(4, D1));
        kernel.act(&mut detaching);
        kernel.act(&mut attaching);
        end(kernel, detaching);
        let mut meanwhile = begin(kernel, &other(), Call::Attach { device: NIC, pasid: 1, domain: D1 });
        end(kernel, attaching);
        let mut unuse = begin(kernel, &driver(), Call::Unuse { device: NVME });
        kernel.act(&mut unuse);
        kernel.act(&mut meanwhile);
        end(kernel, meanwhile);
        end(kernel, unuse);
        call(kernel, &driver(), detach(4));
        assert!(is_certain(&rig, 4), "{era:?}");
        let expected = raised("pasid-left-on-release", 7, &[4], "driver", "driver");
        rig.expect(&[expected.implying(&["ownership-leaked"])]);
    }
}

#[test]
fn what_came_in_the_middle_of_the_letting_go_is_a_guess() {
    for era in Era::WITH_PASIDS {
        let mut rig = rig(era);
        let kernel = &mut rig.kernel;
        call(kernel, &driver(), Call::Use { device: NVME });
        call(kernel, &driver(), attach(6, D1));
        let mut attaching = begin(kernel, &other(), attach(4, D1));
        let mut unuse = begin(kernel, &driver(), Call::Unuse { device: NVME });
        kernel.act(&mut attaching);
        kernel.act(&mut unuse);
        end(kernel, unuse);
        end(kernel, attaching);
        assert!(is_certain(&rig, 6), "{era:?}");
        assert!(!is_certain(&rig, 4), "{era:?}");
    }
}

/// The array had it on entry: of an attach that its driver was about to refuse.
#[test]
fn what_an_attach_that_fails_leaves_for_a_moment_tells_nothing() {
    for era in Era::WITH_PASIDS {
        let mut rig = rig(era);
        let kernel = &mut rig.kernel;
        call(kernel, &driver(), Call::Use { device: NVME });
        call(kernel, &driver(), attach(6, D1));
        let mut failing = begin(kernel, &other(), attach(4, REFUSED));
        while !kernel.state(7).array.contains_key(&4) {
            assert!(kernel.advance(&mut failing), "{era:?}: it reserves its place first");
        }
        let mut unuse = begin(kernel, &driver(), Call::Unuse { device: NVME });
        kernel.act(&mut failing);
        end(kernel, failing);
        call(kernel, &other(), attach(4, D1));
        kernel.act(&mut unuse);
        end(kernel, unuse);
        assert!(is_certain(&rig, 6), "{era:?}");
        assert!(!is_certain(&rig, 4), "{era:?}");
    }
}
