//! Where physical memory is mapped, from the headers of `/proc/kcore`: the same that the kernel's variables say, without
//! going through its 200,000 symbols for them. Nothing of the memory itself is read.
//!
//! `get_kcore_size` and `read_kcore_iter` (fs/proc/kcore.c) write them: a `PT_LOAD` for each range of memory, with its
//! physical address where it is RAM, and a note with what a crash dump needs to be understood (VMCOREINFO, from 4.19).

use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

use monitor_ebpf::wire::{Symbols, Variable};

/// The running kernel's.
pub const RUNNING: &str = "/proc/kcore";

/// `sizeof(Elf64_Ehdr)` and `sizeof(Elf64_Phdr)`.
const HEADER: usize = 64;
const SEGMENT: usize = 56;
/// `p_type`.
const LOAD: u32 = 1;
const NOTE: u32 = 4;
/// A segment that has no physical address.
const NONE: u64 = u64::MAX;
/// `__START_KERNEL_map` (x86): from here on it is the kernel's own image, which is mapped twice.
const IMAGE: u64 = 0xffff_ffff_8000_0000;
/// Memory is mapped in steps of 1 GiB (`kernel_randomize_memory`, arch/x86/mm/kaslr.c).
const STEP: u64 = 1 << 30;
/// More segments, and longer notes, are not looked at.
const SEGMENTS: usize = 4096;
const NOTES: u64 = 1 << 16;

/// What the running kernel says; `None` where it doesn't: without CAP_SYS_RAWIO, in a container, locked down to
/// `confidentiality`, or without CONFIG_PROC_KCORE.
pub fn running() -> Option<Symbols> {
    read(Path::new(RUNNING)).ok().flatten()
}

fn read(path: &Path) -> io::Result<Option<Symbols>> {
    let file = File::open(path)?;
    let mut header = [0; HEADER];
    file.read_exact_at(&mut header, 0)?;
    let count = usize::from(u16::from_le_bytes([header[56], header[57]]));
    let is_core = header.starts_with(b"\x7fELF\x02\x01") && word(&header, 32) == HEADER as u64;
    if !is_core || count > SEGMENTS {
        return Ok(None);
    }
    let mut segments = vec![0; count * SEGMENT];
    file.read_exact_at(&mut segments, HEADER as u64)?;
    let mut notes = Vec::new();
    if let Some(segment) = of_type(&segments, NOTE).next() {
        notes.resize(word(segment, 32).min(NOTES) as usize, 0);
        file.read_exact_at(&mut notes, word(segment, 8))?;
    }
    Ok(page_offset(&segments).zip(sme_mask(&notes)).map(|(page_offset, sme_mask)| Symbols {
        page_offset_base: Variable::value(page_offset),
        sme_me_mask: Variable::value(sme_mask),
    }))
}

fn of_type(segments: &[u8], kind: u32) -> impl Iterator<Item = &[u8]> {
    segments.chunks_exact(SEGMENT).filter(move |segment| segment.starts_with(&kind.to_le_bytes()))
}

/// The word at an offset; 0 beyond the end.
fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// What lies between the virtual and the physical address of all RAM.
fn page_offset(segments: &[u8]) -> Option<u64> {
    let mut ram = of_type(segments, LOAD)
        .map(|segment| (word(segment, 16), word(segment, 24)))
        .filter(|&(at, physical)| physical != NONE && at < IMAGE)
        .map(|(at, physical)| at.wrapping_sub(physical));
    let offset = ram.next()?;
    // Should the kernel give no physical addresses, no two segments agree, or it is no such number.
    (offset >> 63 != 0 && offset % STEP == 0 && ram.all(|other| other == offset)).then_some(offset)
}

/// `VMCOREINFO_NUMBER(sme_mask)` (arch_crash_save_vmcoreinfo, arch/x86/kernel): a line of text.
fn sme_mask(notes: &[u8]) -> Option<u64> {
    const NAME: &[u8] = b"\nNUMBER(sme_mask)=";
    let at = notes.windows(NAME.len()).position(|window| window == NAME)? + NAME.len();
    let line = notes[at..].split(|&byte| byte == b'\n').next()?;
    std::str::from_utf8(line).ok()?.parse::<i64>().ok().map(|number| number as u64)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const OFFSET: u64 = 0xffff_9d40_0000_0000;

    fn segment(kind: u32, offset: u64, at: u64, physical: u64, len: u64) -> Vec<u8> {
        let words = [u64::from(kind) | 7 << 32, offset, at, physical, len, len, 4096];
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// A file as the kernel writes it, with these ranges of RAM.
    fn kcore(ram: &[(u64, u64)], notes: &str) -> Vec<u8> {
        let mut segments = segment(NOTE, 4096, 0, 0, notes.len() as u64);
        // The image, modules, the map of pages, then RAM.
        segments.extend(segment(LOAD, 1 << 20, 0xffff_ffff_9a00_0000, 0x1a00_0000, 1 << 25));
        segments.extend(segment(LOAD, 1 << 30, 0xffff_b5c0_0000_0000, NONE, 1 << 45));
        for &(at, physical) in ram {
            segments.extend(segment(LOAD, 1 << 40, at, physical, 1 << 20));
        }
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(HEADER, 0);
        file[32] = HEADER as u8;
        file[56..58].copy_from_slice(&((segments.len() / SEGMENT) as u16).to_le_bytes());
        file.extend(segments);
        file.resize(4096, 0);
        file.extend(notes.as_bytes());
        file
    }

    fn found(name: &str, file: &[u8]) -> Option<Symbols> {
        let path = std::env::temp_dir().join(format!("iommu-watch-kcore-{}-{name}", std::process::id()));
        fs::write(&path, file).expect("a file in the temporary directory");
        let found = read(&path);
        fs::remove_file(&path).expect("it was just written");
        found.ok().flatten()
    }

    const RAM: [(u64, u64); 2] = [(OFFSET + 0x1000, 0x1000), (OFFSET + 0x1_0000_0000, 0x1_0000_0000)];
    const NOTE_TEXT: &str = "CORE…VMCOREINFO\nOSRELEASE=6.12\nNUMBER(sme_mask)=0\nNUMBER(x)=1\n";

    #[test]
    fn where_ram_is_mapped_and_the_mask_of_encryption_are_found() {
        let symbols = found("whole", &kcore(&RAM, NOTE_TEXT)).expect("both are there");
        assert_eq!(
            (symbols.page_offset_base, symbols.sme_me_mask),
            (Variable::value(OFFSET), Variable::value(0))
        );
        let marked = NOTE_TEXT.replace("mask)=0", "mask)=140737488355328");
        let symbols = found("marked", &kcore(&RAM, &marked)).expect("both are there");
        assert_eq!(symbols.sme_me_mask, Variable::value(1 << 47));
    }

    #[test]
    fn what_does_not_hold_together_is_not_believed() {
        // No RAM, none with a physical address, and ranges that differ.
        let [first, second] = RAM;
        assert_eq!(found("none", &kcore(&[], NOTE_TEXT)), None);
        assert_eq!(found("zero", &kcore(&[(first.0, 0), (second.0, 0)], NOTE_TEXT)), None);
        assert_eq!(found("differ", &kcore(&[first, (second.0 + STEP, second.1)], NOTE_TEXT)), None);
        assert_eq!(found("odd", &kcore(&[(OFFSET + 0x2000, 0x1000)], NOTE_TEXT)), None);
        // No note of the mask: it may be an AMD machine all the same.
        assert_eq!(found("silent", &kcore(&RAM, "CORE\nOSRELEASE=6.12\n")), None);
    }

    #[test]
    fn any_other_file_is_no_trouble() {
        let whole = kcore(&RAM, NOTE_TEXT);
        for cut in [0, 1, HEADER - 1, HEADER, HEADER + 1, 4000, whole.len() - 1] {
            assert_eq!(found("cut", &whole[..cut]), None, "{cut}");
        }
        let mut many = whole.clone();
        many[56..58].copy_from_slice(&u16::MAX.to_le_bytes());
        assert_eq!(found("many", &many), None);
        let mut long = whole;
        long[HEADER + 32..HEADER + 40].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(found("long", &long), None);
    }
}
