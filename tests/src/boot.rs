//! Runs QEMU once, reads what the guest sends, and says how it ended.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::At;
use crate::serial::Reader;
use crate::{Error, Result};

/// Both count from the start of QEMU.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Until the guest's init is reached.
    pub boot: Duration,
    /// Until the script has ended.
    pub script: Duration,
}

#[derive(Debug)]
pub struct Run {
    pub end: End,
    /// What the script wrote.
    pub output: String,
    pub duration: Duration,
}

#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// The script ended, with this code.
    Exit(i32),
    /// The machine ended before the script did.
    Died,
    /// The script went on for too long.
    Timeout,
    /// The guest's init was not reached; what QEMU itself complained of.
    NoBoot(String),
}

/// Runs `qemu`, whose standard output is the guest's second serial port. With `echo`, the script's output
/// is shown as it comes.
pub fn run(qemu: &mut Command, limits: &Limits, echo: bool) -> Result<Run> {
    let start = Instant::now();
    let mut child = qemu
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| Error::Spawn { program: qemu.get_program().display().to_string(), source })?;
    let bytes = stream(&mut child);
    let mut reader = Reader::default();
    let mut output = Vec::new();
    let timed_out = loop {
        let limit = if reader.booted { limits.script } else { limits.boot };
        match bytes.recv_timeout(limit.saturating_sub(start.elapsed())) {
            Ok(bytes) => {
                let new = reader.feed(&bytes);
                if echo {
                    let mut stdout = std::io::stdout().lock();
                    // A closed pipe must not end the run.
                    let _ = stdout.write_all(&new).and_then(|()| stdout.flush());
                }
                output.extend(new);
            }
            Err(RecvTimeoutError::Disconnected) => break false,
            Err(RecvTimeoutError::Timeout) => break true,
        }
    };
    if timed_out {
        child.kill().at("qemu-system-x86_64")?;
    }
    let complaint = complaint(&mut child);
    child.wait().at("qemu-system-x86_64")?;

    let end = match reader.exit {
        Some(exit) => End::Exit(exit),
        None if !reader.booted => End::NoBoot(complaint),
        None if timed_out => End::Timeout,
        None => End::Died,
    };
    let output = String::from_utf8_lossy(&output).into_owned();
    Ok(Run { end, output, duration: start.elapsed() })
}

/// The guest's bytes as they come.
fn stream(child: &mut Child) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    if let Some(mut stdout) = child.stdout.take() {
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = stdout.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
    }
    receiver
}

/// What QEMU itself had to say.
fn complaint(child: &mut Child) -> String {
    let mut text = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        // Unreadable text only makes the message poorer.
        let _ = stderr.read_to_string(&mut text);
    }
    text.lines().filter(|line| !line.contains("warning:")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shell in QEMU's place.
    fn ran(script: &str) -> Run {
        let limits = Limits { boot: Duration::from_millis(500), script: Duration::from_secs(1) };
        run(Command::new("sh").args(["-c", script]), &limits, false).unwrap()
    }

    #[test]
    fn the_script_s_exit_is_what_its_mark_says() {
        let run = ran(r"printf '\036testbed:booted\036hello\036testbed:exit 3\036'");
        assert_eq!((run.end, run.output.as_str()), (End::Exit(3), "hello"));
    }

    #[test]
    fn a_machine_that_ends_without_the_mark_died() {
        let run = ran(r"printf '\036testbed:booted\036half'");
        assert_eq!((run.end, run.output.as_str()), (End::Died, "half"));
    }

    #[test]
    fn a_script_that_goes_on_is_stopped() {
        let run = ran(r"printf '\036testbed:booted\036'; exec sleep 60");
        assert_eq!(run.end, End::Timeout);
        assert!(run.duration < Duration::from_secs(30));
    }

    #[test]
    fn a_boot_that_hangs_is_no_boot() {
        assert_eq!(ran("exec sleep 60").end, End::NoBoot(String::new()));
        assert_eq!(ran("echo no such device >&2").end, End::NoBoot("no such device".into()));
    }
}
