//! Batches of frames to files: each batch a block, full files put aside, each file whole in itself.

use std::collections::BTreeMap;
use std::io;

use zerocopy::IntoBytes;

use super::{
    FULL_CONTENT, Head, Store, block,
    content::{self, End, Ending, Stack},
    frame::{self, Kind},
    mark::Mark,
};
use crate::event::Identities;
use crate::input::{Input, Lost, Stage};

/// Room for the last block of a file, which says why it ends.
const END_ROOM: usize = 128;
/// How many stacks are kept: as many as the kernel side has.
const STACKS: usize = 4096;

/// Frames that are written, or lost, together.
#[derive(Debug, Default)]
pub struct Batch {
    pub content: Vec<u8>,
    /// Of its first frame.
    pub mono_ns: u64,
    pub events: u64,
    /// A new file is to be begun with it.
    pub new_file: bool,
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.content.is_empty()
    }

    /// Whether a frame that says so much has no room in it. In an empty one every frame has.
    pub fn is_full(&self, body: usize) -> bool {
        !self.is_empty() && self.content.len() + frame::HEADER + body > FULL_CONTENT
    }

    /// Adds a frame. What it says is at most [`frame::MAX_BODY`] long.
    pub fn push(&mut self, kind: Kind, mono_ns: u64, body: &[u8]) {
        if self.is_empty() {
            self.mono_ns = mono_ns;
        }
        frame::put(&mut self.content, kind, mono_ns, body);
        self.events += u64::from(kind == Kind::Event);
    }
}

/// How far a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Empty,
    /// It has so many blocks.
    Open(u32),
    /// Its last block was written.
    Ended,
}

pub struct Writer {
    store: Store,
    /// Of the file that is written; its coverage is the latest.
    head: Head,
    progress: Progress,
    /// What a new file tells again.
    stacks: BTreeMap<u32, Vec<u8>>,
    inventory: Option<Vec<u8>>,
    /// Events that could not be written, since a block could.
    gap: u64,
}

impl Writer {
    pub fn new(store: Store, head: Head) -> Writer {
        let (stacks, inventory) = (BTreeMap::new(), None);
        Writer { store, head, progress: Progress::Empty, stacks, inventory, gap: 0 }
    }

    /// Which file of the recording is written, from 0.
    pub fn part(&self) -> u32 {
        self.head.part
    }

    /// Whether events are missing at the end of what is written.
    pub fn has_gap(&self) -> bool {
        self.gap > 0
    }

    /// Bytes written, in all files.
    pub fn written(&self) -> u64 {
        self.store.written()
    }

    /// Writes a batch, in a new file if it has no room in this one. If that fails, the next one that can be
    /// written begins with how many events were lost.
    pub fn write(&mut self, batch: &Batch) -> io::Result<()> {
        self.remember(&batch.content);
        let written = self.try_write(batch);
        match &written {
            Ok(()) => self.gap = 0,
            Err(_) => self.gap = self.gap.saturating_add(batch.events.max(1)),
        }
        written
    }

    /// The last block.
    pub fn end(&mut self, mono_ns: u64) -> io::Result<()> {
        if self.gap > 0 || self.progress == Progress::Empty {
            self.write(&Batch { mono_ns, ..Batch::default() })?;
        }
        self.finish(mono_ns, Ending::Stopped)
    }

    fn try_write(&mut self, batch: &Batch) -> io::Result<()> {
        if batch.new_file && self.progress != Progress::Empty {
            self.finish(batch.mono_ns, Ending::Continued)?;
        }
        self.begin(batch.mono_ns)?;
        if self.put(batch)? {
            return Ok(());
        }
        self.finish(batch.mono_ns, Ending::Continued)?;
        self.begin(batch.mono_ns)?;
        match self.put(batch)? {
            true => Ok(()),
            false => Err(io::Error::other("what must be written at once is more than --max-size")),
        }
    }

    /// Sees to it that there is a file with a beginning. One after the first tells again what is in force.
    fn begin(&mut self, mono_ns: u64) -> io::Result<()> {
        if matches!(self.progress, Progress::Open(_)) {
            return Ok(());
        }
        if self.progress == Progress::Ended {
            self.store.rotate()?;
            self.head.part = self.head.part.saturating_add(1);
            self.progress = Progress::Empty;
        }
        let mut pages = Pages::default();
        pages.push(Kind::Head, mono_ns, &content::json(&self.head));
        if self.head.part > 0 {
            pages.push(Kind::Start, mono_ns, &[]);
            for stack in self.stacks.values() {
                pages.push(Kind::Stack, mono_ns, stack);
            }
            if let Some(inventory) = &self.inventory {
                pages.push(Kind::Inventory, mono_ns, inventory);
            }
        }
        let bytes = [Mark::new().as_bytes(), &pages.seal(0)].concat();
        self.store.append(&bytes)?;
        self.progress = Progress::Open(pages.count());
        Ok(())
    }

    /// Writes a batch at the end of the file; `false`: it has no room there.
    fn put(&mut self, batch: &Batch) -> io::Result<bool> {
        let Progress::Open(number) = self.progress else { return Ok(false) };
        let mut pages = Pages::default();
        if self.gap > 0 {
            self.tell_gap(batch.mono_ns, &mut pages);
        }
        pages.add(&batch.content);
        let bytes = pages.seal(number);
        if !self.store.fits(bytes.len() + END_ROOM) {
            return Ok(false);
        }
        self.store.append(&bytes)?;
        self.progress = Progress::Open(number.wrapping_add(pages.count()));
        Ok(true)
    }

    /// Events are missing here, and maybe what else was told among them.
    fn tell_gap(&self, mono_ns: u64, pages: &mut Pages) {
        let lost = Input::Lost(Lost { stage: Stage::Recording, count: self.gap, groups: None });
        if let Some((kind, body)) = content::write(&lost, &mut Identities::default()) {
            pages.push(kind, mono_ns, &body);
        }
        pages.push(Kind::Coverage, mono_ns, &content::json(&self.head.hooks));
        if let Some(inventory) = &self.inventory {
            pages.push(Kind::Inventory, mono_ns, inventory);
        }
    }

    fn finish(&mut self, mono_ns: u64, reason: Ending) -> io::Result<()> {
        let Progress::Open(number) = self.progress else { return Ok(()) };
        let mut pages = Pages::default();
        pages.push(Kind::End, mono_ns, &content::json(&End { reason }));
        self.store.append(&pages.seal(number))?;
        self.progress = Progress::Ended;
        Ok(())
    }

    /// Keeps what a new file has to tell again.
    fn remember(&mut self, content: &[u8]) {
        let mut at = 0;
        while let Ok(Some(frame)) = frame::read(content, at) {
            match frame.kind {
                Some(Kind::Inventory) => self.inventory = Some(frame.body.to_vec()),
                Some(Kind::Coverage) => {
                    if let Ok(hooks) = content::parse(frame.body) {
                        self.head.hooks = hooks;
                    }
                }
                Some(Kind::Stack) if self.stacks.len() < STACKS => {
                    if let Ok(Stack { id, .. }) = content::parse(frame.body) {
                        self.stacks.insert(id, frame.body.to_vec());
                    }
                }
                _ => {}
            }
            at = frame.end;
        }
    }
}

/// Frames as the contents of as many blocks as it takes.
#[derive(Debug, Default)]
struct Pages(Vec<Batch>);

impl Pages {
    fn push(&mut self, kind: Kind, mono_ns: u64, body: &[u8]) {
        if self.0.last().is_none_or(|page| page.is_full(body.len())) {
            self.0.push(Batch::default());
        }
        if let Some(page) = self.0.last_mut() {
            page.push(kind, mono_ns, body);
        }
    }

    /// A page of its own.
    fn add(&mut self, content: &[u8]) {
        if !content.is_empty() {
            self.0.push(Batch { content: content.to_vec(), ..Batch::default() });
        }
    }

    fn seal(&self, first: u32) -> Vec<u8> {
        (first..).zip(&self.0).flat_map(|(number, page)| block::seal(number, &page.content)).collect()
    }

    fn count(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::coverage::Coverage;
    use crate::trace::{Item, Origin, Reader, Target};

    fn settled(mono_ns: u64) -> Batch {
        let mut batch = Batch::default();
        batch.push(Kind::Settled, mono_ns, &[]);
        Batch { events: 5, ..batch }
    }

    /// The disk is full for a while: what is missing is told where it is, and what is in force is told again.
    #[test]
    fn a_gap_is_told_before_what_comes_after_it() {
        let path = std::env::temp_dir().join(format!("iommu-watch-writer-{}", std::process::id()));
        let target = Target { path: path.clone(), max_size: 1 << 20, keep: 0, force: true };
        let head = Head::new(Origin::default(), &Coverage::default());
        let mut writer = Writer::new(Store::create(target).expect("a file"), head);
        writer.write(&settled(1)).expect("written");
        let works = writer.store.breaks(&path);
        writer.write(&settled(2)).expect_err("the disk is full");
        let mut batch = settled(3);
        batch.push(Kind::Inventory, 3, br#"{"groups":[{"id":7}]}"#);
        writer.write(&batch).expect_err("the disk is full");
        writer.store.mends(works);
        writer.write(&settled(4)).expect("written");
        writer.end(5).expect("written");

        let reader = Reader::open(fs::File::open(&path).expect("a file")).expect("a recording");
        let items: Vec<Item> = reader.map(|entry| entry.expect("an entry").item).collect();
        fs::remove_file(&path).expect("removed");
        let told = matches!(
            items.as_slice(),
            [
                Item::Input(Input::Settled),
                Item::Input(Input::Lost(Lost { stage: Stage::Recording, count: 10, groups: None })),
                Item::Input(Input::Coverage(_)),
                Item::Input(Input::Inventory(inventory)),
                Item::Input(Input::Settled),
            ] if inventory.group(7).is_some()
        );
        assert!(told, "{items:?}");
    }
}
