//! What is said beside the lines on stdout while the daemon watches: to whoever reads stderr, if that is without waiting for
//! him. A journal that is stuck takes both, and must hold up the watching by neither.

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::AsFd,
    stdio,
};

/// What a pipe takes at once where it says that it can be written (pipe(7), PIPE_BUF), and a socket as well.
const MOST: usize = 4096;
const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// Says a line on stderr; where that would have to wait it is left out.
pub fn say(line: &str) {
    say_to(stdio::stderr(), line);
}

fn say_to(to: impl AsFd, line: &str) {
    let mut line = line.as_bytes().to_vec();
    line.truncate(MOST - 1);
    line.push(b'\n');
    let mut fds = [PollFd::new(&to, PollFlags::OUT)];
    if poll(&mut fds, Some(&NOW)).is_ok_and(|ready| ready > 0) {
        // Nobody is left to be told that it can't be said.
        let _ = rustix::io::write(&to, &line);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Read},
        os::unix::net::UnixStream,
    };

    use super::*;

    #[test]
    fn a_line_is_said_in_one_piece_and_a_long_one_is_cut() -> io::Result<()> {
        let (mut reader, writer) = io::pipe()?;
        say_to(&writer, "one");
        say_to(&writer, &"x".repeat(2 * MOST));
        drop(writer);
        let mut said = String::new();
        reader.read_to_string(&mut said)?;
        assert_eq!(said, format!("one\n{}\n", "x".repeat(MOST - 1)));
        Ok(())
    }

    #[test]
    fn nobody_who_does_not_read_is_waited_for() -> io::Result<()> {
        let (_reader, writer) = io::pipe()?;
        let (_other, socket) = UnixStream::pair()?;
        // Far more than either holds: this comes to an end.
        for _ in 0..4096 {
            say_to(&writer, &"x".repeat(1000));
            say_to(&socket, &"x".repeat(1000));
        }
        Ok(())
    }
}
