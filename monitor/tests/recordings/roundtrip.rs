//! What is recorded is what is read back.

use monitor::event::{self, Identities, Key};
use monitor::input::{Input, Lost, Resync, Stage};
use monitor::trace::Item;
use monitor_ebpf::wire::{ArrayEntry, Hook, Inventory, Operation, Phase, SnapshotHead, is_shaped_so};
use proptest::prelude::*;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::rig::{
    Folder, Told, contents, coverage, entries, inventory, pointer, record, record_into, recorded, small,
};

/// Any record that can be decoded: what is in it beyond that is anything at all, pointers not the least.
fn any_record() -> impl Strategy<Value = Vec<u8>> {
    let zeroes = Just(vec![0; size_of::<Inventory>() * 2]);
    let bytes = prop_oneof![2 => prop::collection::vec(any::<u8>(), size_of::<Inventory>() * 2), 1 => zeroes];
    (bytes, 0..Hook::ALL.len(), 0_u8..3, 0_u32..32, any::<bool>()).prop_map(
        |(bytes, hook, phase, len, long)| {
            let hook = Hook::ALL[hook];
            let header = |operation: &mut Operation| {
                (operation.header.hook, operation.header.phase) = (hook as u16, phase);
            };
            if is_shaped_so(hook) {
                let (mut head, entries) = SnapshotHead::read_from_prefix(&bytes).expect("long enough");
                header(&mut head.operation);
                (head.array.len, head.table.len, head.table_kind) = (len / 2, len % 3, 1 + len % 3);
                let entries = &entries[..(len / 2 + len % 3) as usize * size_of::<ArrayEntry>()];
                return [head.as_bytes(), entries].concat();
            }
            let (mut record, _) = Inventory::read_from_prefix(&bytes).expect("long enough");
            header(&mut record.operation);
            record.array.len = len;
            if long { record.as_bytes().to_vec() } else { record.operation.as_bytes().to_vec() }
        },
    )
}

fn any_told() -> impl Strategy<Value = Told> {
    let groups = prop::option::of(prop::collection::vec(1_u64..9, 0..4));
    prop_oneof![
        8 => any_record().prop_map(|record| Told::Event(record, 5)),
        1 => Just(Told::input(Input::Start, 5)),
        1 => Just(Told::input(Input::Inventory(inventory()), 5)),
        1 => Just(Told::input(Input::Coverage(coverage()), 5)),
        1 => any::<u32>().prop_map(|group| Told::input(Input::Gone(group), 5)),
        1 => (0..Resync::ALL.len()).prop_map(|index| Told::input(Input::Resync(Resync::ALL[index]), 5)),
        1 => (any::<u32>(), ".{0,40}").prop_map(|(id, frame)| Told::Stack(id, vec![frame], 5)),
        1 => (0..4_usize, any::<u64>(), groups).prop_map(|(index, count, groups)| {
            let groups = groups.map(|numbers| numbers.into_iter().filter_map(|n| Key::new(pointer(n))).collect());
            Told::input(Input::Lost(Lost { stage: Stage::ALL[index], count, groups }), 5)
        }),
    ]
}

/// What must be read back: with the same identities, where those in the file are numbers.
fn expected(told: &[Told]) -> Vec<String> {
    let mut identities = Identities::default();
    let said = told.iter().map(|one| match one {
        Told::Event(record, _) => {
            let renamed = identities.rename(record).expect("a record");
            format!("{:?}", Input::Event(event::decode(&renamed).expect("an event")))
        }
        Told::Stack(id, frames, _) => {
            let printable: Vec<String> = frames.iter().map(|f| f.replace(char::is_control, "?")).collect();
            format!("stack {id} {printable:?}")
        }
        Told::Input(input, _) => format!("{input:?}"),
    });
    said.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn what_is_recorded_is_read_back(told in prop::collection::vec(any_told(), 0..40)) {
        let folder = Folder::new();
        let summary = record_into(&folder, 64 << 20, 0, &told);
        let (reader, entries) = entries(&folder.file());
        let found: Vec<String> = entries.iter().map(|entry| match &entry.item {
            Item::Input(input) => format!("{input:?}"),
            Item::Stack { id, frames } => format!("stack {id} {frames:?}"),
        }).collect();
        prop_assert_eq!(found, expected(&told));
        prop_assert!(entries.iter().all(|entry| entry.mono_ns == 5));
        prop_assert_eq!(reader.left_out(), 0);
        let events = told.iter().filter(|one| matches!(one, Told::Event(..))).count();
        prop_assert_eq!(summary.events, events as u64);
    }
}

#[test]
fn the_head_says_what_is_recorded_and_where() {
    let bytes = small();
    let reader = monitor::trace::Reader::open(bytes.as_slice()).expect("a recording");
    let head = reader.head();
    assert_eq!(
        (head.host.as_str(), head.kernel.as_str(), head.boot_id.as_str()),
        ("node7", "6.12.117", "3f1c")
    );
    assert_eq!((head.btf.as_str(), head.part), ("00".repeat(32).as_str(), 0));
    assert_eq!(head.clock_offset_ns, 1_795_353_000_000_000_000);
    let all = |coverage: &monitor::coverage::Coverage| format!("{:?}", coverage.iter().collect::<Vec<_>>());
    assert_eq!(all(&head.coverage()), all(&coverage()));
    assert!(head.coverage().core_pasids);
    // It can be read without iommu-watch.
    let first = &contents(&bytes)[0];
    let length = u32::from_le_bytes(first[4..8].try_into().expect("four bytes")) as usize;
    let json: serde_json::Value = serde_json::from_slice(&first[16..16 + length]).expect("JSON");
    assert_eq!(json["hooks"][4]["name"], "rid_attach");
    assert_eq!(json["records"]["operation"], size_of::<Operation>());
}

/// No byte pattern of a pointer gets into a file: neither of records, nor of the groups of a loss.
#[test]
fn a_recording_tells_no_address() {
    let mut bind = Inventory::new_zeroed();
    bind.operation = record(Hook::SvaBind, Phase::End, 5);
    bind.operation.ret = pointer(9) as i64;
    bind.array.entries.iter_mut().for_each(|entry| entry.domain.key = pointer(3));
    let groups = Key::new(pointer(4)).map(|key| vec![key]);
    let told = [
        Told::Event(bind.as_bytes().to_vec(), 5),
        Told::event(&record(Hook::PasidDetach, Phase::Begin, 6)),
        Told::input(Input::Lost(Lost { stage: Stage::Ring, count: 1, groups }), 7),
    ];
    let high = &pointer(0).to_le_bytes()[4..];
    assert!(bind.as_bytes().windows(4).any(|window| window == high));
    for content in contents(&recorded(&told)) {
        assert!(!content.windows(4).any(|window| window == high));
        let text = String::from_utf8_lossy(&content).into_owned();
        assert!(!text.contains(&pointer(4).to_string()), "{text}");
    }
}

/// On a host where nothing happens the file hardly grows, and yet the time at which something was found, or
/// came next, is recorded.
#[test]
fn idle_time_is_recorded_where_it_counts() {
    const SECOND: u64 = 1_000_000_000;
    let mut told: Vec<Told> = (1..=25).map(|n| Told::input(Input::Settled, n * SECOND)).collect();
    told.push(Told::event(&record(Hook::ClaimGroup, Phase::End, 26 * SECOND)));
    told.extend((27..=30).map(|n| Told::input(Input::Settled, n * SECOND)));
    let folder = Folder::new();
    record_into(&folder, 64 << 20, 0, &told);
    let (_, entries) = entries(&folder.file());
    let seconds: Vec<u64> = entries.iter().map(|entry| entry.mono_ns / SECOND).collect();
    // The first, every ten seconds, the last before the event; the first after it, and the last of all.
    assert_eq!(seconds, [1, 11, 21, 25, 26, 27, 30]);
}
