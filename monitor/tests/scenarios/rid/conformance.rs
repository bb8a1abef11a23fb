//! What a switch of the RID's domain did to the PASIDs of its device, as the verdict on the IOMMU driver; and
//! `user-pasid-on-nonconforming`, which hangs on it.

use std::sync::Arc;

use monitor::check::{Expectation, Settings};
use monitor::conformance::{Conformance, RuleVerdict, Switches, Verdict};

use super::*;

const HANDED: &str = "user-pasid-on-nonconforming";
const RULE: &str = "rid-switch-keeps-pasids";

fn inventory(driver: &str) -> Inventory {
    let device = |name: &str| DeviceEntry {
        name: name.into(),
        driver: None,
        iommu: Some("dmar0".into()),
        iommu_driver: Some(driver.into()),
    };
    let devices = vec![device(NVME), device(NIC)];
    Inventory { groups: vec![GroupEntry { id: 7, default_domain: None, devices }] }
}

/// Behind VT-d, or what is called so.
fn behind(driver: &str, era: Era) -> Rig {
    let mut rig = rig(era);
    rig.tell(Input::Inventory(inventory(driver)));
    rig
}

fn allowing(rig: &mut Rig, allowances: Vec<Expectation>) {
    let settings =
        Settings { expected: allowances.into_iter().map(Arc::new).collect(), ..Settings::default() };
    rig.watcher = Watcher::new(Options { settings: Arc::new(settings), ..options(rig.kernel.era) });
    rig.tell(Input::Inventory(inventory("intel")));
    rig.bootstrap();
}

fn allowance(check: &'static str, until_mono_ns: u64) -> Expectation {
    Expectation {
        check,
        iommu_driver: Some("intel".into()),
        group: None,
        device: None,
        reason: "no device here has PASIDs".into(),
        until: "2027-03-31".parse().expect("a date"),
        until_mono_ns,
    }
}

fn verdict(rig: &Rig) -> Conformance {
    let all = rig.watcher.conformance();
    let [one] = all.as_slice() else { panic!("one driver, not {all:?}") };
    one.clone()
}

fn rule(conformance: &Conformance, name: &str) -> RuleVerdict {
    conformance.rules.iter().find(|rule| rule.rule == name).expect("a rule").clone()
}

fn claim() -> Call {
    Call::Claim { group: 7, owner: OWNER }
}

fn release() -> Call {
    Call::Release { group: 7 }
}

/// Userspace's, as VFIO and iommufd attach them.
fn handed(pasid: u32) -> Raised {
    raised(HANDED, 7, &[pasid], "vfio", "vfio")
}

#[test]
fn what_was_not_seen_is_not_exercised() {
    let mut rig = behind("intel", Era::Tagged);
    // Without a PASID there is nothing that a switch could take.
    rig.calls(&vfio(), [switch(), back()]);
    let found = verdict(&rig);
    assert_eq!((found.iommu_driver.as_str(), found.switches), ("intel", Switches::default()));
    let switches = rule(&found, RULE);
    assert_eq!((switches.verdict, switches.exercised), (Verdict::NotExercised, 0));
    assert!(switches.reason.is_some_and(|why| why.contains("nothing of the kind")));
}

#[test]
fn a_driver_that_leaves_pasids_alone_conforms() {
    for era in Era::WITH_PASIDS {
        let mut rig = behind("intel", era);
        rig.calls(&driver(), [attach(5), switch(), back(), detach(5)]);
        let found = verdict(&rig);
        // Two members, switched twice; the NIC's table has the PASID as well.
        assert_eq!(found.switches, Switches { kept: 4, lost: 0, refused: 0 });
        assert_eq!(found.verdict, Verdict::Conforms);
        assert_eq!(rule(&found, RULE).verdict, Verdict::Conforms);
        assert_eq!(rule(&found, "detach-is-done").exercised, 1);
        assert_eq!(rule(&found, "failed-attach-rolls-back").verdict, Verdict::NotExercised);
    }
}

#[test]
fn a_driver_that_loses_pasids_violates_with_the_evidence() {
    let mut rig = behind("intel", Era::Tagged);
    rig.calls(&driver(), [attach(5), switch(), back()]);
    with(&mut rig, clears(), &vfio(), switch());
    rig.expect(&[lost(&[5])]);
    let found = verdict(&rig);
    assert_eq!((found.verdict, found.switches.kept), (Verdict::Violates, 5));
    assert_eq!(found.switches.lost, 1);
    let switches = rule(&found, RULE);
    let [evidence] = switches.evidence.as_slice() else { panic!("{switches:?}") };
    let open = rig.watcher.violations().next().expect("it stands");
    assert_eq!((evidence.check, evidence.fingerprint), (LOST, Some(open.fingerprint)));
    assert!(evidence.summary.contains("its driver cleared PASID 5") && switches.allowed.is_empty());
    // What it holds it still conforms to.
    assert_eq!(rule(&found, "capabilities-stay-on").verdict, Verdict::Conforms);
}

#[test]
fn a_driver_that_refuses_is_c_and_one_that_switches_off_is_told_apart() {
    let mut rig = behind("intel", Era::Tagged);
    rig.calls(&driver(), [attach(5)]);
    assert_eq!(with(&mut rig, refuses(), &vfio(), switch()), EBUSY);
    rig.idle(1_000_000_000);
    let found = verdict(&rig);
    assert_eq!((found.switches.refused, found.switches.lost), (1, 0));
    assert_eq!(
        rule(&found, RULE).verdict,
        Verdict::Violates,
        "a refusal is for information, and breaks the rule"
    );
    with(&mut rig, off(true, false), &vfio(), switch());
    rig.idle(1_000_000_000);
    assert_eq!(rule(&verdict(&rig), "capabilities-stay-on").verdict, Verdict::Violates);
}

#[test]
fn who_breaks_the_api_above_the_driver_is_not_held_against_it() {
    let mut rig = behind("intel", Era::Handles);
    rig.calls(&vfio(), [claim(), attach(5)]);
    rig.calls(&vfio(), [release()]);
    rig.idle(1_000_000_000);
    assert_eq!(rig.raised().len(), 1, "{:?}", rig.raised());
    let found = verdict(&rig);
    assert!(found.rules.iter().all(|rule| rule.verdict != Verdict::Violates), "{found:?}");
}

#[test]
fn of_a_driver_that_is_not_seen_nothing_is_said() {
    let mut rig = behind("virtio", Era::Tagged);
    rig.calls(&driver(), [attach(5), switch(), back()]);
    let found = verdict(&rig);
    let switches = rule(&found, RULE);
    assert_eq!(switches.verdict, Verdict::NotExercised);
    assert!(switches.reason.is_some_and(|why| why.contains("is not seen")));
    assert_eq!(found.switches, Switches::default(), "what it took would not have been seen");
}

#[test]
fn a_check_that_is_off_exercises_nothing() {
    let mut rig = behind("intel", Era::Tagged);
    rig.only_check("ownership-stuck");
    rig.tell(Input::Inventory(inventory("intel")));
    rig.calls(&driver(), [attach(5), switch(), back()]);
    let switches = rule(&verdict(&rig), RULE);
    assert_eq!(switches.reason.as_deref(), Some("pasid-lost-on-detach is off"));
}

#[test]
fn what_is_allowed_is_shown_and_not_held_against_it() {
    let mut rig = behind("intel", Era::Tagged);
    let end = rig.kernel.now + 600_000_000_000;
    allowing(&mut rig, vec![allowance(LOST, end)]);
    rig.calls(&driver(), [attach(5)]);
    with(&mut rig, clears(), &vfio(), switch());
    rig.expect(&[lost(&[5])]);
    let found = verdict(&rig);
    let switches = rule(&found, RULE);
    assert_eq!((found.verdict, switches.verdict), (Verdict::Conforms, Verdict::Violates));
    assert_eq!(switches.allowed, [Arc::new(allowance(LOST, end))]);
    // Until its last day is over.
    rig.kernel.sleep(700_000_000_000);
    rig.calls(&driver(), [attach(6)]);
    let found = verdict(&rig);
    assert!(found.verdict == Verdict::Violates && rule(&found, RULE).allowed.is_empty());
}

/// Of one group alone: what it did there is excused, and what it does in another is not.
#[test]
fn what_is_allowed_of_one_group_excuses_what_was_done_there() {
    for (group, verdict_of_driver) in [(7, Verdict::Conforms), (8, Verdict::Violates)] {
        let mut rig = behind("intel", Era::Tagged);
        let end = rig.kernel.now + 600_000_000_000;
        let narrow = Expectation { iommu_driver: None, group: Some(group), ..allowance(LOST, end) };
        allowing(&mut rig, vec![narrow]);
        rig.calls(&driver(), [attach(5)]);
        with(&mut rig, clears(), &vfio(), switch());
        rig.expect(&[lost(&[5])]);
        assert_eq!(verdict(&rig).verdict, verdict_of_driver, "group {group}");
        rig.kernel.sleep(700_000_000_000);
        rig.calls(&driver(), [attach(6)]);
        assert_eq!(verdict(&rig).verdict, Verdict::Violates, "its last day is over");
    }
}

#[test]
fn what_is_allowed_of_one_check_excuses_no_other() {
    let mut rig = behind("intel", Era::Tagged);
    allowing(&mut rig, vec![allowance(REFUSED, u64::MAX)]);
    rig.calls(&driver(), [attach(5)]);
    with(&mut rig, clears(), &vfio(), switch());
    rig.idle(1_000_000_000);
    assert_eq!(verdict(&rig).verdict, Verdict::Violates);
}

/// First the driver is found out, then userspace gets a PASID.
fn found_out(rig: &mut Rig) {
    rig.calls(&driver(), [attach(9), switch()]);
    with(rig, clears(), &vfio(), back());
    rig.calls(&driver(), [detach(9)]);
    rig.idle(1_000_000_000);
    rig.reports.clear();
}

#[test]
fn a_pasid_that_userspace_gets_behind_such_a_driver_is_told() {
    for era in Era::WITH_PASIDS {
        let mut rig = behind("intel", era);
        found_out(&mut rig);
        rig.calls(&vfio(), [claim(), attach(5)]);
        rig.expect(&[handed(5)]);
        assert_eq!(rig.severities(), ["info"]);
        let told = rig.watcher.violations().find(|open| open.check.name == HANDED).expect("it stands");
        assert!(told.summary.contains("behind the IOMMU driver intel, which breaks rid-switch-keeps-pasids"));
        // More of them are the same report, which ends with the last.
        rig.calls(&vfio(), [attach(6), detach(5)]);
        rig.expect(&[handed(5)]);
        assert!(rig.resolved().is_empty());
        rig.calls(&vfio(), [detach(6), release()]);
        rig.idle(1_000_000_000);
        assert_eq!(rig.resolved(), [(HANDED, "cleared")]);
    }
}

#[test]
fn a_driver_that_is_found_out_later_is_told_of_the_pasids_that_are_out() {
    let mut rig = behind("intel", Era::Tagged);
    rig.calls(&vfio(), [claim(), attach(5), attach(6), switch()]);
    rig.expect(&[]);
    with(&mut rig, refuses(), &vfio(), back());
    rig.idle(1_000_000_000);
    let expected = Raised { triggered_by: String::new(), pasids: vec![5, 6], ..handed(5) };
    assert_eq!(rig.raised().iter().filter(|raised| raised.check == HANDED).collect::<Vec<_>>(), [&expected]);
}

/// Trap: a driver of which nothing is known, or that conforms.
#[test]
fn a_pasid_behind_a_driver_that_broke_nothing_is_silent() {
    let mut rig = behind("intel", Era::Tagged);
    rig.calls(&vfio(), [claim(), attach(5), switch(), back(), detach(5), release()]);
    rig.expect_silence();
    assert_eq!(rule(&verdict(&rig), RULE).verdict, Verdict::Conforms);
}

/// Trap: the kernel's own, and a process's.
#[test]
fn a_pasid_of_the_kernels_is_nobodys_affair() {
    let mut rig = behind("intel", Era::Tagged);
    found_out(&mut rig);
    rig.calls(&driver(), [attach(5), detach(5)]);
    rig.expect(&[]);
}

/// Trap: an attach that failed.
#[test]
fn an_attach_that_failed_hands_nothing_out() {
    let mut rig = behind("intel", Era::Tagged);
    found_out(&mut rig);
    rig.calls(&vfio(), [claim()]);
    // The first member's driver refuses this domain.
    assert_eq!(rig.call(&vfio(), Call::Attach { device: NVME, pasid: 5, domain: 3900 }), EINVAL);
    rig.expect(&[]);
}

/// Trap: the operator knows, and has said why and until when.
#[test]
fn a_deviation_that_is_allowed_is_no_report() {
    let mut rig = behind("intel", Era::Tagged);
    allowing(&mut rig, vec![allowance(LOST, u64::MAX)]);
    found_out(&mut rig);
    rig.calls(&vfio(), [claim(), attach(5)]);
    rig.expect(&[]);
    assert_eq!(rule(&verdict(&rig), RULE).verdict, Verdict::Violates, "it is known all the same");
}
