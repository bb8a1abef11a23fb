//! `attach-imbalance`: detach twice, detach another domain, attach over; and what must not raise it.

use monitor_ebpf::wire::Hook;

use crate::kernel::{Call, EBUSY, EINVAL, Era, Faults};
use crate::rig::{D1, D2, NIC, NVME, Rig, driver, other, raised};

const CHECK: &str = "attach-imbalance";

fn attach(pasid: u32, domain: u64) -> Call {
    Call::Attach { device: NVME, pasid, domain }
}

fn detach(pasid: u32, domain: u64) -> Call {
    Call::Detach { device: NVME, pasid, domain }
}

#[test]
fn a_second_detach_is_caught() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        rig.calls(&driver(), [attach(5, D1), detach(5, D1)]);
        assert_eq!(rig.raised(), []);
        rig.calls(&other(), [detach(5, D1)]);
        rig.expect(&[raised(CHECK, 7, &[5], "", "other")]);
    }
}

#[test]
fn a_detach_that_names_another_domain_is_caught() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        rig.calls(&driver(), [attach(5, D1)]);
        rig.calls(&other(), [detach(5, D2)]);
        rig.expect(&[raised(CHECK, 7, &[5], "driver", "other")]);
    }
}

#[test]
fn a_detach_that_names_another_domain_is_caught_where_the_array_names_none() {
    let mut rig = Rig::new(Era::Handles);
    rig.calls(&driver(), [Call::AttachBare { device: NVME, pasid: 5, domain: D1 }]);
    rig.calls(&other(), [detach(5, D2)]);
    rig.expect(&[raised(CHECK, 7, &[5], "driver", "other")]);
}

#[test]
fn an_attach_over_another_is_caught() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        rig.kernel.faults = Faults { attach_over: true, ..Faults::default() };
        rig.calls(&driver(), [attach(5, D1)]);
        rig.calls(&other(), [attach(5, D2)]);
        rig.expect(&[raised(CHECK, 7, &[5], "driver", "other")]);
    }
}

#[test]
fn a_replace_of_nothing_is_caught() {
    let mut rig = Rig::new(Era::Tagged);
    rig.kernel.faults = Faults { replace_nothing: true, ..Faults::default() };
    rig.calls(&other(), [Call::Replace { device: NVME, pasid: 5, domain: D1 }]);
    rig.expect(&[raised(CHECK, 7, &[5], "", "other")]);
}

#[test]
fn attach_replace_and_detach_in_turn_are_silent() {
    let mut rig = Rig::new(Era::Tagged);
    let replace = |domain| Call::Replace { device: NVME, pasid: 5, domain };
    for _ in 0..10 {
        rig.calls(&driver(), [attach(5, D1), replace(D2), replace(D1), replace(D2), detach(5, D2)]);
    }
    rig.expect_silence();
}

#[test]
fn calls_that_fail_change_nothing() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        rig.calls(&driver(), [attach(5, D1)]);
        assert_eq!(rig.call(&driver(), attach(5, D2)), EBUSY);
        assert_eq!(rig.call(&driver(), attach(0, D2)), EINVAL);
        assert_eq!(rig.call(&driver(), Call::Replace { device: NVME, pasid: 6, domain: D2 }), EINVAL);
        rig.calls(&driver(), [detach(5, D1)]);
        rig.expect_silence();
    }
}

/// Trap 1: index 0 is the RID's, whoever takes it away.
#[test]
fn index_0_is_no_pasid() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        rig.calls(&driver(), [detach(0, D1), detach(0, D1)]);
        rig.expect_silence();
    }
}

#[test]
fn the_detach_of_a_pasid_from_before_we_watched_is_silent() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::unwatched(era);
        rig.kernel.call(&driver(), attach(5, D1));
        rig.kernel.call(&driver(), Call::AttachBare { device: NVME, pasid: 6, domain: D1 });
        rig.kernel.log.clear();
        rig.kernel.snapshot_all();
        // Where the array names no domain, nobody knows which one the detach should name.
        let domain = if era == Era::Handles { D2 } else { D1 };
        rig.calls(&driver(), [detach(5, D1), detach(6, domain)]);
        rig.expect_silence();
    }
}

/// The first event of all is the detach of a PASID that nobody saw attached.
#[test]
fn without_a_snapshot_nothing_is_claimed_of_the_first_call() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::unwatched(era);
        rig.calls(&driver(), [detach(5, D1)]);
        rig.expect_silence();
    }
}

#[test]
fn an_attach_that_was_under_way_at_the_snapshot_is_filled_in_by_its_return() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::unwatched(era);
        let mut running = rig.kernel.begin(&driver(), attach(5, D1));
        rig.kernel.log.clear();
        rig.kernel.act(&mut running);
        rig.kernel.snapshot_all();
        rig.kernel.end(running);
        rig.watch();
        let pasids = rig.watcher.groups()[0].pasids.clone().expect("known");
        let by = pasids[0].attached_by.as_ref().map(|by| by.comm.to_string());
        assert_eq!(by.as_deref(), Some("driver"));
        rig.calls(&driver(), [detach(5, D1)]);
        rig.expect_silence();
    }
}

/// Trap 14: idxd's system PASID uses the RID's domain, and VFIO one domain for several groups.
#[test]
fn one_domain_on_several_pasids_and_groups_is_silent() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::unwatched(era);
        rig.kernel.group(8, &["0000:09:00.0"]);
        rig.kernel.snapshot_all();
        let default = rig.kernel.groups[&7].default_domain;
        let ninth = |pasid| Call::Attach { device: "0000:09:00.0", pasid, domain: default };
        rig.calls(&driver(), [attach(5, default), attach(6, default), ninth(5)]);
        rig.calls(&driver(), [Call::Detach { device: "0000:09:00.0", pasid: 5, domain: default }]);
        rig.calls(&driver(), [detach(5, default), detach(6, default)]);
        rig.expect_silence();
    }
}

/// Trap 12.
#[test]
fn a_bind_of_a_bound_mm_attaches_nothing_and_is_silent() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        let bind = |device| Call::Bind { device, mm: 9, pasid: 12 };
        let unbind = |device| Call::Unbind { device, mm: 9 };
        rig.calls(&driver(), [bind(NVME), bind(NVME), bind(NIC)]);
        assert_eq!(rig.watcher.groups()[0].bonds, 1);
        assert_eq!(rig.watcher.counters().events(Hook::PasidAttach), 1);
        rig.calls(&driver(), [unbind(NIC), unbind(NVME)]);
        assert_eq!(rig.watcher.groups()[0].bonds, 1);
        rig.calls(&driver(), [unbind(NVME)]);
        assert_eq!(rig.watcher.groups()[0].bonds, 0);
        rig.expect_silence();
    }
}

/// Trap 12: the first domain of the mm is another IOMMU's.
#[test]
fn a_failed_attach_in_the_middle_of_a_bind_is_silent() {
    let mut rig = Rig::new(Era::Tagged);
    let mut bind = rig.kernel.begin(&driver(), Call::Bind { device: NVME, mm: 9, pasid: 12 });
    assert_eq!(rig.kernel.call(&driver(), attach(1 << 20, 4001)), EINVAL);
    rig.kernel.act(&mut bind);
    assert_eq!(rig.kernel.end(bind), 0);
    rig.calls(&driver(), [Call::Unbind { device: NVME, mm: 9 }]);
    rig.expect_silence();
}

/// Trap 11: the driver clears the entry when the mm exits; the array keeps it until the unbind.
#[test]
fn the_detach_after_the_exit_of_the_mm_is_the_first_one() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        rig.calls(&driver(), [Call::Bind { device: NVME, mm: 9, pasid: 12 }]);
        rig.kernel.hardware(Hook::VtdTearDown, &other(), NVME, 12);
        rig.calls(&driver(), [Call::Unbind { device: NVME, mm: 9 }]);
        rig.expect_silence();
    }
}

/// `iommu_sva_unbind_device` frees the bond: at its return nobody can tell the group by it.
#[test]
fn an_unbind_that_names_no_group_at_its_return_still_ends() {
    let mut rig = Rig::new(Era::Tagged);
    rig.calls(&driver(), [Call::Bind { device: NVME, mm: 9, pasid: 12 }]);
    rig.kernel.call(&driver(), Call::Unbind { device: NVME, mm: 9 });
    let end = rig.kernel.log.last_mut().expect("the unbind's return");
    (end.group, end.device, end.bond, end.array) = (None, None, None, None);
    rig.watch();
    assert_eq!(rig.watcher.groups()[0].bonds, 0);
    rig.idle(120_000_000_000);
    rig.assert_synced();
    rig.expect_silence();
}

#[test]
fn what_happened_expires_after_its_hold_time() {
    let mut rig = Rig::new(Era::Handles);
    rig.calls(&driver(), [detach(5, D1)]);
    rig.idle(14 * 60 * 1_000_000_000);
    assert_eq!(rig.resolved(), []);
    rig.idle(2 * 60 * 1_000_000_000);
    assert_eq!(rig.resolved(), [(CHECK, "expired")]);
    assert_eq!(rig.watcher.violations().count(), 0);
}

#[test]
fn the_same_again_within_the_hold_time_is_not_raised_again() {
    let mut rig = Rig::new(Era::Handles);
    rig.calls(&driver(), [detach(5, D1), detach(5, D1), detach(5, D1)]);
    rig.expect(&[raised(CHECK, 7, &[5], "", "driver")]);
}

/// Trap 9: between two security fixes x86 kernels refuse every bind.
#[test]
fn a_bind_that_is_refused_is_silent() {
    let mut rig = Rig::new(Era::Handles);
    let mut bind = rig.kernel.begin(&driver(), Call::Bind { device: NVME, mm: 9, pasid: 12 });
    bind.refuse(-95);
    rig.kernel.end(bind);
    rig.expect_silence();
    assert_eq!(rig.watcher.counters().binds.failures.get("EOPNOTSUPP"), Some(&1));
}
