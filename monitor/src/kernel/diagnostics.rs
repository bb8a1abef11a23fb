//! The eBPF programs' own diagnostics (aya-log), and what the kernel says of them: rare, for the person who looks
//! after iommu-watch, on stderr.

use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};

use super::probes::{Loaded, Probes};
use crate::aside::say;

/// What the programs have to say, until it is flushed.
pub struct Diagnostics {
    /// `None` where the kernel refused the map for it, or where a process before this one loaded the programs: then they
    /// stay mute.
    logger: Option<EbpfLogger<Stderr>>,
}

impl Diagnostics {
    /// To be called when every program is loaded: the loader needs the map until then.
    pub fn new(probes: &mut Probes) -> Diagnostics {
        let logger = match &mut probes.loaded {
            Loaded::Here(ebpf) => EbpfLogger::init_with_logger(ebpf, Stderr).ok(),
            Loaded::Before(_) => None,
        };
        Diagnostics { logger }
    }

    /// Writes out what was said since the last time.
    pub fn flush(&mut self) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
    }
}

/// The programs filter by the level that they were given at the start.
struct Stderr;

impl Log for Stderr {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        let level = record.level().as_str().to_ascii_lowercase();
        say(&format!("iommu-watch: eBPF {level}: {}", record.args()));
    }

    fn flush(&self) {}
}

/// Writes out of which programs runs were left out. (What comes of it the loss tells.)
pub fn left_out<'a>(runs: u64, programs: impl Iterator<Item = &'a str>) {
    let programs = programs.collect::<Vec<_>>().join(", ");
    let named = if programs.is_empty() { "kprobes, it doesn't say which" } else { &programs };
    say(&format!("iommu-watch: the kernel left out {runs} runs of eBPF programs: {named}"));
}
