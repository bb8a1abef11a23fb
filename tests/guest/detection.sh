# SPDX-License-Identifier: MIT OR Apache-2.0
# How long it takes from an event in the kernel to the line that tells of the violation, read by another process. One
# line "CHECK EVENT READ" for each violation (tests/guest/stamps.c), then one of JSON. Three kinds that events alone
# give away, each time on another PASID, so that none is folded into another. A moment passes between two, so that the
# daemon waits for events as it does on a host at rest.

. /guest/lib.sh
rounds=${rounds:-70}
load_pasidcap
load_saboteur
load caller
dev=0000:01:00.0
c alloc $dev one >/dev/null

mkfifo /tmp/lines
stamps </tmp/lines >/tmp/stamps &
stamps=$!
# What is planted is not held against the driver: that would be told, too.
iommu-watch --config /guest/planted.toml daemon >/tmp/lines 2>/tmp/daemon.errors &
daemon=$!
wait_for_http $watch_url/-/ready 120 || die "the daemon is not ready: $(cat /tmp/daemon.errors)"
# At its start the daemon reads the names of the kernel's functions beside its work.
while grep -qx symbols /proc/$daemon/task/*/comm; do usleep 100000; done

planted=0
# plant COMMAND...: what it does is a violation
plant() {
	"$@" >/dev/null || die "$*"
	planted=$((planted + 1))
	usleep 50000
}
plants() {
	pasids=$(seq $1 $(($1 + rounds - 1)))
	# Nothing of it is attached.
	for pasid in $pasids; do plant c detach-pasid one $dev $pasid; done
	# One of the flushes that the entry needs is left out.
	fault drop 8 >/dev/null
	for pasid in $pasids; do
		c attach-pasid one $dev $pasid >/dev/null
		plant c detach-pasid one $dev $pasid
	done
	fault drop 0 >/dev/null
	# The group is let go with the PASID.
	for pasid in $pasids; do
		pasid=$((pasid + rounds))
		c claim-device $dev >/dev/null
		c attach-pasid one $dev $pasid >/dev/null
		plant c release-device $dev
		c detach-pasid one $dev $pasid >/dev/null
		c release-device $dev >/dev/null
	done
}

plants 1000
sleep 1
kill -TERM $daemon
wait $daemon || die "the daemon ended with $?: $(cat /tmp/daemon.errors)"
wait $stamps
cat /tmp/stamps
echo "{\"kernel\":\"$(uname -r)\",\"planted\":$planted}"
