//! The log of one step: all that its commands wrote, kept in a file and shown where the step fails.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::paths;

/// How much of the log of a failing step is shown.
const SHOWN: usize = 60;
/// How often a long command tells that it is still at work.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

pub struct Log {
    pub path: PathBuf,
    /// Where the output of the last command starts.
    last: Cell<u64>,
}

impl Log {
    /// An empty log for the step `name`.
    pub fn new(name: &str) -> Result<Self> {
        let dir = paths::artefacts();
        fs::create_dir_all(&dir).with_context(|| format!("can't make {}", dir.display()))?;
        let path = dir.join(format!("{name}.log"));
        File::create(&path).with_context(|| format!("can't write {}", path.display()))?;
        Ok(Self { path, last: Cell::new(0) })
    }

    /// Runs `command` with its output going here; whether it ended well.
    pub fn run(&self, command: &mut Command) -> Result<bool> {
        let open = || OpenOptions::new().append(true).open(&self.path).context("can't write the log");
        let file = open()?;
        self.last.set(file.metadata().context("can't read the log")?.len());
        let program = command.get_program().display().to_string();
        let mut child = command
            .env("CARGO_TERM_COLOR", "never")
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(open()?)
            .spawn()
            .with_context(|| format!("can't run {program}"))?;
        let start = Instant::now();
        let mut told = start;
        loop {
            if let Some(status) = child.try_wait().with_context(|| format!("lost {program}"))? {
                return Ok(status.success());
            }
            if told.elapsed() >= SIGN_OF_LIFE {
                told = Instant::now();
                let output = self.last_output()?;
                let line = output.lines().last().unwrap_or_default().trim();
                println!("      … {:.0} s: {line}", start.elapsed().as_secs_f64());
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// What the last command wrote.
    pub fn last_output(&self) -> Result<String> {
        let bytes = fs::read(&self.path).context("can't read the log")?;
        let start = usize::try_from(self.last.get()).unwrap_or(0).min(bytes.len());
        Ok(String::from_utf8_lossy(&bytes[start..]).into_owned())
    }

    /// Shows its end.
    pub fn show(&self) {
        for line in tail(&self.path, SHOWN) {
            println!("      | {line}");
        }
    }
}

/// The last `count` lines of a file, none where it can't be read.
pub fn tail(file: &Path, count: usize) -> Vec<String> {
    let text = fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(count)..].iter().map(|&line| line.to_owned()).collect()
}
