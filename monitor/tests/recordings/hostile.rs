//! A file may be torn, flipped or made to harm: that is told with its offset, and nothing panics.

use monitor::trace::{Damage, Error, Reader};
use monitor_ebpf::wire::WIRE_VERSION;

use crate::rig::{block, contents, file_of, frame, read, small};

const HEAD: u8 = 1;
const START: u8 = 2;
const EVENT: u8 = 3;
const INVENTORY: u8 = 4;
const LOSS: u8 = 6;
const END: u8 = 11;
const REQUIRED: u8 = 1;

#[track_caller]
fn offset(error: Option<Error>) -> u64 {
    match error {
        Some(Error::Damaged { offset, .. }) => offset,
        other => panic!("no damage: {other:?}"),
    }
}

/// The first frame of the small recording, the head.
fn head() -> Vec<u8> {
    let content = contents(&small()).remove(0);
    let length = u32::from_le_bytes(content[4..8].try_into().expect("four bytes")) as usize;
    content[..16 + length].to_vec()
}

fn end() -> Vec<u8> {
    frame(END, REQUIRED, 99, br#"{"reason":"stopped"}"#)
}

/// What is wrong with a file of one block: the head, and then these frames.
fn with(frames: &[Vec<u8>]) -> Option<Error> {
    read(&file_of(&[[head(), frames.concat()].concat()])).1
}

#[test]
fn a_file_made_by_the_description_is_a_recording() {
    let (entries, error) = read(&small());
    assert!(error.is_none(), "{error:?}");
    assert!(entries.len() > 10, "{entries:#?}");
    let (again, error) = read(&file_of(&contents(&small())));
    assert!(error.is_none(), "{error:?}");
    assert_eq!(again, entries);
}

#[test]
fn cut_off_anywhere_it_reads_up_to_there() {
    let bytes = small();
    let (whole, _) = read(&bytes);
    for length in 0..bytes.len() {
        let (entries, error) = read(&bytes[..length]);
        assert!(whole.starts_with(&entries), "cut at {length}");
        match error {
            Some(Error::Foreign) => assert_eq!(length, 0),
            Some(Error::Damaged { offset, .. }) => assert!(offset <= length as u64, "{offset} of {length}"),
            other => panic!("cut at {length}: {other:?}"),
        }
    }
}

#[test]
fn no_flipped_bit_goes_unseen() {
    let bytes = small();
    let (whole, _) = read(&bytes);
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let (entries, error) = read(&flipped);
        assert!(whole.starts_with(&entries), "bit {bit}");
        match error {
            Some(Error::Foreign) => assert!(bit < 64),
            Some(Error::Damaged { offset, .. }) => assert!(offset <= bit as u64 / 8, "{offset}, bit {bit}"),
            other => panic!("bit {bit}: {other:?}"),
        }
    }
}

#[test]
fn what_is_no_recording_is_told_from_one_that_is_damaged() {
    for bytes in [&b""[..], b"\0", b"hello, world, this is a text", &[0xff; 64]] {
        assert!(matches!(read(bytes).1, Some(Error::Foreign)), "{bytes:?}");
    }
    assert_eq!(offset(read(&small()[..4]).1), 0);
}

#[test]
fn lengths_from_outside_are_bounded() {
    let start = file_of(&[]);
    let whole = [start.as_slice(), &block([0; 4], 0, [0xff; 4], &head())].concat();
    assert!(matches!(read(&whole).1, Some(Error::Damaged { offset: 16, what: Damage::TooLong(u32::MAX) })));
    // A header that claims more to follow than can be.
    let mut long = [start.as_slice(), &block([0; 4], 0, [1, 0, 0, 0], &head())].concat();
    long[16 + 16..][..4].copy_from_slice(&[0xff; 4]);
    assert!(matches!(read(&long).1, Some(Error::Damaged { offset: 16, what: Damage::TooLong(u32::MAX) })));
    // 16 MiB in 16 KiB, which claim to be 4 MiB; and less than they claim to be.
    for (content, claimed) in [(16 << 20, 4_u32 << 20), (100, 200)] {
        let bomb = miniz_oxide::deflate::compress_to_vec(&vec![0; content], 9);
        let file = [start.as_slice(), &block([1, 0, 0, 0], 0, claimed.to_le_bytes(), &bomb)].concat();
        assert!(matches!(read(&file).1, Some(Error::Damaged { offset: 16, what: Damage::Compression })));
    }
    // A frame that claims to be longer than its block.
    let mut frame = frame(EVENT, REQUIRED, 1, &[0; 300]);
    frame[4..8].copy_from_slice(&[0xff, 0xff, 0xff, 0x7f]);
    assert!(matches!(with(&[frame]), Some(Error::Damaged { offset: 16, what: Damage::Frame { .. } })));
}

#[test]
fn blocks_are_taken_in_their_order() {
    let pieces = [head(), frame(START, REQUIRED, 1, &[]), end()];
    let whole = file_of(&pieces);
    assert!(read(&whole).1.is_none());
    let twice = [&whole[..], &block([0; 4], 2, (end().len() as u32).to_le_bytes(), &end())].concat();
    assert!(matches!(
        read(&twice).1,
        Some(Error::Damaged { what: Damage::Order { expected: 3, found: 2 }, .. })
    ));
    let method = [file_of(&[]), block([7, 0, 0, 0], 0, [4, 0, 0, 0], b"some")].concat();
    assert!(matches!(read(&method).1, Some(Error::Damaged { what: Damage::Method(7), .. })));
}

#[test]
fn frames_stand_where_they_may() {
    assert!(with(&[end()]).is_none());
    assert!(matches!(with(&[]), Some(Error::Damaged { what: Damage::Unfinished, .. })));
    assert!(matches!(with(&[head(), end()]), Some(Error::Damaged { what: Damage::Place { .. }, .. })));
    assert!(matches!(with(&[end(), end()]), Some(Error::Damaged { what: Damage::AfterEnd, .. })));
    let second = file_of(&[[head(), end()].concat(), Vec::new()]);
    assert!(matches!(read(&second).1, Some(Error::Damaged { what: Damage::AfterEnd, .. })));
    let headless = file_of(&[end()]);
    assert!(matches!(read(&headless).1, Some(Error::Damaged { what: Damage::Place { at: 0 }, .. })));
}

#[test]
fn a_newer_recording_is_read_as_far_as_it_can_be() {
    let optional = frame(200, 0, 5, b"what a later version says");
    let bytes = file_of(&[[head(), optional, end()].concat()]);
    let mut reader = Reader::open(bytes.as_slice()).expect("a recording");
    assert!(reader.next().is_none());
    assert_eq!(reader.left_out(), 1);
    let required = frame(200, REQUIRED, 5, b"");
    assert!(matches!(with(&[required]), Some(Error::Damaged { what: Damage::Newer { kind: 200, .. }, .. })));
}

/// The head with one text in it exchanged for another.
fn altered(from: &str, to: &str) -> Option<Error> {
    let text = String::from_utf8(head()[16..].to_vec()).expect("JSON");
    assert!(text.contains(from), "{from} is not in {text}");
    let head = frame(HEAD, REQUIRED, 0, text.replacen(from, to, 1).as_bytes());
    read(&file_of(&[[head, end()].concat()])).1
}

#[test]
fn records_of_another_version_are_refused_with_what_would_be_right() {
    let wire = format!("\"wire\":{WIRE_VERSION}");
    let error = altered(&wire, "\"wire\":999").expect("refused");
    assert!(matches!(&error, Error::Wire { wire: 999, .. }), "{error:?}");
    let version = env!("CARGO_PKG_VERSION");
    assert!(error.to_string().contains(&format!("replay it with iommu-watch {version}")), "{error}");
    assert!(matches!(altered("rid_attach", "rid_detach"), Some(Error::Wire { .. })));
    assert!(matches!(altered("\"operation\":", "\"operation\":1"), Some(Error::Wire { .. })));
    assert!(altered("\"core_pasids\":", "\"new\":[1],\"core_pasids\":").is_none());
    let mut other = file_of(&[]);
    other[8] = 2;
    let checksum = crc32fast::hash(&other[..12]);
    other[12..16].copy_from_slice(&checksum.to_le_bytes());
    assert!(matches!(read(&other).1, Some(Error::Format { major: 2 })));
}

#[test]
fn what_a_frame_says_must_make_sense() {
    for (kind, body) in [
        (EVENT, &b"short"[..]),
        (EVENT, &[0xff; size_of::<monitor_ebpf::wire::Operation>()]),
        (INVENTORY, b"{\"groups\":7}"),
        (INVENTORY, b"\xff\xfe"),
        (LOSS, br#"{"stage":"nowhere","count":1,"groups":null}"#),
        (LOSS, br#"{"stage":"ring","count":-1,"groups":null}"#),
        (END, br#"{"reason":"bored"}"#),
    ] {
        let error = with(&[frame(kind, REQUIRED, 1, body)]);
        let told = matches!(
            error,
            Some(Error::Damaged { offset: 16, what: Damage::Content { .. } | Damage::Record { .. } })
        );
        assert!(told, "{kind}: {error:?}");
    }
}

#[test]
fn text_from_a_recording_does_not_reach_the_terminal_as_it_is() {
    let inventory = br#"{"groups":[{"id":1,"devices":[{"name":"\u001b[2Jx","driver":"\u0007"}]}]}"#;
    let stack = br#"{"id":1,"frames":["\u001b]0;x"]}"#;
    let frames = [frame(INVENTORY, REQUIRED, 1, inventory), frame(10, REQUIRED, 1, stack), end()];
    let (entries, error) = read(&file_of(&[[head(), frames.concat()].concat()]));
    assert!(error.is_none(), "{error:?}");
    assert!(entries[1].contains("?[2Jx") && entries[2].contains("?]0;x"), "{entries:?}");
    assert!(!entries.concat().contains("\\u{1b}") && !entries.concat().contains("\\u{7}"), "{entries:?}");
}
