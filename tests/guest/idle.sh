# SPDX-License-Identifier: MIT OR Apache-2.0
# What the daemon takes on a host at rest, with all hooks attached and every group read again each minute, as it does unless
# it is told otherwise; and the same without that. One line of JSON.

. /guest/lib.sh
seconds=${seconds:-120}

# The daemon's processor time, ns, and how often it was woken: of all its threads.
spent() {
	echo $(($(cat /proc/$daemon/task/*/schedstat | awk '{ us += int($1 / 1000) } END { printf "%d\n", us }') * 1000))
}
woken() {
	cat /proc/$daemon/task/*/status | awk '/ctxt_switches/ { all += $2 } END { print all }'
}

# rest ARGUMENT...: the daemon's rest; what it took is in variables
rest() {
	iommu-watch daemon --no-pins "$@" >/tmp/daemon.lines 2>/tmp/daemon.errors &
	daemon=$!
	wait_for_http $watch_url/-/ready 120 || die "the daemon is not ready: $(cat /tmp/daemon.errors)"
	hooks=$(sed -n 's/^iommu-watch: \([0-9]*\) of \1 hooks attached.*/\1/p' /tmp/daemon.errors)
	[ -n "$hooks" ] || die "not all hooks are attached: $(cat /tmp/daemon.errors)"
	# At its start the daemon reads the names of the kernel's functions beside its work.
	while grep -qx symbols /proc/$daemon/task/*/comm; do usleep 100000; done
	# What it does for whoever asks, and while it takes the host for busy, is over.
	sleep 5
	audits=$(metric 'resyncs_total{reason="audit"}')
	sleep 5
	woken_before=$(woken)
	spent_before=$(spent)
	sleep $seconds
	spent=$(($(spent) - spent_before))
	woken=$(($(woken) - woken_before))
	anon=$(awk '$1 == "RssAnon:" { print $2 }' /proc/$daemon/status)
	audits=$(($(metric 'resyncs_total{reason="audit"}') - audits))
	kill -TERM $daemon
	wait $daemon || die "the daemon ended with $?"
}
rest --audit 0
[ $audits = 0 ] || die "groups were read again"
still_ns=$spent still_woken=$woken
rest
[ $audits -gt 0 ] || die "no group was read again"
echo "{\"kernel\":\"$(uname -r)\",\"hooks\":$hooks,\"groups\":$(ls /sys/kernel/iommu_groups | wc -l),\"seconds\":$seconds,\"audits\":$audits,\"daemon_ns\":$spent,\"woken\":$woken,\"still_ns\":$still_ns,\"still_woken\":$still_woken,\"anon_kib\":$anon}"
