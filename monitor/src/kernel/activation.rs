//! Sockets that a service manager hands over (sd_listen_fds(3)): of all that may come that way, those that pages can be
//! served on, or what is wrong and what would be right.

use std::{
    io,
    net::TcpListener,
    os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd},
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::{
    fs::{FileType, fstat},
    net::{AddressFamily, SocketType, sockopt},
};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "what the service manager says of its sockets (LISTEN_FDS) can't be used: {0}; start the socket unit anew"
    )]
    Protocol(#[source] io::Error),
    #[error("the service manager hands over `{name}`, which {is}; {right}")]
    Unfit { name: String, is: &'static str, right: &'static str },
}

const TCP: &str = "give ListenStream= an address and a port, as in 127.0.0.1:9436";
const ONE: &str = "the socket unit has to keep Accept=no";

/// The sockets, if any were handed to this process; once: whoever calls again gets none. To be called before anything else
/// has opened a descriptor: a number that is too high would be that one's.
pub fn handed() -> Result<Vec<TcpListener>, Error> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    // It checks LISTEN_PID, and that each of them is open. Its way of giving names takes those of another process amiss.
    let descriptors: Vec<RawFd> = sd_notify::listen_fds().map_err(Error::Protocol)?.collect();
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    for &number in &descriptors {
        let name = names.next().filter(|name| !name.is_empty());
        // SAFETY: it was found open just now, and nothing closes it: no other thread runs yet.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        if let Some((is, right)) = unfit(descriptor).map_err(Error::Protocol)? {
            let name = name.map_or(format!("descriptor {number}"), str::to_owned);
            return Err(Error::Unfit { name, is, right });
        }
    }
    // SAFETY: each is open, and ours by the protocol, whose variables name this process; it is a socket that listens, of
    // which this process has made none yet, so that nothing else owns it; and by `TAKEN` it is taken once.
    let own = |number| unsafe { OwnedFd::from_raw_fd(number) };
    Ok(descriptors.into_iter().map(|number| own(number).into()).collect())
}

/// What it is instead of a TCP socket that listens, and what would be right.
fn unfit(descriptor: BorrowedFd<'_>) -> io::Result<Option<(&'static str, &'static str)>> {
    if FileType::from_raw_mode(fstat(descriptor)?.st_mode) != FileType::Socket {
        return Ok(Some(("is no socket", TCP)));
    }
    Ok(match sockopt::socket_domain(descriptor)? {
        AddressFamily::UNIX => Some(("is a Unix socket", TCP)),
        AddressFamily::INET | AddressFamily::INET6 => match sockopt::socket_type(descriptor)? {
            SocketType::STREAM if sockopt::socket_acceptconn(descriptor)? => None,
            SocketType::STREAM => Some(("is a connection", ONE)),
            _ => Some(("is no TCP socket", TCP)),
        },
        _ => Some(("is no TCP socket", TCP)),
    })
}

#[cfg(test)]
mod tests {
    use std::{
        net::{Ipv4Addr, TcpStream, UdpSocket},
        os::{fd::AsFd, unix::net::UnixDatagram},
    };

    use super::*;

    #[test]
    fn what_listens_is_taken_and_all_else_is_refused_with_what_would_be_right() -> io::Result<()> {
        let any = (Ipv4Addr::LOCALHOST, 0);
        let listening = TcpListener::bind(any)?;
        let connection = TcpStream::connect(listening.local_addr()?)?;
        assert_eq!(unfit(listening.as_fd())?, None);
        assert_eq!(unfit(connection.as_fd())?, Some(("is a connection", ONE)));
        for (descriptor, is) in [
            (OwnedFd::from(std::fs::File::open("/dev/null")?), "is no socket"),
            (UnixDatagram::unbound()?.into(), "is a Unix socket"),
            (UdpSocket::bind(any)?.into(), "is no TCP socket"),
        ] {
            assert_eq!(unfit(descriptor.as_fd())?, Some((is, TCP)));
        }
        Ok(())
    }
}
