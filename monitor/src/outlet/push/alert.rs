//! A violation as Alertmanager takes it (its API, version 2): by its labels it is known again.

use serde::Serialize;

use crate::{
    check::{Violation, alert_name},
    report::{Context, text},
};

/// A `postableAlert`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    labels: Labels,
    annotations: Annotations,
    starts_at: String,
    /// Of one that is over. Without it Alertmanager takes it for standing, for its `resolve_timeout`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<String>,
    #[serde(rename = "generatorURL")]
    generator_url: String,
}

/// Nothing that is another one after a restart, and no PASID: the fingerprint has them in it.
#[derive(Clone, Debug, Serialize)]
struct Labels {
    alertname: String,
    check: &'static str,
    severity: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    host: String,
    fingerprint: String,
}

#[derive(Clone, Debug, Serialize)]
struct Annotations {
    summary: String,
    description: String,
    runbook_url: String,
}

impl Alert {
    pub fn new(violation: &Violation, context: &Context<'_>, runbooks: &str, pages: &str) -> Alert {
        Alert {
            labels: Labels {
                alertname: alert_name(violation.check.name),
                check: violation.check.name,
                severity: violation.severity.name(),
                group: violation.group.map(|group| group.to_string()),
                host: context.host.to_owned(),
                fingerprint: violation.fingerprint.to_string(),
            },
            annotations: Annotations {
                summary: format!("{}: {}", context.host, violation.summary),
                description: text::violation(violation, context, text::Style::default()),
                runbook_url: format!("{runbooks}{}", violation.check.docs()),
            },
            starts_at: context.clock.rfc3339(violation.mono_ns),
            ends_at: None,
            generator_url: pages.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_an_alert_is_that_of_its_check() {
        assert_eq!(alert_name("pasid-left-on-release"), "IommuWatchPasidLeftOnRelease");
    }

    #[test]
    fn an_alert_is_named_as_in_the_rules() {
        let rules = include_str!("../../../../dashboards/rules/iommu-watch-checks.rules.yml");
        for check in crate::check::REGISTRY {
            let spec = check.spec();
            let named = rules.contains(&format!("alert: {}\n", alert_name(spec.name)));
            assert!(named || spec.severity() == crate::check::Severity::Info, "{}", spec.name);
        }
    }
}
