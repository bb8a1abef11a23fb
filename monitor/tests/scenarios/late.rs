//! Records that say what was so later than their place in the ring tells. Random programs found these (`property`);
//! here they are with no more than it takes.

use monitor::event::Task;
use monitor::input::Stage;
use monitor_ebpf::wire::Hook;

use crate::kernel::{Call, EBUSY, Era, Faults, Look};
use crate::rig::{D1, D2, NIC, NVME, OWNER, Raised, Rig, driver, other, raised, vfio};

/// A call with all its records, at once.
fn whole(rig: &mut Rig, task: &Task, call: Call) -> i32 {
    let ret = rig.kernel.call(task, call);
    while rig.kernel.fill(task.tid) {}
    ret
}

#[track_caller]
fn expect_no_leaky_hook(rig: &Rig) {
    let leaky: Vec<&Hook> =
        Hook::ALL.iter().filter(|&&hook| rig.watcher.counters().leaks(hook) > 0).collect();
    assert!(leaky.is_empty(), "{leaky:?}");
}

/// A claim returns, and its record reads a PASID that is attached only after the next look.
#[track_caller]
fn expect_silence_of_a_late_claim(mut rig: Rig) {
    let mut claim = rig.kernel.begin(&vfio(), Call::Claim { group: 7, owner: OWNER });
    while rig.kernel.fill(vfio().tid) {}
    rig.kernel.act(&mut claim);
    rig.kernel.end(claim);
    rig.kernel.snapshot(7);
    assert_eq!(whole(&mut rig, &driver(), Call::Attach { device: NVME, pasid: 3, domain: D1 }), 0);
    while rig.kernel.fill(vfio().tid) {}
    rig.watch();
    expect_no_leaky_hook(&rig);
    rig.expect_silence();
}

/// Who binds is refused, which is told.
fn refused() -> Raised {
    raised("ownership-conflict", 7, &[], "", "other")
}

/// A bind that is refused returns, and its record reads the array only when the PASID was attached over.
#[test]
fn an_attach_over_is_caught_though_another_calls_reading_came_late() {
    for era in [Era::Domains, Era::Tagged] {
        let mut rig = Rig::new(era);
        rig.calls(
            &driver(),
            [Call::Use { device: NVME }, Call::Attach { device: NVME, pasid: 5, domain: D1 }],
        );
        rig.kernel.lazy = true;
        let mut binding = rig.kernel.begin(&other(), Call::Use { device: NIC });
        rig.kernel.act(&mut binding);
        rig.kernel.end(binding);
        rig.kernel.faults = Faults { attach_over: true, ..Faults::default() };
        assert_eq!(whole(&mut rig, &vfio(), Call::Attach { device: NIC, pasid: 5, domain: D2 }), 0);
        while rig.kernel.fill(other().tid) {}
        rig.expect(&[raised("attach-imbalance", 7, &[5], "driver", "vfio"), refused()]);
    }
}

/// The record of a bind's entry stands before a look in the ring, and reads what a claim did after that look.
#[test]
fn a_reading_that_came_late_makes_no_hook_leaky() {
    for era in [Era::Owners, Era::Domains, Era::Handles, Era::Tagged] {
        let mut rig = Rig::new(era);
        rig.kernel.lazy = true;
        let mut binding = rig.kernel.begin(&other(), Call::Use { device: NIC });
        rig.kernel.snapshot(7);
        assert_eq!(whole(&mut rig, &vfio(), Call::Claim { group: 7, owner: OWNER }), 0);
        rig.kernel.act(&mut binding);
        rig.kernel.end(binding);
        while rig.kernel.fill(other().tid) {}
        rig.watch();
        rig.bootstrap();
        expect_no_leaky_hook(&rig);
        rig.expect(&[refused()]);
    }
}

/// What makes a new group known is a claim's return, and its record reads an attach whose own comes after the next look.
#[test]
fn what_came_late_into_a_group_that_was_not_known_makes_no_hook_leaky() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        rig.kernel.lazy = true;
        for device in [NIC, NVME] {
            rig.kernel.unplug(device);
        }
        rig.kernel.group(7, &[]);
        let device = rig.kernel.device(NVME);
        rig.kernel.plug(7, device);
        rig.idle(1_000_000_000);
        expect_silence_of_a_late_claim(rig);
    }
}

/// The same after a loss.
#[test]
fn what_came_late_after_a_loss_makes_no_hook_leaky() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        rig.lose(Stage::Ring, 1);
        rig.idle(1_000_000_000);
        rig.kernel.lazy = true;
        expect_silence_of_a_late_claim(rig);
    }
}

/// Of a detach of a group nothing but its return is seen, and the switch of the RIDs inside it. Who reads between that
/// and the change of `group->domain` sees the old domain.
#[test]
fn a_reading_in_the_middle_of_a_switch_makes_no_hook_leaky() {
    for era in [Era::Owners, Era::Domains, Era::Handles, Era::Tagged] {
        let mut rig = Rig::new(era);
        let claim = Call::Claim { group: 7, owner: OWNER };
        rig.calls(&vfio(), [claim, Call::AttachGroup { group: 7, domain: D1 }]);
        let mut detaching = rig.kernel.begin(&vfio(), Call::DetachGroup { group: 7, domain: D1 });
        let switched = 1 + 2 * rig.kernel.groups[&7].devices.len();
        (0..switched).for_each(|_| assert!(rig.kernel.advance(&mut detaching)));
        let mut binding = rig.kernel.begin(&other(), Call::Use { device: NIC });
        rig.kernel.act(&mut detaching);
        rig.kernel.snapshot(7);
        rig.kernel.end(detaching);
        rig.kernel.act(&mut binding);
        rig.kernel.end(binding);
        rig.bootstrap();
        expect_no_leaky_hook(&rig);
        rig.expect(&[refused()]);
    }
}

/// The same in the way of a claim, which reads the old domain and is refused for the new one: the switch returns last.
#[test]
fn a_claim_that_a_switch_refused_is_told_though_the_switch_returned_later() {
    for era in [Era::Owners, Era::Domains, Era::Handles, Era::Tagged] {
        let mut rig = Rig::new(era);
        let mut switching = rig.kernel.begin(&other(), Call::AttachGroup { group: 7, domain: D1 });
        // The mutex; of each device the attach, its entry cleared and set, and the return.
        let switched = 1 + 4 * rig.kernel.groups[&7].devices.len();
        (0..switched).for_each(|_| assert!(rig.kernel.advance(&mut switching)));
        let mut claim = rig.kernel.begin(&vfio(), Call::Claim { group: 7, owner: OWNER });
        rig.kernel.act(&mut switching);
        rig.kernel.act(&mut claim);
        assert_eq!(rig.kernel.end(claim), EBUSY);
        rig.kernel.end(switching);
        rig.expect(&[raised("ownership-conflict", 7, &[], "", "vfio")]);
    }
}

/// Two looks show the domain while the release that should have left it has not returned.
#[test]
fn a_consequence_that_was_found_before_its_root_goes_into_it() {
    for era in [Era::Owners, Era::Domains] {
        let mut rig = Rig::new(era);
        rig.calls(&vfio(), [Call::Claim { group: 7, owner: OWNER }]);
        rig.kernel.faults = Faults { release_keeps_domain: true, ..Faults::default() };
        let mut release = rig.kernel.begin(&vfio(), Call::Release { group: 7 });
        rig.kernel.act(&mut release);
        for _ in 0..2 {
            rig.kernel.snapshot(7);
            rig.watch();
        }
        rig.kernel.end(release);
        let stuck = raised("ownership-stuck", 7, &[], "", "vfio");
        rig.expect(&[stuck.implying(&["domain-off-default"])]);
    }
}

/// A module attaches a PASID where nobody holds the group, and at once somebody replaces it: who attached what is there
/// isn't known, but that it was attached while we watched is.
#[test]
fn what_one_of_two_calls_attached_in_a_free_group_is_no_leftover() {
    let mut rig = Rig::new(Era::Tagged);
    rig.kernel.group_mut(7).devices.iter_mut().for_each(|device| device.bound = false);
    let mut attach = rig.kernel.begin(&driver(), Call::Attach { device: NVME, pasid: 5, domain: D1 });
    let mut replace = rig.kernel.begin(&other(), Call::Replace { device: NVME, pasid: 5, domain: D2 });
    rig.kernel.act(&mut attach);
    rig.kernel.act(&mut replace);
    rig.kernel.end(replace);
    rig.kernel.end(attach);
    for _ in 0..3 {
        rig.kernel.snapshot_all();
        rig.idle(1_000_000_000);
    }
    assert_eq!(rig.raised(), []);
}

/// Twice a module's PASID is detached between the reading of a look and the look's end. By then it isn't known any more
/// that its attach was seen. (Seed 63927 of the wild programs.)
#[test]
fn what_is_detached_before_a_look_is_over_is_no_leftover() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        rig.kernel.group_mut(7).devices.iter_mut().for_each(|device| device.bound = false);
        for _ in 0..2 {
            rig.kernel.call(&driver(), Call::Attach { device: NVME, pasid: 5, domain: D1 });
            rig.kernel.look(&other(), 7, Look::Entry);
            rig.kernel.look(&other(), 7, Look::Devices);
            rig.kernel.call(&driver(), Call::Detach { device: NVME, pasid: 5, domain: D1 });
            rig.kernel.look(&other(), 7, Look::Return);
        }
        rig.watch();
        rig.expect_silence();
    }
}

/// Who is refused a PASID reads it only when the other has detached it again, or attached something else. The look that
/// stands between shows what was attached then. (Seed 81952 of the wild programs, where they attach it at once.)
#[test]
fn what_a_late_reading_misses_is_no_leftover_of_a_look_before_it() {
    let detach = |domain| Call::Detach { device: NVME, pasid: 5, domain };
    let attach = |domain| Call::Attach { device: NVME, pasid: 5, domain };
    for (era, at_once) in Era::WITH_PASIDS.into_iter().flat_map(|era| [(era, true), (era, false)]) {
        for another in [false, true] {
            let mut rig = Rig::new(era);
            rig.kernel.group_mut(7).devices.iter_mut().for_each(|device| device.bound = false);
            rig.kernel.lazy = true;
            let mut ours = rig.kernel.begin(&driver(), attach(D1));
            rig.kernel.act(&mut ours);
            let early = at_once.then(|| rig.kernel.begin(&other(), attach(D1)));
            rig.kernel.end(ours);
            while rig.kernel.fill(driver().tid) {}
            let mut refused = early.unwrap_or_else(|| rig.kernel.begin(&other(), attach(D1)));
            rig.kernel.act(&mut refused);
            assert_eq!(rig.kernel.end(refused), EBUSY);
            for _ in 0..2 {
                rig.kernel.snapshot(7);
            }
            assert_eq!(whole(&mut rig, &driver(), detach(D1)), 0);
            if another {
                assert_eq!(whole(&mut rig, &driver(), attach(D2)), 0);
            }
            while rig.kernel.fill(other().tid) {}
            if another {
                assert_eq!(whole(&mut rig, &driver(), detach(D2)), 0);
            }
            rig.watch();
            rig.expect_silence();
        }
    }
}
