//! Recording beside a running watcher: what it is told is gathered in batches, and a thread writes them, so
//! that a slow disk holds nobody up.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
        mpsc::{self, Receiver, Sender},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{
    Head, Origin, Store,
    content::{self, Stack},
    frame::{Kind, MAX_BODY},
    writer::{Batch, Writer},
};
use crate::coverage::Coverage;
use crate::event::Identities;
use crate::input::{Input, Lost, Stage};

/// How old a batch becomes before it is written: a kill loses less than a second.
const FLUSH_AFTER: Duration = Duration::from_millis(400);
/// How much may wait to be written, in bytes: what comes then is lost, and counted.
const WAITING: usize = 16 << 20;
/// How many identities are told apart in one file: then another is begun.
const IDENTITIES: usize = 1 << 20;
/// On a host where nothing happens, how often that is recorded, in ns.
const NOTHING_NEW: u64 = 10_000_000_000;

/// What the thread and whoever feeds it know of each other.
#[derive(Debug, Default)]
struct Shared {
    /// Bytes that wait.
    waiting: AtomicUsize,
    /// Events that could not be written.
    lost: AtomicU64,
    /// The file does not tell the groups' state any more: it must be read again.
    unsettled: AtomicBool,
}

/// What came of a recording.
#[derive(Debug, Default)]
pub struct Summary {
    pub events: u64,
    pub bytes: u64,
    /// Files, those included that are gone again.
    pub files: u32,
    /// Events that did not get into it.
    pub lost: u64,
    /// Why not, the first time.
    pub failure: Option<String>,
}

pub struct Recorder {
    batch: Batch,
    /// When its first frame came.
    since: Instant,
    identities: Identities,
    /// The stacks that were told.
    stacks: BTreeSet<u32>,
    /// When the ring was last found empty, if that is not recorded yet, and when it last was.
    settled: Option<u64>,
    recorded_settled: u64,
    /// Nothing but that has come since.
    quiet: bool,
    /// Events for which there was no room, since there was.
    gap: u64,
    events: u64,
    shared: Arc<Shared>,
    queue: Sender<Batch>,
    thread: JoinHandle<Summary>,
}

impl Recorder {
    pub fn new(store: Store, origin: Origin, coverage: &Coverage) -> Recorder {
        let writer = Writer::new(store, Head::new(origin, coverage));
        Recorder::with(move |batches, shared| write(writer, batches, shared))
    }

    /// With a thread that does this.
    fn with(run: impl FnOnce(&Receiver<Batch>, &Shared) -> Summary + Send + 'static) -> Recorder {
        let shared = Arc::new(Shared::default());
        let (queue, batches) = mpsc::channel();
        let thread = {
            let shared = shared.clone();
            std::thread::spawn(move || run(&batches, &shared))
        };
        Recorder {
            batch: Batch::default(),
            since: Instant::now(),
            identities: Identities::default(),
            stacks: BTreeSet::new(),
            settled: None,
            recorded_settled: 0,
            quiet: false,
            gap: 0,
            events: 0,
            shared,
            queue,
            thread,
        }
    }

    /// Records an input that is no event.
    pub fn input(&mut self, input: &Input, mono_ns: u64) {
        if let Input::Settled = input {
            self.settled = Some(mono_ns);
            if !self.quiet || mono_ns.saturating_sub(self.recorded_settled) >= NOTHING_NEW {
                self.keep_settled();
            }
            return;
        }
        if let Some((kind, body)) = content::write(input, &mut self.identities) {
            self.push(kind, mono_ns, &body);
        }
    }

    /// The watcher had something to say of the last input. Where that was [`Input::Settled`] and nothing new
    /// had come before it, only time had passed, and that it had must be recorded.
    pub fn spoke(&mut self) {
        self.keep_settled();
    }

    /// Records an event, as it came from the ring: bytes that could be decoded.
    pub fn event(&mut self, record: &[u8], mono_ns: u64) {
        let Ok(renamed) = self.identities.rename(record) else { return };
        self.push(Kind::Event, mono_ns, &renamed);
        if self.identities.len() >= IDENTITIES {
            self.identities = Identities::default();
            self.flush();
            self.batch.new_file = true;
        }
    }

    /// Whether this stack's frames are still to be told.
    pub fn wants_stack(&self, id: u32) -> bool {
        !self.stacks.contains(&id)
    }

    /// Records the frames of a stack, if they are known, before the event that refers to it.
    pub fn stack(&mut self, id: u32, frames: Option<Vec<String>>, mono_ns: u64) {
        self.stacks.insert(id);
        if let Some(frames) = frames {
            self.push(Kind::Stack, mono_ns, &content::json(&Stack { id, frames }));
        }
    }

    /// To be called every now and then: writes what has waited long enough.
    pub fn tick(&mut self) {
        if !self.batch.is_empty() && self.since.elapsed() >= FLUSH_AFTER {
            self.flush();
        }
    }

    /// Says once that the state of every group must be read again, for a file to be whole.
    pub fn wants_state(&self) -> bool {
        self.shared.unsettled.swap(false, Relaxed)
    }

    /// Writes what there is still, and the end.
    pub fn finish(mut self, mono_ns: u64) -> Summary {
        self.keep_settled();
        self.tell_gap(mono_ns);
        self.flush();
        // An empty batch is the end.
        let _ = self.queue.send(Batch { mono_ns, ..Batch::default() });
        let summary = self.thread.join().unwrap_or_default();
        Summary { events: self.events, lost: self.shared.lost.load(Relaxed), ..summary }
    }

    fn keep_settled(&mut self) {
        if let Some(mono_ns) = self.settled.take() {
            self.recorded_settled = mono_ns;
            self.put(Kind::Settled, mono_ns, &[]);
            self.quiet = true;
        }
    }

    fn push(&mut self, kind: Kind, mono_ns: u64, body: &[u8]) {
        // The last time at which nothing was new counts, the others before it don't.
        self.keep_settled();
        self.quiet = false;
        self.put(kind, mono_ns, body);
    }

    fn put(&mut self, kind: Kind, mono_ns: u64, body: &[u8]) {
        let waiting = self.shared.waiting.load(Relaxed) + self.batch.content.len();
        if waiting > WAITING || body.len() > MAX_BODY {
            self.gap += 1;
            self.shared.lost.fetch_add(1, Relaxed);
            return;
        }
        self.tell_gap(mono_ns);
        if self.batch.is_full(body.len()) {
            self.flush();
        }
        if self.batch.is_empty() {
            self.since = Instant::now();
        }
        self.batch.push(kind, mono_ns, body);
        self.events += u64::from(kind == Kind::Event);
    }

    /// Events are missing here.
    fn tell_gap(&mut self, mono_ns: u64) {
        let count = std::mem::take(&mut self.gap);
        if count > 0 {
            let lost = Input::Lost(Lost { stage: Stage::Recording, count, groups: None });
            if let Some((kind, body)) = content::write(&lost, &mut self.identities) {
                self.batch.push(kind, mono_ns, &body);
            }
            self.shared.unsettled.store(true, Relaxed);
        }
    }

    fn flush(&mut self) {
        if !self.batch.is_empty() {
            let batch = std::mem::take(&mut self.batch);
            self.shared.waiting.fetch_add(batch.content.len(), Relaxed);
            // The thread ends after this end of the queue does.
            let _ = self.queue.send(batch);
        }
    }
}

/// What the thread does.
fn write(mut writer: Writer, batches: &Receiver<Batch>, shared: &Shared) -> Summary {
    let mut failure = None;
    for batch in batches {
        if batch.is_empty() {
            if let Err(error) = writer.end(batch.mono_ns) {
                failure = failure.or_else(|| Some(error.to_string()));
            }
            break;
        }
        let (part, had_gap) = (writer.part(), writer.has_gap());
        if let Err(error) = writer.write(&batch) {
            shared.lost.fetch_add(batch.events.max(1), Relaxed);
            failure = failure.or_else(|| Some(error.to_string()));
        }
        // Only now: what would be read while nothing can be written would be lost as well.
        if writer.part() != part || had_gap && !writer.has_gap() {
            shared.unsettled.store(true, Relaxed);
        }
        shared.waiting.fetch_sub(batch.content.len(), Relaxed);
    }
    Summary { bytes: writer.written(), files: writer.part().saturating_add(1), failure, ..Summary::default() }
}

#[cfg(test)]
mod tests {
    use monitor_ebpf::wire::{Hook, Operation};
    use zerocopy::{FromZeros, IntoBytes};

    use super::*;
    use crate::trace::{Item, Reader, store::Target};

    fn record(mono_ns: u64) -> Operation {
        let mut record = Operation::new_zeroed();
        (record.header.hook, record.header.time_ns) = (Hook::ClaimGroup as u16, mono_ns);
        record
    }

    /// While the disk stands still, what is recorded is bounded, and what is beyond that is counted and told.
    #[test]
    fn what_can_not_be_written_in_time_is_told_in_its_place() {
        const EVENTS: u64 = 70_000;
        let path = std::env::temp_dir().join(format!("iommu-watch-recorder-{}", std::process::id()));
        let target = Target { path: path.clone(), max_size: 64 << 20, keep: 0, force: true };
        let store = Store::create(target).expect("a file");
        let writer = Writer::new(store, Head::new(Origin::default(), &Coverage::default()));
        let (go, stand_still) = mpsc::channel::<()>();
        let mut recorder = Recorder::with(move |batches, shared| {
            stand_still.recv().expect("the signal");
            write(writer, batches, shared)
        });
        for time in 0..EVENTS {
            recorder.event(record(time).as_bytes(), time);
        }
        assert!(!recorder.wants_state(), "the gap isn't over yet");
        go.send(()).expect("the thread");
        while recorder.shared.waiting.load(Relaxed) > 0 {
            std::thread::yield_now();
        }
        recorder.event(record(EVENTS).as_bytes(), EVENTS);
        assert!(recorder.wants_state() && !recorder.wants_state(), "that is asked for once");
        let summary = recorder.finish(EVENTS);
        assert!(summary.lost > 1000 && summary.events + summary.lost == EVENTS + 1, "{summary:?}");

        let reader = Reader::open(std::fs::File::open(&path).expect("a file")).expect("a recording");
        let items: Vec<Item> = reader.map(|entry| entry.expect("an entry").item).collect();
        std::fs::remove_file(&path).expect("removed");
        let tail = &items[items.len() - 2..];
        let told = matches!(
            tail,
            [Item::Input(Input::Lost(Lost { stage: Stage::Recording, count, groups: None })), Item::Input(Input::Event(_))]
                if *count == summary.lost
        );
        assert!(told, "{tail:?}");
        assert_eq!(items.len() as u64, summary.events + 1);
    }
}
