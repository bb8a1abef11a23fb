//! The journal: all that the watcher was told, in memory that outlives the process, so that the next one knows what this
//! one knew. It is memory of the kernel: addresses may be in it, and it ends with the boot that they are of.
//!
//! Two halves of entries, the older one whole. Where one is full the other begins anew with what a start needs (its
//! opening); whoever drives the watcher then has every group read again. A reader takes the older half from its opening on,
//! then the newer one, whose opening says again what was said.
//!
//! A process is killed between two stores, never in the middle of one, and what it has stored is there. So an entry
//! counts once the length behind it does. The checksums are for memory that somebody else has written to.

mod manifests;
mod memory;
mod walk;

use std::sync::{
    Arc,
    atomic::Ordering::{Acquire, Release},
};

use monitor_ebpf::wire::WIRE_VERSION;
use zerocopy::IntoBytes;

use self::walk::{HEADER, Header, Walk, base, checksum, size};
pub use manifests::SETS;
pub use memory::Memory;

pub const PAGE: usize = 4096;
/// What the sets of programs say of themselves that share it.
const MANIFEST: usize = PAGE;
const MANIFEST_LEN: usize = 32 * PAGE;
const HALVES: usize = MANIFEST + MANIFEST_LEN;
/// Room for 5,000 records.
const HALF: usize = 2 << 20;
/// What the state of a host may take of that.
pub const STATE: usize = HALF / 4 * 3;
/// Its length, in bytes and in pages.
pub const LEN: usize = HALVES + 2 * HALF;
pub const PAGES: usize = LEN / PAGE;

const MAGIC: u64 = u64::from_le_bytes(*b"IWJOURNA");
/// Of what is kept here, of the records in it, and of the maps that sets of programs share.
const VERSION: u64 = (2 << 32) | WIRE_VERSION as u64;

/// The words at its beginning, by index.
mod word {
    pub const MAGIC: usize = 0;
    pub const VERSION: usize = 1;
    pub const BEAT: usize = 2;
    pub const TOLD: usize = 3;
    pub const ACTIVE: usize = 4;
    /// Of each half: the number of its first entry, and how long it is.
    pub const HALF: [(usize, usize); 2] = [(5, 6), (7, 8)];
    pub const ACCOUNT: [usize; 3] = [9, 10, 11];
    pub const SETTINGS: usize = 12;
    pub const ATTEMPTS: usize = 13;
}

/// One thing that the watcher was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// It is the so-manieth since the journal was begun.
    pub number: u64,
    pub kind: u8,
    pub mono_ns: u64,
    /// Of a record: where in the ring it stood.
    pub position: u64,
    pub body: Vec<u8>,
    /// It begins the newer half: what it says was said before, by entries that may be gone.
    pub again: bool,
}

/// What came of keeping an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    Yes,
    /// In a new half: every group is to be read again.
    Turned,
    /// This host's state doesn't fit. The journal is empty, and stays so.
    No,
}

/// Why a journal isn't read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    #[error("it is of another version")]
    Version,
}

/// How much of the kernel side's own account was told.
pub type Account = [u64; 3];

pub struct Journal {
    memory: Arc<Memory>,
    active: usize,
    /// How long the active half is, in bytes.
    end: usize,
    /// The number of the next entry.
    next: u64,
    /// What a half begins with: at most one of a kind, in their order.
    opening: Vec<(u8, Vec<u8>)>,
    beat: u64,
    off: bool,
}

/// Says how far what was found was told.
#[derive(Clone)]
pub struct Teller(Arc<Memory>);

impl Teller {
    /// All that the entries before this number gave was told.
    pub fn told(&self, before: u64) {
        self.0.word(word::TOLD).store(before, Release);
    }
}

impl Journal {
    /// An empty one.
    pub fn begin(memory: Memory) -> Journal {
        let mut journal = Journal::over(Arc::new(memory));
        journal.forget();
        journal.memory.word(word::VERSION).store(VERSION, Release);
        journal.memory.word(word::MAGIC).store(MAGIC, Release);
        journal
    }

    /// The one that was begun there.
    pub fn open(memory: Memory) -> Result<Journal, Damage> {
        if !is_known(&memory) {
            return Err(Damage::Version);
        }
        let mut journal = Journal::over(Arc::new(memory));
        if journal.find_end().is_none() {
            journal.forget();
        }
        Ok(journal)
    }

    /// What the set of this number says of itself; `None` where there is none, or it is of another version.
    pub fn manifest(memory: &Memory, number: usize) -> Option<Vec<u8>> {
        if is_known(memory) { manifests::read(memory, number) } else { None }
    }

    /// Keeps what a set says of itself; `false`: it has no room.
    pub fn set_manifest(&self, number: usize, manifest: &[u8]) -> bool {
        manifests::write(&self.memory, number, manifest)
    }

    /// When whoever wrote it was last seen, in ns of CLOCK_MONOTONIC; of any version.
    pub fn last_beat(memory: &Memory) -> Option<u64> {
        let beat = memory.word(word::BEAT).load(Acquire);
        (memory.word(word::MAGIC).load(Acquire) == MAGIC && beat != 0).then_some(beat)
    }

    fn over(memory: Arc<Memory>) -> Journal {
        let beat = memory.word(word::BEAT).load(Acquire);
        Journal { memory, active: 0, end: 0, next: 0, opening: Vec::new(), beat, off: false }
    }

    /// Goes through all of it; `None` where something is wrong with it.
    fn find_end(&mut self) -> Option<()> {
        self.active = usize::try_from(self.load(word::ACTIVE)).ok().filter(|&half| half < 2)?;
        let mut numbers = 0;
        for half in [1 - self.active, self.active] {
            let (first, len) = self.half(half)?;
            if half == self.active && numbers > first {
                // The other one was being begun: its opening tells nothing new.
                self.store(word::HALF[1 - half].1, 0);
            }
            let mut walk = Walk { memory: &self.memory, half, at: 0, len, number: first };
            while walk.at < len {
                walk.step()?;
            }
            numbers = walk.number;
            (self.end, self.next) = (len, walk.number);
        }
        (self.load(word::TOLD) <= self.next).then_some(())
    }

    /// Forgets all entries.
    pub fn forget(&mut self) {
        for (first, len) in word::HALF {
            self.store(len, 0);
            self.store(first, 0);
        }
        self.store(word::ACTIVE, 0);
        self.store(word::TOLD, 0);
        (self.active, self.end, self.next) = (0, 0, 0);
        self.opening.clear();
    }

    /// Keeps an entry. `opening`: the latest of its kind opens every half.
    pub fn keep(&mut self, kind: u8, opening: bool, mono_ns: u64, position: u64, body: &[u8]) -> Kept {
        if self.off {
            return Kept::No;
        }
        if opening {
            match self.opening.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, latest)) => body.clone_into(latest),
                None => self.opening.push((kind, body.to_vec())),
            }
        }
        if self.append(kind, false, mono_ns, position, body) {
            return Kept::Yes;
        }
        if self.turn() && self.append(kind, false, mono_ns, position, body) {
            return Kept::Turned;
        }
        self.give_up();
        Kept::No
    }

    /// Keeps what a half needs beside its opening, if it fits: it says again what was said.
    pub fn keep_beside(&mut self, kind: u8, body: &[u8]) {
        if !self.off {
            self.append(kind, true, self.beat, 0, body);
        }
    }

    /// Keeps nothing any more, so that nobody reads a part of it for the whole.
    pub fn give_up(&mut self) {
        self.forget();
        self.off = true;
    }

    fn append(&mut self, kind: u8, opening: bool, mono_ns: u64, position: u64, body: &[u8]) -> bool {
        let Ok(length) = u32::try_from(body.len()) else { return false };
        let mut header = Header {
            length,
            checksum: 0,
            mono_ns,
            position,
            kind,
            opening: u8::from(opening),
            reserved: [0; 6],
        };
        header.checksum = checksum(&header, body);
        let end = self.end.saturating_add(size(body.len()));
        if end > HALF {
            return false;
        }
        let at = base(self.active) + self.end;
        let written = self.memory.write(at, header.as_bytes()) && self.memory.write(at + HEADER, body);
        if written {
            self.end = end;
            self.next += 1;
            self.store(word::HALF[self.active].1, end as u64);
        }
        written
    }

    /// Begins the other half. What was in it is gone first; until it counts as the active one, this one is all there is.
    fn turn(&mut self) -> bool {
        let (first, len) = word::HALF[1 - self.active];
        self.store(len, 0);
        self.store(first, self.next);
        (self.active, self.end) = (1 - self.active, 0);
        let opening = std::mem::take(&mut self.opening);
        let opened = opening.iter().all(|(kind, body)| self.append(*kind, true, self.beat, 0, body));
        self.opening = opening;
        self.store(word::ACTIVE, self.active as u64);
        opened
    }

    /// Its writer lives, and it is so late.
    pub fn beat(&mut self, mono_ns: u64) {
        self.beat = mono_ns;
        self.store(word::BEAT, mono_ns);
    }

    /// When a writer was last seen; 0: never.
    pub fn beaten(&self) -> u64 {
        self.beat
    }

    /// How many entries there were so far, those included that are gone again.
    pub fn count(&self) -> u64 {
        self.next
    }

    /// What the entries before this number gave was told.
    pub fn told(&self) -> u64 {
        self.load(word::TOLD)
    }

    /// It is about to be taken up: says how often that was tried since somebody came to the end of it.
    pub fn attempt(&self) -> u64 {
        let attempts = self.load(word::ATTEMPTS).saturating_add(1);
        self.store(word::ATTEMPTS, attempts);
        attempts
    }

    /// It was taken up, and what waited as well.
    pub fn is_taken_up(&self) {
        self.store(word::ATTEMPTS, 0);
    }

    /// By what its writer knows again whether the operator says the same as he did.
    pub fn settings(&self) -> u64 {
        self.load(word::SETTINGS)
    }

    pub fn set_settings(&self, settings: u64) {
        self.store(word::SETTINGS, settings);
    }

    pub fn teller(&self) -> Teller {
        Teller(Arc::clone(&self.memory))
    }

    pub fn account(&self) -> Account {
        word::ACCOUNT.map(|word| self.load(word))
    }

    pub fn set_account(&self, account: Account) {
        for (word, value) in word::ACCOUNT.into_iter().zip(account) {
            self.store(word, value);
        }
    }

    /// All that is kept, from the opening of the older half on.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + use<> {
        let memory = Arc::clone(&self.memory);
        let older = 1 - self.active;
        let halves: Vec<_> =
            [older, self.active].into_iter().filter_map(|half| Some((half, self.half(half)?))).collect();
        let mut begun = false;
        halves.into_iter().filter(|(_, (_, len))| *len > 0).flat_map(move |(half, (number, len))| {
            let memory = Arc::clone(&memory);
            let continues = std::mem::replace(&mut begun, true);
            let mut at = 0;
            let mut number = number;
            std::iter::from_fn(move || {
                let mut walk = Walk { memory: &memory, half, at, len, number };
                let entry = walk.step()?;
                (at, number) = (walk.at, walk.number);
                Some(entry)
            })
            .map(move |(opening, entry)| Entry { again: continues && opening, ..entry })
        })
    }

    /// The number of a half's first entry, and its length.
    fn half(&self, half: usize) -> Option<(u64, usize)> {
        let (first, len) = word::HALF[half];
        let len = usize::try_from(self.load(len)).ok().filter(|&len| len <= HALF)?;
        Some((self.load(first), len))
    }

    fn load(&self, word: usize) -> u64 {
        self.memory.word(word).load(Acquire)
    }

    fn store(&self, word: usize, value: u64) {
        self.memory.word(word).store(value, Release);
    }
}

/// It is a journal, and of this version.
fn is_known(memory: &Memory) -> bool {
    memory.word(word::MAGIC).load(Acquire) == MAGIC && memory.word(word::VERSION).load(Acquire) == VERSION
}

#[cfg(test)]
mod tests;
