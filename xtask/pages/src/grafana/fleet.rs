//! What an SRE looks at first: what stands on which hosts, and whether the watch is whole. Sums over the fleet come from
//! the records of `iommu-watch.rules.yml`, so that it opens quickly on ten thousand hosts.

use super::{Dashboard, Panel, Row, Variable, query};

pub const DASHBOARD: Dashboard = Dashboard {
    name: "fleet",
    title: "iommu-watch: fleet",
    description: "Violations of the Linux IOMMU's invariants on all hosts, and whether the watch for them is whole. It \
        needs the records of iommu-watch.rules.yml.",
    variables: &[Variable { name: "check", title: "Check", metric: "iommu_watch_check_state", many: true }],
    rows: &[
        Row { title: "Violations", panels: &VIOLATIONS },
        Row { title: "Is the watch whole?", panels: &WATCH },
        Row { title: "Kernels and drivers", panels: &KERNELS },
    ],
};

const VIOLATIONS: [Panel; 11] = [
    Panel::stat(
        "Critical violations",
        &[query(
            r#"sum(release_check_severity:iommu_watch_violations_active:sum{check=~"$check",severity="critical"}) or vector(0)"#,
            "",
        )],
    )
    .bad(1.0, "red"),
    Panel::stat(
        "Warnings",
        &[query(
            r#"sum(release_check_severity:iommu_watch_violations_active:sum{check=~"$check",severity="warning"}) or vector(0)"#,
            "",
        )],
    )
    .bad(1.0, "orange"),
    Panel::stat(
        "Alerts that fire",
        &[query(r#"count(ALERTS{alertname=~"IommuWatch.+",alertstate="firing"}) or vector(0)"#, "")],
    )
    .bad(1.0, "orange"),
    Panel::stat("Hosts watched", &[query(r#"count(up{job="iommu-watch"} == 1) or vector(0)"#, "")]),
    Panel::stat("Hosts that don't answer", &[query(r#"count(up{job="iommu-watch"} == 0) or vector(0)"#, "")])
        .bad(1.0, "orange"),
    Panel::stat("Hosts that are armed", &[query(r#"job:iommu_watch_armed_hosts:ratio{job="iommu-watch"}"#, "")])
        .unit("percentunit")
        .about("The share of hosts on which each check that applies and isn't switched off judges in full."),
    Panel::stack(
        "Violations that stand, by check",
        &[query(
            r#"sum by (check, severity) (release_check_severity:iommu_watch_violations_active:sum{check=~"$check"}) > 0"#,
            "{{check}} ({{severity}})",
        )],
    ),
    Panel::stack(
        "Violations that stand, by kernel",
        &[query(
            r#"sum by (release) (release_check_severity:iommu_watch_violations_active:sum{check=~"$check"})"#,
            "{{release}}",
        )],
    ),
    Panel::stack(
        "Violations that stand, by IOMMU driver",
        &[query(
            r#"sum by (iommu_driver) (iommu_driver_check_severity:iommu_watch_violations_active:sum{check=~"$check"})"#,
            "{{iommu_driver}}",
        )],
    )
    .about("`several`: of hosts with IOMMUs of more than one driver."),
    Panel::table(
        "Hosts with violations",
        &[("instance", "host"), ("check", "check"), ("severity", "severity"), ("Value", "violations")],
        &[query(r#"topk(500, iommu_watch_violations_active{check=~"$check"} > 0)"#, "")],
    )
    .size(12, 9)
    .about("That host's log and /api/v1/violations there name devices, PASIDs and who attached them. At most 500."),
    Panel::table(
        "Alerts",
        &[("alertname", "alert"), ("alertstate", "state"), ("instance", "host"), ("check", "check"), ("severity", "severity")],
        &[query(r#"topk(500, ALERTS{alertname=~"IommuWatch.+"})"#, "")],
    )
    .size(12, 9),
];

const WATCH: [Panel; 7] = [
    Panel::table(
        "Hosts where a check misses something",
        &[("instance", "host"), ("Value", "checks")],
        &[query("topk(500, instance:iommu_watch_unarmed_checks:count > 0)", "")],
    )
    .size(6, 9)
    .about("`iommu-watch doctor` there says what. At most 500."),
    Panel::table(
        "Share of hosts on which a check is armed, by kernel",
        &[("check", "check"), ("release", "kernel"), ("Value", "armed")],
        &[query(r#"sort(release_check:iommu_watch_armed:ratio{check=~"$check"})"#, "")],
    )
    .size(10, 9)
    .unit("percentunit"),
    Panel::table(
        "States of the checks",
        &[("check", "check"), ("state", "state"), ("Value", "hosts")],
        &[query(r#"count by (check, state) (iommu_watch_check_state{check=~"$check"} == 1)"#, "")],
    )
    .size(8, 9),
    Panel::lines(
        "Groups whose state is unknown",
        &[query(r#"sum(iommu_watch_groups{knowledge="unknown"})"#, "groups")],
    )
    .size(6, 7)
    .about("Nothing is raised on a group while its state is unknown."),
    Panel::lines(
        "Hosts that lose events",
        &[query(
            "count by (stage) (sum by (instance, stage) (increase(iommu_watch_events_lost_total[$__rate_interval])) > 0)",
            "{{stage}}",
        )],
    )
    .size(6, 7),
    Panel::lines(
        "Hosts with hooks that are passed by",
        &[query(
            "count by (hook) (sum by (instance, hook) (increase(iommu_watch_hook_misses_total[1h])) > 0)",
            "{{hook}}",
        )],
    )
    .size(6, 7),
    Panel::lines(
        "Detection latency",
        &[
            query(LATENCY_MEDIAN, "p50"),
            query(LATENCY_HIGH, "p99"),
        ],
    )
    .size(6, 7)
    .unit("s")
    .about("From the kernel event that gave a violation away to its report."),
];

const LATENCY_MEDIAN: &str = "histogram_quantile(0.5, sum by (le) (rate(iommu_watch_detection_latency_seconds_bucket[$__rate_interval])))";
const LATENCY_HIGH: &str = "histogram_quantile(0.99, sum by (le) (rate(iommu_watch_detection_latency_seconds_bucket[$__rate_interval])))";

const KERNELS: [Panel; 5] = [
    Panel::stack("Hosts, by kernel", &[query("count by (release) (iommu_watch_kernel_info)", "{{release}}")]),
    Panel::stack("Hosts, by version", &[query("count by (version) (iommu_watch_build_info)", "{{version}}")]),
    Panel::stack(
        "Hosts, by IOMMU driver",
        &[query("count by (iommu_driver) (instance:iommu_watch_iommu_driver:info)", "{{iommu_driver}}")],
    ),
    Panel::table(
        "Known defects of kernels",
        &[("advisory", "advisory"), ("verdict", "verdict"), ("Value", "hosts")],
        &[query(
            r#"count by (advisory, verdict) (iommu_watch_advisory_info{verdict=~"affected|undecided"})"#,
            "",
        )],
    )
    .size(12, 8),
    Panel::table(
        "Conformance of IOMMU drivers",
        &[("iommu_driver", "IOMMU driver"), ("rule", "rule"), ("conformance", "verdict"), ("Value", "hosts")],
        &[query(r#"count by (iommu_driver, rule, conformance) (iommu_watch_conformance == 1)"#, "")],
    )
    .size(12, 8),
];
