//! The daemon's stdout. Whoever reads it may be slow, or stuck (a journal on a full disk, a pipe that nobody empties): that
//! must hold up neither the watching nor the pages that tell of it.
//!
//! Where nothing waits, lines are written at once by whoever has them, if that can be done without waiting for the reader:
//! to hand them to another thread costs some ms where that has to get a processor first. Else a thread of its own writes
//! them; what nobody takes for a while it puts into the spool, if there is one, and from there to stdout in its turn.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crate::{aside::say, lock::lock, watcher::Spooled};

use super::{
    chunk::{Chunk, count},
    marks::{Marks, Told},
    sink::Sink,
    spool::Spool,
    stuck::Stuck,
};

/// What may wait in memory, in bytes: a storm's worth, some thousand violations with their evidence.
const ROOM: usize = 8 << 20;
/// How long a line waits for the reader before it goes to the spool, and how often it is tried again.
const PATIENCE: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_millis(100);
/// How soon a spool that can't be used is tried again.
const REOPEN: Duration = Duration::from_secs(30);

/// Opens the spool, or says why it can't be used.
pub type Opener = Box<dyn FnMut() -> Result<Spool, super::spool::Error> + Send>;

/// Where lines are left.
pub struct Outlet(Arc<Shared>);

struct Shared {
    sink: Box<dyn Sink>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Chunk>,
    bytes: usize,
    marks: Marks,
    /// The thread has lines that come before those.
    ahead: bool,
    /// Lines that there was no room for, and those that were damaged in the spool.
    dropped: u64,
    damaged: u64,
    /// `None`: there is no spool.
    spool: Option<Spooled>,
    /// No more will come, and from when on nobody waits for the reader.
    closed: Option<Instant>,
    /// The thread is done.
    done: bool,
    failed: Option<io::ErrorKind>,
}

impl Outlet {
    /// `spool`: where lines go for which there is no reader; `told`: whom it concerns which lines are out of our hands.
    pub fn start(sink: impl Sink + 'static, spool: Option<Opener>, told: Option<Told>) -> io::Result<Outlet> {
        let spooled = spool.is_some().then(Spooled::default);
        let marks = Marks::new(told);
        let state = State { ahead: spool.is_some(), spool: spooled, marks, ..State::default() };
        let shared =
            Arc::new(Shared { sink: Box::new(sink), state: Mutex::new(state), changed: Condvar::new() });
        let theirs = Arc::clone(&shared);
        thread::Builder::new().name("output".into()).spawn(move || Writer::new(&theirs, spool).run())?;
        Ok(Outlet(shared))
    }

    /// Writes lines, or leaves them to be written; without room for them they are dropped, and counted. An error is that
    /// of an earlier write: nobody reads any more.
    pub fn send(&self, lines: String) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let mut state = lock(&self.0.state);
        if let Some(kind) = state.failed {
            return Err(kind.into());
        }
        let mut chunk = Chunk { bytes: lines.into_bytes(), written: 0 };
        let length = chunk.bytes.len();
        if state.waiting.is_empty() && !state.ahead && self.0.sink.never_waits() {
            // Under the lock: what comes later is written later. An error comes again, to the thread.
            let _ = chunk.write(&*self.0.sink);
            if chunk.is_written() {
                state.marks.take(length);
                state.marks.settle(length);
                return Ok(());
            }
        }
        if state.bytes + length > ROOM && chunk.written == 0 {
            state.dropped += count(&chunk.bytes);
            return Ok(());
        }
        state.bytes += length;
        state.marks.take(length);
        state.waiting.push_back(chunk);
        // Else the thread would be woken to wait for the lock.
        drop(state);
        self.0.changed.notify_all();
        Ok(())
    }

    /// All that comes before this number was sent.
    pub fn mark(&self, before: u64) {
        lock(&self.0.state).marks.set(before);
    }

    /// Lines that were dropped so far.
    pub fn dropped(&self) -> u64 {
        lock(&self.0.state).dropped
    }

    /// Lines that were damaged in the spool.
    pub fn damaged(&self) -> u64 {
        lock(&self.0.state).damaged
    }

    /// There is room for a line that tells of what was dropped.
    pub fn has_room(&self) -> bool {
        lock(&self.0.state).bytes < ROOM / 2
    }

    /// `None`: there is no spool.
    pub fn spooled(&self) -> Option<Spooled> {
        lock(&self.0.state).spool
    }

    /// Waits for so long at most until everything is written, or kept in the spool; `Err`: so many lines are not.
    pub fn close(self, patience: Duration) -> Result<(), u64> {
        let until = Instant::now() + patience;
        let mut state = lock(&self.0.state);
        state.closed = Some(until);
        self.0.changed.notify_all();
        // A disk may take a moment, and a file that is stdout for ever.
        let until = until + PATIENCE;
        while !state.done {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let woken = self.0.changed.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        match state.waiting.iter().map(Chunk::lines).sum() {
            0 if state.done => Ok(()),
            lines => Err(lines),
        }
    }
}

/// Whether writing may succeed later: a disk may have room again. A reader who has left doesn't come back.
fn may_pass(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull, WouldBlock};
    matches!(kind, WouldBlock | StorageFull | QuotaExceeded)
}

/// Puts whole lines into the spool, and gives how many bytes it took.
fn append(spool: &mut Spool, lines: &[u8], stuck: &mut Stuck) -> usize {
    let mut done = 0;
    while done < lines.len() {
        match spool.append(&lines[done..]) {
            // What went in before that went in.
            Ok(more) if more > 0 => done += more,
            none => {
                tell(stuck.full(none.err().as_ref()));
                break;
            }
        }
    }
    done
}

fn tell(news: Option<String>) {
    news.iter().for_each(|news| say(&format!("iommu-watch: {news}")));
}

/// The thread that writes.
struct Writer<'a> {
    shared: &'a Shared,
    opener: Option<Opener>,
    spool: Option<Spool>,
    /// When the spool was last tried to be opened.
    tried: Option<Instant>,
    hand: Chunk,
    /// What is in the hand is in the spool still.
    spooled: bool,
    /// Bytes that went to the spool while a line before them was half-written.
    kept: usize,
    stuck: Stuck,
    told: bool,
}

impl<'a> Writer<'a> {
    fn new(shared: &'a Shared, opener: Option<Opener>) -> Writer<'a> {
        let hand = Chunk::default();
        Writer {
            shared,
            opener,
            spool: None,
            tried: None,
            hand,
            spooled: false,
            kept: 0,
            stuck: Stuck::new(shared.sink.name()),
            told: false,
        }
    }

    /// Until nothing more comes, or nobody reads any more.
    fn run(&mut self) {
        // What an earlier process left comes first.
        self.open();
        while self.fill_hand() {
            if self.is_over() {
                self.keep();
                break;
            }
            let written = self.hand.write(&*self.shared.sink);
            match written.map_err(|error| error.kind()) {
                Ok(()) => {
                    let dropped = lock(&self.shared.state).dropped;
                    tell(self.stuck.taken(dropped));
                }
                Err(kind) if may_pass(kind) => {
                    self.give_up_waiting();
                    self.shared.sink.wait(AGAIN);
                }
                Err(kind) => {
                    self.keep();
                    lock(&self.shared.state).failed = Some(kind);
                    break;
                }
            }
        }
        // Whoever comes next may have it.
        self.spool = None;
        let mut state = lock(&self.shared.state);
        // What was begun is half-written, and is told as missing with the rest.
        if !self.hand.is_written() && !self.spooled {
            state.waiting.push_front(std::mem::take(&mut self.hand));
        }
        state.done = true;
        self.shared.changed.notify_all();
    }

    /// Takes what is to be written next; `false`: nothing more will come.
    fn fill_hand(&mut self) -> bool {
        if !self.hand.is_written() {
            return true;
        }
        if !std::mem::take(&mut self.spooled) {
            let written = std::mem::take(&mut self.hand).bytes.len();
            lock(&self.shared.state).marks.settle(written + std::mem::take(&mut self.kept));
        } else if let Some(spool) = &mut self.spool {
            spool.take();
        }
        if let Some(line) = self.spool.as_mut().and_then(Spool::first) {
            (self.hand, self.spooled) = (Chunk { bytes: line, written: 0 }, true);
            self.report();
            return true;
        }
        self.report();
        let mut state = lock(&self.shared.state);
        loop {
            if let Some(chunk) = state.waiting.pop_front() {
                state.bytes -= chunk.bytes.len();
                state.ahead = true;
                self.hand = chunk;
                return true;
            }
            state.ahead = false;
            if state.closed.is_some() {
                return false;
            }
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Nobody waits for the reader any more.
    fn is_over(&self) -> bool {
        lock(&self.shared.state).closed.is_some_and(|until| Instant::now() >= until)
    }

    /// Nothing is taken: after a while what waits goes to the spool.
    fn give_up_waiting(&mut self) {
        let state = lock(&self.shared.state);
        let (bytes, dropped) = (state.bytes, state.dropped);
        drop(state);
        let waited = self.stuck.waits(dropped);
        if bytes > ROOM / 2 || waited >= PATIENCE {
            tell(self.stuck.noticed(self.opener.is_some()));
            self.keep();
        }
    }

    /// Puts into the spool what is in memory, the oldest first, as far as there is room.
    fn keep(&mut self) {
        if self.spool.is_none() {
            self.open();
        }
        let Some(spool) = &mut self.spool else { return };
        let (mut kept, mut bytes) = (0, 0);
        if !self.spooled {
            let lines = self.hand.untouched();
            let done = append(spool, &lines, &mut self.stuck);
            kept += count(&lines[..done]);
            bytes += done;
            self.hand.bytes.extend_from_slice(&lines[done..]);
            if done < lines.len() {
                return self.settle(kept, bytes);
            }
        }
        loop {
            let mut state = lock(&self.shared.state);
            let Some(mut chunk) = state.waiting.pop_front() else { break };
            state.bytes -= chunk.bytes.len();
            drop(state);
            // Only the first may have been begun, and that is in the hand.
            let done = append(spool, &chunk.bytes, &mut self.stuck);
            kept += count(&chunk.bytes[..done]);
            bytes += done;
            if done < chunk.bytes.len() {
                chunk.bytes.drain(..done);
                let mut state = lock(&self.shared.state);
                state.bytes += chunk.bytes.len();
                state.waiting.push_front(chunk);
                break;
            }
        }
        self.settle(kept, bytes);
    }

    /// So many lines, and bytes, went to the spool.
    fn settle(&mut self, kept: u64, bytes: usize) {
        let mut state = lock(&self.shared.state);
        if let Some(spool) = &mut state.spool {
            spool.lines += kept;
        }
        if self.spooled || self.hand.is_written() {
            state.marks.settle(bytes);
        } else {
            self.kept += bytes;
        }
        drop(state);
        self.report();
    }

    fn open(&mut self) {
        let Some(opener) = &mut self.opener else { return };
        if self.tried.is_some_and(|tried| tried.elapsed() < REOPEN) {
            return;
        }
        self.tried = Some(Instant::now());
        match opener() {
            Ok(spool) => self.spool = Some(spool),
            Err(error) if !std::mem::replace(&mut self.told, true) => {
                tell(Some(format!("no spool: {error}")));
            }
            Err(_) => {}
        }
        self.report();
    }

    /// Tells the others of the spool.
    fn report(&self) {
        let Some(spool) = &self.spool else { return };
        let mut state = lock(&self.shared.state);
        state.damaged = spool.damaged();
        if let Some(told) = &mut state.spool {
            (told.usable, told.bytes) = (true, spool.bytes());
        }
    }
}

#[cfg(test)]
mod tests;
