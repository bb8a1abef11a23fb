//! The kernel's functions by address: some 200,000 of them, kept for as long as the daemon runs. So they are packed, by
//! blocks of neighbours, and a block is unpacked when one of its names is asked for.

use std::io::{self, BufRead};

use miniz_oxide::{deflate, inflate};

/// Functions of a block: 2 KB of text are quickly unpacked, and larger ones would hardly save more.
const NEIGHBOURS: usize = 64;
/// Of `miniz_oxide`'s ten levels: higher ones save little more of such short texts.
const LEVEL: u8 = 6;
/// More lines are not read, nor longer ones: no symbol has such a name (`KSYM_NAME_LEN`, 512).
const MOST: usize = 2_000_000;

/// The functions, by blocks in ascending order of address.
#[derive(Default)]
pub(super) struct Symbols {
    blocks: Vec<Block>,
}

/// Some functions that follow one another.
struct Block {
    /// Where the first of them begins.
    start: u64,
    /// Packed: for each the distance of its address from `start`, in hexadecimal, a space, its name, and a newline.
    text: Box<[u8]>,
}

impl Symbols {
    /// Lines of `address type name [module]`, as /proc/kallsyms has them. Without the right to see addresses they are
    /// all zero, and no function is known.
    pub(super) fn parse(mut lines: impl BufRead) -> io::Result<Symbols> {
        let (mut starts, mut names) = (Vec::<(u64, u32)>::new(), String::new());
        let mut line = String::new();
        for _ in 0..MOST {
            line.clear();
            if lines.read_line(&mut line)? == 0 {
                break;
            }
            let mut words = line.split_ascii_whitespace();
            if let (Some(address), Some("t" | "T" | "w" | "W"), Some(name)) =
                (words.next(), words.next(), words.next())
                && let Ok(address @ 1..) = u64::from_str_radix(address, 16)
                && let Ok(start) = u32::try_from(names.len())
            {
                starts.push((address, start));
                names.push_str(name);
                names.push('\n');
            }
        }
        starts.sort_unstable();
        let name = |at: u32| names[at as usize..].lines().next().unwrap_or_default();
        let blocks = starts.chunks(NEIGHBOURS).map(|neighbours| Block::pack(neighbours, name));
        Ok(Symbols { blocks: blocks.collect() })
    }

    /// The function that an address is in, as `function+0xoffset`.
    pub(super) fn name(&self, address: u64) -> Option<String> {
        let after = self.blocks.partition_point(|block| block.start <= address);
        self.blocks.get(after.checked_sub(1)?)?.name(address)
    }
}

impl Block {
    fn pack<'a>(neighbours: &[(u64, u32)], name: impl Fn(u32) -> &'a str) -> Block {
        let start = neighbours.first().map_or(0, |&(address, _)| address);
        let line = |&(address, at): &(u64, u32)| format!("{:x} {}\n", address - start, name(at));
        let text: String = neighbours.iter().map(line).collect();
        Block { start, text: deflate::compress_to_vec(text.as_bytes(), LEVEL).into() }
    }

    fn name(&self, address: u64) -> Option<String> {
        let text = inflate::decompress_to_vec(&self.text).ok()?;
        let text = std::str::from_utf8(&text).ok()?;
        let within = address - self.start;
        let entries = text.lines().filter_map(|line| {
            let (distance, name) = line.split_once(' ')?;
            Some((u64::from_str_radix(distance, 16).ok()?, name))
        });
        let (distance, name) = entries.take_while(|&(distance, _)| distance <= within).last()?;
        Some(format!("{name}+{:#x}", within - distance))
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
    fn every_function_of_many_blocks_is_found_whatever_their_order() {
        let address = |number: u64| 0xffff_ffff_8100_0000 + number * 16;
        let text: String =
            (0..1000).rev().map(|number| format!("{:x} t function_{number}\n", address(number))).collect();
        let symbols = Symbols::parse(text.as_bytes()).expect("text");
        for number in 0..1000 {
            assert_eq!(symbols.name(address(number) + 4), Some(format!("function_{number}+0x4")));
        }
    }

    #[test]
    fn hidden_addresses_give_no_names() {
        let symbols = Symbols::parse("0000000000000000 T _text\n".as_bytes()).expect("text");
        assert_eq!(symbols.name(0xffff_ffff_8100_0000), None);
    }
}
