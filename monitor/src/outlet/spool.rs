//! Lines on a disk, for as long as nobody takes them: files of some size that are appended to, read from the oldest on, and
//! removed once their last line was taken. What a process leaves, the next one finds.
//!
//! The name of a file tells its place in the order and how much of it was taken, so that a process which is killed in
//! between has at most one line written twice. When the spool is full it is the newest that is dropped: the first evidence
//! of a storm is worth more than the rest. Nothing is flushed to the disk itself: a process may be killed at any moment, a
//! power cut may cost the last seconds.

use std::{
    collections::VecDeque,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, OFlags, flock},
    process::geteuid,
};

/// A file that has reached this is not appended to any more.
const SEGMENT: u64 = 1 << 20;
/// A line of ours is some KiB. What is longer was not written by us.
const LONGEST_LINE: u64 = 1 << 20;
/// How many files of a directory are looked at.
const MOST_FILES: usize = 1 << 17;

/// A directory that lines are kept in.
pub struct Spool {
    directory: PathBuf,
    /// Held, so that no other process uses the directory.
    _lock: File,
    /// The oldest first.
    segments: VecDeque<Segment>,
    /// The next of them.
    sequence: u64,
    /// The last of them, if it is appended to.
    tail: Option<File>,
    /// The first of them, if it is being read; and how long the line is that was read last.
    head: Option<BufReader<File>>,
    read: u64,
    /// What the segments hold that was not taken, and how much that may be, in bytes.
    bytes: u64,
    bound: u64,
    /// Lines that were damaged.
    damaged: u64,
    write: fn(&mut File, &[u8]) -> io::Result<usize>,
}

struct Segment {
    sequence: u64,
    /// How much of it was taken, and how much there is, in bytes.
    taken: u64,
    length: u64,
    /// How much was taken, by its name.
    told: u64,
}

/// Why a directory is no spool.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {source}; give a directory that this process may write in")]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "{path}: others than its owner may write in it, or it is somebody else's; chmod 0700, and chown it to the daemon's user"
    )]
    Open { path: PathBuf },
    #[error("{path}: another process has it in use")]
    InUse { path: PathBuf },
}

impl Spool {
    /// Opens a directory, which is made if there is none, and finds what is left in it.
    pub fn open(directory: &Path, bound: u64) -> Result<Spool, Error> {
        let failed = |source| Error::Io { path: directory.into(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        let flags = OFlags::DIRECTORY.bits().cast_signed();
        let lock = OpenOptions::new().read(true).custom_flags(flags).open(directory).map_err(failed)?;
        if !is_ours(&lock.metadata().map_err(failed)?) {
            return Err(Error::Open { path: directory.into() });
        }
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
            rustix::io::Errno::WOULDBLOCK => Error::InUse { path: directory.into() },
            error => failed(error.into()),
        })?;
        let segments = segments(directory).map_err(failed)?;
        Ok(Spool {
            directory: directory.into(),
            _lock: lock,
            sequence: segments.back().map_or(0, |last| last.sequence + 1),
            bytes: segments.iter().map(Segment::left).sum(),
            segments,
            tail: None,
            head: None,
            read: 0,
            bound,
            damaged: 0,
            write: File::write,
        })
    }

    /// Appends whole lines: as many of them as there is room for. Gives how many bytes those are.
    pub fn append(&mut self, lines: &[u8]) -> io::Result<usize> {
        let room = usize::try_from(self.bound.saturating_sub(self.bytes)).unwrap_or(usize::MAX);
        let fits = match lines.get(..room) {
            None => lines.len(),
            Some(first) => first.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1),
        };
        let mut done = 0;
        for line in lines[..fits].split_inclusive(|&byte| byte == b'\n') {
            // What is on the disk by then is there.
            match self.append_one(line) {
                Ok(()) => done += line.len(),
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    fn append_one(&mut self, line: &[u8]) -> io::Result<()> {
        let full = self.segments.back().is_none_or(|last| last.length >= SEGMENT);
        if self.tail.is_none() || full {
            let (segment, file) = self.create()?;
            self.segments.push_back(segment);
            self.tail = Some(file);
        }
        let (Some(tail), Some(last)) = (&mut self.tail, self.segments.back_mut()) else { return Ok(()) };
        let mut rest = line;
        while !rest.is_empty() {
            match (self.write)(tail, rest) {
                Ok(length) if length > 0 => rest = &rest[length..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => {
                    // Nothing half-written is left. If that fails as well, it isn't appended to any more.
                    if tail.set_len(last.length).is_err() {
                        self.tail = None;
                    }
                    return Err(other.err().unwrap_or_else(|| io::ErrorKind::WriteZero.into()));
                }
            }
        }
        last.length += line.len() as u64;
        self.bytes += line.len() as u64;
        Ok(())
    }

    /// A file that there was not, behind all others.
    fn create(&mut self) -> io::Result<(Segment, File)> {
        let mut options = OpenOptions::new();
        options.append(true).create_new(true).mode(0o600);
        for _ in 0..MOST_FILES {
            let segment = Segment { sequence: self.sequence, taken: 0, length: 0, told: 0 };
            self.sequence += 1;
            match options.open(self.directory.join(segment.name())) {
                // One that is not ours.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => return other.map(|file| (segment, file)),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// The oldest line that was not taken, with its newline; it is taken by [`Spool::take`]. What is damaged is left out
    /// and counted, and a file that can't be read with it.
    pub fn first(&mut self) -> Option<Vec<u8>> {
        while !self.segments.is_empty() {
            match self.read_line() {
                Ok(Some(line)) => {
                    self.read = line.len() as u64;
                    return Some(line);
                }
                Ok(None) => self.remove_first(),
                // It is left to the next process, which may have more luck with it.
                Err(_) => {
                    self.damaged += 1;
                    self.forget_first();
                }
            }
        }
        None
    }

    /// A whole line of the first file; `None`: there is no more in it.
    fn read_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(segment) = self.segments.front_mut() else { return Ok(None) };
        let mut head = match self.head.take() {
            Some(head) => head,
            None => {
                let mut file = open_ours(&self.directory.join(segment.name()))?;
                file.seek(SeekFrom::Start(segment.taken))?;
                BufReader::new(file)
            }
        };
        loop {
            let mut line = Vec::new();
            let length = (&mut head).take(LONGEST_LINE).read_until(b'\n', &mut line)? as u64;
            let whole = line.last() == Some(&b'\n');
            // After a power cut there may be zeros where lines were.
            if whole && !line.contains(&0) && std::str::from_utf8(&line).is_ok() {
                self.head = Some(head);
                return Ok(Some(line));
            }
            if length == 0 {
                return Ok(None);
            }
            // Its process was killed within the last one. What is longer than a line comes in pieces.
            self.damaged += u64::from(whole || length < LONGEST_LINE);
            segment.taken += length;
            self.bytes = self.bytes.saturating_sub(length);
        }
    }

    /// The line that was read last was written.
    pub fn take(&mut self) {
        let length = std::mem::take(&mut self.read);
        let Some(segment) = self.segments.front_mut().filter(|_| length > 0) else { return };
        segment.taken += length;
        self.bytes = self.bytes.saturating_sub(length);
        if segment.left() == 0 {
            return self.remove_first();
        }
        let before = self.directory.join(segment.name());
        let told = std::mem::replace(&mut segment.told, segment.taken);
        if fs::rename(before, self.directory.join(segment.name())).is_err() {
            // The next process writes it again, which is better than not at all.
            segment.told = told;
        }
    }

    fn remove_first(&mut self) {
        if let Some(segment) = self.forget_first() {
            // That it stays is for the next process to mend.
            let _ = fs::remove_file(self.directory.join(segment.name()));
        }
    }

    fn forget_first(&mut self) -> Option<Segment> {
        let segment = self.segments.pop_front()?;
        self.bytes = self.bytes.saturating_sub(segment.left());
        self.head = None;
        if self.segments.is_empty() {
            self.tail = None;
        }
        Some(segment)
    }

    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Lines that were left out because they were damaged.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }
}

impl Segment {
    fn name(&self) -> String {
        format!("{:016x}-{:016x}.lines", self.sequence, self.told)
    }

    /// From its name; `None`: it is none of ours.
    fn of(name: &str) -> Option<Segment> {
        let (sequence, taken) = name.strip_suffix(".lines")?.split_once('-')?;
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        let (sequence, taken) = (number(sequence)?, number(taken)?);
        let segment = Segment { sequence, taken, length: 0, told: taken };
        // Written in another way it would be another file.
        (segment.name() == name && segment.sequence < u64::MAX / 2).then_some(segment)
    }

    fn left(&self) -> u64 {
        self.length.saturating_sub(self.taken)
    }
}

/// What is left in a directory. Whatever is not ours stays where it is.
fn segments(directory: &Path) -> io::Result<VecDeque<Segment>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)?.take(MOST_FILES) {
        let entry = entry?;
        let Some(mut segment) = entry.file_name().to_str().and_then(Segment::of) else { continue };
        let Ok(file) = open_ours(&entry.path()) else { continue };
        segment.length = file.metadata()?.len();
        found.push(segment);
    }
    found.sort_by_key(|segment| (segment.sequence, segment.taken));
    Ok(found.into())
}

/// A regular file that nobody else could have written: what is in it is told as our own.
fn open_ours(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() && metadata.nlink() == 1 && is_ours(&metadata) {
        Ok(file)
    } else {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

fn is_ours(metadata: &fs::Metadata) -> bool {
    metadata.uid() == geteuid().as_raw() && metadata.mode() & 0o022 == 0
}

#[cfg(test)]
pub(super) mod tests;
