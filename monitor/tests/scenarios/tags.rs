//! VT-d's cache tags: a device-TLB tag that is missing where a device is attached, one that is left where it was
//! detached; and what must not raise either.

mod looks;

use monitor::event::Task;
use monitor::input::Stage;
use monitor::watcher::Watcher;
use monitor_ebpf::wire::Hook;

use crate::kernel::tags::{Lists, Place};
use crate::kernel::{Call, EINVAL, Era};
use crate::rig::{D1, D2, NIC, NVME, Raised, Rig, driver, options, other, raised, vfio};

const MISSING: &str = "devtlb-tag-missing";
const LEAKED: &str = "cache-tag-leaked";

/// A domain that is nested in D1.
const NESTED: u64 = 3003;

struct Bench {
    rig: Rig,
    lists: Lists,
}

/// What the driver does wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Nothing,
    Assign,
    Unassign,
}

use Wrong::{Assign, Nothing, Unassign};

impl Bench {
    /// Two devices of a group, of which the NVMe has ATS.
    fn new(era: Era) -> Bench {
        let lists = Lists { ats: vec![NVME], nested: vec![NESTED], ..Lists::default() };
        Bench { rig: Rig::new(era), lists }
    }

    /// A PASID is attached; with each member of the group the driver assigns its tags.
    fn attach(&mut self, task: &Task, pasid: u32, domain: u64, wrong: Wrong) {
        let kernel = &mut self.rig.kernel;
        let mut running = kernel.begin(task, Call::Attach { device: NVME, pasid, domain });
        for name in [NVME, NIC] {
            self.lists.assign(kernel, task, domain, (name, pasid), wrong != Assign);
        }
        kernel.act(&mut running);
        assert_eq!(kernel.end(running), 0);
        self.rig.watch();
    }

    fn detach(&mut self, task: &Task, pasid: u32, domain: u64, wrong: Wrong) {
        let kernel = &mut self.rig.kernel;
        let mut running = kernel.begin(task, Call::Detach { device: NVME, pasid, domain });
        for name in [NVME, NIC] {
            self.lists.unassign(kernel, task, domain, (name, pasid), wrong != Unassign);
        }
        kernel.act(&mut running);
        assert_eq!(kernel.end(running), 0);
        self.rig.watch();
    }

    /// The NVMe's RID goes from one domain to the other.
    fn switch(&mut self, task: &Task, from: u64, to: u64, wrong: Wrong) {
        let (kernel, lists) = (&mut self.rig.kernel, &mut self.lists);
        kernel.switch_rid(task, NVME, to, |kernel| {
            lists.unassign(kernel, task, from, (NVME, 0), wrong != Unassign);
            lists.assign(kernel, task, to, (NVME, 0), wrong != Assign);
            lists.attached(kernel, task, to, NVME, 0);
            0
        });
        self.rig.watch();
    }
}

fn missing(pasids: &[u32], by: &str) -> Raised {
    raised(MISSING, 7, pasids, if pasids.is_empty() { "" } else { by }, by)
}

/// A PASID that `driver` attached, or a RID.
fn leaked(pasids: &[u32], by: &str) -> Raised {
    raised(LEAKED, 7, pasids, if pasids.is_empty() { "" } else { "driver" }, by)
}

#[test]
fn a_pasid_that_gets_no_device_tlb_tag_is_caught() {
    for era in Era::WITH_PASIDS {
        let mut bench = Bench::new(era);
        bench.attach(&driver(), 5, D1, Assign);
        bench.rig.expect(&[missing(&[5], "driver")]);
    }
}

#[test]
fn a_rid_that_gets_no_device_tlb_tag_is_caught() {
    let mut bench = Bench::new(Era::Tagged);
    bench.switch(&vfio(), D1, D2, Assign);
    bench.rig.expect(&[missing(&[], "vfio")]);
}

#[test]
fn ats_that_comes_on_after_the_tags_were_assigned_is_caught() {
    // 6.10 before 041be2717b19: the driver assigns, and then switches ATS on.
    let mut bench = Bench::new(Era::Handles);
    bench.lists.ats.clear();
    let (kernel, lists, task) = (&mut bench.rig.kernel, &mut bench.lists, vfio());
    kernel.switch_rid(&task, NVME, D1, |kernel| {
        lists.assign(kernel, &task, D1, (NVME, 0), true);
        lists.ats.push(NVME);
        lists.attached(kernel, &task, D1, NVME, 0);
        0
    });
    bench.rig.watch();
    bench.rig.expect(&[missing(&[], "vfio")]);
}

#[test]
fn a_pasid_whose_tag_stays_after_its_detach_is_caught() {
    for era in Era::WITH_PASIDS {
        let mut bench = Bench::new(era);
        bench.attach(&driver(), 5, D1, Nothing);
        bench.detach(&other(), 5, D1, Unassign);
        bench.rig.expect(&[leaked(&[5], "other")]);
    }
}

#[test]
fn a_rid_whose_tag_stays_in_the_domain_that_it_left_is_caught() {
    let mut bench = Bench::new(Era::Tagged);
    bench.switch(&driver(), D2, D1, Nothing);
    bench.switch(&vfio(), D1, D2, Unassign);
    bench.rig.expect(&[leaked(&[], "vfio")]);
}

#[test]
fn a_tag_that_stays_because_ats_went_off_first_is_caught() {
    // CVE-2024-56669, and 6.12 for PASIDs.
    let mut bench = Bench::new(Era::Handles);
    bench.attach(&driver(), 5, D1, Nothing);
    bench.lists.ats.clear();
    bench.detach(&driver(), 5, D1, Nothing);
    bench.rig.expect(&[leaked(&[5], "driver")]);
}

#[test]
fn a_pasid_that_was_there_before_we_watched_is_judged_by_its_detach() {
    let mut bench = Bench::new(Era::Tagged);
    bench.attach(&driver(), 5, D1, Nothing);
    bench.rig.watcher = Watcher::new(options(Era::Tagged));
    bench.rig.bootstrap();
    bench.detach(&other(), 5, D1, Unassign);
    bench.rig.expect(&[raised(LEAKED, 7, &[5], "", "other")]);
}

#[test]
fn tags_that_come_and_go_with_their_attachments_are_right() {
    for era in Era::WITH_PASIDS {
        let mut bench = Bench::new(era);
        // One domain for the RID and for two PASIDs of two devices.
        bench.switch(&vfio(), D2, D1, Nothing);
        bench.attach(&driver(), 5, D1, Nothing);
        bench.attach(&driver(), 6, D1, Nothing);
        bench.detach(&driver(), 5, D1, Nothing);
        bench.switch(&vfio(), D1, D2, Nothing);
        bench.detach(&driver(), 6, D1, Nothing);
        bench.rig.expect_silence();
    }
}

#[test]
fn a_device_without_ats_has_no_tag_and_needs_none() {
    let mut bench = Bench::new(Era::Tagged);
    bench.lists.ats.clear();
    bench.switch(&vfio(), D2, D1, Nothing);
    bench.attach(&driver(), 5, D1, Nothing);
    bench.detach(&driver(), 5, D1, Nothing);
    bench.rig.expect_silence();
}

#[test]
fn a_replace_leaves_the_tags_of_the_new_domain_alone() {
    for (wrong, expected) in
        [(Nothing, vec![]), (Unassign, vec![leaked(&[5], "other")]), (Assign, vec![missing(&[5], "other")])]
    {
        let mut bench = Bench::new(Era::Tagged);
        bench.attach(&driver(), 5, D1, Nothing);
        let (kernel, task, place) = (&mut bench.rig.kernel, other(), (NVME, 5));
        let mut running = kernel.begin(&task, Call::Replace { device: NVME, pasid: 5, domain: D2 });
        bench.lists.assign(kernel, &task, D2, place, wrong != Assign);
        bench.lists.unassign(kernel, &task, D1, place, wrong != Unassign);
        kernel.act(&mut running);
        assert_eq!(kernel.end(running), 0);
        bench.rig.watch();
        bench.rig.expect(&expected);
    }
}

#[test]
fn a_tag_with_two_users_is_there_for_the_one_that_stays() {
    let mut bench = Bench::new(Era::Tagged);
    let (kernel, lists, task) = (&mut bench.rig.kernel, &mut bench.lists, vfio());
    // The same domain anew: assigned before it is unassigned.
    lists.assign(kernel, &task, D1, (NVME, 0), true);
    kernel.switch_rid(&task, NVME, D1, |kernel| {
        lists.assign(kernel, &task, D1, (NVME, 0), true);
        lists.unassign(kernel, &task, D1, (NVME, 0), true);
        lists.attached(kernel, &task, D1, NVME, 0);
        0
    });
    bench.rig.watch();
    bench.rig.expect_silence();
}

#[test]
fn a_failed_attach_takes_its_tags_back() {
    for (done, expected) in [(true, vec![]), (false, vec![raised(LEAKED, 7, &[5], "", "driver")])] {
        let mut bench = Bench::new(Era::Tagged);
        let (kernel, task) = (&mut bench.rig.kernel, driver());
        let mut running = kernel.begin(&task, Call::Attach { device: NVME, pasid: 5, domain: D1 });
        bench.lists.assign(kernel, &task, D1, (NVME, 5), true);
        bench.lists.unassign(kernel, &task, D1, (NVME, 5), done);
        running.refuse(EINVAL);
        kernel.act(&mut running);
        assert_eq!(kernel.end(running), EINVAL);
        bench.rig.watch();
        bench.rig.expect(&expected);
    }
}

#[test]
fn a_failed_attach_that_leaves_all_as_it_is_is_another_fault() {
    let mut bench = Bench::new(Era::Tagged);
    let (kernel, task) = (&mut bench.rig.kernel, driver());
    let mut running = kernel.begin(&task, Call::Attach { device: NVME, pasid: 5, domain: D1 });
    bench.lists.assign(kernel, &task, D1, (NVME, 5), true);
    running.refuse(EINVAL);
    kernel.act(&mut running);
    assert_eq!(kernel.end(running), EINVAL);
    bench.rig.watch();
    bench.rig.expect(&[]);
}

#[test]
fn a_switch_that_fails_half_way_takes_its_tags_back() {
    for (done, expected) in [(true, vec![]), (false, vec![leaked(&[], "vfio")])] {
        let mut bench = Bench::new(Era::Tagged);
        let (kernel, lists, task) = (&mut bench.rig.kernel, &mut bench.lists, vfio());
        kernel.switch_rid(&task, NVME, D1, |kernel| {
            lists.assign(kernel, &task, D1, (NVME, 0), true);
            lists.unassign(kernel, &task, D1, (NVME, 0), done);
            lists.attached(kernel, &task, D1, NVME, EINVAL);
            EINVAL
        });
        bench.rig.watch();
        bench.rig.expect(&expected);
    }
}

#[test]
fn a_switch_that_fails_before_it_touches_the_tags_leaves_them() {
    let mut bench = Bench::new(Era::Tagged);
    bench.switch(&vfio(), D2, D1, Nothing);
    let (kernel, lists, task) = (&mut bench.rig.kernel, &bench.lists, vfio());
    kernel.switch_rid(&task, NVME, D1, |kernel| {
        lists.attached(kernel, &task, D1, NVME, EINVAL);
        EINVAL
    });
    bench.rig.watch();
    bench.rig.expect_silence();
}

#[test]
fn a_list_that_can_not_be_read_as_a_whole_raises_nothing() {
    let mut bench = Bench::new(Era::Tagged);
    bench.lists.unreadable = true;
    bench.attach(&driver(), 5, D1, Assign);
    bench.detach(&driver(), 5, D1, Unassign);
    bench.rig.expect_silence();
}

/// While one attaches PASID 5 and reads no tag, another changes a list: from before, from within, or until after.
fn met(list: u64, place: Place, from: u32, to: u32) -> Bench {
    let mut bench = Bench::new(Era::Tagged);
    let (kernel, lists, task) = (&mut bench.rig.kernel, &mut bench.lists, driver());
    let meets = |kernel: &mut _, lists: &Lists, at: u32| {
        if at == from {
            lists.begins(kernel, &other(), Hook::VtdTagAssign, list, place);
        }
        if at == to {
            lists.ends(kernel, &other(), Hook::VtdTagAssign, list, place);
        }
    };
    meets(kernel, lists, 0);
    let mut running = kernel.begin(&task, Call::Attach { device: NVME, pasid: 5, domain: D1 });
    meets(kernel, lists, 1);
    lists.assign(kernel, &task, D1, (NVME, 5), false);
    meets(kernel, lists, 2);
    kernel.act(&mut running);
    assert_eq!(kernel.end(running), 0);
    meets(kernel, lists, 3);
    bench.rig.watch();
    bench
}

#[test]
fn what_another_task_may_have_changed_meanwhile_is_not_relied_on() {
    for (from, to) in [(0, 1), (0, 3), (1, 2), (2, 3), (1, 3)] {
        met(D1, (NIC, 9), from, to).rig.expect_silence();
        // Of a nested domain the parent's list, whichever that is.
        met(NESTED, (NIC, 9), from, to).rig.expect_silence();
        // Of another domain's list nothing is read.
        met(D2, (NIC, 9), from, to).rig.expect(&[missing(&[5], "driver")]);
    }
    // Over before it began.
    met(D1, (NIC, 9), 0, 0).rig.expect(&[missing(&[5], "driver")]);
}

#[test]
fn what_probe_finalize_of_another_task_has_half_done_is_not_missing() {
    for (by, ns, expected) in [
        (other(), 1_000, vec![]),
        // The driver itself did it, or it is long over.
        (vfio(), 1_000, vec![missing(&[], "vfio")]),
        (other(), 1_000_000_000, vec![missing(&[], "vfio")]),
    ] {
        let mut bench = Bench::new(Era::Tagged);
        bench.lists.report_ats(&mut bench.rig.kernel, &by, NVME);
        bench.rig.idle(ns);
        bench.switch(&vfio(), D1, D2, Assign);
        bench.rig.expect(&expected);
    }
}

/// Up to 6.14 ATS comes on in a switch of the RID, and whoever attaches next has waited for its mutex.
#[test]
fn ats_that_came_on_in_a_switch_of_the_rid_is_no_half_done_work() {
    let mut bench = Bench::new(Era::Tagged);
    let (kernel, lists, task) = (&mut bench.rig.kernel, &mut bench.lists, other());
    kernel.switch_rid(&task, NVME, D2, |kernel| {
        lists.assign(kernel, &task, D2, (NVME, 0), true);
        lists.report_ats(kernel, &task, NVME);
        lists.attached(kernel, &task, D2, NVME, 0);
        0
    });
    bench.rig.watch();
    bench.attach(&driver(), 5, D1, Assign);
    bench.rig.expect(&[missing(&[5], "driver")]);
}

#[test]
fn after_a_loss_nothing_is_relied_on_that_another_may_have_changed() {
    let mut bench = Bench::new(Era::Tagged);
    let (kernel, task) = (&mut bench.rig.kernel, driver());
    let mut running = kernel.begin(&task, Call::Attach { device: NVME, pasid: 5, domain: D1 });
    bench.lists.assign(kernel, &task, D1, (NVME, 5), false);
    kernel.act(&mut running);
    bench.rig.watch();
    bench.rig.lose(Stage::Ring, 1);
    bench.rig.kernel.end(running);
    bench.rig.watch();
    assert_eq!(bench.rig.raised(), []);
}

#[test]
fn two_calls_on_one_pasid_decide_nothing() {
    let mut bench = Bench::new(Era::Tagged);
    bench.attach(&driver(), 5, D1, Nothing);
    let (kernel, lists) = (&mut bench.rig.kernel, &mut bench.lists);
    let mut detach = kernel.begin(&driver(), Call::Detach { device: NVME, pasid: 5, domain: D1 });
    lists.unassign(kernel, &driver(), D1, (NVME, 5), true);
    kernel.act(&mut detach);
    // Another attaches it again before the first has returned.
    let mut attach = kernel.begin(&other(), Call::Attach { device: NVME, pasid: 5, domain: D1 });
    lists.assign(kernel, &other(), D1, (NVME, 5), true);
    kernel.act(&mut attach);
    assert_eq!((kernel.end(detach), kernel.end(attach)), (0, 0));
    bench.rig.watch();
    bench.rig.expect_silence();
}
