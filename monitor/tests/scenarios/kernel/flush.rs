//! VT-d's driver at its queue: what it submits while it tears an entry down, as the programs in the kernel keep it.

use std::collections::BTreeMap;
use std::time::Duration;

use monitor::event::{Domain, DomainKind, Event, Flush, Key, Range, Task};
use monitor_ebpf::descriptor::range::{self, Verdict};
use monitor_ebpf::descriptor::{Conditions, Scope, condition, vtd, window};
use monitor_ebpf::wire::{self, Asked, Frame, Hook, Phase, RANGE_TAGS, Tag, Windows};

use super::Kernel;
use super::ring::seen;

/// A descriptor, and what its submission returns.
pub type Submission = ([u64; 2], i32);

/// The domain id and the requester id that every entry here has.
pub const DID: u32 = 0x12;
pub const SOURCE: u32 = 0x100;

/// `QI_PC_PASID_SEL`
pub fn pasid_cache(pasid: u32) -> [u64; 2] {
    [7 | 1 << 4 | u64::from(DID) << 16 | u64::from(pasid) << 32, 0]
}

/// `qi_flush_piotlb(iommu, did, pasid, 0, -1, 0)`
pub fn iotlb(did: u32, pasid: u32) -> [u64; 2] {
    [6 | 2 << 4 | u64::from(did) << 16 | u64::from(pasid) << 32, 0]
}

/// `qi_flush_dev_iotlb_pasid`, and for entry 0 `qi_flush_dev_iotlb`, of every address.
pub fn device_tlb(pasid: u32) -> [u64; 2] {
    match pasid {
        0 => [3 | u64::from(SOURCE) << 32, 0x7fff_ffff_ffff_f001],
        _ => [8 | u64::from(SOURCE) << 16 | u64::from(pasid) << 32, 0x7fff_ffff_ffff_f800],
    }
}

/// The IOMMU that every device here is behind.
const IOMMU: u64 = 0xd0;

/// What the driver does: all of it, and each submission returns 0.
pub fn all(pasid: u32) -> Vec<Submission> {
    vec![(pasid_cache(pasid), 0), (iotlb(DID, pasid), 0), (device_tlb(pasid), 0)]
}

/// Everything of which a teardown's conditions are known.
const KNOWN: u32 = condition::PRESENT
    | condition::FAULTS_DISABLED
    | condition::ATS
    | condition::GONE
    | condition::TRANSLATES
    | condition::QUEUED
    | condition::CACHING_MODE
    | condition::DISCONNECTED;

/// A present entry of a device with ATS.
pub const LIVE: u32 = condition::PRESENT | condition::TRANSLATES | condition::QUEUED | condition::ATS;

/// The driver, and what the kernel side remembers of it.
#[derive(Default)]
pub struct Vtd {
    /// What entries are owed, by device and PASID.
    owed: BTreeMap<(&'static str, u32), wire::Flush>,
}

/// A teardown.
#[derive(Clone, Debug)]
pub struct Teardown {
    pub pasid: u32,
    pub submissions: Vec<Submission>,
    /// Bits of [`condition`], at the begin and at the end.
    pub begin: u32,
    pub end: u32,
    pub known: u32,
    pub contested: bool,
}

impl Teardown {
    pub fn new(pasid: u32, submissions: Vec<Submission>) -> Teardown {
        Teardown { pasid, submissions, begin: LIVE, end: LIVE, known: KNOWN, contested: false }
    }

    /// The conditions are these from begin to end.
    pub fn under(self, set: u32) -> Teardown {
        Teardown { begin: set, end: set, ..self }
    }
}

impl Vtd {
    /// `intel_pasid_tear_down_entry`
    pub fn tear_down(&mut self, kernel: &mut Kernel, task: &Task, name: &'static str, teardown: &Teardown) {
        let Teardown { pasid, begin, end, known, contested, .. } = *teardown;
        report(kernel, task, name, Hook::VtdTearDown, Phase::Begin, Some(pasid), |_| {});
        let flush = wire::Flush {
            vendor: wire::TableKind::Vtd as u32,
            kind: 1,
            tag: DID,
            pasid,
            source: SOURCE,
            set: begin,
            known,
            ..wire::Flush::NONE
        };
        let mut frame = Frame { flush, ..Windows::NONE.frames[0] };
        for &([qw0, qw1], ret) in &teardown.submissions {
            self.flushes(qw0, qw1);
            window::submitted(&mut frame, wire::TableKind::Vtd, qw0, qw1);
            let scopes = 1 << vtd::scope(qw0);
            window::returned(&mut frame, ret, scopes);
            if ret != 0 {
                let failed = wire::Flush { failed: ret, failed_scopes: scopes, ..frame.flush };
                report(kernel, task, name, Hook::VtdSubmit, Phase::End, Some(pasid), |event| {
                    event.ret = Some(ret);
                    event.flush = Some(Box::new(Flush::new(&failed)));
                });
            }
        }
        let now = Conditions { set: end, known: known & (condition::ATS | condition::GONE) };
        let mut flush = window::closed(&frame);
        window::settle(&mut flush, &now, contested, kernel.now + 1_000);
        if flush.owed != 0 {
            self.owed.insert((name, pasid), flush);
        }
        report(kernel, task, name, Hook::VtdTearDown, Phase::End, Some(pasid), |event| {
            event.flush = Some(Box::new(Flush::new(&flush)));
        });
    }

    /// `intel_pasid_setup_second_level`
    pub fn set_up(&mut self, kernel: &mut Kernel, task: &Task, name: &'static str, pasid: u32) {
        let owed = self.owed.remove(&(name, pasid)).filter(|flush| flush.owed != 0);
        report(kernel, task, name, Hook::VtdSetupSecond, Phase::End, Some(pasid), |event| {
            event.ret = Some(0);
            event.flush = owed.map(|flush| Box::new(Flush::new(&flush)));
        });
    }

    /// A descriptor that somebody submits.
    pub fn flushes(&mut self, qw0: u64, qw1: u64) {
        for flush in self.owed.values_mut() {
            flush.owed &= !vtd::drops(qw0, qw1, &window::entry(flush));
        }
    }

    /// A submission of the teardown of an entry takes so long, while that is under way.
    pub fn is_slow(
        &mut self,
        kernel: &mut Kernel,
        task: &Task,
        name: &'static str,
        pasid: u32,
        took: Duration,
    ) {
        let slow = slow_flush(wire::TableKind::Vtd as u32, pasid, Scope::PasidCache, took);
        report(kernel, task, name, Hook::VtdSubmit, Phase::End, Some(pasid), |event| {
            (event.ret, event.flush) = (Some(0), Some(slow));
        });
    }

    /// A submission takes so long that no window is about.
    pub fn is_slow_outside(&mut self, kernel: &mut Kernel, hook: Hook, task: &Task, took: Duration) {
        let id = *kernel.groups.keys().next().expect("a group");
        let mut event = kernel.event(hook, Phase::End, id, task);
        (event.group, event.array, event.ret) = (None, None, Some(0));
        event.flush = Some(slow_flush(0, 0, Scope::Iotlb, took));
        kernel.push(event);
    }

    /// A submission fails that no window is about.
    pub fn fails(&mut self, kernel: &mut Kernel, task: &Task, scope: Scope, ret: i32) {
        let flush = wire::Flush { failed: ret, failed_scopes: 1 << scope as u32, ..wire::Flush::NONE };
        let id = *kernel.groups.keys().next().expect("a group");
        let mut event = kernel.event(Hook::VtdSubmit, Phase::End, id, task);
        (event.group, event.array, event.ret) = (None, None, Some(ret));
        event.flush = Some(Box::new(Flush::new(&flush)));
        kernel.push(event);
    }
}

/// What a record has of a submission that was slow.
fn slow_flush(vendor: u32, pasid: u32, scope: Scope, took: Duration) -> Box<Flush> {
    let flush =
        wire::Flush { iommu: IOMMU, vendor, pasid, failed_scopes: 1 << scope as u32, ..wire::Flush::NONE };
    let mut flush = Flush::new(&flush);
    flush.took = Some(took);
    Box::new(flush)
}

/// A flush of a range, in the caches of one domain.
pub struct Sync {
    pub hook: Hook,
    pub domain: u64,
    pub asked: (u64, u64),
    pub tags: Vec<Tag>,
    pub descriptors: Vec<[u64; 2]>,
}

/// A cache of the domain: of the RID, or of a PASID.
pub fn cache(kind: u32, pasid: u32) -> Tag {
    Tag { key: u64::from(kind) + 1, iommu: 1, kind, did: DID, pasid, source: SOURCE, ..Tag::NONE }
}

impl Sync {
    /// `intel_iommu_tlb_sync`, or the mm notifier's: what the programs make of it, and what they send.
    pub fn run(&self, kernel: &mut Kernel, task: &Task, name: &'static str) -> Vec<Verdict> {
        let (first, last) = self.asked;
        let mut asked = Asked { first, last, len: self.tags.len() as u64, watched: 1, ..Asked::NONE };
        assert!(self.tags.len() <= RANGE_TAGS);
        asked.tags[..self.tags.len()].copy_from_slice(&self.tags);
        for &[qw0, qw1] in &self.descriptors {
            range::submitted(&mut asked, 1, qw0, qw1);
        }
        let tags = &asked.tags[..self.tags.len()];
        for tag in tags.iter().filter(|tag| range::judged(&asked, tag) == Verdict::Short) {
            let told = wire::Range {
                first,
                last,
                covered_first: tag.from,
                covered_last: tag.to,
                kind: tag.kind,
                did: tag.did,
                pasid: tag.pasid,
                source: tag.source,
                descriptors: asked.descriptors as u32,
                reserved: 0,
            };
            report(kernel, task, name, self.hook, Phase::End, Some(tag.pasid), |event| {
                event.domain =
                    Some(Domain { key: Key::new(self.domain).expect("not null"), kind: DomainKind::Dma });
                event.range = Some(Box::new(Range::new(&told)));
            });
        }
        tags.iter().map(|tag| range::judged(&asked, tag)).collect()
    }
}

pub(super) fn report(
    kernel: &mut Kernel,
    task: &Task,
    name: &'static str,
    hook: Hook,
    phase: Phase,
    pasid: Option<u32>,
    fill: impl FnOnce(&mut Event),
) {
    let id = kernel.group_of(name);
    let device = kernel.groups[&id].devices.iter().find(|device| device.name == name).expect("a member");
    let device = seen(device);
    let mut event = kernel.event(hook, phase, id, task);
    (event.device, event.pasid) = (Some(device), pasid);
    fill(&mut event);
    kernel.push(event);
}
