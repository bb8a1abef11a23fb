//! What a fuzzer makes up, taken for a recording and replayed. The fuzz targets and the test of their corpus
//! share it, so it needs nothing of either.

use monitor::coverage::{Backend, Coverage, HookState};
use monitor::replay::Replay;
use monitor::report::text::Style;
use monitor::report::{json, text};
use monitor::trace::{Head, Origin};
use monitor::watcher::Options;
use monitor_ebpf::wire::{ArrayEntry, Domain, Hook, Inventory, Operation, Part, SnapshotHead, TableEntry};
use zerocopy::{FromZeros, IntoBytes};

const INVENTORY: &str = r#"{"groups":[{"id":1,"default_domain":"DMA","devices":[
    {"name":"d0","driver":"nvme","iommu":"dmar0","iommu_driver":"intel"},{"name":"d1"}]}]}"#;
const MARK: usize = 16;
const HEADER: usize = 24;

/// Takes the bytes for a file as they are, for one whose author knew of checksums, and for what follows a head
/// of this version. Gives back how much was said in all.
pub fn file(bytes: &[u8]) -> usize {
    let blocks = bytes.get(MARK..).unwrap_or_default();
    replay(bytes)
        + replay(&mended(blocks))
        + replay(&mended(&[block(&head_frame()), blocks.to_vec()].concat()))
}

/// Takes the bytes for a list of what happened.
pub fn events(bytes: &[u8]) -> usize {
    replay(&recording(bytes))
}

/// Replays a file to its end or its damage, and prints all that is said. Gives back how much that was.
fn replay(file: &[u8]) -> usize {
    let options = Options { events: true, ..Options::default() };
    let mut said = 0;
    let Ok(mut replay) = Replay::open(file, options) else { return said };
    while let Some(step) = replay.step() {
        let Ok(reports) = step else { break };
        for report in &reports {
            said += text::report(report, &replay.context(), Style::default()).len();
            said += json::line(report, &replay.context()).len();
        }
    }
    assert!(replay.step().is_none(), "after its end or its damage a recording says nothing more");
    replay.watcher.groups();
    said
}

/// A file of these blocks, their numbers and checksums put right.
fn mended(blocks: &[u8]) -> Vec<u8> {
    let mut file = [&mark(), blocks].concat();
    let (mut at, mut number) = (MARK, 0_u32);
    while let Some(header) = file.get_mut(at..at + HEADER) {
        header[..4].copy_from_slice(b"IWBK");
        header[8..12].copy_from_slice(&number.to_le_bytes());
        let stored = u32::from_le_bytes([header[16], header[17], header[18], header[19]]) as usize;
        let end = (at + HEADER).saturating_add(stored).min(file.len());
        // A length that goes beyond the file is made one that doesn't.
        let stored = (end - at - HEADER) as u32;
        file[at + 16..at + 20].copy_from_slice(&stored.to_le_bytes());
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&file[at..at + 20]);
        hasher.update(&file[at + HEADER..end]);
        file[at + 20..at + HEADER].copy_from_slice(&hasher.finalize().to_le_bytes());
        (at, number) = (end, number + 1);
    }
    file
}

fn mark() -> Vec<u8> {
    let mut mark = b"\x89IWREC\r\n\x01\0\0\0".to_vec();
    mark.extend(crc32fast::hash(&mark).to_le_bytes());
    mark
}

/// A file of one block, which tells what the bytes stand for.
fn recording(bytes: &[u8]) -> Vec<u8> {
    let mut content = head_frame();
    let mut bytes = Bytes(bytes);
    let mut now = u64::from(bytes.short()) * 1_000_000;
    if !bytes.byte().is_multiple_of(8) {
        frame(&mut content, 2, now, &[]);
    }
    while !bytes.0.is_empty() && content.len() < 1 << 20 {
        now = now.wrapping_add(match bytes.byte() {
            step @ 0..128 => u64::from(step) * 1_000,
            step @ 128..250 => u64::from(step) * 50_000_000,
            // Time that jumps, and turns back.
            _ => bytes.long(),
        });
        told(&mut content, &mut bytes, now);
    }
    frame(&mut content, 11, now, br#"{"reason":"stopped"}"#);
    mended(&block(&content))
}

/// A block of this content, its number and checksum still to be put right.
fn block(content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u32).to_le_bytes();
    [&b"IWBK"[..], &[0; 8], &length, &length, &[0; 4], content].concat()
}

/// A head as this version writes it, every hook attached.
fn head_frame() -> Vec<u8> {
    let mut coverage = Coverage::default();
    coverage.core_pasids = true;
    for &hook in Hook::ALL {
        coverage.set(hook, HookState::Attached { backend: Backend::Fentry });
    }
    let head = serde_json::to_vec(&Head::new(Origin::default(), &coverage)).unwrap_or_default();
    let mut content = Vec::new();
    frame(&mut content, 1, 0, &head);
    content
}

/// One thing that the watcher is told.
fn told(content: &mut Vec<u8>, bytes: &mut Bytes<'_>, now: u64) {
    match bytes.byte() {
        0..130 => frame(content, 3, now, operation(bytes, now, CALLS).as_bytes()),
        130..160 => frame(content, 3, now, inventory(bytes, now).as_bytes()),
        160..200 => frame(content, 3, now, &snapshot(bytes, now)),
        200..204 => {
            let body: Vec<u8> = (0..size_of::<Operation>()).map(|_| bytes.byte()).collect();
            frame(content, 3, now, &body);
        }
        204..208 => frame(content, 4, now, INVENTORY.as_bytes()),
        208..214 => {
            let groups = match bytes.byte() % 3 {
                0 => "null".to_owned(),
                1 => "[]".to_owned(),
                _ => format!("[{}]", bytes.byte() % 4),
            };
            let stage = ["kernel", "ring", "queue", "recording"][usize::from(bytes.byte() % 4)];
            let count = bytes.byte();
            let body = format!(r#"{{"stage":"{stage}","count":{count},"groups":{groups}}}"#);
            frame(content, 6, now, body.as_bytes());
        }
        214..218 => frame(content, 8, now, format!(r#"{{"group":{}}}"#, bytes.byte() % 4).as_bytes()),
        218..220 => frame(content, 7, now, br#"{"reason":"loss"}"#),
        220..222 => frame(content, 10, now, br#"{"id":1,"frames":["attach+0x1"]}"#),
        222..224 => frame(content, 2, now, &[]),
        _ => frame(content, 9, now, &[]),
    }
}

/// The hooks of calls, which stand before the snapshots'.
const CALLS: [u16; 2] = [0, Hook::SnapshotGroup as u16];
const SNAPSHOTS: [u16; 2] = [Hook::SnapshotGroup as u16, Hook::SnapshotDma as u16 + 1];

/// A record of a call on one of these hooks: objects of a few identities, so that calls have to do with each
/// other.
fn operation(bytes: &mut Bytes<'_>, now: u64, [first, end]: [u16; 2]) -> Operation {
    let mut record = Operation::new_zeroed();
    let header = &mut record.header;
    (header.time_ns, header.sequence) = (now, now);
    header.hook = first + u16::from(bytes.byte()) % (end - first);
    header.phase = bytes.byte() % 3;
    header.cpu = u32::from(bytes.byte() % 3);
    (header.task.tid, header.task.tgid) = (u32::from(bytes.byte() % 4) + 1, 1);
    header.task.comm[..4].copy_from_slice(b"task");
    header.stack = i32::from(bytes.byte() % 3) - 1;
    // As a rule everything was read.
    header.known = match bytes.byte() {
        0..200 => 0x7fff_ffff,
        200..250 => u32::from(bytes.short()),
        _ => bytes.long() as u32,
    };
    let group = bytes.byte();
    (record.group.key, record.group.id) = (u64::from(group % 4), u32::from(group % 4));
    if group >= 240 {
        record.group.id = bytes.long() as u32;
    }
    record.group.owner = u64::from(bytes.byte() % 3);
    record.group.owner_cnt = u32::from(bytes.byte() % 4);
    record.group.domain = domain(bytes);
    record.group.default_domain = Domain { key: 1, kind: 3, kind_known: 1 };
    record.group.blocking_domain = Domain { key: 2, kind: 0, kind_known: 1 };
    let device = bytes.byte();
    record.device.key = u64::from(device % 6);
    record.device.name[..2].copy_from_slice(&[b'd', b'0' + device % 6]);
    record.device.table = u64::from(bytes.byte() % 4);
    record.device.max_pasids = 1 << 20;
    record.domain = domain(bytes);
    record.old = domain(bytes);
    record.owner = u64::from(bytes.byte() % 3);
    record.handle = u64::from(bytes.byte() % 4);
    record.mm = u64::from(bytes.byte() % 3);
    record.pasid = pasid(bytes);
    record.slot = entry(bytes);
    record.ret = match bytes.byte() {
        0..200 => 0,
        200..240 => -22,
        _ => bytes.long() as i64,
    };
    record
}

fn inventory(bytes: &mut Bytes<'_>, now: u64) -> Inventory {
    let mut record = Inventory::new_zeroed();
    record.operation = operation(bytes, now, CALLS);
    let len = usize::from(bytes.byte() % 8);
    record.array.len = len as u32;
    record.array.complete = u32::from(!bytes.byte().is_multiple_of(4));
    record.array.entries[..len].fill_with(|| entry(bytes));
    record
}

fn snapshot(bytes: &mut Bytes<'_>, now: u64) -> Vec<u8> {
    let mut head = SnapshotHead::new_zeroed();
    head.operation = operation(bytes, now, SNAPSHOTS);
    head.state.iommu = u64::from(bytes.byte() % 3);
    (head.state.set, head.state.known) = (u32::from(bytes.byte()), u32::from(bytes.byte()));
    let mut part = |of: u8| {
        let byte = bytes.byte();
        Part { len: u32::from(byte % of), complete: u32::from(byte < 200) }
    };
    (head.members, head.array, head.table) = (part(4), part(6), part(6));
    head.table_kind = u32::from(bytes.byte() % 4);
    head.table_per_domain = u32::from(bytes.byte().is_multiple_of(8));
    let mut record = head.as_bytes().to_vec();
    for _ in 0..head.array.len {
        record.extend(entry(bytes).as_bytes());
    }
    for _ in 0..head.table.len {
        let (kind, tag) = (u32::from(bytes.byte() % 6), u32::from(bytes.byte() % 4));
        record.extend(TableEntry { pasid: pasid(bytes), kind, tag, reserved: [0; 3] }.as_bytes());
    }
    record
}

fn entry(bytes: &mut Bytes<'_>) -> ArrayEntry {
    let encoding = u16::from(bytes.byte() % 6);
    ArrayEntry { domain: domain(bytes), pasid: pasid(bytes), encoding, flags: u16::from(bytes.byte() % 2) }
}

fn domain(bytes: &mut Bytes<'_>) -> Domain {
    let kinds = [0, 1, 3, 0xb, 4, 0x10, 0x20, 0x40];
    let byte = bytes.byte();
    Domain { key: u64::from(byte % 5), kind: kinds[usize::from(byte % 8)], kind_known: u32::from(byte < 250) }
}

fn pasid(bytes: &mut Bytes<'_>) -> u32 {
    match bytes.byte() {
        byte @ 0..250 => u32::from(byte % 4),
        _ => bytes.long() as u32,
    }
}

fn frame(content: &mut Vec<u8>, kind: u8, mono_ns: u64, body: &[u8]) {
    content.extend([kind, 1, 0, 0]);
    content.extend((body.len() as u32).to_le_bytes());
    content.extend(mono_ns.to_le_bytes());
    content.extend(body);
}

/// What the fuzzer gave, zeros when it is used up.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((&first, rest)) => {
                self.0 = rest;
                first
            }
            None => 0,
        }
    }

    fn short(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    fn long(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }
}
