//! Kernel stacks: ids to symbols. Addresses never leave this file.

use std::{
    cell::RefCell,
    fs::{self, File},
    io::{self, BufRead, BufReader},
    thread::{self, JoinHandle},
};

use aya::maps::{MapData, StackTraceMap};

use super::{probes::Probes, ring::Error};

/// Frames of one stack that are shown.
const DEPTH: usize = 24;

/// Frames that are ours, on top of every stack that a program takes: they say nothing of the kernel.
const OWN: [&str; 2] = ["bpf_prog_", "bpf_trampoline_"];

/// The stacks that the programs took.
pub struct Stacks {
    map: StackTraceMap<MapData>,
    symbols: RefCell<Option<Symbols>>,
    /// They are being read beside everything else.
    reading: RefCell<Option<JoinHandle<Symbols>>>,
}

impl Stacks {
    /// Takes the stack map out of the probes.
    pub fn new(probes: &mut Probes) -> Result<Stacks, Error> {
        let map = probes.ebpf.take_map("STACKS").ok_or(Error::Missing("STACKS"))?;
        let map = StackTraceMap::try_from(map).map_err(|error| Error::Map("STACKS", error))?;
        Ok(Stacks { map, symbols: RefCell::new(None), reading: RefCell::new(None) })
    }

    /// The frames of a stack, innermost first, as `function+0xoffset`. `None` if the stack is gone or the
    /// kernel does not tell its symbols (kptr_restrict).
    ///
    /// The kernel's symbols are read for it, which takes a while, unless they were read ahead and no module has come or
    /// gone since: ask only when there is something to report.
    pub fn frames(&self, id: u32) -> Option<Vec<String>> {
        self.prepare();
        let symbols = self.symbols.borrow();
        let symbols = symbols.as_ref()?;
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
        let read = ahead.filter(|read| read.modules == modules).unwrap_or_else(|| Symbols::of(modules));
        self.symbols.replace(Some(read));
    }

    /// Has the kernel's symbols read beside everything else, unless they are known as they are now. The first report
    /// of a violation would wait for them: some seconds on an emulated machine.
    pub fn read_ahead(&self) {
        let modules = loaded_modules();
        let mut reading = self.reading.borrow_mut();
        let done = reading.take_if(|reading| reading.is_finished());
        if let Some(read) = done.and_then(|done| done.join().ok()) {
            self.symbols.replace(Some(read));
        }
        if reading.is_none() && !self.is_known(&modules) {
            let read = move || Symbols::of(modules);
            // Where there is no thread to be had, who needs them first waits for them.
            *reading = thread::Builder::new().name("symbols".into()).spawn(read).ok();
        }
    }

    fn is_known(&self, modules: &str) -> bool {
        self.symbols.borrow().as_ref().is_some_and(|known| known.modules == modules)
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

/// The kernel's functions by address: some 200,000 of them, so they are kept small.
#[derive(Default)]
struct Symbols {
    /// Address, and where the name begins in `names`; in ascending order of address.
    starts: Vec<(u64, u32)>,
    /// The names, each with a newline after it.
    names: String,
    /// The modules that were there.
    modules: String,
}

impl Symbols {
    /// Those of the kernel with these modules; none where it doesn't tell them.
    fn of(modules: String) -> Symbols {
        Symbols { modules, ..Symbols::read().unwrap_or_default() }
    }

    fn read() -> io::Result<Symbols> {
        Symbols::parse(BufReader::new(File::open("/proc/kallsyms")?))
    }

    /// Lines of `address type name [module]`. Without the right to see addresses they are all zero.
    fn parse(mut lines: impl BufRead) -> io::Result<Symbols> {
        // Room for those of a usual kernel. What grows by doubling leaves as much behind, and that is never given back.
        let (starts, names) = (Vec::with_capacity(1 << 18), String::with_capacity(1 << 23));
        let mut symbols = Symbols { starts, names, modules: String::new() };
        let mut line = String::new();
        while lines.read_line(&mut line)? != 0 {
            let mut words = line.split_ascii_whitespace();
            if let (Some(address), Some("t" | "T" | "w" | "W"), Some(name)) =
                (words.next(), words.next(), words.next())
                && let Ok(address @ 1..) = u64::from_str_radix(address, 16)
                && let Ok(start) = u32::try_from(symbols.names.len())
            {
                symbols.starts.push((address, start));
                symbols.names.push_str(name);
                symbols.names.push('\n');
            }
            line.clear();
        }
        symbols.starts.sort_unstable();
        symbols.starts.shrink_to_fit();
        symbols.names.shrink_to_fit();
        Ok(symbols)
    }

    fn name(&self, address: u64) -> Option<String> {
        let after = self.starts.partition_point(|&(start, _)| start <= address);
        let (start, at) = *self.starts.get(after.checked_sub(1)?)?;
        let name = self.names.get(at as usize..)?.lines().next()?;
        Some(format!("{name}+{:#x}", address - start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_named_by_the_function_before_it() {
        let text = "ffffffff81000000 T _text\nffffffff81000100 t inner\t[mod]\nffffffff81000180 d data\n";
        let symbols = Symbols::parse(text.as_bytes()).expect("text");
        assert_eq!(symbols.name(0xffff_ffff_8100_0190).as_deref(), Some("inner+0x90"));
        assert_eq!(symbols.name(0x1000), None);
    }

    #[test]
    fn a_module_that_is_used_is_still_the_same() {
        let before = "nvme 61440 0 - Live 0x0000000000000000\nvfio 45056 2 a,b, Live 0x0000000000000000\n";
        let used = before.replace("61440 0 -", "61440 3 x,y,z,");
        assert_eq!(modules(before), "nvme 61440 vfio 45056");
        assert_eq!(modules(&used), modules(before));
        assert_ne!(modules(before.lines().next().unwrap_or_default()), modules(before));
    }

    #[test]
    fn hidden_addresses_give_no_names() {
        let symbols = Symbols::parse("0000000000000000 T _text\n".as_bytes()).expect("text");
        assert_eq!(symbols.name(0xffff_ffff_8100_0000), None);
    }
}
