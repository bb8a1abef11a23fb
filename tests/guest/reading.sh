# SPDX-License-Identifier: MIT OR Apache-2.0
# What it costs to read a group's state: the run time of the programs while the daemon audits a guest at rest,
# and the same read of `reserved_regions` by somebody whom no program answers. One line of JSON.

. /guest/lib.sh
web=http://127.0.0.1:9436
passes=20

echo 1 >/proc/sys/kernel/bpf_stats_enabled
iommu-watch daemon --audit 1 >/tmp/daemon.txt 2>/tmp/daemon.err &
daemon=$!
wait_for_http $web/-/ready 120 || die "the daemon is not ready: $(cat /tmp/daemon.err)"

# The run time of all programs, in ns: in a guest at rest only the readings run any.
programs() {
	cat /proc/$daemon/fdinfo/* | awk '/^run_time_ns/ { ns += $2 } END { printf "%d\n", ns }'
}
audits() {
	wget -q -O - $web/metrics | awk -F'[ ]' '/resyncs_total\{reason="audit"\}/ { print $2 }'
}
# Hundredths of a second since the boot.
now() {
	cut -d' ' -f1 /proc/uptime | tr -d .
}

groups=$(ls /sys/kernel/iommu_groups | wc -l)
first=$(audits)
ns=$(programs)
while [ "$(audits)" -lt $((first + passes)) ]; do sleep 1; done
ns=$(($(programs) - ns))
readings=$((($(audits) - first) * groups))

start=$(now)
for pass in $(seq $passes); do
	for group in /sys/kernel/iommu_groups/*; do
		while read -r line; do :; done <"$group/reserved_regions"
	done
done
took=$(($(now) - start))
echo "{\"kernel\":\"$(uname -r)\",\"groups\":$groups,\"programs_us\":$((ns / readings / 1000)),\"read_us\":$((took * 10000 / (passes * groups)))}"
kill $daemon
wait $daemon
