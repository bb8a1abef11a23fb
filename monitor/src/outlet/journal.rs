//! journald's own protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL): each line becomes an entry, with a message that a person
//! reads and with fields that `journalctl` finds it by. What can't be sent now is no other than a line that stdout doesn't
//! take: the bounds and the spool are the same.

mod entry;

use std::{
    fs::File,
    io::{self, IoSlice, Write},
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
    os::unix::net::UnixDatagram,
    path::Path,
    thread,
    time::Duration,
};

use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, fstat, memfd_create},
    io::Errno,
    net::{
        SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, sendmsg_addr, sendto,
        sockopt::set_socket_send_buffer_size,
    },
};

use super::sink::Sink;

pub use entry::{FIELDS, Field, MESSAGE_IDS, OTHERS};

/// Where journald listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";
/// By this systemd says that an output is the journal (systemd.exec(5)): `DEVICE:INODE`.
const STREAM: &str = "JOURNAL_STREAM";
/// What a datagram may take, as far as the kernel's bound for it goes; longer ones go another way.
const DATAGRAM: usize = 8 << 20;

/// The journal's socket.
pub struct Journal {
    socket: UnixDatagram,
    address: SocketAddrUnix,
}

/// Whether stdout is the journal.
pub fn is_stdout() -> bool {
    std::env::var(STREAM).is_ok_and(|stream| names(&stream, rustix::stdio::stdout()))
}

fn names(stream: &str, output: impl AsFd) -> bool {
    let found =
        stream.split_once(':').and_then(|(device, inode)| Some((device.parse().ok()?, inode.parse().ok()?)));
    fstat(output).is_ok_and(|is| found == Some((is.st_dev, is.st_ino)))
}

impl Journal {
    /// An error: nobody listens there, or this process may not send there.
    pub fn open(path: &Path) -> io::Result<Journal> {
        UnixDatagram::unbound()?.connect(path)?;
        Journal::at(path)
    }

    /// Not connected: a journald that comes back is found again.
    fn at(path: &Path) -> io::Result<Journal> {
        let socket = UnixDatagram::unbound()?;
        // A smaller bound makes more of them go the other way, and no less.
        let _ = set_socket_send_buffer_size(&socket, DATAGRAM);
        Ok(Journal { socket, address: SocketAddrUnix::new(path)? })
    }

    fn send(&self, entry: &[u8]) -> io::Result<()> {
        match sendto(&self.socket, entry, SendFlags::DONTWAIT | SendFlags::NOSIGNAL, &self.address) {
            Ok(_) => Ok(()),
            Err(Errno::MSGSIZE) => self.send_by_memory(entry),
            Err(error) => Err(passing(error)),
        }
    }

    /// What is too long for a datagram goes as a file in memory that nobody can change any more.
    fn send_by_memory(&self, entry: &[u8]) -> io::Result<()> {
        let memory = memfd_create("iommu-watch-entry", MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC)?;
        let mut file = File::from(memory);
        file.write_all(entry)?;
        let memory = OwnedFd::from(file);
        fcntl_add_seals(&memory, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
        let descriptors = [memory.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let sent = sendmsg_addr(&self.socket, &self.address, &[IoSlice::new(&[])], &mut control, flags);
        sent.map(drop).map_err(passing)
    }
}

/// A journald that is full, or away while it is started anew, takes it later.
fn passing(error: Errno) -> io::Error {
    match error {
        Errno::AGAIN | Errno::NOBUFS | Errno::NOENT | Errno::CONNREFUSED => io::ErrorKind::WouldBlock.into(),
        other => other.into(),
    }
}

impl Sink for Journal {
    /// One line.
    fn write_some(&self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |end| end + 1);
        let line = bytes[..length].trim_ascii();
        if !line.is_empty() {
            self.send(&entry::of_line(line))?;
        }
        Ok(length)
    }

    /// Of a socket that isn't connected the kernel doesn't say when there is room.
    fn wait(&self, patience: Duration) {
        thread::sleep(patience);
    }

    fn never_waits(&self) -> bool {
        true
    }

    fn name(&self) -> &'static str {
        "the journal"
    }
}

#[cfg(test)]
mod tests;
