//! The calls that the kernel side remembers until they return, and those that it would remember for ever.
//!
//! Where the kernel leaves out the program at a call's return (`missed.rs`), the call stays remembered: until
//! the same task makes it again, or for good if the task ends. When there is no room for more, the calls of
//! tasks that are no more are taken out.

use aya::maps::{HashMap, MapData};
use monitor_ebpf::wire::{Call, Subject};
use rustix::{
    io::Errno,
    process::{Pid, test_kill_process},
};

use super::{host, probes::Probes, ring::Error};

/// `PROC_PID_INIT_INO` (include/linux/proc_ns.h): the PID namespace whose numbers the kernel side has.
const INITIAL_NAMESPACE: u64 = 0xefff_fffc;

pub struct Calls {
    map: HashMap<MapData, [u32; size_of::<Call>() / 4], [u8; size_of::<Subject>()]>,
    /// The tasks' numbers mean the same here as in the kernel.
    same_numbers: bool,
}

impl Calls {
    pub fn new(probes: &mut Probes) -> Result<Calls, Error> {
        let map = probes.take_map("CALLS").ok_or(Error::Missing("CALLS"))?;
        let map = HashMap::try_from(map).map_err(|error| Error::Map("CALLS", error))?;
        let same_numbers = host::own_process().is_ok_and(|own| own.namespace_inode == INITIAL_NAMESPACE);
        Ok(Calls { map, same_numbers })
    }

    /// Takes out the calls of tasks that are no more, and says how many they were. A call that a new task of
    /// that number begins meanwhile may go with them: what is known must be taken for lost then.
    pub fn forget_the_dead(&mut self) -> Result<usize, Error> {
        if !self.same_numbers {
            return Ok(0);
        }
        let calls: Result<Vec<_>, _> = self.map.keys().collect();
        let mut calls = calls.map_err(|error| Error::Map("CALLS", error))?;
        calls.retain(|&[tid, _]| is_gone(tid));
        Ok(calls.iter().filter(|call| self.map.remove(call).is_ok()).count())
    }
}

/// Whether no task has this number. One that we may not signal is there all the same.
fn is_gone(tid: u32) -> bool {
    let Some(tid) = i32::try_from(tid).ok().and_then(Pid::from_raw) else { return false };
    test_kill_process(tid) == Err(Errno::SRCH)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_task_is_gone_when_it_was_waited_for() -> io::Result<()> {
        let mut child = std::process::Command::new("sleep").arg("60").spawn()?;
        assert!(!is_gone(child.id()));
        child.kill()?;
        child.wait()?;
        assert!(is_gone(child.id()));
        // The idle tasks have the number 0, and there is no such process.
        assert!(!is_gone(0));
        assert!(!is_gone(u32::MAX));
        Ok(())
    }

    #[test]
    fn a_thread_is_a_task() {
        let alive = std::thread::spawn(|| {
            let tid = rustix::thread::gettid().as_raw_nonzero().get();
            is_gone(tid.unsigned_abs())
        });
        assert_eq!(alive.join().ok(), Some(false));
    }
}
