//! Writing to stdout without waiting for whoever reads it, as far as the kernel has a way to.

use std::{io, os::fd::OwnedFd, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FileType, fstat},
    net::{SendFlags, send},
};

/// What a pipe that can be written takes at once, without making the writer wait (pipe(7), PIPE_BUF; its page is free).
const PIECE: usize = 4096;

/// Where lines are written to.
pub trait Sink: Send + Sync {
    /// Writes what there is room for; `WouldBlock`: there is none now.
    fn write_some(&self, bytes: &[u8]) -> io::Result<usize>;
    /// Waits until there may be room, so long at most.
    fn wait(&self, patience: Duration);
    /// Writing never waits for the reader: it may be done from anywhere.
    fn never_waits(&self) -> bool;
    /// What it is called where something is told of it.
    fn name(&self) -> &'static str;
}

impl Sink for Box<dyn Sink> {
    fn write_some(&self, bytes: &[u8]) -> io::Result<usize> {
        (**self).write_some(bytes)
    }

    fn wait(&self, patience: Duration) {
        (**self).wait(patience);
    }

    fn never_waits(&self) -> bool {
        (**self).never_waits()
    }

    fn name(&self) -> &'static str {
        (**self).name()
    }
}

/// A descriptor, by what it is.
pub struct Descriptor {
    fd: OwnedFd,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// journald's, under systemd.
    Socket,
    Pipe,
    /// A file, a terminal: what is written may wait for a disk or a person.
    Other,
}

impl Descriptor {
    /// A copy of stdout.
    pub fn stdout() -> io::Result<Descriptor> {
        Descriptor::new(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 0)?)
    }

    pub fn new(fd: OwnedFd) -> io::Result<Descriptor> {
        let kind = match FileType::from_raw_mode(fstat(&fd)?.st_mode) {
            FileType::Socket => Kind::Socket,
            FileType::Fifo => Kind::Pipe,
            _ => Kind::Other,
        };
        Ok(Descriptor { fd, kind })
    }

    /// Whether it can be written before the time is over. An error counts as well: writing will tell.
    fn is_ready(&self, patience: Duration) -> io::Result<bool> {
        let mut fds = [PollFd::new(&self.fd, PollFlags::OUT)];
        let timeout = Timespec::try_from(patience).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        Ok(poll(&mut fds, Some(&timeout))? > 0)
    }
}

impl Sink for Descriptor {
    fn write_some(&self, bytes: &[u8]) -> io::Result<usize> {
        let written = match self.kind {
            Kind::Socket => send(&self.fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
            Kind::Pipe if !self.is_ready(Duration::ZERO)? => return Err(io::ErrorKind::WouldBlock.into()),
            Kind::Pipe => rustix::io::write(&self.fd, &bytes[..bytes.len().min(PIECE)]),
            Kind::Other => rustix::io::write(&self.fd, bytes),
        };
        match written? {
            0 if !bytes.is_empty() => Err(io::ErrorKind::WriteZero.into()),
            length => Ok(length),
        }
    }

    fn wait(&self, patience: Duration) {
        match self.kind {
            // It is always ready, also on a full disk.
            Kind::Other => std::thread::sleep(patience),
            // What can't be asked must not be asked over and over.
            Kind::Socket | Kind::Pipe => match self.is_ready(patience) {
                Ok(_) => {}
                Err(_) => std::thread::sleep(patience),
            },
        }
    }

    fn never_waits(&self) -> bool {
        self.kind != Kind::Other
    }

    fn name(&self) -> &'static str {
        "stdout"
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read, os::unix::net::UnixStream, time::Instant};

    use super::*;

    /// Writes until nothing more is taken, and gives how much was.
    fn fill(sink: &Descriptor) -> io::Result<usize> {
        let (mut all, start) = (0, Instant::now());
        loop {
            assert!(start.elapsed() < Duration::from_secs(10), "it is never full");
            match sink.write_some(&[b'x'; 3 * PIECE]) {
                Ok(length) => all += length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(all),
                Err(error) => return Err(error),
            }
        }
    }

    #[test]
    fn a_pipe_that_is_full_is_not_waited_for_and_takes_more_once_it_was_read() -> io::Result<()> {
        let (mut reader, writer) = io::pipe()?;
        let sink = Descriptor::new(writer.into())?;
        assert!(sink.never_waits());
        let all = fill(&sink)?;
        reader.read_exact(&mut vec![0; all])?;
        assert_eq!(sink.write_some(b"more")?, 4);
        drop(reader);
        assert_eq!(sink.write_some(b"x").map_err(|error| error.kind()), Err(io::ErrorKind::BrokenPipe));
        Ok(())
    }

    #[test]
    fn so_is_a_socket_and_nobody_s_end_kills_the_process() -> io::Result<()> {
        let (reader, writer) = UnixStream::pair()?;
        let sink = Descriptor::new(writer.into())?;
        assert!(sink.never_waits() && fill(&sink)? > 0);
        drop(reader);
        assert_eq!(sink.write_some(b"x").map_err(|error| error.kind()), Err(io::ErrorKind::BrokenPipe));
        Ok(())
    }

    #[test]
    fn a_file_may_wait_for_its_disk() -> io::Result<()> {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full")?;
        let sink = Descriptor::new(full.into())?;
        assert!(!sink.never_waits());
        assert_eq!(sink.write_some(b"x").map_err(|error| error.kind()), Err(io::ErrorKind::StorageFull));
        Ok(())
    }
}
