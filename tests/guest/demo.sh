# SPDX-License-Identifier: MIT OR Apache-2.0
# The demo: a tenant leaves a PASID behind when DMA ownership is given back, and iommu-watch says so.

. /guest/lib.sh
web=http://127.0.0.1:9436
nvme=0000:01:00.0

title() {
	echo
	echo "== $*"
}

title "the kernel and the IOMMU that were booted"
uname -sr
load_pasidcap devs=$nvme
load caller
for iommu in /sys/class/iommu/*; do
	echo "$(basename "$iommu") translates for $(ls "$iommu/devices" | wc -l) devices"
done
c max-pasids $nvme

title "iommu-watch doctor"
iommu-watch doctor

iommu-watch --format text daemon >/tmp/daemon.txt 2>/tmp/daemon.err &
daemon=$!
wait_for_http $web/-/ready 60 || die "the daemon is not ready: $(cat /tmp/daemon.err)"
cat /tmp/daemon.err

title "the workload: one task attaches PASID 42, another gives the device back without removing it"
as owner c claim-device $nvme
as tenant c alloc $nvme guest-memory
as tenant c attach-pasid guest-memory $nvme 42
as owner c release-device $nvme
echo "what the kernel itself says of it: a WARNING in $(warnings)"
left=200
until grep -q '^  id ' /tmp/daemon.txt; do
	left=$((left - 1))
	[ $left -gt 0 ] || die "no violation: $(tail -3 /tmp/daemon.txt)"
	usleep 100000
done

title "the violation, as a person reads it"
sed -n '/^CRITICAL/,/^  id /p' /tmp/daemon.txt

title "the same as JSON, from $web/api/v1/violations"
wget -q -O - $web/api/v1/violations
echo

title "the metric, scraped over HTTP"
wget -q -O - $web/metrics | grep '^iommu_watch_violations.*pasid-left-on-release'

kill $daemon
wait $daemon
echo "the daemon, asked to stop, ended with $?"

title "iommu-watch checks pasid-left-on-release"
iommu-watch checks pasid-left-on-release
