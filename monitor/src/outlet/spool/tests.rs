use std::{os::unix::fs::PermissionsExt, sync::atomic::AtomicU32, sync::atomic::Ordering};

use super::*;

/// A directory of its own, which is removed with it.
pub(in super::super) struct Folder(pub PathBuf);

impl Folder {
    pub(in super::super) fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("iommu-watch-spool-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Folder(path)
    }

    fn open(&self, bound: u64) -> Spool {
        Spool::open(&self.0, bound).expect("a spool")
    }

    pub(in super::super) fn files(&self) -> Vec<String> {
        let files = fs::read_dir(&self.0).expect("a directory").flatten();
        let mut names: Vec<String> =
            files.map(|file| file.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const LARGE: u64 = 64 << 20;

fn drain(spool: &mut Spool) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some(line) = spool.first() {
        lines.push(String::from_utf8(line).expect("it was text").trim_end().to_owned());
        spool.take();
    }
    lines
}

fn numbered(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("line {number}")).collect()
}

fn append(spool: &mut Spool, lines: &[String]) -> usize {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    spool.append(text.as_bytes()).expect("a disk with room")
}

#[test]
fn lines_come_out_in_their_order_and_nothing_is_left() {
    let folder = Folder::new();
    let mut spool = folder.open(LARGE);
    append(&mut spool, &numbered(0..3));
    assert_eq!(spool.first().as_deref(), Some(&b"line 0\n"[..]));
    spool.take();
    append(&mut spool, &numbered(3..5));
    assert_eq!(drain(&mut spool), numbered(1..5));
    assert!(spool.is_empty() && spool.bytes() == 0);
    append(&mut spool, &numbered(5..6));
    assert_eq!((drain(&mut spool), folder.files()), (numbered(5..6), vec![]));
}

#[test]
fn it_is_kept_in_files_of_some_size_that_nobody_else_reads() {
    let folder = Folder::new();
    let mut spool = folder.open(LARGE);
    let long = vec!["x".repeat(100_000); 30];
    append(&mut spool, &long);
    let files = folder.files();
    assert!(files.len() == 3, "{files:?}");
    for file in &files {
        assert_eq!(fs::metadata(folder.0.join(file)).expect("a file").mode() & 0o777, 0o600);
    }
    assert_eq!(fs::metadata(&folder.0).expect("a directory").mode() & 0o777, 0o700);
    assert_eq!(drain(&mut spool), long);
}

/// The first evidence is kept; more goes in as soon as there is room.
#[test]
fn beyond_its_bound_the_newest_is_dropped() {
    let folder = Folder::new();
    let mut spool = folder.open(7 * 10);
    assert_eq!(append(&mut spool, &numbered(0..8)), 7 * 8);
    assert_eq!(append(&mut spool, &numbered(8..12)), 7 + 7, "lines 8 and 9: no half of one");
    assert_eq!(append(&mut spool, &numbered(12..13)), 0);
    spool.first();
    spool.take();
    assert_eq!(append(&mut spool, &numbered(8..9)), 7);
    let all = drain(&mut spool);
    assert_eq!((&all[..9], &all[9..]), (&numbered(1..10)[..], &numbered(8..9)[..]));
}

#[test]
fn what_a_dead_process_left_is_found_by_the_next_one_from_where_it_was_taken() {
    let folder = Folder::new();
    let mut spool = folder.open(LARGE);
    append(&mut spool, &numbered(0..5));
    for _ in 0..2 {
        spool.first();
        spool.take();
    }
    // Read, and not written yet.
    spool.first();
    drop(spool);
    let mut spool = folder.open(LARGE);
    assert_eq!(spool.bytes(), 3 * 7);
    append(&mut spool, &numbered(5..7));
    assert_eq!((drain(&mut spool), spool.damaged()), (numbered(2..7), 0));
}

/// A kill in the middle of a write, and zeros after a power cut.
#[test]
fn half_a_line_is_left_out_and_counted() {
    let folder = Folder::new();
    let mut spool = folder.open(LARGE);
    append(&mut spool, &numbered(0..2));
    drop(spool);
    let file = folder.0.join(&folder.files()[0]);
    let mut left = fs::read(&file).expect("a file");
    left.splice(7..7, *b"\0\0\0\0\n\xff\xfe\n");
    left.extend(b"line 2, of wh");
    fs::write(&file, left).expect("a disk");
    let mut spool = folder.open(LARGE);
    append(&mut spool, &numbered(2..3));
    assert_eq!((drain(&mut spool), spool.damaged()), (numbered(0..3), 3));
    assert_eq!((spool.bytes(), folder.files()), (0, vec![]));
}

#[test]
fn a_full_disk_takes_whole_lines_alone_and_may_have_room_again() {
    let folder = Folder::new();
    let mut spool = folder.open(LARGE);
    append(&mut spool, &numbered(0..1));
    // Half of it still fits.
    spool.write = |file, bytes| match bytes {
        [b'l', ..] => file.write(&bytes[..3]),
        _ => Err(io::ErrorKind::StorageFull.into()),
    };
    let full = spool.append(b"line 1\nline 2\n").expect_err("there is no room");
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    spool.write = File::write;
    append(&mut spool, &numbered(1..3));
    assert_eq!((drain(&mut spool), spool.damaged()), (numbered(0..3), 0));
}

#[test]
fn whatever_is_not_ours_is_neither_read_nor_touched() {
    let folder = Folder::new();
    let mut spool = folder.open(LARGE);
    append(&mut spool, &numbered(0..1));
    drop(spool);
    let name = |sequence: u64, told: u64| Segment { sequence, taken: told, length: 0, told }.name();
    let put = |name: &str, mode: u32| {
        let path = folder.0.join(name);
        fs::write(&path, "forged\n").expect("a disk");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("ours");
        path
    };
    let others = put(&name(1, 0), 0o666);
    let (linked, target) = (folder.0.join(name(2, 0)), put("target", 0o600));
    std::os::unix::fs::symlink(&target, &linked).expect("a link");
    fs::hard_link(&target, folder.0.join(name(3, 0))).expect("a link");
    fs::create_dir(folder.0.join(name(4, 0))).expect("a directory");
    let fifo = folder.0.join(name(5, 0));
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a pipe");
    for foreign in
        [&name(u64::MAX, 0), "0-0.lines", "+000000000000001-0000000000000000.lines", "x.lines", "README"]
    {
        put(foreign, 0o600);
    }
    let before = folder.files().len();
    let mut spool = folder.open(LARGE);
    append(&mut spool, &numbered(1..2));
    assert_eq!((drain(&mut spool), spool.damaged()), (numbered(0..2), 0));
    assert_eq!(folder.files().len(), before - 1, "its own is gone, and nothing else");
    assert!(others.exists());
}

/// Taken beyond the end, more than a line can be, nothing at all.
#[test]
fn a_file_of_ours_that_makes_no_sense_ends_nothing() {
    let folder = Folder::new();
    drop(folder.open(LARGE));
    let put = |sequence, taken, content: &[u8]| {
        let path = folder.0.join(Segment { sequence, taken, length: 0, told: taken }.name());
        fs::write(&path, content).expect("a disk");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("ours");
    };
    put(0, 1000, b"line\n");
    put(1, 0, b"");
    put(2, 0, &vec![b'x'; LONGEST_LINE as usize + 1]);
    put(3, 0, b"line 0\n");
    put(3, 2, b"..line 1\n");
    let mut spool = folder.open(LARGE);
    append(&mut spool, &numbered(2..3));
    assert_eq!((drain(&mut spool), spool.damaged()), (numbered(0..3), 1));
    assert_eq!((spool.bytes(), folder.files()), (0, vec![]));
}

#[test]
fn a_directory_that_can_not_be_used_is_refused_with_what_to_do() {
    let folder = Folder::new();
    let first = folder.open(LARGE);
    let told =
        |path: &Path| Spool::open(path, LARGE).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(told(&folder.0).ends_with("another process has it in use"));
    drop(first);
    fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o777)).expect("ours");
    assert!(told(&folder.0).contains("others than its owner may write in it"));
    assert!(told(Path::new("/proc/spool")).contains("give a directory that this process may write in"));
    let file = folder.0.join("file");
    fs::write(&file, "").expect("a disk");
    assert!(told(&file).contains("file: "), "{}", told(&file));
}

/// As after `mount -o remount,ro`: what is there is written, nothing more goes in.
#[test]
fn what_can_only_be_read_is_still_told() {
    let folder = Folder::new();
    let mut spool = folder.open(LARGE);
    append(&mut spool, &numbered(0..3));
    drop(spool);
    let mut spool = folder.open(LARGE);
    spool.directory = folder.0.join("gone");
    assert!(spool.append(b"line 3\n").is_err());
    spool.directory = folder.0.clone();
    assert_eq!(drain(&mut spool), numbered(0..3));
}
