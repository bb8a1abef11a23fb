//! Where a few variables of the kernel lie, from its list of symbols. Hardware tables point to each other by
//! physical address; where physical memory is mapped is in a variable, whose value a program reads.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use monitor_ebpf::wire::{Symbols, Variable};

use super::kcore;

/// The running kernel's list.
pub const RUNNING: &str = "/proc/kallsyms";

/// Longer lines are cut: no symbol has so long a name (`KSYM_NAME_LEN`, 512).
const LINE: u64 = 1024;
/// More lines are not read. A kernel has some 200,000 symbols.
const LINES: usize = 2_000_000;

/// What the list says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kallsyms {
    pub symbols: Symbols,
    /// Why `page_offset_base` isn't known, for a person; empty where it is.
    pub reason: &'static str,
}

impl Kallsyms {
    /// No list was asked for.
    pub const NOT_READ: Kallsyms =
        Kallsyms { symbols: Symbols::UNKNOWN, reason: "no list of the kernel's symbols was given" };
}

/// What the running kernel says: in a few headers if it does, else in its list of symbols. That there is none is
/// no error: its reason says so.
pub fn running() -> Kallsyms {
    if let Some(symbols) = kcore::running() {
        return Kallsyms { symbols, reason: "" };
    }
    read(Path::new(RUNNING))
        .unwrap_or(Kallsyms { symbols: Symbols::UNKNOWN, reason: "/proc/kallsyms can't be read" })
}

/// Whether the running kernel shows no address of its functions to this process.
pub fn hides_addresses() -> bool {
    File::open(RUNNING).is_ok_and(|list| hides(BufReader::new(list)))
}

/// By the first function; variables of each CPU have small addresses, and 0 is one of them.
fn hides(mut list: impl BufRead) -> bool {
    let mut line = Vec::new();
    for _ in 0..LINES {
        line.clear();
        if list.by_ref().take(LINE).read_until(b'\n', &mut line).unwrap_or(0) == 0 {
            break;
        }
        let mut words = line.split(|&byte| byte == b' ');
        if let (Some(address), Some(b"t" | b"T")) = (words.next(), words.next()) {
            return address.iter().all(|&digit| digit == b'0');
        }
    }
    false
}

/// Reads a list: lines of an address, a type and a name.
pub fn read(path: &Path) -> io::Result<Kallsyms> {
    parse(BufReader::with_capacity(1 << 16, File::open(path)?))
}

/// Which of these functions a list has.
pub fn names<'a>(path: &Path, wanted: &[&'a str]) -> io::Result<HashSet<&'a str>> {
    let mut list = BufReader::with_capacity(1 << 16, File::open(path)?);
    let wanted: HashMap<&[u8], &str> = wanted.iter().map(|name| (name.as_bytes(), *name)).collect();
    let (mut found, mut line) = (HashSet::new(), Vec::new());
    for _ in 0..LINES {
        line.clear();
        if list.by_ref().take(LINE).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let name = line.trim_ascii_end().splitn(3, |&byte| byte == b' ').nth(2);
        found.extend(name.and_then(|name| wanted.get(name)));
    }
    Ok(found)
}

/// Reads no further than to the last name that is looked for.
fn parse(mut list: impl BufRead) -> io::Result<Kallsyms> {
    let mut symbols = Symbols::UNKNOWN;
    let (mut offset_there, mut mask_there) = (false, false);
    let mut line = Vec::new();
    for _ in 0..LINES {
        line.clear();
        if offset_there && mask_there || list.by_ref().take(LINE).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        // A symbol of a module has the module's name behind its own.
        if let Some(address) = address_of(&line, b" page_offset_base\n") {
            (symbols.page_offset_base, offset_there) = (Variable::at(address), true);
        } else if let Some(address) = address_of(&line, b" sme_me_mask\n") {
            (symbols.sme_me_mask, mask_there) = (Variable::at(address), true);
        }
    }
    let reason = match (offset_there, symbols.page_offset_base.address) {
        (_, 1..) => "",
        (true, 0) => "the kernel hides its addresses; give CAP_SYSLOG, or set kernel.kptr_restrict to 1 or 0",
        (false, _) => "the kernel's symbols have no page_offset_base",
    };
    Ok(Kallsyms { symbols, reason })
}

/// The address on a line that ends in this name.
fn address_of(line: &[u8], name: &[u8]) -> Option<u64> {
    let (head, _) = line.split_at_checked(line.len().checked_sub(name.len())?)?;
    if !line.ends_with(name) {
        return None;
    }
    let text = std::str::from_utf8(head).ok()?;
    u64::from_str_radix(text.split(' ').next()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Kallsyms {
        parse(text.as_bytes()).expect("memory can be read")
    }

    #[test]
    fn both_variables_are_found_among_others() {
        let text = "0000000000000000 A fixed_percpu_data\nffffffff8100 T _text\nffffffff825d85a8 D page_offset_base\n\
                    ffffffff825d85b0 d not_page_offset_base\nffffffff82c46218 D sme_me_mask\n";
        let expected = Symbols {
            page_offset_base: Variable::at(0xffff_ffff_825d_85a8),
            sme_me_mask: Variable::at(0xffff_ffff_82c4_6218),
        };
        assert_eq!(parsed(text), Kallsyms { symbols: expected, reason: "" });
    }

    #[test]
    fn hidden_addresses_are_not_available() {
        let found = parsed("0000000000000000 D page_offset_base\n0000000000000000 D sme_me_mask\n");
        assert_eq!(found.symbols, Symbols::UNKNOWN);
        assert!(found.reason.contains("kptr_restrict"));
    }

    #[test]
    fn addresses_are_hidden_where_the_first_function_has_none() {
        let hides = |text: &str| hides(text.as_bytes());
        assert!(hides("0000000000000000 A fixed_percpu_data\n0000000000000000 T _text\n"));
        assert!(!hides("0000000000000000 A fixed_percpu_data\nffffffff81000000 T _text\n"));
        assert!(!hides(""));
    }

    #[test]
    fn a_list_without_it_says_so() {
        assert!(parsed("").reason.contains("no page_offset_base"));
        assert!(
            parsed("ffffffff825d85a8 D page_offset_base\t[module]\n").reason.contains("no page_offset_base")
        );
    }

    #[test]
    fn nothing_is_read_behind_the_last_name() {
        let text = "ffffffff825d85a8 D page_offset_base\nffffffff82c46218 D sme_me_mask\nmore\nmore\n";
        let mut list = BufReader::with_capacity(8, text.as_bytes());
        parse(&mut list).expect("memory can be read");
        let mut rest = String::new();
        list.read_to_string(&mut rest).expect("text");
        assert_eq!(rest, "more\nmore\n");
    }

    #[test]
    fn a_line_without_end_is_no_trouble() {
        let endless = [b"x".repeat(1 << 20), b"\nffffffff825d85a8 D page_offset_base\n".to_vec()].concat();
        let found = parse(endless.as_slice()).expect("memory can be read");
        assert_eq!(found.symbols.page_offset_base, Variable::at(0xffff_ffff_825d_85a8));
        let nonsense =
            parse(&b"\xff\xfe page_offset_base\n page_offset_base\n"[..]).expect("memory can be read");
        assert_eq!(nonsense.symbols, Symbols::UNKNOWN);
    }
}
