//! `pasid-freed-while-attached`, `pasid-leaked`, `domain-freed-while-attached`: what attachments stand on goes last.

use monitor::event::Task;
use monitor_ebpf::wire::Hook;

use crate::kernel::{Call, Era, Look, task};
use crate::rig::{D1, D2, NIC, NVME, OWNER, Raised, Rig, driver, other, raised, vfio};

const PASID_FREED: &str = "pasid-freed-while-attached";
const LEAKED: &str = "pasid-leaked";
const DOMAIN_FREED: &str = "domain-freed-while-attached";
const OTHER_DEVICE: &str = "0000:09:00.0";

/// On a CPU of its own.
fn reader() -> Task {
    task(1, "iommu-watch")
}

fn attach(pasid: u32, domain: u64) -> Call {
    Call::Attach { device: NVME, pasid, domain }
}

fn detach(pasid: u32, domain: u64) -> Call {
    Call::Detach { device: NVME, pasid, domain }
}

fn bind(device: &'static str, mm: u64) -> Call {
    Call::Bind { device, mm, pasid: 12 }
}

fn unbind(device: &'static str, mm: u64) -> Call {
    Call::Unbind { device, mm }
}

/// Group 7, and group 8 of one device.
fn two_groups(era: Era) -> Rig {
    let mut rig = Rig::unwatched(era);
    rig.kernel.group(8, &[OTHER_DEVICE]);
    rig.bootstrap();
    rig
}

#[test]
fn a_drivers_pasid_that_goes_back_while_it_is_attached_is_caught() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        rig.kernel.take_pasid(&driver(), NVME, 5);
        rig.calls(&driver(), [attach(5, D1)]);
        rig.kernel.free_pasid(&other(), 5);
        rig.expect(&[raised(PASID_FREED, 7, &[5], "driver", "other")]);
    }
}

#[test]
fn a_drivers_pasid_that_goes_back_after_its_detach_is_silent() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        for _ in 0..3 {
            rig.kernel.take_pasid(&driver(), NVME, 5);
            rig.calls(&driver(), [attach(5, D1), detach(5, D1)]);
            rig.kernel.free_pasid(&driver(), 5);
        }
        rig.expect_silence();
        assert_eq!(rig.watcher.counters().events(Hook::PasidFree), 3);
    }
}

/// Trap 10: the same number, chosen by somebody else.
#[test]
fn a_pasid_of_the_same_number_that_a_tenant_chose_is_silent() {
    for era in Era::WITH_PASIDS {
        let mut rig = two_groups(era);
        rig.kernel.take_pasid(&driver(), NVME, 5);
        rig.calls(&vfio(), [Call::Claim { group: 8, owner: OWNER }]);
        rig.calls(&vfio(), [Call::Attach { device: OTHER_DEVICE, pasid: 5, domain: D2 }]);
        rig.kernel.free_pasid(&driver(), 5);
        rig.expect_silence();
    }
}

/// The driver let go of the device without giving its PASID back; then a tenant took the group.
#[test]
fn a_tenants_pasid_on_a_group_that_had_a_driver_is_silent() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        rig.kernel.take_pasid(&driver(), NVME, 5);
        rig.calls(&vfio(), [Call::Claim { group: 7, owner: OWNER }, attach(5, D2)]);
        rig.kernel.free_pasid(&driver(), 5);
        rig.expect_silence();
    }
}

#[test]
fn what_was_attached_before_the_allocation_is_not_made_from_it() {
    let mut rig = Rig::new(Era::Tagged);
    rig.calls(&driver(), [attach(5, D1)]);
    rig.kernel.take_pasid(&driver(), NVME, 5);
    rig.kernel.free_pasid(&driver(), 5);
    rig.expect_silence();
}

#[test]
fn of_an_allocation_that_was_not_seen_nothing_is_claimed() {
    let mut rig = Rig::new(Era::Tagged);
    rig.calls(&driver(), [attach(5, D1)]);
    rig.kernel.free_pasid(&other(), 5);
    rig.expect_silence();
}

#[test]
fn a_detach_under_way_when_the_pasid_goes_back_is_silent() {
    let mut rig = Rig::new(Era::Tagged);
    rig.kernel.take_pasid(&driver(), NVME, 5);
    rig.calls(&driver(), [attach(5, D1)]);
    let mut running = rig.kernel.begin(&driver(), detach(5, D1));
    rig.kernel.act(&mut running);
    rig.kernel.free_pasid(&other(), 5);
    rig.kernel.end(running);
    rig.expect_silence();
}

#[test]
fn a_processs_pasid_that_goes_back_while_it_is_bound_is_caught() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        rig.calls(&driver(), [bind(NVME, 9)]);
        rig.kernel.free_pasid(&other(), 12);
        rig.expect(&[raised(PASID_FREED, 7, &[12], "driver", "other")]);
    }
}

#[test]
fn a_bond_from_before_we_watched_counts() {
    let mut rig = Rig::unwatched(Era::Tagged);
    rig.kernel.calls_before(&driver(), [bind(NVME, 9)]);
    rig.bootstrap();
    rig.kernel.free_pasid(&other(), 12);
    rig.expect(&[raised(PASID_FREED, 7, &[12], "", "other")]);
}

#[test]
fn after_a_loss_nothing_is_claimed_until_the_group_was_read() {
    let mut rig = Rig::new(Era::Tagged);
    rig.calls(&driver(), [bind(NVME, 9)]);
    rig.lose(monitor::input::Stage::Ring, 1);
    rig.kernel.free_pasid(&other(), 12);
    rig.kernel.free_domain(&other(), crate::kernel::sva_domain(9));
    rig.expect(&[]);
}

/// Trap 17: the last unbind itself drops the mm; and a process that is bound to two groups.
#[test]
fn a_process_that_exits_before_or_after_its_unbind_is_silent() {
    for era in Era::WITH_PASIDS {
        let mut rig = two_groups(era);
        rig.calls(&driver(), [bind(NVME, 9), bind(NIC, 9), bind(OTHER_DEVICE, 9)]);
        rig.kernel.exit(&other(), 9);
        rig.kernel.snapshot_all();
        rig.calls(&driver(), [unbind(NVME, 9), unbind(OTHER_DEVICE, 9), unbind(NIC, 9)]);
        rig.calls(&driver(), [bind(NVME, 8), unbind(NVME, 8)]);
        rig.kernel.exit(&other(), 8);
        rig.expect_silence();
        assert_eq!(rig.watcher.counters().events(Hook::MmDrop), 2);
        assert_eq!(rig.watcher.counters().events(Hook::PasidFree), 2);
    }
}

#[test]
fn a_pasid_that_does_not_go_back_with_the_mm_is_caught() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        rig.calls(&driver(), [bind(NVME, 9), unbind(NVME, 9)]);
        rig.kernel.drop_mm(&other(), 9, false);
        rig.expect(&[raised(LEAKED, 7, &[12], "", "other")]);
    }
}

#[test]
fn a_leaked_pasid_of_a_process_that_nobody_saw_bound_is_of_no_group() {
    let mut rig = Rig::unwatched(Era::Tagged);
    rig.kernel.calls_before(&driver(), [bind(NVME, 9), unbind(NVME, 9)]);
    rig.bootstrap();
    rig.kernel.drop_mm(&other(), 9, false);
    rig.expect(&[Raised { group: None, ..raised(LEAKED, 0, &[12], "", "other") }]);
}

#[test]
fn a_drop_whose_begin_was_lost_is_silent() {
    let mut rig = Rig::new(Era::Tagged);
    rig.calls(&driver(), [bind(NVME, 9), unbind(NVME, 9)]);
    rig.kernel.drop_mm(&other(), 9, true);
    let back = rig.kernel.log.iter().position(|event| event.hook == Hook::PasidFree).expect("it went back");
    rig.kernel.log.remove(back);
    rig.watch();
    rig.expect(&[]);
    assert!(rig.dropped > 0, "the gap was seen");
}

#[test]
fn a_domain_that_is_freed_while_a_pasid_is_attached_to_it_is_caught() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        rig.calls(&driver(), [attach(5, D1), attach(6, D2)]);
        rig.kernel.free_domain(&other(), D1);
        rig.expect(&[raised(DOMAIN_FREED, 7, &[5], "driver", "other")]);
    }
}

#[test]
fn a_domain_that_is_freed_while_rids_are_attached_to_it_is_caught() {
    for era in [Era::Owners, Era::Domains, Era::Handles, Era::Tagged] {
        let mut rig = Rig::new(era);
        rig.calls(&vfio(), [Call::Claim { group: 7, owner: OWNER }]);
        rig.calls(&vfio(), [Call::AttachGroup { group: 7, domain: D1 }]);
        rig.kernel.free_domain(&other(), D1);
        rig.expect(&[raised(DOMAIN_FREED, 7, &[], "vfio", "other")]);
    }
}

#[test]
fn a_domain_from_before_we_watched_that_is_freed_under_its_rids_is_caught() {
    for era in [Era::Owners, Era::Tagged] {
        let mut rig = Rig::new(era);
        let default = rig.kernel.groups[&7].default_domain;
        rig.kernel.free_domain(&other(), default);
        rig.expect(&[raised(DOMAIN_FREED, 7, &[], "", "other")]);
    }
}

#[test]
fn a_domain_that_is_freed_after_its_detach_is_silent() {
    for era in [Era::Owners, Era::Domains, Era::Handles, Era::Tagged] {
        let mut rig = Rig::new(era);
        for _ in 0..3 {
            rig.calls(&vfio(), [Call::Claim { group: 7, owner: OWNER }]);
            rig.calls(&vfio(), [Call::AttachGroup { group: 7, domain: D1 }]);
            if era.has_pasids() {
                rig.calls(&vfio(), [attach(5, D1), attach(6, D1), detach(5, D1), detach(6, D1)]);
            }
            rig.calls(&vfio(), [Call::DetachGroup { group: 7, domain: D1 }, Call::Release { group: 7 }]);
            rig.kernel.free_domain(&vfio(), D1);
        }
        rig.expect_silence();
        assert_eq!(rig.watcher.counters().events(Hook::DomainFree), 3);
    }
}

/// Trap 14: VFIO has one domain for several groups, idxd one for its RID and a PASID.
#[test]
fn each_group_and_pasid_of_a_domain_counts_for_itself() {
    let mut rig = two_groups(Era::Tagged);
    for group in [7, 8] {
        rig.calls(&vfio(), [Call::Claim { group, owner: OWNER }, Call::AttachGroup { group, domain: D1 }]);
    }
    rig.calls(&vfio(), [Call::DetachGroup { group: 7, domain: D1 }]);
    rig.calls(&driver(), [Call::Attach { device: OTHER_DEVICE, pasid: 5, domain: D1 }]);
    rig.kernel.free_domain(&other(), D1);
    rig.expect(&[raised(DOMAIN_FREED, 8, &[5], "driver", "other")]);
}

/// Trap 14: a static domain is "freed" many times over; on 6.1 VT-d's have a `free` that does nothing.
#[test]
fn a_static_blocked_domain_is_freed_while_groups_are_on_it() {
    let mut rig = Rig::new(Era::Owners);
    rig.calls(&vfio(), [Call::Claim { group: 7, owner: OWNER }]);
    let blocking = rig.kernel.groups[&7].blocking_domain;
    rig.kernel.free_domain(&other(), blocking);
    rig.expect_silence();
}

/// With the last device the core frees the group's domains: none of them was detached.
#[test]
fn a_devices_removal_ends_its_attachments() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        let default = rig.kernel.groups[&7].default_domain;
        rig.calls(&driver(), [attach(5, D1)]);
        rig.kernel.unplug(NIC);
        let id = rig.kernel.group_of(NVME);
        rig.kernel.remove(NVME);
        rig.kernel.free_domain(&driver(), default);
        rig.kernel.free_domain(&driver(), D1);
        rig.kernel.release_group(id);
        rig.watch();
        let found: Vec<_> = rig.raised().into_iter().filter(|raised| raised.check == DOMAIN_FREED).collect();
        assert_eq!(found, []);
    }
}

/// The members are read without the mutex, too: who read them was held up until they had left.
#[test]
fn a_late_report_of_a_device_that_has_left_does_not_bring_it_back() {
    for part in [Look::Entry, Look::Return] {
        let mut rig = Rig::new(Era::Tagged);
        let default = rig.kernel.groups[&7].default_domain;
        rig.kernel.look(&reader(), 7, part);
        let late = rig.kernel.take_ready();
        rig.kernel.remove(NIC);
        rig.kernel.remove(NVME);
        rig.watch();
        late.into_iter().for_each(|event| rig.feed(event));
        rig.kernel.free_domain(&other(), default);
        rig.kernel.release_group(7);
        rig.expect_silence();
    }
}

#[test]
fn a_detach_under_way_when_the_domain_goes_is_silent() {
    let mut rig = Rig::new(Era::Tagged);
    rig.calls(&driver(), [attach(5, D1)]);
    let mut running = rig.kernel.begin(&driver(), detach(5, D1));
    rig.kernel.act(&mut running);
    rig.kernel.free_domain(&other(), D1);
    rig.kernel.end(running);
    rig.expect_silence();
}

/// Somebody else frees what the last unbind is about to: by then that has detached, and its record is yet to come.
#[test]
fn an_unbind_that_has_detached_already_when_its_domain_goes_is_silent() {
    let mut rig = Rig::new(Era::Tagged);
    rig.calls(&driver(), [bind(NVME, 9)]);
    let mut running = rig.kernel.begin(&driver(), unbind(NVME, 9));
    while !rig.kernel.state(7).array.is_empty() {
        assert!(rig.kernel.advance(&mut running));
    }
    rig.kernel.free_domain(&other(), crate::kernel::sva_domain(9));
    while !running.acted() {
        assert!(rig.kernel.advance(&mut running));
    }
    rig.kernel.end(running);
    rig.expect_silence();
}

#[test]
fn a_switch_under_way_when_the_domain_goes_is_silent() {
    let mut rig = Rig::new(Era::Tagged);
    rig.calls(&vfio(), [Call::Claim { group: 7, owner: OWNER }, Call::AttachGroup { group: 7, domain: D1 }]);
    let mut running = rig.kernel.begin(&vfio(), Call::DetachGroup { group: 7, domain: D1 });
    rig.kernel.act(&mut running);
    rig.kernel.free_domain(&other(), D1);
    rig.kernel.end(running);
    rig.expect_silence();
}

/// An attach that failed left the device somewhere: the driver knows where.
#[test]
fn the_domain_of_a_failed_attach_is_freed_in_silence() {
    let mut rig = Rig::new(Era::Tagged);
    rig.calls(&vfio(), [Call::Claim { group: 7, owner: OWNER }]);
    assert_ne!(rig.call(&vfio(), Call::AttachGroup { group: 7, domain: 3901 }), 0);
    rig.kernel.free_domain(&vfio(), 3901);
    rig.expect_silence();
}

#[test]
fn the_address_of_a_freed_domain_is_used_again() {
    let mut rig = Rig::new(Era::Tagged);
    for _ in 0..3 {
        rig.calls(&driver(), [attach(5, D1), Call::Replace { device: NVME, pasid: 5, domain: D2 }]);
        rig.kernel.free_domain(&driver(), D1);
        rig.calls(&driver(), [detach(5, D2)]);
        rig.kernel.free_domain(&driver(), D2);
    }
    rig.expect_silence();
}

#[test]
fn an_sva_domain_that_is_freed_while_it_is_attached_is_caught() {
    for era in Era::WITH_PASIDS {
        let mut rig = Rig::new(era);
        rig.calls(&driver(), [bind(NVME, 9)]);
        rig.kernel.free_domain(&other(), crate::kernel::sva_domain(9));
        rig.expect(&[raised(DOMAIN_FREED, 7, &[12], "driver", "other")]);
    }
}
