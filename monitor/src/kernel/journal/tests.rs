//! A journal is opened again over the same memory, as after a kill.

use super::*;

fn memory() -> Memory {
    Memory::private(LEN).expect("memory")
}

fn begun() -> Journal {
    let journal = Journal::begin(memory());
    assert!(journal.set_manifest(1, b"what it is of"));
    journal
}

/// The process is gone, and another one opens it.
fn again(journal: Journal) -> Journal {
    let memory = Arc::into_inner(journal.memory).expect("nobody else has it");
    assert_eq!(Journal::manifest(&memory, 1).as_deref(), Some(&b"what it is of"[..]));
    Journal::open(memory).expect("a journal")
}

fn bodies(journal: &Journal) -> Vec<(u64, u8, Vec<u8>)> {
    journal.entries().map(|entry| (entry.number, entry.kind, entry.body)).collect()
}

#[test]
fn what_was_kept_is_read_by_the_next_in_order() {
    let mut journal = begun();
    assert_eq!(journal.keep(1, true, 5, 0, b""), Kept::Yes);
    assert_eq!(journal.keep(2, false, 6, 4096, b"a record"), Kept::Yes);
    journal.beat(7);
    journal.set_account([1, 2, 3]);
    journal.teller().told(1);
    let journal = again(journal);
    assert_eq!((journal.beaten(), journal.account(), journal.told(), journal.count()), (7, [1, 2, 3], 1, 2));
    let entries: Vec<Entry> = journal.entries().collect();
    assert_eq!(
        entries[1],
        Entry { number: 1, kind: 2, mono_ns: 6, position: 4096, body: b"a record".to_vec(), again: false }
    );
    assert_eq!(entries.len(), 2);
}

#[test]
fn an_entry_whose_length_was_not_stored_is_none_and_is_written_over() {
    let mut journal = begun();
    journal.keep(1, false, 0, 0, b"first");
    let end = journal.end;
    journal.keep(2, false, 0, 0, b"torn");
    // Killed just before the last store.
    journal.store(word::HALF[0].1, end as u64);
    let mut journal = again(journal);
    assert_eq!(bodies(&journal), [(0, 1, b"first".to_vec())]);
    journal.keep(3, false, 0, 0, b"next");
    assert_eq!(bodies(&again(journal)), [(0, 1, b"first".to_vec()), (1, 3, b"next".to_vec())]);
}

#[test]
fn of_two_halves_the_older_one_is_whole_and_the_newer_one_goes_on() {
    let mut journal = begun();
    journal.keep(1, true, 0, 0, b"start");
    journal.keep(2, true, 0, 0, b"old names");
    journal.keep(2, true, 0, 0, b"names");
    let body = [7; 300];
    let mut turned = 0;
    for number in 0..40_000_u32 {
        let kept = journal.keep(3, false, 0, number.into(), &body);
        turned += usize::from(kept == Kept::Turned);
        assert_ne!(kept, Kept::No);
    }
    assert!(turned > 3);
    journal.keep_beside(4, b"what stands");
    let journal = again(journal);
    let said_again: Vec<u8> = journal.entries().filter(|entry| entry.again).map(|entry| entry.kind).collect();
    assert_eq!(said_again, [1, 2, 4]);
    let entries: Vec<Entry> = journal.entries().filter(|entry| !entry.again).collect();
    assert_eq!((entries[0].kind, entries[0].body.as_slice()), (1, &b"start"[..]));
    assert_eq!((entries[1].kind, entries[1].body.as_slice()), (2, &b"names"[..]));
    // The numbers of the newer half's opening are missing here, and no record is.
    assert!(entries[2..].iter().all(|entry| entry.kind == 3));
    assert!(entries[2..].windows(2).all(|pair| pair[1].position == pair[0].position + 1));
    assert!(entries.windows(2).all(|pair| pair[1].number > pair[0].number));
    let last = entries.last().expect("there are some");
    assert_eq!((last.position, last.number + 2), (39_999, journal.count()));
    assert!(entries.len() * size(300) > HALF);
}

#[test]
fn a_kill_while_the_other_half_begins_leaves_this_one() {
    let mut journal = begun();
    journal.keep(1, true, 0, 0, b"start");
    while journal.keep(3, false, 0, 0, &[7; 3000]) == Kept::Yes {}
    // As if neither the turn's last store nor what came after it had come.
    journal.store(word::ACTIVE, 0);
    journal.store(word::HALF[1].1, size(5) as u64);
    let journal = again(journal);
    let kinds: Vec<u8> = journal.entries().map(|entry| entry.kind).collect();
    assert_eq!((kinds[0], kinds.len() as u64), (1, journal.count()));
    assert!(kinds[1..].iter().all(|kind| *kind == 3));
}

#[test]
fn what_does_not_fit_ends_it_for_good_and_the_next_begins_anew() {
    let mut journal = begun();
    journal.keep(1, false, 0, 0, b"start");
    assert_eq!(journal.keep(2, false, 0, 0, &vec![0; HALF]), Kept::No);
    assert_eq!(journal.keep(3, false, 0, 0, b"more"), Kept::No);
    assert_eq!(bodies(&again(journal)), []);
}

#[test]
fn any_bit_that_was_turned_is_seen_or_is_of_no_entry() {
    let made = || {
        let mut journal = begun();
        journal.keep(1, true, 5, 0, b"start");
        journal.keep(2, false, 6, 720, b"a record");
        journal
    };
    let contents = |journal: &Journal| -> Vec<_> {
        journal.entries().map(|entry| (entry.kind, entry.mono_ns, entry.position, entry.body)).collect()
    };
    let (kept, end) = (contents(&made()), made().end);
    let manifest = MANIFEST + MANIFEST_LEN / SETS;
    for at in (0..12 * 8).chain(manifest..manifest + 21).chain(HALVES..HALVES + end) {
        let memory = Arc::into_inner(made().memory).expect("nobody else has it");
        let before = memory.read(at, 1).expect("a byte")[0];
        memory.write(at, &[before ^ 0x40]);
        if let Some(manifest) = Journal::manifest(&memory, 1) {
            assert_eq!(manifest, b"what it is of");
        }
        if let Ok(journal) = Journal::open(memory) {
            let found = contents(&journal);
            assert!(found.is_empty() || found == kept, "byte {at}: {found:?}");
        }
    }
}

#[test]
fn what_is_no_journal_or_of_another_version_is_told_apart() {
    assert_eq!(Journal::open(memory()).err(), Some(Damage::Version));
    let journal = begun();
    journal.store(word::VERSION, VERSION + 1);
    let memory = Arc::into_inner(journal.memory).expect("nobody else has it");
    assert_eq!(Journal::open(memory).err(), Some(Damage::Version));
}

#[test]
fn all_of_it_are_pages_and_entries_stay_aligned() {
    assert_eq!(LEN % PAGE, 0);
    assert_eq!(size(1) % 8, 0);
    assert_eq!(HEADER, 32);
}

#[test]
fn whoever_dies_of_taking_it_up_is_counted() {
    let journal = begun();
    assert_eq!(journal.attempt(), 1);
    let journal = again(journal);
    assert_eq!(journal.attempt(), 2);
    journal.is_taken_up();
    assert_eq!(again(journal).attempt(), 1);
}

#[test]
fn each_set_has_its_own_say_and_none_has_room_for_ever() {
    let journal = begun();
    assert!(journal.set_manifest(0, b"another"));
    assert!(!journal.set_manifest(SETS, b"too many"));
    assert!(!journal.set_manifest(2, &vec![b' '; MANIFEST_LEN / SETS]));
    let said: Vec<_> = (0..=SETS).map(|number| Journal::manifest(&journal.memory, number)).collect();
    assert_eq!(said, [Some(b"another".to_vec()), Some(b"what it is of".to_vec()), None, None, None]);
    // Killed after the old one was taken out and before the new one counts.
    journal.memory.write(MANIFEST, &[0; 8]);
    assert_eq!(Journal::manifest(&journal.memory, 0), None);
    journal.store(word::VERSION, VERSION + 1);
    assert_eq!(Journal::manifest(&journal.memory, 1), None);
}
