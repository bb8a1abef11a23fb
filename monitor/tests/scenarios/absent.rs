//! A device that the kernel has marked as disconnected, and what VT-d's driver sends it all the same.

use monitor::check::CheckState;
use monitor::input::Input;
use monitor::watcher::Watcher;
use monitor_ebpf::descriptor::condition;

use crate::kernel::flush::{DID, LIVE, Submission, Teardown, Vtd, all, device_tlb, iotlb, pasid_cache};
use crate::kernel::{Call, Era};
use crate::rig::{D1, NVME, Raised, Rig, driver, other, raised};

const ABSENT: &str = "ats-flush-to-absent";
/// The device was marked before the teardown began.
const MARKED: u32 = LIVE | condition::GONE | condition::DISCONNECTED;

/// PASID 5 is attached by `driver`, and detached by `other`, with this teardown.
fn torn_down(teardown: &Teardown) -> Rig {
    let (mut rig, mut vtd) = (Rig::new(Era::Tagged), Vtd::default());
    rig.call(&driver(), Call::Attach { device: NVME, pasid: 5, domain: D1 });
    let mut running = rig.kernel.begin(&other(), Call::Detach { device: NVME, pasid: 5, domain: D1 });
    vtd.tear_down(&mut rig.kernel, &other(), NVME, teardown);
    rig.kernel.act(&mut running);
    assert_eq!(rig.kernel.end(running), 0);
    rig.watch();
    rig
}

fn told() -> Raised {
    raised(ABSENT, 7, &[5], "driver", "other")
}

/// What the driver does of its own where it finds the device gone.
fn without_device() -> Vec<Submission> {
    vec![(pasid_cache(5), 0), (iotlb(DID, 5), 0)]
}

#[test]
fn a_flush_to_a_device_that_is_marked_is_caught() {
    let mut rig = torn_down(&Teardown::new(5, all(5)).under(MARKED));
    let found = rig.watcher.violations().next().expect("a violation");
    assert_eq!(
        found.summary,
        "0000:01:00.0 is marked as disconnected, and an ATS invalidation was sent to it while PASID 5 was torn down"
    );
    rig.expect(&[told()]);
}

#[test]
fn one_that_comes_before_the_iotlbs_is_one_too() {
    let early = vec![(device_tlb(5), 0), (pasid_cache(5), 0), (iotlb(DID, 5), 0)];
    torn_down(&Teardown::new(5, early).under(MARKED)).expect(&[told()]);
}

#[test]
fn one_that_times_out_is_told_as_this() {
    let mut submissions = all(5);
    submissions[2].1 = -110;
    torn_down(&Teardown::new(5, submissions).under(MARKED)).expect(&[told()]);
}

#[test]
fn a_driver_that_looks_for_the_device_is_right() {
    torn_down(&Teardown::new(5, without_device()).under(MARKED)).expect_silence();
}

#[test]
fn a_device_that_is_there_is_flushed() {
    torn_down(&Teardown::new(5, all(5))).expect_silence();
}

#[test]
fn a_device_that_is_marked_meanwhile_may_have_been_there_when_the_driver_looked() {
    let meanwhile = Teardown { end: LIVE | condition::GONE, ..Teardown::new(5, all(5)) };
    torn_down(&meanwhile).expect_silence();
    // Or it was found absent, and is not marked.
    torn_down(&Teardown::new(5, all(5)).under(LIVE | condition::GONE)).expect_silence();
}

#[test]
fn where_it_is_not_known_nothing_is_judged() {
    // A virtual function, whose physical one is asked; a recording from before.
    let marked = Teardown::new(5, all(5)).under(MARKED);
    let unknown = Teardown { known: marked.known & !condition::DISCONNECTED, ..marked };
    torn_down(&unknown).expect_silence();
}

#[test]
fn an_unmap_that_an_interrupt_does_meanwhile_is_not_the_teardowns() {
    let mut submissions = without_device();
    // One page of the RID's, and PASID 6.
    submissions.push(([3 | 0x100 << 32, 0x1000], 0));
    submissions.push((device_tlb(6), 0));
    torn_down(&Teardown::new(5, submissions).under(MARKED)).expect_silence();
}

#[test]
fn what_that_took_is_told_with_it() {
    let (mut rig, mut vtd) = (Rig::new(Era::Tagged), Vtd::default());
    rig.call(&driver(), Call::Attach { device: NVME, pasid: 5, domain: D1 });
    let mut running = rig.kernel.begin(&other(), Call::Detach { device: NVME, pasid: 5, domain: D1 });
    vtd.is_slow(&mut rig.kernel, &other(), NVME, 5, std::time::Duration::from_secs(60));
    vtd.tear_down(&mut rig.kernel, &other(), NVME, &Teardown::new(5, all(5)).under(MARKED));
    rig.kernel.act(&mut running);
    assert_eq!(rig.kernel.end(running), 0);
    rig.watch();
    rig.expect(&[told().implying(&["flush-slow"])]);
}

#[test]
fn behind_drivers_that_never_look_it_is_not_applicable() {
    let state = |driver: &str| {
        let mut watcher = Watcher::new(crate::rig::options(Era::Tagged));
        watcher.take(Input::Inventory(crate::tables::inventory(driver)), 0);
        let found = watcher.checks().find(|(spec, _)| spec.name == ABSENT);
        found.map(|(_, state)| state.clone()).expect("listed")
    };
    assert_eq!(state("intel"), CheckState::Armed);
    for driver in ["amd", "arm-smmu-v3"] {
        assert!(matches!(state(driver), CheckState::NotApplicable { .. }), "{driver}");
    }
}
