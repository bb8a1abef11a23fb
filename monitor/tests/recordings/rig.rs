//! What the tests record, and how they take a recording apart.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use monitor::coverage::{Backend, Coverage, HookState};
use monitor::input::Input;
use monitor::inventory::{DeviceEntry, GroupEntry, Inventory};
use monitor::trace::{Entry, Error, Origin, Reader, Recorder, Store, Summary, Target};
use monitor_ebpf::wire::{Hook, Operation, Phase, known};
use zerocopy::{FromZeros, IntoBytes};

/// A folder of its own for each recording.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("iommu-watch-recordings-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }

    pub fn file(&self) -> PathBuf {
        self.0.join("a.iwrec")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn origin() -> Origin {
    Origin {
        host: "node7".into(),
        kernel: "6.12.117".into(),
        boot_id: "3f1c".into(),
        btf: "00".repeat(32),
        clock_offset_ns: 1_795_353_000_000_000_000,
        synthetic: None,
    }
}

pub fn coverage() -> Coverage {
    let mut coverage = Coverage::default();
    coverage.core_pasids = true;
    for &hook in Hook::ALL {
        coverage.set(hook, HookState::Attached { backend: Backend::Fentry });
    }
    coverage.set(Hook::VtdTableFree, HookState::Failed { reason: "refused".into() });
    coverage.set(Hook::DeviceRelease, HookState::Absent);
    coverage
}

pub fn inventory() -> Inventory {
    let device = DeviceEntry {
        name: "0000:01:00.0".into(),
        driver: Some("nvme".into()),
        iommu: Some("dmar0".into()),
        iommu_driver: Some("intel".into()),
    };
    Inventory {
        groups: vec![GroupEntry { id: 7, default_domain: Some("DMA-FQ".into()), devices: vec![device] }],
    }
}

/// An address as the kernel has them.
pub fn pointer(number: u64) -> u64 {
    0xffff_8881_0000_0000 + number * 0x40
}

/// A record of a call on group 7.
pub fn record(hook: Hook, phase: Phase, mono_ns: u64) -> Operation {
    let mut record = Operation::new_zeroed();
    record.header.time_ns = mono_ns;
    record.header.task.comm[..4].copy_from_slice(b"vfio");
    (record.header.task.tid, record.header.task.tgid) = (201, 201);
    (record.header.hook, record.header.phase, record.header.stack) = (hook as u16, phase as u8, -1);
    record.header.known = known::GROUP | known::OWNER;
    (record.group.key, record.group.id) = (pointer(1), 7);
    (record.group.domain.key, record.group.domain.kind, record.group.domain.kind_known) = (pointer(2), 1, 1);
    record.group.default_domain = record.group.domain;
    record
}

/// What is told to a recorder.
#[derive(Clone, Debug)]
pub enum Told {
    Input(Box<Input>, u64),
    Event(Vec<u8>, u64),
    Stack(u32, Vec<String>, u64),
}

impl Told {
    pub fn tell(&self, recorder: &mut Recorder) {
        match self {
            Told::Input(input, mono_ns) => recorder.input(input, *mono_ns),
            Told::Event(record, mono_ns) => recorder.event(record, *mono_ns),
            Told::Stack(id, frames, mono_ns) => recorder.stack(*id, Some(frames.clone()), *mono_ns),
        }
    }

    pub fn mono_ns(&self) -> u64 {
        match self {
            Told::Input(_, mono_ns) | Told::Event(_, mono_ns) | Told::Stack(_, _, mono_ns) => *mono_ns,
        }
    }

    pub fn input(input: Input, mono_ns: u64) -> Told {
        Told::Input(Box::new(input), mono_ns)
    }

    pub fn event(record: &Operation) -> Told {
        Told::Event(record.as_bytes().to_vec(), record.header.time_ns)
    }
}

/// Records into a file of this size, `keep` of them beside it.
pub fn record_into(folder: &Folder, max_size: u64, keep: u32, told: &[Told]) -> Summary {
    let target = Target { path: folder.file(), max_size, keep, force: false };
    let mut recorder = Recorder::new(Store::create(target).expect("a file"), origin(), &coverage());
    for one in told {
        one.tell(&mut recorder);
        recorder.tick();
    }
    recorder.finish(1_000_000)
}

/// A recording in one file.
pub fn recorded(told: &[Told]) -> Vec<u8> {
    let folder = Folder::new();
    let summary = record_into(&folder, 64 << 20, 0, told);
    assert_eq!((summary.files, summary.lost, summary.failure), (1, 0, None));
    fs::read(folder.file()).expect("a recording")
}

/// A small recording with every kind of frame in it.
pub fn small() -> Vec<u8> {
    let mut claim = record(Hook::ClaimGroup, Phase::End, 40);
    claim.header.stack = 3;
    recorded(&[
        Told::input(Input::Start, 10),
        Told::input(Input::Inventory(inventory()), 20),
        Told::input(Input::Coverage(coverage()), 25),
        Told::input(Input::Resync(monitor::input::Resync::Start), 30),
        Told::Stack(3, vec!["iommu_group_claim_dma_owner+0x9".into(), "vfio_group+0x11 [vfio]".into()], 40),
        Told::event(&claim),
        Told::input(Input::Settled, 50),
        Told::input(
            Input::Lost(monitor::input::Lost {
                stage: monitor::input::Stage::Ring,
                count: 3,
                groups: monitor::event::Key::new(pointer(1)).map(|key| vec![key]),
            }),
            60,
        ),
        Told::input(Input::Gone(7), 70),
        Told::event(&record(Hook::ReleaseGroup, Phase::Begin, 80)),
        Told::input(Input::Settled, 90),
    ])
}

/// Everything up to the end or the first error, in words, so that it can be compared.
pub fn read(bytes: &[u8]) -> (Vec<String>, Option<Error>) {
    match Reader::open(bytes) {
        Err(error) => (Vec::new(), Some(error)),
        Ok(reader) => {
            let mut entries = vec![format!("{:?}", reader.head())];
            for entry in reader {
                match entry {
                    Ok(entry) => entries.push(format!("{entry:?}")),
                    Err(error) => return (entries, Some(error)),
                }
            }
            (entries, None)
        }
    }
}

/// The entries of a file that is whole.
#[track_caller]
pub fn entries(file: &Path) -> (Reader<fs::File>, Vec<Entry>) {
    let mut reader = Reader::open(fs::File::open(file).expect("a file")).expect("a recording");
    let entries = reader.by_ref().map(|entry| entry.expect("an entry")).collect();
    (reader, entries)
}

/// The content of each block, by the description of the format in docs/recording.md alone.
pub fn contents(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut contents = Vec::new();
    let mut rest = &bytes[16..];
    while !rest.is_empty() {
        let word = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().expect("four bytes")) as usize;
        assert_eq!(&rest[..4], b"IWBK");
        let stored = &rest[24..24 + word(16)];
        let content = match rest[4] {
            0 => stored.to_vec(),
            _ => miniz_oxide::inflate::decompress_to_vec(stored).expect("a deflated block"),
        };
        assert_eq!(content.len(), word(12));
        contents.push(content);
        rest = &rest[24 + word(16)..];
    }
    contents
}

/// A file of these contents, each block with the right lengths and checksum.
pub fn file_of(contents: &[Vec<u8>]) -> Vec<u8> {
    let mut mark = b"\x89IWREC\r\n\x01\0\0\0".to_vec();
    mark.extend(crc32fast::hash(&mark).to_le_bytes());
    contents.iter().zip(0_u32..).fold(mark, |file, (content, number)| {
        let length = (content.len() as u32).to_le_bytes();
        [file, block([0, 0, 0, 0], number, length, content)].concat()
    })
}

/// A block of this method, number and length of content.
pub fn block(method: [u8; 4], number: u32, length: [u8; 4], stored: &[u8]) -> Vec<u8> {
    let mut block = b"IWBK".to_vec();
    block.extend(method);
    block.extend(number.to_le_bytes());
    block.extend(length);
    block.extend((stored.len() as u32).to_le_bytes());
    let checksum = crc32fast::hash(&[&block, stored].concat());
    block.extend(checksum.to_le_bytes());
    block.extend(stored);
    block
}

/// A frame of any kind.
pub fn frame(kind: u8, flags: u8, mono_ns: u64, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![kind, flags, 0, 0];
    frame.extend((body.len() as u32).to_le_bytes());
    frame.extend(mono_ns.to_le_bytes());
    frame.extend(body);
    frame
}
