//! The verdicts on the IOMMU drivers, as text and as JSON.

use std::fmt::Write;

use serde_json::{Value as Json, json};

use crate::conformance::{Conformance, Evidence, RuleVerdict, Verdict};

use super::Context;
use super::text::{Block, Style};

/// The report on every driver: the seed's table first, then rule by rule.
pub fn text(drivers: &[Conformance], context: &Context<'_>, style: Style) -> String {
    let mut block = Block { text: String::new(), width: style.width };
    let synthetic = if context.synthetic { "  (synthetic)" } else { "" };
    for driver in drivers {
        let name = &driver.iommu_driver;
        let _ = writeln!(block.text, "{name}: {}{synthetic}", driver.verdict.name());
        let switches = driver.switches;
        block.wrap(2, 2, "what switches of a RID's domain did to the PASIDs of its device");
        for (case, what, count) in [
            ("(a)", "left alone", switches.kept),
            ("(b)", "taken with it", switches.lost),
            ("(c)", "the switch refused because of them", switches.refused),
        ] {
            let _ = writeln!(block.text, "    {case} {what:<36}{count}");
        }
        for rule in &driver.rules {
            rule_text(rule, &mut block, context);
        }
        block.text.push('\n');
    }
    if drivers.is_empty() {
        block.text.push_str("no IOMMU driver was seen\n");
    }
    block.text
}

fn rule_text(rule: &RuleVerdict, block: &mut Block, context: &Context<'_>) {
    let counted = match rule.verdict {
        Verdict::Conforms => format!("  ({} times)", rule.exercised),
        Verdict::Violates => format!("  ({} times, of {})", rule.violated, rule.exercised.max(rule.violated)),
        Verdict::NotExercised => String::new(),
    };
    let _ = writeln!(block.text, "  {:<25}{}{counted}", rule.rule, rule.verdict.name());
    if let Some(reason) = &rule.reason {
        block.wrap(6, 6, reason);
    }
    for allowance in &rule.allowed {
        block.wrap(6, 6, &format!("expected until {}: {}", allowance.until, allowance.reason));
    }
    for evidence in &rule.evidence {
        let when = context.clock.rfc3339(evidence.mono_ns);
        block.wrap(6, 8, &format!("{when} {}: {}", evidence.check, evidence.summary));
    }
}

/// The same, as one object.
pub fn json(drivers: &[Conformance], context: &Context<'_>) -> Json {
    let mut report = json!({
        "v": 1,
        "kind": "conformance",
        "host": context.host,
        "kernel": context.kernel,
        "drivers": drivers.iter().map(|driver| driver_json(driver, context)).collect::<Vec<_>>(),
    });
    if context.synthetic {
        report["synthetic"] = json!(true);
    }
    report
}

fn driver_json(driver: &Conformance, context: &Context<'_>) -> Json {
    let rule = |rule: &RuleVerdict| {
        let allowed = rule.allowed.iter().map(|allowance| {
            json!({
                "check": allowance.check,
                "reason": allowance.reason,
                "until": allowance.until.to_string(),
            })
        });
        json!({
            "rule": rule.rule,
            "holds": rule.holds,
            "verdict": rule.verdict.name(),
            "exercised": rule.exercised,
            "violated": rule.violated,
            "reason": rule.reason,
            "allowed": allowed.collect::<Vec<_>>(),
            "evidence": rule.evidence.iter().map(|one| evidence(one, context)).collect::<Vec<_>>(),
        })
    };
    json!({
        "iommu_driver": driver.iommu_driver,
        "verdict": driver.verdict.name(),
        "rid_switch": {
            "kept": driver.switches.kept,
            "lost": driver.switches.lost,
            "refused": driver.switches.refused,
        },
        "rules": driver.rules.iter().map(rule).collect::<Vec<_>>(),
    })
}

fn evidence(evidence: &Evidence, context: &Context<'_>) -> Json {
    json!({
        "check": evidence.check,
        "fingerprint": evidence.fingerprint.map(|fingerprint| fingerprint.to_string()),
        "ts": context.clock.rfc3339(evidence.mono_ns),
        "devices": evidence.devices,
        "summary": evidence.summary,
    })
}
