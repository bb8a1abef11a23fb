//! What was seen of each driver: how often a rule was exercised, and what broke it.

use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::HashMap;
use monitor_ebpf::wire::Hook;

use crate::check::{Expectation, Fingerprint, Settings, Severity, Violation, was_last_release};
use crate::event::Event;
use crate::inventory::Inventory;
use crate::model::{Device, GroupRef, Host, Look, Member, Operation, Transition};

use super::rule::{Index, RULES};

/// `-EBUSY`: a switch is refused.
const BUSY: i32 = -16;
/// More drivers than this are not told apart: a host has two or three.
const MAX_DRIVERS: usize = 16;
/// How much evidence is kept of one rule of one driver; the rest is counted.
const MAX_EVIDENCE: usize = 4;

/// Something that broke a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    pub check: &'static str,
    /// Of the violation; `None`: the driver's layout says it.
    pub fingerprint: Option<Fingerprint>,
    /// CLOCK_MONOTONIC, ns.
    pub mono_ns: u64,
    pub devices: Vec<String>,
    pub summary: String,
}

/// What switches of a RID's domain did while PASIDs were attached: the seed's table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Switches {
    /// (a) They were left alone.
    pub kept: u64,
    /// (b) They were taken.
    pub lost: u64,
    /// (c) The switch was refused.
    pub refused: u64,
}

/// One rule of one driver.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// How often it could have been broken, and that was seen.
    pub exercised: u64,
    /// How it was broken, by check.
    pub broken: BTreeMap<&'static str, Breaks>,
    pub evidence: Vec<Evidence>,
}

/// How a rule was broken, as one check found it.
#[derive(Clone, Debug, Default)]
pub(super) struct Breaks {
    pub times: u64,
    /// One of them at least was expected by nobody, when it was raised.
    unexpected: bool,
    /// What expected the others.
    expected: Vec<Arc<Expectation>>,
}

#[derive(Clone, Debug)]
pub(super) struct Driver {
    pub name: String,
    pub switches: Switches,
    pub rules: [Tally; RULES.len()],
}

/// Of every driver that was seen.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub(super) drivers: Vec<Driver>,
    /// The driver of a group, by the inventory; `None`: it has none, or there are too many.
    groups: HashMap<GroupRef, Option<usize>>,
    settings: Arc<Settings>,
    broken: bool,
}

impl Ledger {
    /// What the operator says from now on.
    pub fn configure(&mut self, settings: Arc<Settings>) {
        self.settings = settings;
    }

    /// Which driver a group sits behind may be another one.
    pub fn inventory(&mut self, inventory: &Inventory) {
        self.groups.clear();
        for group in &inventory.groups {
            if let Some(name) = group.iommu_driver() {
                self.driver(name);
            }
        }
    }

    fn driver(&mut self, name: &str) -> Option<usize> {
        let known = self.drivers.iter().position(|driver| driver.name == name);
        known.or_else(|| {
            let rules = Default::default();
            let driver = Driver { name: name.to_owned(), switches: Switches::default(), rules };
            (self.drivers.len() < MAX_DRIVERS).then(|| {
                self.drivers.push(driver);
                self.drivers.len() - 1
            })
        })
    }

    fn driver_of(&mut self, group: GroupRef, host: &Host, inventory: Option<&Inventory>) -> Option<usize> {
        if let Some(&known) = self.groups.get(&group) {
            return known;
        }
        let inventory = inventory?;
        let entry = host.group(group).and_then(|group| inventory.group(group.id));
        let driver = entry.and_then(|entry| entry.iommu_driver()).and_then(|name| self.driver(name));
        self.groups.insert(group, driver);
        driver
    }

    /// Takes in what became known. Of most of it there is nothing to take.
    pub fn note(&mut self, transition: &Transition, host: &Host, inventory: Option<&Inventory>) {
        match transition {
            Transition::Returned { group, operation, end } => match operation.hook {
                Hook::RidAttach => self.switched(*group, operation, end, host, inventory),
                Hook::PasidDetach if operation.synced => {
                    self.exercise(*group, Index::Detach, host, inventory);
                }
                Hook::ReleaseGroup | Hook::ReleaseDevice
                    if operation.synced && was_last_release(operation) =>
                {
                    self.exercise(*group, Index::Restored, host, inventory);
                }
                _ => {}
            },
            Transition::TornDown { group, flushed } if flushed.flush.is_judged() => {
                self.exercise(*group, Index::Flush, host, inventory);
            }
            Transition::Looked { group, look } => self.looked(*group, look, host, inventory),
            Transition::GroupGone { group, .. } => {
                self.groups.remove(group);
            }
            _ => {}
        }
    }

    fn exercise(&mut self, group: GroupRef, rule: Index, host: &Host, inventory: Option<&Inventory>) {
        if let Some(driver) = self.driver_of(group, host, inventory) {
            self.drivers[driver].rules[rule as usize].exercised += 1;
        }
    }

    /// The RID of a device was switched, or was not: what became of its PASIDs?
    fn switched(
        &mut self,
        group: GroupRef,
        operation: &Operation,
        end: &Event,
        host: &Host,
        inventory: Option<&Inventory>,
    ) {
        let Some(device) = operation.begin.device.filter(|_| operation.synced) else { return };
        let taken = operation.taken.as_deref();
        let mut gone = taken.iter().flat_map(|taken| &taken.pasids);
        let lost = gone.any(|(pasid, _)| !operation.overlap.pasid(*pasid));
        let live = || host.has_live_pasid(device.key, |pasid| !operation.overlap.pasid(pasid));
        let count: fn(&mut Switches) -> &mut u64 = match end.ret {
            _ if lost => |switches| &mut switches.lost,
            Some(0) if live() => |switches| &mut switches.kept,
            Some(BUSY) if live() => |switches| &mut switches.refused,
            _ => return,
        };
        let Some(driver) = self.driver_of(group, host, inventory) else { return };
        let driver = &mut self.drivers[driver];
        *count(&mut driver.switches) += 1;
        driver.rules[Index::Switch as usize].exercised += 1;
        if end.ret == Some(0) {
            driver.rules[Index::Capabilities as usize].exercised += 1;
        }
    }

    fn looked(&mut self, group: GroupRef, look: &Look, host: &Host, inventory: Option<&Inventory>) {
        let Some(driver) = self.driver_of(group, host, inventory) else { return };
        let rules = &mut self.drivers[driver].rules;
        if look.tables_by_domain {
            let own = &mut rules[Index::OwnTable as usize];
            own.exercised += 1;
            if own.broken.is_empty() {
                own.broken.insert(
                    "pasid-table-shared",
                    Breaks { times: 1, unexpected: true, expected: Vec::new() },
                );
                own.evidence.push(Evidence {
                    check: "pasid-table-shared",
                    fingerprint: None,
                    mono_ns: look.mono_ns,
                    devices: Vec::new(),
                    summary: "the driver hangs its PASID tables off domains: devices of one domain share one"
                        .into(),
                });
                self.broken = true;
            }
            return;
        }
        let compared = look.members.iter().filter(|member| member.max_pasids > 0 && member.table.is_some());
        let members = compared.count();
        let attached = look.pasids.as_ref().is_some_and(|pasids| !pasids.is_empty()) && !look.in_between();
        let has_table = |device: &Device| matches!(device.table, Some(Some(_)));
        let own = |member: &Member| host.device(member.device).is_some_and(has_table);
        // With one table alone there is nobody to share it with.
        let tables = || host.devices().filter(|device| has_table(device)).take(2).count();
        if look.members.iter().any(own) && tables() == 2 {
            rules[Index::OwnTable as usize].exercised += 1;
        }
        if members > 0 && attached {
            rules[Index::Agree as usize].exercised += 1;
        }
        if members > 1 && attached {
            rules[Index::Alike as usize].exercised += 1;
        }
        if members > 0 {
            rules[Index::RollBack as usize].exercised += look.failed.len() as u64;
        }
    }

    /// A violation was raised. Says whether this is the first that breaks a rule of its driver that nobody allowed.
    pub fn raised(&mut self, violation: &Violation) -> bool {
        // What is about the driver as such has no devices, and is known from the looks.
        let Some(name) = violation.iommu_driver.as_ref().filter(|_| !violation.devices.is_empty()) else {
            return false;
        };
        let Some(driver) = self.driver(name) else { return false };
        let before = self.deviates(driver, violation.mono_ns);
        // What follows from somebody's wrong use of the API is no fault of the driver's, and neither is a group that
        // nobody gave back.
        let breaks = |check: &str| RULES.iter().any(|rule| rule.checks.contains(&check));
        if !breaks(violation.check.name) || violation.triggered_by.is_none() && is_desertion(violation) {
            return false;
        }
        let implied = violation.implied.iter().map(|implied| implied.check);
        for check in std::iter::once(violation.check.name).chain(implied) {
            for (index, rule) in RULES.iter().enumerate() {
                let counts = rule.by_info || violation.own_severity > Severity::Info;
                if !counts || !rule.checks.contains(&check) {
                    continue;
                }
                let tally = &mut self.drivers[driver].rules[index];
                // What follows from what is expected is not excused by that.
                let expected = self.settings.expectation(check, violation, violation.mono_ns);
                tally.broken.entry(check).or_default().add(expected);
                self.broken = true;
                if tally.evidence.len() < MAX_EVIDENCE {
                    tally.evidence.push(Evidence {
                        check,
                        fingerprint: Some(violation.fingerprint),
                        mono_ns: violation.mono_ns,
                        devices: violation.devices.clone(),
                        summary: violation.summary.clone(),
                    });
                }
            }
        }
        !before && self.deviates(driver, violation.mono_ns)
    }

    /// The driver of a group, and the rules that it broke, but for what is allowed; `None`: it broke none.
    pub fn deviation(
        &self,
        group: GroupRef,
        host: &Host,
        inventory: Option<&Inventory>,
        mono_ns: u64,
    ) -> Option<(String, Vec<&'static str>)> {
        if !self.broken {
            return None;
        }
        let entry = inventory?.group(host.group(group)?.id)?;
        let name = entry.iommu_driver()?;
        let driver = self.drivers.iter().find(|driver| driver.name == name)?;
        let broken = self.broken_rules(driver, mono_ns);
        (!broken.is_empty()).then_some((driver.name.clone(), broken))
    }

    fn deviates(&self, driver: usize, mono_ns: u64) -> bool {
        self.broken && !self.broken_rules(&self.drivers[driver], mono_ns).is_empty()
    }

    /// The rules that a driver broke, but for what is allowed.
    fn broken_rules(&self, driver: &Driver, mono_ns: u64) -> Vec<&'static str> {
        let broken = RULES.iter().zip(&driver.rules).filter(|(_, tally)| {
            let mut broken = tally.broken.iter();
            broken.any(|(check, breaks)| self.excuse(&driver.name, check, breaks, mono_ns).is_none())
        });
        broken.map(|(rule, _)| rule.name).collect()
    }

    /// By what all that a check found of a driver is expected: of this driver wherever it is, or each of them by
    /// itself. `None`: not all of it is.
    pub(super) fn excuse(
        &self,
        driver: &str,
        check: &str,
        breaks: &Breaks,
        mono_ns: u64,
    ) -> Option<Vec<Arc<Expectation>>> {
        let valid = || self.settings.expected.iter().filter(|one| !one.is_over(mono_ns));
        if let Some(everywhere) = valid().find(|one| one.covers_driver(driver, check)) {
            return Some(vec![everywhere.clone()]);
        }
        let still = |known: &Arc<Expectation>| valid().any(|one| one == known);
        (!breaks.unexpected && breaks.expected.iter().all(still)).then(|| breaks.expected.clone())
    }
}

impl Breaks {
    fn add(&mut self, expected: Option<&Arc<Expectation>>) {
        self.times += 1;
        match expected {
            None => self.unexpected = true,
            Some(known) if self.expected.contains(known) => {}
            Some(new) => self.expected.push(new.clone()),
        }
    }
}

/// A look found a group that is claimed by nobody who is there.
fn is_desertion(violation: &Violation) -> bool {
    violation.check.name == "ownership-stuck"
}
