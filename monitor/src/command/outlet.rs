//! The daemon's stdout, written by a thread of its own. Whoever reads it may be slow, or stuck (a journal on a full disk, a
//! pipe that nobody empties): that must hold up neither the watching nor the pages that tell of it.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crate::lock::lock;

/// What may wait, in bytes: a storm's worth, some thousand violations with their evidence.
const ROOM: usize = 8 << 20;

/// Where lines are left for the thread that writes them.
pub struct Outlet(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<String>,
    bytes: usize,
    /// Lines that there was no room for.
    dropped: u64,
    /// The thread writes what it has taken.
    writing: bool,
    /// No more will come.
    closed: bool,
    failed: Option<io::ErrorKind>,
}

impl Outlet {
    pub fn start(to: impl Write + Send + 'static) -> io::Result<Outlet> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        thread::Builder::new().name("output".into()).spawn(move || theirs.write(to))?;
        Ok(Outlet(shared))
    }

    /// Leaves lines to be written; without room for them they are dropped, and counted. An error is that of an earlier
    /// write: nobody reads any more.
    pub fn send(&self, lines: String) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let mut state = lock(&self.0.state);
        if let Some(kind) = state.failed {
            return Err(kind.into());
        }
        if state.bytes + lines.len() > ROOM {
            state.dropped += count(&lines);
        } else {
            state.bytes += lines.len();
            state.waiting.push_back(lines);
            self.0.changed.notify_all();
        }
        Ok(())
    }

    /// Lines that were dropped so far.
    pub fn dropped(&self) -> u64 {
        lock(&self.0.state).dropped
    }

    /// Waits for so long at most until everything is written; `Err`: so many lines were not.
    pub fn close(self, patience: Duration) -> Result<(), u64> {
        let until = Instant::now() + patience;
        let mut state = lock(&self.0.state);
        state.closed = true;
        self.0.changed.notify_all();
        while state.writing || !state.waiting.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || state.failed.is_some() {
                return Err(state.waiting.iter().map(|lines| count(lines)).sum());
            }
            let woken = self.0.changed.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }
}

fn count(lines: &str) -> u64 {
    lines.bytes().filter(|&byte| byte == b'\n').count() as u64
}

impl Shared {
    /// Until nothing more comes, or nobody reads any more.
    fn write(&self, mut to: impl Write) {
        let mut told = 0;
        while let Some(lines) = self.take() {
            let written = to.write_all(lines.as_bytes()).and_then(|()| to.flush());
            let mut state = lock(&self.state);
            state.writing = false;
            state.bytes -= lines.len();
            state.failed = written.err().map(|error| error.kind());
            self.changed.notify_all();
            let (failed, dropped) = (state.failed.is_some(), state.dropped);
            drop(state);
            if failed {
                return;
            }
            if dropped > told {
                eprintln!(
                    "iommu-watch: whoever reads stdout did not keep up: {} lines are missing from here; what stands is in \
                     /api/v1/violations",
                    dropped - told
                );
                told = dropped;
            }
        }
    }

    fn take(&self) -> Option<String> {
        let mut state = lock(&self.state);
        loop {
            if let Some(lines) = state.waiting.pop_front() {
                state.writing = true;
                return Some(lines);
            }
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    /// Writes nothing until it may, and then hands over what it gets.
    struct Stuck {
        may: mpsc::Receiver<()>,
        got: mpsc::Sender<String>,
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // An end of the other side is as good as a leave.
            let _ = self.may.recv();
            let text = String::from_utf8_lossy(bytes).into_owned();
            self.got.send(text).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn stuck() -> (Outlet, mpsc::Sender<()>, mpsc::Receiver<String>) {
        let ((leave, may), (got, written)) = (mpsc::channel(), mpsc::channel());
        (Outlet::start(Stuck { may, got }).expect("a thread"), leave, written)
    }

    #[test]
    fn whoever_does_not_read_holds_up_nobody_and_gets_the_oldest_in_order() {
        let (outlet, leave, written) = stuck();
        let long = "x".repeat(ROOM / 4 - 1) + "\n";
        for _ in 0..4 {
            outlet.send(long.clone()).expect("there is room, or it is dropped");
        }
        outlet.send("one more\nand another\n".into()).expect("it is dropped");
        assert_eq!(outlet.dropped(), 2);
        drop(leave);
        assert_eq!(outlet.close(SOON), Ok(()));
        assert_eq!(written.iter().map(|lines| lines.len()).collect::<Vec<_>>(), [long.len(); 4]);
    }

    #[test]
    fn at_the_end_it_is_waited_for_a_while_and_said_what_is_missing() {
        let (outlet, leave, written) = stuck();
        outlet.send("first\n".into()).expect("there is room");
        outlet.send("second\nthird\n".into()).expect("there is room");
        let missing = outlet.close(Duration::from_millis(50));
        assert!(missing.is_err_and(|lines| lines >= 2));
        drop((leave, written));
    }

    #[test]
    fn that_nobody_reads_any_more_is_an_error() {
        let (outlet, leave, written) = stuck();
        drop((leave, written));
        let start = Instant::now();
        while outlet.send("gone\n".into()).is_ok() {
            assert!(start.elapsed() < SOON, "it is never told");
        }
    }
}
