//! What AMD's driver and SMMUv3's flush when they take a PASID's entry away: each flush left out in turn, failed, not
//! waited for; and what must not raise it. The sequences are written from the sources.

use monitor::check::CheckState;
use monitor::coverage::{Coverage, HookState};
use monitor::input::Input;
use monitor::watcher::{Options, Watcher};
use monitor_ebpf::descriptor::condition;
use monitor_ebpf::wire::{Hook, TableKind};

use crate::kernel::commands::{LIVE, Queue, Removal, Step, amd, smmu};
use crate::kernel::{Call, Era, task};
use crate::rig::{D1, D2, NVME, Raised, Rig, driver, other, raised};

const TEARDOWN: &str = "teardown-flush-incomplete";
const FAILED: &str = "invalidation-failed";
const REUSED: &str = "pasid-reused-without-flush";

const EIO: i32 = -5;
const ETIMEDOUT: i32 = -110;

struct Bench {
    rig: Rig,
    queue: Queue,
}

/// Everything that a driver does, of PASID 5.
fn all(kind: TableKind) -> Vec<Step> {
    if kind == TableKind::Amd { amd::all(5) } else { smmu::all(5) }
}

const BOTH: [TableKind; 2] = [TableKind::Amd, TableKind::SmmuV3];

impl Bench {
    /// PASID 5 is attached by `driver`.
    fn new(kind: TableKind, era: Era) -> Bench {
        let mut bench = Bench { rig: Rig::new(era), queue: Queue::new(kind) };
        bench.attach(&driver(), D1, &[]);
        bench
    }

    fn attach(&mut self, task: &monitor::event::Task, domain: u64, steps: &[Step]) {
        let kernel = &mut self.rig.kernel;
        let mut running = kernel.begin(task, Call::Attach { device: NVME, pasid: 5, domain });
        kernel.act(&mut running);
        self.queue.set_up(kernel, task, NVME, 5, steps);
        assert_eq!(kernel.end(running), 0);
        self.rig.watch();
    }

    /// PASID 5 is taken off by `other`.
    fn detached(kind: TableKind, era: Era, removal: &Removal) -> Bench {
        let mut bench = Bench::new(kind, era);
        let kernel = &mut bench.rig.kernel;
        let mut running = kernel.begin(&other(), Call::Detach { device: NVME, pasid: 5, domain: D1 });
        bench.queue.remove(kernel, &other(), NVME, removal);
        kernel.act(&mut running);
        assert_eq!(kernel.end(running), 0);
        bench.rig.watch();
        bench
    }

    fn of_steps(kind: TableKind, steps: Vec<Step>) -> Bench {
        Bench::detached(kind, Era::Tagged, &Removal::new(5, steps))
    }

    /// What the one violation says, and what is in its evidence of what was read.
    fn said(&self) -> (String, Vec<&'static str>) {
        let told = self.rig.watcher.violations().next().expect("one is open");
        (told.summary.clone(), told.read.iter().map(|read| read.what).collect())
    }
}

/// All steps but these commands.
fn without(kind: TableKind, left_out: &[[u64; 2]]) -> Vec<Step> {
    let mut steps = all(kind);
    let before = steps.len();
    steps.retain(|step| !matches!(step, Step::Command(command) if left_out.contains(command)));
    assert!(steps.len() < before, "something was left out");
    steps
}

/// All of them with one command in place of another.
fn instead(kind: TableKind, of: [u64; 2], command: [u64; 2]) -> Vec<Step> {
    let replace = |step| match step {
        Step::Command(known) if known == of => Step::Command(command),
        step => step,
    };
    all(kind).into_iter().map(replace).collect()
}

fn incomplete() -> Raised {
    raised(TEARDOWN, 7, &[5], "driver", "other")
}

const PAGES: fn() -> [u64; 2] = || amd::pages(amd::DOMAIN, 5);
const IN_DEVICE: fn() -> [u64; 2] = || amd::device(amd::DEVICE, 5);
const DESCRIPTOR: fn() -> [u64; 2] = || smmu::descriptor(smmu::STREAM, 5);
const IN_MASTER: fn() -> [u64; 2] = || smmu::device(smmu::STREAM, 5);

#[test]
fn what_the_drivers_do_is_right() {
    for era in Era::WITH_PASIDS {
        for kind in BOTH {
            let mut bench = Bench::detached(kind, era, &Removal::new(5, all(kind)));
            bench.attach(&other(), D2, &[]);
            bench.rig.expect_silence();
        }
    }
}

#[test]
fn each_flush_that_is_left_out_is_caught() {
    let left_out = [
        (TableKind::Amd, PAGES(), "IOTLB"),
        (TableKind::Amd, IN_DEVICE(), "device TLB"),
        (TableKind::SmmuV3, DESCRIPTOR(), "PASID cache"),
        (TableKind::SmmuV3, IN_MASTER(), "device TLB"),
    ];
    for (kind, command, cache) in left_out {
        for era in Era::WITH_PASIDS {
            let mut bench = Bench::detached(kind, era, &Removal::new(5, without(kind, &[command])));
            bench.rig.expect(&[incomplete()]);
            let (summary, _) = bench.said();
            assert!(summary.contains(&format!("the {cache} was not flushed")), "{summary}");
        }
    }
}

#[test]
fn a_teardown_that_flushes_nothing_is_caught() {
    for kind in BOTH {
        Bench::of_steps(kind, Vec::new()).rig.expect(&[incomplete()]);
    }
}

#[test]
fn a_flush_that_nobody_waits_for_is_caught() {
    for kind in BOTH {
        let mut steps = all(kind);
        steps.retain(|step| matches!(step, Step::Command(_)));
        let mut bench = Bench::of_steps(kind, steps);
        bench.rig.expect(&[incomplete()]);
        assert!(bench.said().1.contains(&"submitted and not waited for"));
    }
    // The last command alone: `arm_smmu_cmdq_issue_cmdlist` without `sync` returns at once.
    let mut steps = smmu::issue(DESCRIPTOR());
    steps.extend([Step::Command(IN_MASTER()), Step::Return(0)]);
    Bench::of_steps(TableKind::SmmuV3, steps).rig.expect(&[incomplete()]);
}

#[test]
fn what_another_cpu_asked_for_is_waited_for_too() {
    // `need_sync` is false: `iommu_completion_wait` queues nothing, and waits for the last sequence number.
    let steps = vec![Step::Command(PAGES()), Step::Command(IN_DEVICE()), Step::Return(0)];
    Bench::of_steps(TableKind::Amd, steps).rig.expect_silence();
}

#[test]
fn a_return_that_was_missed_hides_nothing_and_accuses_nobody() {
    for kind in BOTH {
        let mut steps = all(kind);
        steps.retain(|step| !matches!(step, Step::Return(_)));
        Bench::of_steps(kind, steps).rig.expect_silence();
    }
}

#[test]
fn where_waiting_is_not_seen_what_was_submitted_counts() {
    let known = LIVE & !condition::WAITS | condition::GONE;
    let blind = |steps| Removal { known, ..Removal::new(5, steps) }.under(LIVE & !condition::WAITS);
    let commands = vec![Step::Command(PAGES()), Step::Command(IN_DEVICE())];
    Bench::detached(TableKind::Amd, Era::Tagged, &blind(commands)).rig.expect_silence();
    let without_device = blind(vec![Step::Command(PAGES())]);
    Bench::detached(TableKind::Amd, Era::Tagged, &without_device).rig.expect(&[incomplete()]);
}

#[test]
fn a_wider_flush_covers_the_entry() {
    let steps = instead(TableKind::Amd, PAGES(), amd::EVERYTHING);
    Bench::of_steps(TableKind::Amd, steps).rig.expect_silence();
    for wider in smmu::WIDER {
        let steps = instead(TableKind::SmmuV3, DESCRIPTOR(), wider);
        Bench::of_steps(TableKind::SmmuV3, steps).rig.expect_silence();
    }
    let steps = instead(TableKind::SmmuV3, IN_MASTER(), smmu::EVERY_SUBSTREAM);
    Bench::of_steps(TableKind::SmmuV3, steps).rig.expect_silence();
}

#[test]
fn commands_in_one_batch_are_each_told() {
    // A device with several streams, and other commands of the same call.
    let mut steps = vec![
        Step::Command(smmu::descriptor(smmu::STREAM + 1, 5)),
        Step::Command(DESCRIPTOR()),
        Step::Command(smmu::device(smmu::STREAM + 1, 5)),
        Step::Command(IN_MASTER()),
        Step::Command(smmu::ASID_GOES),
    ];
    steps.extend([Step::Ask, Step::Return(0)]);
    Bench::of_steps(TableKind::SmmuV3, steps).rig.expect_silence();
}

#[test]
fn a_flush_of_another_entry_or_of_a_part_is_none() {
    let amds = [
        (PAGES(), amd::pages(amd::DOMAIN, 6)),
        (PAGES(), amd::pages(amd::DOMAIN + 1, 5)),
        (PAGES(), amd::page(amd::DOMAIN, 5)),
        (PAGES(), amd::entry(amd::DEVICE)),
        (IN_DEVICE(), amd::device(amd::DEVICE, 6)),
        (IN_DEVICE(), amd::device(amd::DEVICE + 1, 5)),
    ];
    let smmus = [
        (DESCRIPTOR(), smmu::descriptor(smmu::STREAM, 6)),
        (DESCRIPTOR(), smmu::descriptor(smmu::STREAM + 1, 5)),
        (DESCRIPTOR(), smmu::ASID_GOES),
        (IN_MASTER(), smmu::device(smmu::STREAM, 6)),
        (IN_MASTER(), smmu::device(smmu::STREAM + 1, 5)),
        (IN_MASTER(), smmu::range(5)),
    ];
    for (kind, of, command) in amds
        .map(|(of, command)| (TableKind::Amd, of, command))
        .into_iter()
        .chain(smmus.map(|(of, command)| (TableKind::SmmuV3, of, command)))
    {
        Bench::of_steps(kind, instead(kind, of, command)).rig.expect(&[incomplete()]);
    }
}

#[test]
fn the_device_is_flushed_after_what_it_would_fetch_from() {
    let steps = vec![Step::Command(IN_DEVICE()), Step::Command(PAGES()), Step::Ask, Step::Return(0)];
    Bench::of_steps(TableKind::Amd, steps).rig.expect(&[incomplete()]);
    let mut steps = smmu::issue(IN_MASTER());
    steps.extend(smmu::issue(DESCRIPTOR()));
    Bench::of_steps(TableKind::SmmuV3, steps).rig.expect(&[incomplete()]);
}

#[test]
fn a_device_without_ats_or_that_is_gone_needs_no_flush_of_its_own() {
    for kind in BOTH {
        let device = if kind == TableKind::Amd { IN_DEVICE() } else { IN_MASTER() };
        let lacking = || Removal::new(5, without(kind, &[device]));
        let legal = [
            lacking().under(LIVE & !condition::ATS),
            lacking().under(LIVE | condition::GONE),
            // It goes meanwhile, or its ATS does.
            Removal { end: LIVE | condition::GONE, ..lacking() },
            Removal { end: LIVE & !condition::ATS, ..lacking() },
        ];
        for removal in legal {
            Bench::detached(kind, Era::Tagged, &removal).rig.expect_silence();
        }
    }
}

#[test]
fn what_can_not_be_judged_is_not() {
    for kind in BOTH {
        let nothing = Removal::new(5, Vec::new());
        let unknown = [
            // Whether it was present isn't known: no address of physical memory, or the clearing wasn't seen.
            Removal { known: nothing.known & !condition::PRESENT, ..nothing.clone() },
            Removal { contested: true, ..nothing.clone() },
            nothing.under(LIVE & !condition::PRESENT),
        ];
        for removal in unknown {
            Bench::detached(kind, Era::Tagged, &removal).rig.expect_silence();
        }
    }
}

#[test]
fn a_process_that_exits_has_its_entry_flushed_by_amds_driver() {
    let mut bench = Bench::new(TableKind::Amd, Era::Tagged);
    let exiting = task(400, "victim");
    let removal = Removal::new(5, without(TableKind::Amd, &[PAGES()]));
    // `sva_mn_release`
    bench.queue.remove(&mut bench.rig.kernel, &exiting, NVME, &removal);
    bench.rig.watch();
    bench.rig.expect(&[raised(TEARDOWN, 7, &[5], "driver", "victim")]);
}

#[test]
fn a_wait_that_times_out_is_caught_with_what_follows_from_it() {
    for (kind, errno) in [(TableKind::Amd, EIO), (TableKind::SmmuV3, ETIMEDOUT)] {
        let mut steps = all(kind);
        let end = steps.iter().position(|step| matches!(step, Step::Return(_))).expect("a return");
        steps[end] = Step::Return(errno);
        if kind == TableKind::SmmuV3 {
            // Of two writes of the descriptor the second is done: what is left is the first one's failure.
            Bench::of_steps(kind, steps).rig.expect(&[raised(FAILED, 7, &[5], "driver", "other")]);
        } else {
            let failed = raised(FAILED, 7, &[5], "driver", "other").implying(&[TEARDOWN]);
            Bench::of_steps(kind, steps).rig.expect(&[failed]);
        }
    }
}

#[test]
fn a_time_out_is_excused_for_the_device_that_is_gone_and_for_no_other() {
    let mut amds = amd::all(5);
    amds[3] = Step::Return(EIO);
    let mut smmus = smmu::issue(DESCRIPTOR());
    smmus.extend([Step::Command(IN_MASTER()), Step::Ask, Step::Return(ETIMEDOUT)]);
    for (kind, steps) in [(TableKind::Amd, amds), (TableKind::SmmuV3, smmus)] {
        let of = |set| Bench::detached(kind, Era::Tagged, &Removal::new(5, steps.clone()).under(set)).rig;
        let failed = raised(FAILED, 7, &[5], "driver", "other").implying(&[TEARDOWN]);
        of(LIVE).expect(&[failed]);
        // AMD's wait was for the IOMMU's own cache, too: that is not known to be flushed.
        match kind {
            TableKind::Amd => of(LIVE | condition::GONE).expect(&[incomplete()]),
            _ => of(LIVE | condition::GONE).expect_silence(),
        }
    }
}

#[test]
fn an_entry_that_is_used_again_without_its_flush_is_caught() {
    for kind in BOTH {
        let device = if kind == TableKind::Amd { IN_DEVICE() } else { IN_MASTER() };
        let mut bench = Bench::of_steps(kind, without(kind, &[device]));
        bench.attach(&driver(), D2, &[]);
        bench.rig.expect(&[incomplete(), raised(REUSED, 7, &[5], "driver", "driver")]);
    }
}

#[test]
fn what_a_set_up_flushes_makes_up_for_what_a_teardown_left_out() {
    let mut bench = Bench::of_steps(TableKind::Amd, Vec::new());
    bench.attach(&driver(), D2, &amd::all(5));
    bench.rig.expect(&[incomplete()]);
}

/// The states of the three checks on a host whose devices are behind an IOMMU of this driver.
fn states(driver: Option<&str>, change: impl FnOnce(&mut Coverage)) -> [CheckState; 3] {
    let mut coverage = crate::rig::coverage(Era::Tagged);
    change(&mut coverage);
    let mut watcher = Watcher::new(Options { coverage, ..crate::rig::options(Era::Tagged) });
    if let Some(driver) = driver {
        watcher.take(Input::Inventory(crate::tables::inventory(driver)), 0);
    }
    [TEARDOWN, FAILED, REUSED].map(|name| {
        let found = watcher.checks().find(|(spec, _)| spec.name == name);
        found.map(|(_, state)| state.clone()).expect("listed")
    })
}

#[test]
fn the_checks_are_armed_by_the_hooks_of_the_hosts_own_driver() {
    let absent = |hooks: &'static [Hook]| {
        move |coverage: &mut Coverage| hooks.iter().for_each(|&hook| coverage.set(hook, HookState::Absent))
    };
    let vtd = &[Hook::VtdTearDown, Hook::VtdQueue, Hook::VtdSubmit];
    let armed = [CheckState::Armed, CheckState::Armed, CheckState::Armed];
    assert_eq!(states(Some("amd"), absent(vtd)), armed);
    assert_eq!(states(Some("arm-smmu-v3"), absent(vtd)), armed);
    let unavailable = |state: &CheckState| matches!(state, CheckState::Unavailable { .. });
    assert!(states(Some("intel"), absent(vtd)).iter().all(unavailable));

    // 6.1 has AMD's queue and no entries of a device's own.
    let [teardown, failed, reused] = states(Some("amd"), absent(&[Hook::AmdClear, Hook::AmdSet]));
    assert!(teardown.reason().is_some_and(|reason| reason.contains("amd_clear_gcr3")), "{teardown}");
    assert!(unavailable(&teardown) && unavailable(&reused));
    assert_eq!(failed, CheckState::Armed);
    // Of a kernel that isn't running it isn't known behind what its devices are.
    let [teardown, failed, _] = states(None, absent(&[Hook::AmdClear, Hook::AmdSet]));
    assert!(
        matches!(&teardown, CheckState::Degraded { reason } if reason.starts_with("behind the amd driver"))
    );
    assert_eq!(failed, CheckState::Armed);
}

#[test]
fn what_a_check_misses_of_a_driver_is_said() {
    let refused = |hook| {
        move |coverage: &mut Coverage| coverage.set(hook, HookState::Failed { reason: "refused".into() })
    };
    let [teardown, failed, reused] = states(Some("amd"), refused(Hook::AmdWait));
    assert!(matches!(teardown, CheckState::Degraded { .. }) && matches!(reused, CheckState::Degraded { .. }));
    assert!(matches!(failed, CheckState::Unavailable { .. }));
    let [teardown, failed, _] = states(Some("arm-smmu-v3"), refused(Hook::SmmuClear));
    assert!(matches!(teardown, CheckState::Unavailable { .. }), "whether it was valid isn't known");
    assert_eq!(failed, CheckState::Armed);
    // AMD's tables are found by physical addresses.
    let unread = |coverage: &mut Coverage| coverage.set_unread(Hook::SnapshotAmd, "hidden".into());
    let [teardown, failed, _] = states(Some("amd"), unread);
    assert!(matches!(&teardown, CheckState::Unavailable { reason } if reason.ends_with("hidden")));
    assert_eq!(failed, CheckState::Armed);
}
