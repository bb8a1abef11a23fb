//! The recorded end of the pipe: a recording drives a [`Watcher`], as a running kernel does (`live.rs`).

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use crate::check::Settings;
use crate::report::{Clock, Context, Stacks};
use crate::trace::{Error, Head, Item, Reader};
use crate::watcher::{Options, Report, Watcher};

/// How much of stacks is kept, in bytes: a recording from outside can hold any number of any length.
const STACKS: usize = 16 << 20;

/// A recording that is being replayed.
pub struct Replay<R> {
    reader: Reader<R>,
    pub watcher: Watcher,
    stacks: Recorded,
    events: u64,
    /// When the first and the last thing happened, in CLOCK_MONOTONIC ns.
    span: Option<(u64, u64)>,
}

impl<R: Read> Replay<R> {
    /// Reads the recording's head. Who and where is taken from it, all else from `options`.
    pub fn open(source: R, options: Options) -> Result<Replay<R>, Error> {
        let reader = Reader::open(source)?;
        let Head { host, kernel, boot_id, .. } = reader.head().clone();
        let offset = reader.head().clock_offset_ns;
        let settings = Arc::new(Settings::clone(&options.settings).on_clock(offset));
        let coverage = reader.head().coverage();
        let options = Options { host, kernel, boot_id, coverage, settings, ..options };
        Ok(Replay {
            reader,
            watcher: Watcher::new(options),
            stacks: Recorded::default(),
            events: 0,
            span: None,
        })
    }

    /// Tells the watcher the next thing, and gives back what there is to say of it; `None` at the end. The
    /// first error is the last thing that it gives.
    pub fn step(&mut self) -> Option<Result<Vec<Report>, Error>> {
        let entry = match self.reader.next()? {
            Ok(entry) => entry,
            Err(error) => return Some(Err(error)),
        };
        let first = self.span.map_or(entry.mono_ns, |(first, _)| first);
        self.span = Some((first, entry.mono_ns.max(first)));
        Some(Ok(match entry.item {
            Item::Input(input) => {
                self.events += u64::from(matches!(input, crate::input::Input::Event(_)));
                self.watcher.take(input, entry.mono_ns)
            }
            Item::Stack { id, frames } => {
                self.stacks.keep(id, frames);
                Vec::new()
            }
        }))
    }

    pub fn reader(&self) -> &Reader<R> {
        &self.reader
    }

    /// How many events there were so far.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// From the first to the last thing so far, in ns.
    pub fn span_ns(&self) -> u64 {
        self.span.map_or(0, |(first, last)| last - first)
    }

    /// What every line is told with: as of the host that was recorded.
    pub fn context(&self) -> Context<'_> {
        let options = self.watcher.options();
        let head = self.reader.head();
        Context {
            host: &options.host,
            kernel: &options.kernel,
            synthetic: head.synthetic.is_some(),
            clock: Clock { offset_ns: head.clock_offset_ns },
            stacks: &self.stacks,
        }
    }
}

/// The stacks that the recording told so far.
#[derive(Default)]
struct Recorded {
    stacks: BTreeMap<u32, Vec<String>>,
    bytes: usize,
}

impl Recorded {
    fn keep(&mut self, id: u32, frames: Vec<String>) {
        let bytes = frames.iter().map(|frame| frame.len() + size_of::<String>()).sum::<usize>();
        if self.bytes + bytes <= STACKS {
            self.bytes += bytes;
            self.stacks.insert(id, frames);
        }
    }
}

impl Stacks for Recorded {
    fn frames(&self, id: u32) -> Option<Vec<String>> {
        self.stacks.get(&id).cloned()
    }
}
