//! One host: its violations, what can be judged there, what its kernel was seen to do.

use super::{Dashboard, Panel, Row, Variable, query};

pub const DASHBOARD: Dashboard = Dashboard {
    name: "host",
    title: "iommu-watch: host",
    description: "The IOMMU of one host, and the watch on it. /api/v1/violations on the host names devices, PASIDs and \
        who attached them.",
    variables: &[HOST],
    rows: &[
        Row { title: "Violations", panels: &VIOLATIONS },
        Row { title: "Is the watch whole?", panels: &WATCH },
        Row { title: "Calls", panels: &CALLS },
        Row { title: "Invalidation", panels: &INVALIDATION },
        Row { title: "Groups, driver, kernel", panels: &GROUPS },
    ],
};

pub(super) const HOST: Variable =
    Variable { name: "instance", title: "Host", metric: "iommu_watch_build_info", many: false };

const VIOLATIONS: [Panel; 10] = [
    Panel::stat(
        "Critical violations",
        &[query(r#"sum(iommu_watch_violations_active{instance=~"$instance",severity="critical"})"#, "")],
    )
    .bad(1.0, "red"),
    Panel::stat(
        "Warnings",
        &[query(r#"sum(iommu_watch_violations_active{instance=~"$instance",severity="warning"})"#, "")],
    )
    .bad(1.0, "orange"),
    Panel::stat(
        "Not raised: too many",
        &[query(r#"iommu_watch_violations_suppressed_total{instance=~"$instance"}"#, "")],
    )
    .bad(1.0, "red"),
    Panel::stat(
        "Checks that miss something",
        &[query(r#"instance:iommu_watch_unarmed_checks:count{instance=~"$instance"}"#, "")],
    )
    .bad(1.0, "orange"),
    Panel::stat(
        "Groups unknown",
        &[query(r#"sum(iommu_watch_groups{instance=~"$instance",knowledge="unknown"})"#, "")],
    )
    .bad(1.0, "orange"),
    Panel::stat(
        "Running for",
        &[query(r#"time() - iommu_watch_start_time_seconds{instance=~"$instance"}"#, "")],
    )
    .unit("s"),
    Panel::stack(
        "Violations that stand, by check",
        &[query(r#"iommu_watch_violations_active{instance=~"$instance"} > 0"#, "{{check}} ({{severity}})")],
    ),
    Panel::stack(
        "Violations raised, by check",
        &[query(
            r#"increase(iommu_watch_violations_total{instance=~"$instance"}[$__rate_interval]) > 0"#,
            "{{check}} ({{severity}})",
        )],
    ),
    Panel::table(
        "Alerts",
        &[("alertname", "alert"), ("alertstate", "state"), ("check", "check"), ("severity", "severity")],
        &[query(r#"ALERTS{alertname=~"IommuWatch.+",instance=~"$instance"}"#, "")],
    )
    .size(5, 7),
    Panel::stat("Mean detection latency", &[query(LATENCY, "")])
        .size(3, 7)
        .unit("s")
        .about("From the kernel event that gave a violation away to its report."),
];

const LATENCY: &str = r#"iommu_watch_detection_latency_seconds_sum{instance=~"$instance"} / (iommu_watch_detection_latency_seconds_count{instance=~"$instance"} > 0)"#;

const WATCH: [Panel; 7] = [
    Panel::table(
        "Checks",
        &[("check", "check"), ("state", "state")],
        &[query(r#"iommu_watch_check_state{instance=~"$instance"} == 1"#, "")],
    )
    .about("`iommu-watch doctor` on the host says why one isn't armed."),
    Panel::table(
        "Hooks that are not attached",
        &[("hook", "hook")],
        &[query(r#"iommu_watch_hook_attached{instance=~"$instance"} == 0"#, "")],
    )
    .about("Most belong to another driver or kernel than this host's."),
    Panel::lines(
        "Hooks attached, by backend",
        &[query(
            r#"sum by (backend) (iommu_watch_hook_attached{instance=~"$instance",backend!="none"})"#,
            "{{backend}}",
        )],
    ),
    Panel::stack(
        "Groups, by knowledge",
        &[query(r#"iommu_watch_groups{instance=~"$instance"}"#, "{{knowledge}}")],
    )
    .size(6, 7)
    .about("Nothing is raised on a group while its state is unknown."),
    Panel::lines(
        "Events lost, by stage",
        &[query(
            r#"increase(iommu_watch_events_lost_total{instance=~"$instance"}[$__rate_interval])"#,
            "{{stage}}",
        )],
    )
    .size(6, 7),
    Panel::lines(
        "Calls that a hook missed",
        &[query(
            r#"increase(iommu_watch_hook_misses_total{instance=~"$instance"}[$__rate_interval]) > 0"#,
            "{{hook}}",
        )],
    )
    .size(6, 7),
    Panel::lines(
        "Readings of the groups, by reason",
        &[query(
            r#"increase(iommu_watch_resyncs_total{instance=~"$instance"}[$__rate_interval])"#,
            "{{reason}}",
        )],
    )
    .size(6, 7),
];

const CALLS: [Panel; 4] = [
    Panel::lines(
        "DMA ownership: claims",
        &[
            query(r#"rate(iommu_watch_dma_owner_claims_total{instance=~"$instance"}[$__rate_interval])"#, "claims"),
            query(
                r#"rate(iommu_watch_dma_owner_claim_failures_total{instance=~"$instance"}[$__rate_interval]) > 0"#,
                "failed: {{errno}}",
            ),
        ],
    )
    .unit("ops"),
    Panel::lines(
        "PASID attaches",
        &[
            query(r#"rate(iommu_watch_pasid_attaches_total{instance=~"$instance"}[$__rate_interval])"#, "attaches"),
            query(
                r#"rate(iommu_watch_pasid_attach_failures_total{instance=~"$instance"}[$__rate_interval]) > 0"#,
                "failed: {{errno}}",
            ),
        ],
    )
    .unit("ops"),
    Panel::lines(
        "SVA binds",
        &[
            query(r#"rate(iommu_watch_sva_binds_total{instance=~"$instance"}[$__rate_interval])"#, "binds"),
            query(
                r#"rate(iommu_watch_sva_bind_failures_total{instance=~"$instance"}[$__rate_interval]) > 0"#,
                "failed: {{errno}}",
            ),
        ],
    )
    .unit("ops"),
    Panel::lines(
        "Events, by hook",
        &[query(r#"rate(iommu_watch_events_total{instance=~"$instance"}[$__rate_interval]) > 0"#, "{{event}}")],
    )
    .size(24, 7)
    .unit("ops"),
];

const INVALIDATION: [Panel; 3] = [
    Panel::lines(
        "Descriptors, by scope",
        &[query(
            r#"rate(iommu_watch_invalidations_total{instance=~"$instance"}[$__rate_interval])"#,
            "{{iommu_driver}}: {{scope}}",
        )],
    )
    .unit("ops"),
    Panel::lines(
        "Submissions that failed",
        &[query(
            r#"increase(iommu_watch_invalidation_failures_total{instance=~"$instance"}[$__rate_interval])"#,
            "{{iommu_driver}}",
        )],
    ),
    Panel::lines("Time of a submission", &[query(DURATION_MEDIAN, "p50"), query(DURATION_HIGH, "p99")])
        .unit("s")
        .about("Until the call that waits for it returns; one in 256 is timed."),
];

const DURATION_MEDIAN: &str = r#"histogram_quantile(0.5, sum by (le) (rate(iommu_watch_invalidation_duration_seconds_bucket{instance=~"$instance"}[$__rate_interval])))"#;
const DURATION_HIGH: &str = r#"histogram_quantile(0.99, sum by (le) (rate(iommu_watch_invalidation_duration_seconds_bucket{instance=~"$instance"}[$__rate_interval])))"#;

const GROUPS: [Panel; 5] = [
    Panel::table(
        "Groups",
        &[
            ("group", "group"),
            ("iommu_driver", "IOMMU driver"),
            ("domain_kind", "domain"),
            ("Value #B", "PASIDs"),
            ("Value #C", "SVA bonds"),
        ],
        &[
            query(r#"iommu_watch_group_info{instance=~"$instance"}"#, ""),
            query(r#"iommu_watch_group_pasids{instance=~"$instance"}"#, ""),
            query(r#"iommu_watch_sva_bonds{instance=~"$instance"}"#, ""),
        ],
    )
    .size(12, 9)
    .about("A group without a number of PASIDs is one whose PASIDs are not known now."),
    Panel::table(
        "Devices",
        &[("group", "group"), ("device", "device"), ("driver", "driver"), ("iommu_driver", "IOMMU driver")],
        &[query(r#"iommu_watch_device_info{instance=~"$instance"}"#, "")],
    )
    .size(12, 9),
    Panel::table(
        "Kernel and program",
        &[("release", "kernel"), ("version", "iommu-watch")],
        &[query(
            r#"iommu_watch_build_info{instance=~"$instance"} * on (job, instance) group_left (release) iommu_watch_kernel_info"#,
            "",
        )],
    ),
    Panel::table(
        "Known defects of this kernel",
        &[("advisory", "advisory"), ("verdict", "verdict")],
        &[query(r#"iommu_watch_advisory_info{instance=~"$instance"}"#, "")],
    ),
    Panel::table(
        "Conformance of the IOMMU driver",
        &[("iommu_driver", "IOMMU driver"), ("rule", "rule"), ("conformance", "verdict")],
        &[query(r#"iommu_watch_conformance{instance=~"$instance"} == 1"#, "")],
    ),
];
