//! Flushes of a range that fall short, by an unmap and by an mm notifier; and what must not raise it.

use monitor::coverage::{Coverage, HookState};
use monitor::watcher::{Options, Report, Watcher};
use monitor_ebpf::descriptor::range::{Verdict, kind};
use monitor_ebpf::wire::{Hook, Tag};

use crate::kernel::flush::{DID, SOURCE, Sync, cache};
use crate::kernel::{Call, Era};
use crate::rig::{D1, NVME, Raised, Rig, coverage, driver, options, other, raised};

const CHECK: &str = "flush-range-short";
/// Four pages.
const FOUR: (u64, u64) = (0x10_0000, 0x10_3fff);

/// `qi_desc_iotlb(iommu, did, addr, size_order, DMA_TLB_PSI_FLUSH)`
fn pages(address: u64, order: u64) -> [u64; 2] {
    [2 | 3 << 4 | u64::from(DID) << 16, address | order]
}

/// `qi_desc_piotlb(did, pasid, addr, size_order, ih)`
fn pasid_pages(pasid: u32, address: u64, order: u64) -> [u64; 2] {
    [6 | 3 << 4 | u64::from(DID) << 16 | u64::from(pasid) << 32, address | order]
}

/// `qi_desc_dev_iotlb(sid, pfsid, qdep, addr, 2)`: four pages from an address on.
fn four_of_device(address: u64) -> [u64; 2] {
    [3 | u64::from(SOURCE) << 32, address | 0x1001]
}

fn unmap(tags: &[Tag], descriptors: &[[u64; 2]]) -> Sync {
    let (tags, descriptors) = (tags.to_vec(), descriptors.to_vec());
    Sync { hook: Hook::VtdSync, domain: D1, asked: FOUR, tags, descriptors }
}

/// What is judged, and what is raised.
fn after(sync: &Sync) -> (Vec<Verdict>, Vec<Raised>) {
    let mut rig = Rig::new(Era::Tagged);
    let verdicts = sync.run(&mut rig.kernel, &other(), NVME);
    rig.watch();
    (verdicts, Raised::all(&rig.reports, &rig.watcher))
}

fn of_other(pasids: &[u32], attached_by: &str) -> Raised {
    raised(CHECK, 7, pasids, attached_by, "other")
}

#[test]
fn a_flush_of_half_of_it_is_caught_and_one_of_all_of_it_is_not() {
    let rid = [cache(kind::IOTLB, 0)];
    let (verdicts, found) = after(&unmap(&rid, &[pages(FOUR.0, 1)]));
    assert_eq!((verdicts, found), (vec![Verdict::Short], vec![of_other(&[], "")]));
    let (verdicts, found) = after(&unmap(&rid, &[pages(FOUR.0, 2)]));
    assert_eq!((verdicts, found), (vec![Verdict::Covered], vec![]));
}

#[test]
fn a_flush_that_is_left_out_is_caught() {
    assert_eq!(after(&unmap(&[cache(kind::IOTLB, 0)], &[])).1, [of_other(&[], "")]);
}

#[test]
fn a_device_whose_own_cache_is_left_out_is_caught() {
    let both = [cache(kind::IOTLB, 0), cache(kind::DEVICE_TLB, 0)];
    assert_eq!(after(&unmap(&both, &[pages(FOUR.0, 2)])).1, [of_other(&[], "")]);
    assert_eq!(after(&unmap(&both, &[pages(FOUR.0, 2), four_of_device(FOUR.0)])).1, []);
}

#[test]
fn two_caches_of_one_unmap_are_one_alarm() {
    let both = [cache(kind::IOTLB, 0), cache(kind::DEVICE_TLB, 0)];
    let (verdicts, found) = after(&unmap(&both, &[pages(FOUR.0, 1)]));
    assert_eq!((verdicts, found), (vec![Verdict::Short; 2], vec![of_other(&[], "")]));
}

#[test]
fn a_notifier_that_falls_short_names_its_pasid_and_who_attached_it() {
    let mut rig = Rig::new(Era::Tagged);
    rig.call(&driver(), Call::Attach { device: NVME, pasid: 5, domain: D1 });
    let notice = |order| Sync {
        hook: Hook::VtdMmFlush,
        domain: D1,
        asked: FOUR,
        tags: vec![cache(kind::IOTLB, 5)],
        descriptors: vec![pasid_pages(5, FOUR.0, order)],
    };
    assert_eq!(notice(2).run(&mut rig.kernel, &other(), NVME), [Verdict::Covered]);
    assert_eq!(notice(0).run(&mut rig.kernel, &other(), NVME), [Verdict::Short]);
    rig.watch();
    let all = Raised::all(&rig.reports, &rig.watcher);
    assert_eq!(all, [of_other(&[5], "driver")]);
    let summary = rig.watcher.violations().next().map(|open| open.summary.clone());
    assert_eq!(
        summary.as_deref(),
        Some(
            "of what an mm notifier asked for (0x100000-0x103fff) the IOTLB was told to drop only \
             0x100000-0x100fff"
        )
    );
}

#[test]
fn what_covers_more_or_in_pieces_or_what_no_cache_holds_is_right() {
    let rid = [cache(kind::IOTLB, 0)];
    // Widened by alignment; of the whole domain; in four pieces; of a domain that has no cache.
    assert_eq!(after(&unmap(&rid, &[pages(0, 12)])).1, []);
    assert_eq!(after(&unmap(&rid, &[[2 | 2 << 4 | u64::from(DID) << 16, 0]])).1, []);
    let pieces = [0, 1, 2, 3].map(|page| pages(FOUR.0 + page * 0x1000, 0));
    assert_eq!(after(&unmap(&rid, &pieces)).1, []);
    assert_eq!(after(&unmap(&[], &[])), (vec![], vec![]));
}

#[test]
fn another_domains_flush_in_between_neither_helps_nor_harms() {
    let rid = [cache(kind::IOTLB, 0)];
    let elsewhere = [2 | 2 << 4 | 0x99 << 16, 0];
    assert_eq!(after(&unmap(&rid, &[elsewhere, pages(FOUR.0, 2)])).1, []);
    assert_eq!(after(&unmap(&rid, &[elsewhere])).1, [of_other(&[], "")]);
}

/// States of the check, as a watcher with this coverage tells them.
fn state(change: impl FnOnce(&mut Coverage)) -> (&'static str, String) {
    let mut coverage = coverage(Era::Tagged);
    change(&mut coverage);
    let watcher = Watcher::new(Options { coverage, ..options(Era::Tagged) });
    let found = watcher.checks().find(|(spec, _)| spec.name == CHECK);
    let (_, state) = found.expect("it is registered");
    (state.name(), state.reason().unwrap_or_default().to_owned())
}

#[test]
fn it_is_off_unless_it_is_asked_for_and_then_says_what_is_missing() {
    assert_eq!(state(|_| {}).0, "armed");
    let (name, reason) = state(|coverage| coverage.set(Hook::VtdSync, HookState::Off));
    assert_eq!(name, "off");
    assert!(reason.contains("--enable flush-range-short") && reason.contains("instructions"), "{reason}");
    assert_eq!(state(|coverage| coverage.set(Hook::VtdSync, HookState::Absent)).0, "unavailable");
    assert_eq!(state(|coverage| coverage.set(Hook::VtdRangeQueue, HookState::Absent)).0, "unavailable");
    let refused = HookState::Failed { reason: "refused".into() };
    assert_eq!(state(|coverage| coverage.set(Hook::RidAttach, refused.clone())).0, "unavailable");
    assert_eq!(state(|coverage| coverage.set(Hook::VtdMmFlush, refused)).0, "degraded");
}

#[test]
fn what_is_off_is_not_judged() {
    let mut rig = Rig::new(Era::Tagged);
    let mut off = coverage(Era::Tagged);
    off.set(Hook::VtdSync, HookState::Off);
    rig.watcher = Watcher::new(Options { coverage: off, ..options(Era::Tagged) });
    rig.bootstrap();
    unmap(&[cache(kind::IOTLB, 0)], &[]).run(&mut rig.kernel, &other(), NVME);
    rig.watch();
    assert!(!rig.reports.iter().any(|report| matches!(report, Report::Violation(_))));
}

#[test]
fn a_flush_from_before_all_hooks_were_attached_is_not_judged() {
    let half = unmap(&[cache(kind::IOTLB, 0)], &[pages(FOUR.0, 1)]);
    let mut rig = Rig::unwatched(Era::Tagged);
    rig.kernel.snapshot_all();
    assert_eq!(half.run(&mut rig.kernel, &other(), NVME), [Verdict::Short]);
    rig.watch();
    assert_eq!(Raised::all(&rig.reports, &rig.watcher), [], "its first descriptor may have gone by unseen");
    // The same once no flush from before can be under way.
    rig.idle(1_000_000_000);
    assert_eq!(half.run(&mut rig.kernel, &other(), NVME), [Verdict::Short]);
    rig.watch();
    assert_eq!(Raised::all(&rig.reports, &rig.watcher), [of_other(&[], "")]);
}
