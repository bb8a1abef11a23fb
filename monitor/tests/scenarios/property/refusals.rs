//! What is told of refused claims and binds, held against the true history: `ownership-conflict` is a report, and correct
//! programs have many.

use std::collections::BTreeSet;

use monitor::check::{Value, Violation};
use monitor::watcher::Report;

use crate::kernel::{Call, EBUSY, EPERM, Fact};

use super::run::Run;

pub const CONFLICT: &str = "ownership-conflict";

/// A report is of a call that was refused, and whom it names held the group then.
pub fn none_invented(run: &Run) -> Result<(), String> {
    for told in reports(run) {
        let by = told.triggered_by.as_ref().map_or(String::new(), |by| by.comm.to_string());
        let mut refused = refusals(run).filter(|(_, fact)| Some(fact.group) == told.group && fact.who == by);
        let right = |(at, _): (usize, &Fact)| named(told).is_none_or(|who| holders(run, at).contains(&who));
        if !refused.any(right) {
            return Err(format!("told of a refusal that never was, or of a wrong holder: {told:?}"));
        }
    }
    Ok(())
}

/// The same; and of each group and kind of call one is told, unless it follows from what is open there.
pub fn all_told(run: &Run) -> Result<(), String> {
    none_invented(run)?;
    // A handle of the RID that a wild caller left is in the way, and nobody's hold: there is nobody to tell of.
    let nobodys = |fact: &Fact| fact.before.count == 0 && fact.before.array.keys().eq([&0]);
    // Of a group that is new not all calls are judged; and what a reset refuses, no holder does.
    let judged = |fact: &Fact| {
        !run.ever_renewed.contains(&fact.group) && fact.before.recovery_cnt == 0 && !nobodys(fact)
    };
    for (_, fact) in refusals(run).filter(|(_, fact)| judged(fact)) {
        let bind = is_bind(&fact.call);
        let told = reports(run).any(|told| {
            told.group == Some(fact.group) && told.summary.contains("could not bind a driver") == bind
        });
        if !told && !roots(run).any(|root| root.group == Some(fact.group)) {
            return Err(format!("a refusal was not told: {fact:?}"));
        }
    }
    Ok(())
}

fn violations(run: &Run) -> impl Iterator<Item = &Violation> {
    run.reports.iter().filter_map(|report| match report {
        Report::Violation(violation) => Some(violation.as_ref()),
        _ => None,
    })
}

fn reports(run: &Run) -> impl Iterator<Item = &Violation> {
    violations(run).filter(|violation| violation.check.name == CONFLICT)
}

/// What a refusal can follow from.
fn roots(run: &Run) -> impl Iterator<Item = &Violation> {
    violations(run).filter(|violation| violation.check.implies.contains(&CONFLICT))
}

fn refusals(run: &Run) -> impl Iterator<Item = (usize, &Fact)> {
    let takes = |call: &Call| is_bind(call) || is_claim(call);
    run.kernel
        .history
        .iter()
        .enumerate()
        .filter(move |(_, fact)| takes(&fact.call) && [EPERM, EBUSY].contains(&fact.ret))
}

fn is_bind(call: &Call) -> bool {
    matches!(call, Call::Use { .. })
}

fn is_claim(call: &Call) -> bool {
    matches!(call, Call::Claim { .. } | Call::ClaimDevice { .. })
}

/// Whom a report names.
fn named(told: &Violation) -> Option<String> {
    told.read.iter().find_map(|read| match &read.value {
        Value::Task(by) => by.map(|by| by.comm.to_string()),
        _ => None,
    })
}

/// Who had taken hold of the group and not let go, at a place of the history.
fn holders(run: &Run, at: usize) -> BTreeSet<String> {
    let group = run.kernel.history[at].group;
    let mut holders: Vec<(&Call, &str)> = Vec::new();
    for fact in run.kernel.history[..at].iter().filter(|fact| fact.group == group) {
        if (is_bind(&fact.call) || is_claim(&fact.call)) && fact.ret == 0 {
            holders.push((&fact.call, &fact.who));
        }
        // An unuse too many may leave the owner without a count: then he refuses still.
        if (fact.after.count, fact.after.owner) == (0, 0) {
            holders.clear();
        }
        match fact.call {
            Call::Unuse { device } => holders.retain(|(call, _)| **call != Call::Use { device }),
            // One device may be claimed for one owner by several: each gives back his own.
            Call::ReleaseDevice { device } => {
                let of_it = |call: &Call| matches!(*call, Call::ClaimDevice { device: claimed, .. } if claimed == device);
                let several = holders.iter().filter(|(call, _)| of_it(call)).count() > 1;
                holders.retain(|(call, who)| !of_it(call) || several && *who != fact.who);
            }
            _ => {}
        }
    }
    holders.into_iter().map(|(_, who)| who.to_owned()).collect()
}
