//! Kernel stacks: ids to symbols. Addresses never leave this file.

mod symbols;

use std::{
    cell::RefCell,
    fs::{self, File},
    io::BufReader,
    thread::{self, JoinHandle},
};

use aya::maps::{MapData, StackTraceMap};

use super::{heap, kallsyms, probes::Probes, ring::Error};
use symbols::Symbols;

/// Frames of one stack that are shown.
const DEPTH: usize = 24;

/// Frames that are ours, on top of every stack that a program takes: they say nothing of the kernel.
const OWN: [&str; 2] = ["bpf_prog_", "bpf_trampoline_"];

/// The stacks that the programs took.
pub struct Stacks {
    map: StackTraceMap<MapData>,
    known: RefCell<Option<Known>>,
    /// They are being read beside everything else.
    reading: RefCell<Option<JoinHandle<Known>>>,
}

impl Stacks {
    /// Takes the stack map out of the probes.
    pub fn new(probes: &mut Probes) -> Result<Stacks, Error> {
        let map = probes.take_map("STACKS").ok_or(Error::Missing("STACKS"))?;
        let map = StackTraceMap::try_from(map).map_err(|error| Error::Map("STACKS", error))?;
        Ok(Stacks { map, known: RefCell::new(None), reading: RefCell::new(None) })
    }

    /// The frames of a stack, innermost first, as `function+0xoffset`. `None` if the stack is gone or the
    /// kernel does not tell its symbols (kptr_restrict).
    ///
    /// The kernel's symbols are read for it, which takes a while, unless they were read ahead and no module has come or
    /// gone since: ask only when there is something to report.
    pub fn frames(&self, id: u32) -> Option<Vec<String>> {
        self.prepare();
        let known = self.known.borrow();
        let symbols = &known.as_ref()?.symbols;
        let trace = self.map.get(&id, 0).ok()?;
        let frames: Vec<String> = trace
            .frames()
            .iter()
            .filter_map(|frame| symbols.name(frame.ip))
            .filter(|name| !OWN.iter().any(|own| name.starts_with(own)))
            .take(DEPTH)
            .collect();
        (!frames.is_empty()).then_some(frames)
    }
}

impl Stacks {
    /// Reads the kernel's symbols, unless they are known as they are now: for who can't wait for it later.
    pub fn prepare(&self) {
        let modules = loaded_modules();
        if self.is_known(&modules) {
            return;
        }
        // What is being read already is waited for: that is sooner there than what is begun now.
        let ahead = self.reading.take().and_then(|reading| reading.join().ok());
        let read = ahead.filter(|read| read.modules == modules).unwrap_or_else(|| Known::of(modules));
        self.known.replace(Some(read));
    }

    /// Has the kernel's symbols read beside everything else, unless they are known as they are now. The first report
    /// of a violation would wait for them: some seconds on an emulated machine.
    pub fn read_ahead(&self) {
        let modules = loaded_modules();
        let mut reading = self.reading.borrow_mut();
        let done = reading.take_if(|reading| reading.is_finished());
        if let Some(read) = done.and_then(|done| done.join().ok()) {
            self.known.replace(Some(read));
        }
        if reading.is_none() && !self.is_known(&modules) {
            let read = move || Known::of(modules);
            // Where there is no thread to be had, who needs them first waits for them.
            *reading = thread::Builder::new().name("symbols".into()).spawn(read).ok();
        }
    }

    fn is_known(&self, modules: &str) -> bool {
        self.known.borrow().as_ref().is_some_and(|known| known.modules == modules)
    }
}

/// The modules that are there.
fn loaded_modules() -> String {
    modules(&fs::read_to_string("/proc/modules").unwrap_or_default())
}

/// What /proc/modules says, without the columns that change while the same modules are there.
fn modules(text: &str) -> String {
    text.lines().flat_map(|line| line.split(' ').take(2)).collect::<Vec<_>>().join(" ")
}

/// The kernel's functions, and the modules that were there when they were read.
struct Known {
    symbols: Symbols,
    modules: String,
}

impl Known {
    /// Those of the kernel with these modules; none where it doesn't tell them.
    fn of(modules: String) -> Known {
        let read = || Symbols::parse(BufReader::new(File::open(kallsyms::RUNNING)?));
        let known = Known { modules, symbols: read().unwrap_or_default() };
        // Sorting them took more than is kept of them.
        heap::give_back();
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_that_is_used_is_still_the_same() {
        let before = "nvme 61440 0 - Live 0x0000000000000000\nvfio 45056 2 a,b, Live 0x0000000000000000\n";
        let used = before.replace("61440 0 -", "61440 3 x,y,z,");
        assert_eq!(modules(before), "nvme 61440 vfio 45056");
        assert_eq!(modules(&used), modules(before));
        assert_ne!(modules(before.lines().next().unwrap_or_default()), modules(before));
    }
}
