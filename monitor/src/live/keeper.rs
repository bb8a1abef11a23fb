//! What is kept for the process after this one: all that the watcher is told, in the journal.
//!
//! A record is kept before it counts as taken from the ring. All else is kept after the watcher was told of it and before
//! anybody hears what it had to say: a kill in between loses nothing that was told.

use monitor_ebpf::wire::{Header, Hook, is_snapshot};
use zerocopy::FromBytes;

use crate::{
    aside::say,
    event::Key,
    input::{Input, Lost, Resync, Stage},
    inventory::Inventory,
    kernel::journal::{Entry, Journal, Kept, STATE},
    watcher::Watcher,
};

/// On a host where nothing happens, how often that is kept, in ns.
const NOTHING_NEW: u64 = 10_000_000_000;

/// What an entry is. Numbers are part of what is pinned: append, never renumber.
const START: u8 = 1;
pub(super) const RECORD: u8 = 2;
const INVENTORY: u8 = 3;
const LOST: u8 = 4;
const RESYNC: u8 = 5;
const GONE: u8 = 6;
const SETTLED: u8 = 7;
/// What stands, which was found by what is no more at hand.
pub(super) const CARRIED: u8 = 8;

/// A record that was told already, by another set of programs: who made it, and where it stood.
pub(super) const SECOND: u8 = 9;

/// Keeps what the watcher is told, if somebody wants it.
#[derive(Default)]
pub(super) struct Keeper {
    pub journal: Option<Journal>,
    /// A half of the journal was begun, and doesn't tell what stands yet, nor the groups' state.
    wants_carried: bool,
    wants_state: bool,
    /// A record was kept that the watcher wasn't told yet: what stands is of before it.
    ahead: bool,
    /// How much was kept of what was read of groups since that was last begun, in bytes.
    state: usize,
    /// Nothing was kept since it was last kept that the ring is empty, and when that was.
    quiet: bool,
    settled_ns: u64,
}

/// What is to be kept of an input, if it is no record.
pub(super) struct Kind(u8, Vec<u8>);

impl Keeper {
    pub fn new(journal: Option<Journal>) -> Keeper {
        Keeper { journal, ..Keeper::default() }
    }

    pub fn record(&mut self, record: &[u8], position: u64) {
        self.state += if is_of_state(record) { record.len() } else { 0 };
        self.keep(RECORD, 0, position, record);
        self.ahead = true;
    }

    /// A record that the watcher isn't told.
    pub fn second(&mut self, record: &[u8], position: u64) {
        self.keep(SECOND, 0, position, record);
    }

    /// What the watcher is about to be told.
    pub fn before(&mut self, input: &Input, now: u64) -> Option<Kind> {
        self.journal.as_mut()?.beat(now);
        let (kind, body) = write(input)?;
        Some(Kind(kind, body))
    }

    /// It was told that, or the record that was kept. `spoke`: it had something to say.
    pub fn after(&mut self, kept: Option<Kind>, now: u64, spoke: bool) {
        let Some(Kind(kind, body)) = kept else {
            self.ahead = false;
            return;
        };
        if kind != SETTLED {
            return self.keep(kind, now, 0, &body);
        }
        if spoke || !self.quiet || now.saturating_sub(self.settled_ns) >= NOTHING_NEW {
            self.keep(kind, now, 0, &body);
            (self.quiet, self.settled_ns) = (true, now);
        }
    }

    fn keep(&mut self, kind: u8, mono_ns: u64, position: u64, body: &[u8]) {
        self.quiet = false;
        let Some(journal) = &mut self.journal else { return };
        let opening = matches!(kind, START | INVENTORY);
        match journal.keep(kind, opening, mono_ns, position, body) {
            Kept::Yes => {}
            Kept::Turned => (self.wants_carried, self.wants_state) = (true, true),
            Kept::No => self.give_up(),
        }
    }

    fn give_up(&mut self) {
        if let Some(mut journal) = self.journal.take() {
            journal.give_up();
            say(
                "iommu-watch: this host's state does not fit what is kept for a restart: the next start is one without it",
            );
        }
    }

    /// Keeps what stands, where a half of the journal has just begun.
    pub fn carry(&mut self, watcher: &Watcher) {
        if self.ahead || !std::mem::take(&mut self.wants_carried) {
            return;
        }
        let (Some(journal), Ok(body)) = (&mut self.journal, serde_json::to_vec(&watcher.carried())) else {
            return;
        };
        journal.keep_beside(CARRIED, &body);
    }

    /// Whether every group must be read again, for the journal to be whole. To be asked once.
    pub fn wants_state(&mut self) -> bool {
        self.state = 0;
        std::mem::take(&mut self.wants_state)
    }

    /// They were read. What has no room for more than that would turn for ever.
    pub fn has_state(&mut self) {
        if self.state > STATE {
            self.give_up();
        }
    }
}

/// Whether a record is of what was read of a group.
fn is_of_state(record: &[u8]) -> bool {
    let header = Header::read_from_prefix(record).ok();
    header.and_then(|(header, _)| Hook::from_number(header.hook)).is_some_and(is_snapshot)
}

/// What is kept of an input: its kind and what it says, in this machine's order of bytes. Nothing of records, which are
/// kept as they come, nor of the hooks, which the next process finds as they are then.
fn write(input: &Input) -> Option<(u8, Vec<u8>)> {
    Some(match input {
        Input::Event(_) | Input::Coverage(_) => return None,
        Input::Start => (START, Vec::new()),
        Input::Settled => (SETTLED, Vec::new()),
        Input::Inventory(inventory) => (INVENTORY, serde_json::to_vec(inventory).ok()?),
        Input::Resync(reason) => (RESYNC, vec![index(&Resync::ALL, reason)?]),
        Input::Gone(group) => (GONE, group.to_ne_bytes().to_vec()),
        Input::Lost(Lost { stage, count, groups }) => {
            let mut body = vec![index(&Stage::ALL, stage)?, u8::from(groups.is_some())];
            body.extend(count.to_ne_bytes());
            body.extend(groups.iter().flatten().flat_map(|key| key.raw().to_ne_bytes()));
            (LOST, body)
        }
    })
}

/// The input of an entry; `None` where it holds none that this version knows.
pub(super) fn read(entry: &Entry) -> Option<Input> {
    let body = entry.body.as_slice();
    Some(match entry.kind {
        START => Input::Start,
        SETTLED => Input::Settled,
        RECORD => Input::Event(crate::event::decode(body).ok()?),
        INVENTORY => Input::Inventory(serde_json::from_slice::<Inventory>(body).ok()?),
        RESYNC => Input::Resync(*Resync::ALL.get(usize::from(*body.first()?))?),
        GONE => Input::Gone(u32::from_ne_bytes(body.try_into().ok()?)),
        LOST => {
            let (&[stage, some], rest) = body.split_first_chunk()?;
            let (count, keys) = rest.split_first_chunk()?;
            let keys =
                keys.chunks_exact(8).filter_map(|key| Key::new(u64::from_ne_bytes(key.try_into().ok()?)));
            Input::Lost(Lost {
                stage: *Stage::ALL.get(usize::from(stage))?,
                count: u64::from_ne_bytes(*count),
                groups: (some != 0).then(|| keys.collect()),
            })
        }
        _ => return None,
    })
}

fn index<T: PartialEq>(all: &[T], one: &T) -> Option<u8> {
    u8::try_from(all.iter().position(|known| known == one)?).ok()
}
