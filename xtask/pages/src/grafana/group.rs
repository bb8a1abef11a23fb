//! One group of one host.

use super::{Dashboard, Panel, Row, Variable, host, query};

pub const DASHBOARD: Dashboard = Dashboard {
    name: "group",
    title: "iommu-watch: group",
    description: "One IOMMU group of a host. Violations are counted by host and check, not by group: /api/v1/violations \
        on the host names theirs.",
    variables: &[
        host::HOST,
        Variable { name: "group", title: "Group", metric: "iommu_watch_group_info", many: false },
    ],
    rows: &[Row { title: "Group $group of $instance", panels: &GROUP }],
};

const GROUP: [Panel; 9] = [
    Panel::stat("PASIDs", &[query(r#"iommu_watch_group_pasids{instance=~"$instance",group="$group"}"#, "")])
        .about("No data: they are not known now."),
    Panel::stat("SVA bonds", &[query(r#"iommu_watch_sva_bonds{instance=~"$instance",group="$group"}"#, "")]),
    Panel::table(
        "Domain",
        &[("iommu_driver", "IOMMU driver"), ("domain_kind", "domain")],
        &[query(r#"iommu_watch_group_info{instance=~"$instance",group="$group"}"#, "")],
    )
    .size(6, 4),
    Panel::stat(
        "Critical violations of the host",
        &[query(r#"sum(iommu_watch_violations_active{instance=~"$instance",severity="critical"})"#, "")],
    )
    .size(5, 4)
    .bad(1.0, "red"),
    Panel::stat(
        "Warnings of the host",
        &[query(r#"sum(iommu_watch_violations_active{instance=~"$instance",severity="warning"})"#, "")],
    )
    .size(5, 4)
    .bad(1.0, "orange"),
    Panel::lines(
        "PASIDs attached",
        &[query(r#"iommu_watch_group_pasids{instance=~"$instance",group="$group"}"#, "PASIDs")],
    )
    .size(12, 8)
    .about("A gap: they were not known then."),
    Panel::lines(
        "SVA bonds",
        &[query(r#"iommu_watch_sva_bonds{instance=~"$instance",group="$group"}"#, "bonds")],
    )
    .size(12, 8),
    Panel::stack(
        "Domain that the group is attached to",
        &[query(r#"iommu_watch_group_info{instance=~"$instance",group="$group"}"#, "{{domain_kind}}")],
    )
    .size(12, 8),
    Panel::table(
        "Devices",
        &[("device", "device"), ("driver", "driver"), ("iommu_driver", "IOMMU driver")],
        &[query(r#"iommu_watch_device_info{instance=~"$instance",group="$group"}"#, "")],
    )
    .size(12, 8),
];
