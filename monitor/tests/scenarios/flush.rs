//! What a driver flushes when it tears a PASID entry down: left out, failed, made up for; and what must not raise it.

use monitor::event::Task;
use monitor::input::Input;
use monitor_ebpf::descriptor::{Scope, condition};

use crate::kernel::flush::{DID, LIVE, Submission, Teardown, Vtd, all, device_tlb, iotlb, pasid_cache};
use crate::kernel::{Call, Era, Running, task};
use crate::rig::{D1, D2, NVME, Raised, Rig, driver, other, raised};

const TEARDOWN: &str = "teardown-flush-incomplete";
const FAILED: &str = "invalidation-failed";
const REUSED: &str = "pasid-reused-without-flush";

const EIO: i32 = -5;
const ETIMEDOUT: i32 = -110;

struct Bench {
    rig: Rig,
    vtd: Vtd,
}

impl Bench {
    /// PASID 5 is attached by `driver`.
    fn new(era: Era) -> Bench {
        let mut bench = Bench { rig: Rig::new(era), vtd: Vtd::default() };
        bench.attach(&driver(), 5, D1);
        bench
    }

    /// An attach, and in it the set-up of the entry.
    fn attach(&mut self, task: &Task, pasid: u32, domain: u64) {
        let kernel = &mut self.rig.kernel;
        let mut running = kernel.begin(task, Call::Attach { device: NVME, pasid, domain });
        kernel.act(&mut running);
        self.vtd.set_up(kernel, task, NVME, pasid);
        assert_eq!(kernel.end(running), 0);
        self.rig.watch();
    }

    /// A detach of PASID 5, and in it a teardown.
    fn detach(&mut self, task: &Task, domain: u64, teardown: &Teardown) {
        let kernel = &mut self.rig.kernel;
        let call = Call::Detach { device: NVME, pasid: teardown.pasid, domain };
        let mut running = kernel.begin(task, call);
        self.vtd.tear_down(kernel, task, NVME, teardown);
        kernel.act(&mut running);
        assert_eq!(kernel.end(running), 0);
        self.rig.watch();
    }

    /// PASID 5 is torn down with these submissions, by `other`.
    fn torn_down(submissions: Vec<Submission>) -> Bench {
        Bench::torn_down_as(&Teardown::new(5, submissions))
    }

    fn torn_down_as(teardown: &Teardown) -> Bench {
        let mut bench = Bench::new(Era::Tagged);
        bench.detach(&other(), D1, teardown);
        bench
    }
}

/// All but one.
fn without(index: usize) -> Vec<Submission> {
    let mut submissions = all(5);
    submissions.remove(index);
    submissions
}

fn incomplete() -> Raised {
    raised(TEARDOWN, 7, &[5], "driver", "other")
}

#[test]
fn each_flush_that_is_left_out_is_caught() {
    for era in Era::WITH_PASIDS {
        for index in 0..3 {
            let mut bench = Bench::new(era);
            bench.detach(&other(), D1, &Teardown::new(5, without(index)));
            bench.rig.expect(&[incomplete()]);
        }
    }
}

#[test]
fn a_teardown_that_flushes_nothing_is_caught() {
    Bench::torn_down(Vec::new()).rig.expect(&[incomplete()]);
}

#[test]
fn a_whole_teardown_is_right() {
    let mut bench = Bench::torn_down(all(5));
    bench.attach(&other(), 5, D2);
    bench.rig.expect_silence();
}

#[test]
fn a_flush_by_domain_or_of_everything_covers_the_entry() {
    // PASID cache by domain, IOTLB whole.
    let wide = vec![([7 | u64::from(DID) << 16, 0], 0), ([2 | 1 << 4, 0], 0), (device_tlb(5), 0)];
    Bench::torn_down(wide).rig.expect_silence();
}

#[test]
fn a_flush_of_another_pasid_domain_or_device_is_none() {
    let others = [
        vec![(pasid_cache(6), 0), (iotlb(DID, 5), 0), (device_tlb(5), 0)],
        vec![(pasid_cache(5), 0), (iotlb(DID, 6), 0), (device_tlb(5), 0)],
        vec![(pasid_cache(5), 0), (iotlb(DID, 5), 0), (device_tlb(6), 0)],
        // The drain of page requests flushes the PASID under the domain of the RID.
        vec![(pasid_cache(5), 0), (iotlb(1, 5), 0), (device_tlb(5), 0)],
    ];
    for submissions in others {
        Bench::torn_down(submissions).rig.expect(&[incomplete()]);
    }
}

#[test]
fn the_device_is_flushed_after_the_iotlb() {
    let early = vec![(pasid_cache(5), 0), (device_tlb(5), 0), (iotlb(DID, 5), 0)];
    Bench::torn_down(early).rig.expect(&[incomplete()]);
}

#[test]
fn an_entry_that_was_not_present_needs_no_flush() {
    // Its mm has exited: faults are disabled, and the detach comes later.
    let exited = LIVE & !condition::PRESENT | condition::FAULTS_DISABLED;
    Bench::torn_down_as(&Teardown::new(5, Vec::new()).under(exited)).rig.expect_silence();
}

#[test]
fn a_device_without_ats_or_that_is_gone_needs_no_flush_of_its_own() {
    let mut legal = vec![
        Teardown::new(5, without(2)).under(LIVE & !condition::ATS),
        Teardown::new(5, without(2)).under(LIVE | condition::GONE),
        Teardown::new(5, without(2)).under(LIVE | condition::CACHING_MODE),
    ];
    // It goes meanwhile, or its ATS does.
    legal.push(Teardown { end: LIVE | condition::GONE, ..Teardown::new(5, without(2)) });
    legal.push(Teardown { end: LIVE & !condition::ATS, ..Teardown::new(5, without(2)) });
    for teardown in legal {
        Bench::torn_down_as(&teardown).rig.expect_silence();
    }
}

#[test]
fn what_can_not_be_judged_is_not() {
    let nothing = Teardown::new(5, Vec::new());
    let mut unknown = vec![
        nothing.clone().under(LIVE & !condition::TRANSLATES),
        nothing.clone().under(LIVE & !condition::QUEUED),
        // Another task tears the same entry down: which of the two has flushed it is not known.
        Teardown { contested: true, ..nothing.clone() },
    ];
    for bit in [condition::PRESENT, condition::TRANSLATES, condition::QUEUED] {
        unknown.push(Teardown { known: nothing.known & !bit, ..nothing.clone() });
    }
    for teardown in unknown {
        Bench::torn_down_as(&teardown).rig.expect_silence();
    }
}

#[test]
fn a_teardown_that_nobody_called_for_is_the_drivers_own() {
    let mut bench = Bench::new(Era::Tagged);
    // `intel_mm_release`, when a process exits.
    let exiting = task(400, "victim");
    bench.vtd.tear_down(&mut bench.rig.kernel, &exiting, NVME, &Teardown::new(5, without(1)));
    bench.rig.watch();
    bench.rig.expect(&[raised(TEARDOWN, 7, &[5], "driver", "victim")]);
}

#[test]
fn a_flush_that_fails_is_caught_with_what_follows_from_it() {
    let mut submissions = all(5);
    submissions[1].1 = EIO;
    let failed = raised(FAILED, 7, &[5], "driver", "other").implying(&[TEARDOWN]);
    Bench::torn_down(submissions).rig.expect(&[failed]);
}

#[test]
fn a_flush_that_fails_and_is_done_again_is_told_alone() {
    let mut submissions = all(5);
    submissions.insert(1, (iotlb(DID, 5), EIO));
    Bench::torn_down(submissions).rig.expect(&[raised(FAILED, 7, &[5], "driver", "other")]);
}

#[test]
fn a_failure_outside_every_window_is_of_no_group() {
    let mut bench = Bench::new(Era::Tagged);
    bench.vtd.fails(&mut bench.rig.kernel, &other(), Scope::Iotlb, EIO);
    bench.rig.watch();
    bench.rig.expect(&[Raised { group: None, ..raised(FAILED, 7, &[], "", "other") }]);
    let severities: Vec<_> = bench.rig.watcher.violations().map(|found| found.severity.name()).collect();
    assert_eq!(severities, ["warning"]);
}

#[test]
fn a_time_out_is_excused_for_the_device_that_is_gone_and_for_no_other() {
    let timed_out = |index: usize, set: u32| {
        let mut submissions = all(5);
        submissions[index].1 = ETIMEDOUT;
        Bench::torn_down_as(&Teardown::new(5, submissions).under(set)).rig
    };
    timed_out(2, LIVE | condition::GONE).expect_silence();
    let failed = raised(FAILED, 7, &[5], "driver", "other").implying(&[TEARDOWN]);
    // The device is there.
    timed_out(2, LIVE).expect(std::slice::from_ref(&failed));
    // It was the IOMMU's own cache.
    timed_out(1, LIVE | condition::GONE).expect(&[failed]);
}

#[test]
fn an_entry_that_is_used_again_without_its_flush_is_caught() {
    let mut bench = Bench::torn_down(without(0));
    bench.attach(&driver(), 5, D2);
    bench.rig.expect(&[incomplete(), raised(REUSED, 7, &[5], "driver", "driver")]);
}

#[test]
fn another_pasid_may_be_used_meanwhile() {
    let mut bench = Bench::torn_down(without(0));
    bench.attach(&driver(), 6, D2);
    bench.rig.expect(&[incomplete()]);
}

#[test]
fn a_flush_that_comes_late_but_before_the_next_use_makes_up_for_it() {
    let mut bench = Bench::torn_down(without(0));
    let [qw0, qw1] = pasid_cache(5);
    bench.vtd.flushes(qw0, qw1);
    bench.attach(&driver(), 5, D2);
    bench.rig.expect(&[incomplete()]);
}

#[test]
fn a_replace_by_teardown_and_set_up_follows_from_what_it_left_out() {
    // From 6.19: `intel_iommu_set_dev_pasid` tears the old entry down and sets the new one up.
    let mut bench = Bench::new(Era::Tagged);
    let Bench { rig, vtd } = &mut bench;
    let mut running = rig.kernel.begin(&other(), Call::Replace { device: NVME, pasid: 5, domain: D2 });
    vtd.tear_down(&mut rig.kernel, &other(), NVME, &Teardown::new(5, without(1)));
    vtd.set_up(&mut rig.kernel, &other(), NVME, 5);
    rig.kernel.act(&mut running);
    rig.kernel.end(running);
    rig.watch();
    rig.expect(&[incomplete().implying(&[REUSED])]);
}

/// A replace that leaves the flush of the IOTLB out; before the entry is set up again.
fn half_replaced() -> (Bench, Running) {
    let mut bench = Bench::new(Era::Tagged);
    let Bench { rig, vtd } = &mut bench;
    let running = rig.kernel.begin(&other(), Call::Replace { device: NVME, pasid: 5, domain: D2 });
    vtd.tear_down(&mut rig.kernel, &other(), NVME, &Teardown::new(5, without(1)));
    rig.watch_closely();
    (bench, running)
}

#[test]
fn what_follows_in_the_same_call_is_told_with_it_however_soon_the_ring_is_empty() {
    let (mut bench, mut running) = half_replaced();
    let Bench { rig, vtd } = &mut bench;
    rig.kernel.sleep(500_000_000);
    rig.watch();
    assert_eq!(rig.raised(), []);
    vtd.set_up(&mut rig.kernel, &other(), NVME, 5);
    rig.kernel.act(&mut running);
    rig.kernel.end(running);
    rig.watch_closely();
    assert_eq!(rig.raised(), [incomplete().implying(&[REUSED])]);
    rig.expect(&[incomplete().implying(&[REUSED])]);
}

#[test]
fn a_failure_waits_for_the_end_of_its_teardown() {
    let mut bench = Bench::new(Era::Tagged);
    let Bench { rig, vtd } = &mut bench;
    let mut submissions = all(5);
    submissions[1].1 = EIO;
    let mut running = rig.kernel.begin(&other(), Call::Detach { device: NVME, pasid: 5, domain: D1 });
    vtd.tear_down(&mut rig.kernel, &other(), NVME, &Teardown::new(5, submissions));
    rig.watch_closely();
    rig.kernel.act(&mut running);
    rig.kernel.end(running);
    rig.watch_closely();
    rig.expect(&[raised(FAILED, 7, &[5], "driver", "other").implying(&[TEARDOWN])]);
}

#[test]
fn a_call_that_hangs_hides_nothing() {
    let (mut bench, _running) = half_replaced();
    bench.rig.kernel.sleep(2_000_000_000);
    bench.rig.tell(Input::Settled);
    assert_eq!(bench.rig.raised(), [incomplete()]);
}

/// It is raised at once where nothing can follow any more.
#[test]
fn what_another_task_does_meanwhile_is_not_waited_for() {
    let mut bench = Bench::new(Era::Tagged);
    let _running = bench.rig.kernel.begin(&driver(), Call::Attach { device: NVME, pasid: 6, domain: D2 });
    bench.detach(&other(), D1, &Teardown::new(5, without(1)));
    assert_eq!(bench.rig.raised(), [incomplete()]);
}

#[test]
fn what_was_lost_meanwhile_may_explain_it() {
    use monitor::input::Stage;

    let mut bench = Bench::new(Era::Tagged);
    let kernel = &mut bench.rig.kernel;
    bench.vtd.tear_down(kernel, &other(), NVME, &Teardown::new(5, without(1)));
    for event in std::mem::take(&mut kernel.log) {
        bench.rig.feed(event);
    }
    // A program that did not run may have seen the flush.
    bench.rig.lose(Stage::Kernel, 1);
    bench.rig.kernel.snapshot_all();
    bench.rig.expect(&[]);
}

#[test]
fn without_the_returns_of_submissions_failures_are_not_seen_and_the_rest_is() {
    use monitor::check::CheckState;
    use monitor::coverage::HookState;
    use monitor::input::Input;
    use monitor::watcher::{Options, Watcher};
    use monitor_ebpf::wire::Hook;

    let mut coverage = crate::rig::coverage(Era::Tagged);
    coverage.set(Hook::VtdSubmit, HookState::Failed { reason: "left out".into() });
    let mut watcher = Watcher::new(Options { coverage, ..crate::rig::options(Era::Tagged) });
    watcher.take(Input::Inventory(crate::tables::inventory("intel")), 0);
    let state = |name: &str| {
        let found = watcher.checks().find(|(spec, _)| spec.name == name);
        found.map(|(_, state)| state.clone()).expect("listed")
    };
    assert!(matches!(state(FAILED), CheckState::Unavailable { .. }));
    assert!(matches!(state(TEARDOWN), CheckState::Degraded { .. }));
    assert!(matches!(state(REUSED), CheckState::Degraded { .. }));
}
