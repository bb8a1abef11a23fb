# SPDX-License-Identifier: MIT OR Apache-2.0
# How long the one-shot takes where there are 64 groups: those of the machine, and masters of softiommu beside them. Its
# first run, and one with all of its pages in the cache. One line of JSON.

. /guest/lib.sh
wanted=64
there=$(ls /sys/kernel/iommu_groups | wc -l)
load softiommu "groups=$(seq $((wanted - there)) | sed 's/.*/1/' | xargs echo | tr ' ' ,)"
groups=$(ls /sys/kernel/iommu_groups | wc -l)
[ "$groups" = $wanted ] || die "$groups groups, not $wanted"

# once: what it says its parts took, and the clock around it, in hundredths of a second
once() {
	start=$(cut -d' ' -f1 /proc/uptime | tr -d .)
	iommu-watch --format json >/tmp/look.json || die "the one-shot ended with $?"
	took=$(($(cut -d' ' -f1 /proc/uptime | tr -d .) - start))
	parts=$(tr -d ' \n' </tmp/look.json | sed 's/.*"took_seconds":\({[^}]*}\).*/\1/')
	echo "{\"real\":$((took * 10)),\"parts\":$parts}"
}
first=$(once)
again=$(once)
echo "{\"kernel\":\"$(uname -r)\",\"groups\":$groups,\"first\":$first,\"again\":$again}"
