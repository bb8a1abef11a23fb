//! `domain-off-default` where a call that lets go shows it; and what must not raise it then.

use monitor::event::Event;

use crate::kernel::{Call, Era};
use crate::looks::state;
use crate::rig::{D1, NVME, Rig, driver, raised, vfio};

/// What a call that lets go leaves is told at once, and not after two looks.
#[test]
fn a_driver_that_is_unbound_and_leaves_its_domain_is_caught_at_once() {
    for era in [Era::Owners, Era::Domains, Era::Handles, Era::Tagged] {
        let mut rig = Rig::unwatched(era);
        rig.kernel.group_mut(7).devices.pop();
        rig.bootstrap();
        rig.calls(&driver(), [Call::Use { device: NVME }, Call::AttachDevice { device: NVME, domain: D1 }]);
        rig.calls(&vfio(), [Call::Unuse { device: NVME }]);
        assert_eq!(rig.raised(), [raised("domain-off-default", 7, &[], "", "vfio")]);
        rig.calls(&driver(), [Call::DetachDevice { device: NVME, domain: D1 }]);
        assert_eq!(rig.resolved(), [("domain-off-default", "cleared")]);
        // The same, with everything given back.
        rig.calls(&driver(), [Call::Use { device: NVME }, Call::AttachDevice { device: NVME, domain: D1 }]);
        rig.calls(&driver(), [Call::DetachDevice { device: NVME, domain: D1 }, Call::Unuse { device: NVME }]);
        rig.idle(1_000_000_000);
        assert_eq!(rig.raised().len(), 1);
    }
}

#[test]
fn a_member_in_between_is_not_judged_by_a_call_either() {
    for edit in
        [|event: &mut Event| state(event).deferred = true, |event: &mut Event| state(event).blocked = true]
    {
        let mut rig = Rig::unwatched(Era::Handles);
        rig.kernel.group_mut(7).devices.pop();
        rig.bootstrap();
        rig.kernel.snapshot(7);
        rig.kernel.log.iter_mut().filter(|event| event.device.is_some()).for_each(edit);
        rig.watch();
        rig.calls(&driver(), [Call::Use { device: NVME }, Call::AttachDevice { device: NVME, domain: D1 }]);
        rig.calls(&driver(), [Call::Unuse { device: NVME }]);
        assert_eq!(rig.raised(), []);
    }
}
