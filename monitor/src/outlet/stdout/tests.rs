use std::sync::{Mutex, PoisonError};

use super::super::spool::tests::Folder;
use super::*;

const SOON: Duration = Duration::from_secs(10);

/// A reader that takes so many bytes, and no more until it is told to.
#[derive(Clone, Default)]
struct Reader(Arc<(Mutex<Taken>, Condvar)>);

#[derive(Default)]
struct Taken {
    room: usize,
    text: String,
    fails: Option<io::ErrorKind>,
    /// How often the thread of the outlet wrote, and the others did.
    by_thread: usize,
    at_once: usize,
    waits: bool,
}

impl Sink for Reader {
    fn write_some(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut taken = lock(&self.0.0);
        if let Some(kind) = taken.fails {
            return Err(kind.into());
        }
        let length = bytes.len().min(taken.room);
        if length == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        taken.room -= length;
        taken.text += &String::from_utf8_lossy(&bytes[..length]);
        match thread::current().name() {
            Some("output") => taken.by_thread += 1,
            _ => taken.at_once += 1,
        }
        self.0.1.notify_all();
        Ok(length)
    }

    fn wait(&self, _: Duration) {
        thread::sleep(Duration::from_millis(1));
    }

    fn never_waits(&self) -> bool {
        !lock(&self.0.0).waits
    }

    fn name(&self) -> &'static str {
        "stdout"
    }
}

impl Reader {
    fn with_room(room: usize) -> Reader {
        let reader = Reader::default();
        lock(&reader.0.0).room = room;
        reader
    }

    fn takes(&self, room: usize) {
        lock(&self.0.0).room = room;
    }

    fn fails(&self, kind: Option<io::ErrorKind>) {
        lock(&self.0.0).fails = kind;
    }

    fn text(&self) -> String {
        lock(&self.0.0).text.clone()
    }

    #[track_caller]
    fn wait_for(&self, text: &str) {
        let (start, mut taken) = (Instant::now(), lock(&self.0.0));
        while taken.text != text {
            assert!(start.elapsed() < SOON, "{:?} instead of {text:?}", taken.text);
            let woken = self.0.1.wait_timeout(taken, Duration::from_millis(50));
            taken = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn start(reader: &Reader, spool: Option<(&Folder, u64)>) -> Outlet {
    let spool = spool.map(|(folder, bound)| {
        let path = folder.0.clone();
        Box::new(move || Spool::open(&path, bound)) as Opener
    });
    Outlet::start(reader.clone(), spool, None).expect("a thread")
}

#[track_caller]
fn until(what: impl Fn() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < SOON, "it never comes");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn what_is_taken_at_once_is_written_by_whoever_has_it() {
    let reader = Reader::with_room(1 << 20);
    let outlet = start(&reader, None);
    for number in 0..3 {
        outlet.send(format!("line {number}\n")).expect("somebody reads");
    }
    assert_eq!(reader.text(), "line 0\nline 1\nline 2\n");
    assert_eq!((lock(&reader.0.0).by_thread, outlet.close(SOON)), (0, Ok(())));
}

#[test]
fn to_a_file_the_thread_writes() {
    let reader = Reader::with_room(1 << 20);
    lock(&reader.0.0).waits = true;
    let outlet = start(&reader, None);
    outlet.send("line\n".into()).expect("somebody reads");
    reader.wait_for("line\n");
    assert_eq!((lock(&reader.0.0).at_once, outlet.close(SOON)), (0, Ok(())));
}

#[test]
fn a_line_that_is_taken_in_part_comes_to_its_end_before_the_next() {
    let reader = Reader::with_room(3);
    let outlet = start(&reader, None);
    outlet.send("one\n".into()).expect("somebody reads");
    outlet.send("two\n".into()).expect("somebody reads");
    assert_eq!(reader.text(), "one");
    reader.takes(1 << 20);
    reader.wait_for("one\ntwo\n");
    assert_eq!(outlet.close(SOON), Ok(()));
}

#[test]
fn whoever_does_not_read_holds_up_nobody_and_gets_the_oldest_in_order() {
    let reader = Reader::default();
    let outlet = start(&reader, None);
    let long = "x".repeat(ROOM / 4 - 1) + "\n";
    outlet.send(long.clone()).expect("there is room");
    until(|| lock(&outlet.0.state).waiting.is_empty());
    for _ in 0..4 {
        outlet.send(long.clone()).expect("there is room");
    }
    assert!(!outlet.has_room());
    outlet.send("one more\nand another\n".into()).expect("it is dropped");
    assert_eq!(outlet.dropped(), 2);
    reader.takes(usize::MAX);
    assert_eq!(outlet.close(SOON), Ok(()));
    assert!(reader.text() == long.repeat(5));
}

#[test]
fn at_the_end_it_is_waited_for_a_while_and_said_what_is_missing() {
    let reader = Reader::with_room(2);
    let outlet = start(&reader, None);
    outlet.send("first\n".into()).expect("there is room");
    outlet.send("second\nthird\n".into()).expect("there is room");
    assert_eq!(outlet.close(Duration::from_millis(50)), Err(3));
}

#[test]
fn that_nobody_reads_any_more_is_an_error() {
    let reader = Reader::default();
    reader.fails(Some(io::ErrorKind::BrokenPipe));
    let (outlet, start) = (start(&reader, None), Instant::now());
    while outlet.send("gone\n".into()).is_ok() {
        assert!(start.elapsed() < SOON, "it is never told");
    }
}

#[test]
fn a_full_disk_under_stdout_is_waited_for() {
    let reader = Reader::with_room(1 << 20);
    reader.fails(Some(io::ErrorKind::StorageFull));
    let outlet = start(&reader, None);
    outlet.send("line\n".into()).expect("there is room");
    thread::sleep(Duration::from_millis(20));
    outlet.send("and another\n".into()).expect("it may have room again");
    reader.fails(None);
    reader.wait_for("line\nand another\n");
    assert_eq!(outlet.close(SOON), Ok(()));
}

fn lines(range: std::ops::Range<usize>) -> String {
    range.map(|number| format!("line {number:04}\n")).collect()
}

/// More than memory holds, to a reader that is stuck and comes back.
#[test]
fn what_nobody_takes_is_in_the_spool_and_comes_out_in_order() {
    let (folder, reader) = (Folder::new(), Reader::with_room(3));
    let outlet = start(&reader, Some((&folder, 64 << 20)));
    let long = |number: usize| format!("{number:08} {}\n", "x".repeat(100_000));
    for number in 0..200 {
        outlet.send(long(number)).expect("there is room");
        until(|| outlet.has_room());
    }
    assert_eq!(outlet.dropped(), 0);
    until(|| outlet.spooled().is_some_and(|spool| spool.usable && spool.lines >= 100));
    reader.takes(usize::MAX);
    let all: String = (0..200).map(long).collect();
    reader.wait_for(&all);
    until(|| outlet.spooled().is_some_and(|spool| spool.bytes == 0));
    // And at once again.
    until(|| !lock(&outlet.0.state).ahead);
    outlet.send("at last\n".into()).expect("somebody reads");
    assert!(reader.text().ends_with("\nat last\n"));
    assert_eq!((outlet.close(SOON), folder.files()), (Ok(()), vec![]));
}

#[test]
fn what_is_left_at_the_end_is_written_by_the_next_process() {
    let (folder, stuck) = (Folder::new(), Reader::with_room(4));
    let outlet = start(&stuck, Some((&folder, 64 << 20)));
    outlet.send(lines(0..3)).expect("there is room");
    outlet.send(lines(3..5)).expect("there is room");
    // The first line was begun.
    assert_eq!(outlet.close(Duration::from_millis(10)), Err(1));
    let reader = Reader::with_room(1 << 20);
    let outlet = start(&reader, Some((&folder, 64 << 20)));
    outlet.send(lines(5..6)).expect("there is room");
    reader.wait_for(&lines(1..6));
    assert_eq!((outlet.close(SOON), folder.files()), (Ok(()), vec![]));
}

/// One that takes a line now and then, too: the end doesn't wait for it.
#[test]
fn a_slow_reader_gets_the_rest_from_the_next_process() {
    let (folder, slow) = (Folder::new(), Reader::default());
    let outlet = start(&slow, Some((&folder, 64 << 20)));
    for number in 0..50 {
        outlet.send(lines(number..number + 1)).expect("there is room");
    }
    let takes = slow.clone();
    let taking = thread::spawn(move || {
        for _ in 0..10 {
            takes.takes("line 0000\n".len());
            thread::sleep(Duration::from_millis(50));
        }
    });
    assert_eq!(outlet.close(Duration::from_millis(200)), Ok(()));
    taking.join().expect("it takes some");
    let got = slow.text();
    let reader = Reader::with_room(1 << 20);
    let outlet = start(&reader, Some((&folder, 64 << 20)));
    until(|| reader.text().ends_with("line 0049\n"));
    assert_eq!(got + &reader.text(), lines(0..50));
    assert_eq!(outlet.close(SOON), Ok(()));
}

/// As after a kill: nothing is done at the end.
#[test]
fn a_killed_process_leaves_what_waited_for_a_second() {
    let (folder, stuck) = (Folder::new(), Reader::default());
    let outlet = start(&stuck, Some((&folder, 64 << 20)));
    outlet.send(lines(0..4)).expect("there is room");
    until(|| outlet.spooled().is_some_and(|spool| spool.lines == 4));
    let left = folder.files();
    assert_eq!(std::fs::read_to_string(folder.0.join(&left[0])).expect("a file"), lines(0..4));
    drop(outlet);
}

#[test]
fn a_reader_that_is_gone_leaves_all_to_the_next_process() {
    let (folder, reader) = (Folder::new(), Reader::default());
    let outlet = start(&reader, Some((&folder, 64 << 20)));
    outlet.send(lines(0..2)).expect("there is room");
    reader.fails(Some(io::ErrorKind::BrokenPipe));
    until(|| lock(&outlet.0.state).done);
    assert!(outlet.send(lines(2..3)).is_err());
    assert_eq!(std::fs::read_to_string(folder.0.join(&folder.files()[0])).expect("a file"), lines(0..2));
}

#[test]
fn beyond_memory_and_spool_lines_are_dropped_and_counted() {
    let (folder, reader) = (Folder::new(), Reader::default());
    let outlet = start(&reader, Some((&folder, 1 << 20)));
    let long = "x".repeat((1 << 20) - 1) + "\n";
    for _ in 0..20 {
        outlet.send(long.clone()).expect("it is kept or dropped");
        thread::sleep(Duration::from_millis(5));
    }
    // One in the spool, one in the hand at most, eight in memory.
    let dropped = outlet.dropped();
    assert!((10..=11).contains(&dropped), "{dropped}");
    reader.takes(usize::MAX);
    assert_eq!(outlet.close(SOON), Ok(()));
    assert!(reader.text() == long.repeat(20 - usize::try_from(dropped).expect("it fits")));
}

#[test]
fn without_the_directory_it_goes_on_in_memory() {
    let reader = Reader::default();
    let outlet =
        Outlet::start(reader.clone(), Some(Box::new(|| Spool::open("/proc/spool".as_ref(), 1 << 20))), None);
    let outlet = outlet.expect("a thread");
    outlet.send("line\n".into()).expect("there is room");
    thread::sleep(Duration::from_millis(20));
    assert_eq!(outlet.spooled(), Some(Spooled::default()), "it is not usable");
    reader.takes(100);
    reader.wait_for("line\n");
    assert_eq!(outlet.close(SOON), Ok(()));
}

/// What is written, or in the spool, need not be told again by another process; what is in memory is lost with this one.
#[test]
fn what_is_out_of_our_hands_is_told() {
    let (folder, reader) = (Folder::new(), Reader::with_room(6));
    let (send, told) = std::sync::mpsc::channel();
    let path = folder.0.clone();
    let opener: Opener = Box::new(move || Spool::open(&path, 1 << 20));
    let note = Box::new(move |before| send.send(before).expect("it is read"));
    let outlet = Outlet::start(reader.clone(), Some(opener), Some(note)).expect("a thread");
    until(|| !lock(&outlet.0.state).ahead);
    outlet.send("one\n".into()).expect("somebody reads");
    outlet.mark(1);
    assert_eq!(told.try_recv(), Ok(1));
    // Half of it is taken, so it is not for the spool; what comes after it is.
    outlet.send("two\n".into()).expect("there is room");
    outlet.mark(2);
    outlet.send("three\n".into()).expect("there is room");
    outlet.mark(3);
    assert!(told.try_recv().is_err());
    until(|| outlet.spooled().is_some_and(|spool| spool.lines == 1));
    assert!(told.try_recv().is_err(), "\"two\" is not yet written");
    reader.takes(100);
    reader.wait_for("one\ntwo\nthree\n");
    assert_eq!(told.recv_timeout(SOON), Ok(3));
    assert_eq!(outlet.close(SOON), Ok(()));
}
