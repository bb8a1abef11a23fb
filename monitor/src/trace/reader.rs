//! Recordings read back. The bytes may be torn, flipped or made to harm: what is not as it was written
//! ends the reading, with its offset, and no length read from outside decides how much is allocated.

use std::io::{self, Read};

use monitor_ebpf::wire;
use zerocopy::{FromBytes, IntoBytes};

use super::{
    Damage, Error, Head, block,
    content::{self, End, Ending, Stack},
    frame::{self, Frame, Kind},
    mark::Mark,
};
use crate::event;
use crate::input::Input;

/// What a recording says at one time.
#[derive(Debug)]
pub struct Entry {
    /// CLOCK_MONOTONIC of the host that was recorded.
    pub mono_ns: u64,
    pub item: Item,
}

#[derive(Debug)]
pub enum Item {
    Input(Input),
    /// The frames of a kernel stack, innermost first, by the id that events have for it.
    Stack {
        id: u32,
        frames: Vec<String>,
    },
}

/// A recording, entry by entry. The first error is the last thing that it gives.
pub struct Reader<R> {
    blocks: Blocks<R>,
    head: Head,
    /// Of the block that is read now, and how far it was read.
    content: Vec<u8>,
    at: usize,
    /// Where what the frame before that says begins.
    body: usize,
    ending: Option<Ending>,
    done: bool,
    left_out: u64,
}

impl<R: Read> Reader<R> {
    /// Reads the mark and the head.
    pub fn open(source: R) -> Result<Reader<R>, Error> {
        let mut blocks = Blocks::open(source)?;
        let content = blocks.next()?.ok_or_else(|| blocks.damaged(Damage::Unfinished))?;
        let frame = frame::read(&content, 0).map_err(|what| blocks.damaged(what))?;
        let Some(Frame { kind: Some(Kind::Head), body, end, .. }) = frame else {
            return Err(blocks.damaged(Damage::Place { at: 0 }));
        };
        let head = Head::read(body).map_err(|why| blocks.damaged(Damage::Content { at: 0, why }))??;
        Ok(Reader { blocks, head, at: end, body: end, content, ending: None, done: false, left_out: 0 })
    }

    pub fn head(&self) -> &Head {
        &self.head
    }

    /// What was given last, as it was recorded.
    #[cfg(test)]
    pub(crate) fn body(&self) -> &[u8] {
        self.content.get(self.body..self.at).unwrap_or_default()
    }

    /// Whether the recording goes on in another file. To be asked at its end.
    pub fn is_continued(&self) -> bool {
        self.ending == Some(Ending::Continued)
    }

    /// How many frames and events of a newer iommu-watch, which have no meaning here, were left out so far.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    fn next_entry(&mut self) -> Result<Option<Entry>, Error> {
        loop {
            let at = self.at;
            let damaged = |what| self.blocks.damaged(what);
            let Some(frame) = frame::read(&self.content, at).map_err(damaged)? else {
                match self.blocks.next()? {
                    None if self.ending.is_some() => return Ok(None),
                    None => return Err(self.blocks.damaged(Damage::Unfinished)),
                    Some(_) if self.ending.is_some() => return Err(self.blocks.damaged(Damage::AfterEnd)),
                    Some(content) => (self.content, self.at) = (content, 0),
                }
                continue;
            };
            if self.ending.is_some() {
                return Err(damaged(Damage::AfterEnd));
            }
            let (mono_ns, end) = (frame.mono_ns, frame.end);
            let item = match read_item(&frame, at, &self.head).map_err(damaged)? {
                Said::Item(item) => Some(item),
                Said::Ending(ending) => {
                    self.ending = Some(ending);
                    None
                }
                Said::Nothing => {
                    self.left_out += 1;
                    None
                }
            };
            (self.at, self.body) = (end, at + frame::HEADER);
            if let Some(item) = item {
                return Ok(Some(Entry { mono_ns, item }));
            }
        }
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Result<Entry, Error>;

    fn next(&mut self) -> Option<Result<Entry, Error>> {
        if self.done {
            return None;
        }
        let next = self.next_entry();
        self.done = !matches!(next, Ok(Some(_)));
        next.transpose()
    }
}

/// What a frame comes to.
enum Said {
    Item(Item),
    Ending(Ending),
    /// A newer iommu-watch wrote it.
    Nothing,
}

fn read_item(frame: &Frame<'_>, at: usize, head: &Head) -> Result<Said, Damage> {
    let unreadable = |why| Damage::Content { at, why };
    let Some(kind) = frame.kind else { return Ok(Said::Nothing) };
    let item = match kind {
        Kind::Head => return Err(Damage::Place { at }),
        Kind::End => {
            let End { reason } = content::parse(frame.body).map_err(unreadable)?;
            return Ok(Said::Ending(reason));
        }
        Kind::Event if is_newer(frame.body, head) => return Ok(Said::Nothing),
        Kind::Event => {
            let event = event::decode(frame.body).map_err(|why| Damage::Record { at, why })?;
            Item::Input(Input::Event(event))
        }
        Kind::Stack => {
            let Stack { id, frames } = content::parse::<Stack>(frame.body).map_err(unreadable)?.printable();
            Item::Stack { id, frames }
        }
        _ => match content::read(kind, frame.body).map_err(unreadable)? {
            Some(input) => Item::Input(input),
            None => return Err(Damage::Place { at }),
        },
    };
    Ok(Said::Item(item))
}

fn is_newer(record: &[u8], head: &Head) -> bool {
    wire::Header::read_from_prefix(record).is_ok_and(|(header, _)| head.has_newer_hook(header.hook))
}

/// The blocks of a file, each opened when it is its turn.
struct Blocks<R> {
    source: R,
    /// Where the block begins that was read last, or could not be, and where the next one does.
    begin: u64,
    next: u64,
    number: u32,
}

impl<R: Read> Blocks<R> {
    fn open(source: R) -> Result<Blocks<R>, Error> {
        let mut blocks = Blocks { source, begin: 0, next: 0, number: 0 };
        let bytes = blocks.read(size_of::<Mark>())?;
        match Mark::read_from_bytes(&bytes) {
            Ok(mark) => mark.check()?,
            Err(_) if !bytes.is_empty() && Mark::new().as_bytes().starts_with(&bytes) => {
                let missing = (size_of::<Mark>() - bytes.len()) as u64;
                return Err(blocks.damaged(Damage::Truncated { missing }));
            }
            Err(_) => return Err(Error::Foreign),
        }
        Ok(blocks)
    }

    /// The content of the next block; `None` at the end of the file.
    fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        self.begin = self.next;
        let bytes = self.read(block::HEADER)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let Ok(header) = block::Header::read_from_bytes(&bytes) else {
            return Err(self.truncated(block::HEADER - bytes.len()));
        };
        let length = header.stored().map_err(|what| self.damaged(what))?;
        let stored = self.read(length)?;
        if stored.len() < length {
            return Err(self.truncated(length - stored.len()));
        }
        let content = header.open(self.number, &stored).map_err(|what| self.damaged(what))?;
        self.number = self.number.wrapping_add(1);
        Ok(Some(content))
    }

    /// As many bytes as there are, at most `length`.
    fn read(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.source.by_ref().take(length as u64).read_to_end(&mut bytes)?;
        self.next += bytes.len() as u64;
        Ok(bytes)
    }

    fn truncated(&self, missing: usize) -> Error {
        self.damaged(Damage::Truncated { missing: missing as u64 })
    }

    fn damaged(&self, what: Damage) -> Error {
        Error::Damaged { offset: self.begin, what }
    }
}
