//! A recording is bounded, and each of its files is whole in itself.

use std::fs;

use monitor::input::Input;
use monitor::trace::{Item, Reader, Store, Target, Unusable};
use monitor_ebpf::wire::{Hook, Phase, known};

use crate::rig::{Folder, Told, entries, inventory, pointer, record, record_into};

const SIZE: u64 = 512 << 10;

/// Events that don't compress well.
fn storm(count: u64) -> Vec<Told> {
    let mut told = vec![
        Told::input(Input::Start, 1),
        Told::input(Input::Inventory(inventory()), 2),
        Told::Stack(5, vec!["iommu_attach_device_pasid+0x9".into()], 3),
    ];
    told.extend((10..count).map(|number| {
        let mut record = record(Hook::PasidAttach, Phase::End, number);
        record.header.stack = 5;
        for (index, chunk) in record.device.name.chunks_exact_mut(4).enumerate() {
            let seed = (number as u32).wrapping_mul(8).wrapping_add(index as u32);
            chunk.copy_from_slice(&crc32fast::hash(&seed.to_le_bytes()).to_le_bytes());
        }
        record.domain.key = pointer(number % 50_000);
        record.header.known |= known::DOMAIN;
        Told::event(&record)
    }));
    told
}

#[test]
fn files_are_bounded_and_each_is_whole() {
    let folder = Folder::new();
    let summary = record_into(&folder, SIZE, 2, &storm(40_000));
    assert_eq!(summary.lost, 0, "{summary:?}");
    assert!(summary.files > 3, "{summary:?}");
    let mut names: Vec<String> = fs::read_dir(&folder.0)
        .expect("the folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["a.iwrec", "a.iwrec.1", "a.iwrec.2"]);
    let mut times = Vec::new();
    for (name, part) in ["a.iwrec.2", "a.iwrec.1", "a.iwrec"].into_iter().zip(summary.files - 3..) {
        let path = folder.0.join(name);
        let length = fs::metadata(&path).expect("metadata").len();
        assert!(length <= SIZE && length > SIZE / 2, "{name}: {length}");
        let (reader, entries) = entries(&path);
        assert_eq!(reader.head().part, part);
        assert_eq!(reader.is_continued(), name != "a.iwrec");
        assert!(matches!(entries[0].item, Item::Input(Input::Start)), "{:?}", entries[0]);
        assert!(matches!(entries[1].item, Item::Stack { id: 5, .. }), "{:?}", entries[1]);
        assert!(matches!(&entries[2].item, Item::Input(Input::Inventory(told)) if *told == inventory()));
        let events = entries.iter().filter(|entry| matches!(entry.item, Item::Input(Input::Event(_))));
        times.extend(events.map(|event| event.mono_ns));
    }
    // From file to file nothing is missing and nothing comes twice.
    assert!(times.is_sorted_by(|a, b| a + 1 == *b), "{}..{}", times[0], times[times.len() - 1]);
    assert_eq!(times.last(), Some(&39_999));
}

#[test]
fn of_those_that_are_full_none_needs_be_kept() {
    let folder = Folder::new();
    let summary = record_into(&folder, SIZE, 0, &storm(20_000));
    assert!(summary.files > 1, "{summary:?}");
    assert_eq!(fs::read_dir(&folder.0).expect("the folder").count(), 1);
    let (_, entries) = entries(&folder.file());
    assert_eq!(entries.last().map(|entry| entry.mono_ns), Some(19_999));
}

#[test]
fn what_was_recorded_is_not_overwritten() {
    let folder = Folder::new();
    record_into(&folder, SIZE, 0, &storm(100));
    let target = Target { path: folder.file(), max_size: SIZE, keep: 0, force: false };
    assert!(matches!(Store::create(target), Err(Unusable::Exists { .. })));
    assert!(Reader::open(fs::File::open(folder.file()).expect("a file")).is_ok());
}
