# The package on a host with systemd: installed, reloaded, killed, stopped, started again, removed, purged. What the daemon
# says is read from the journal.
. /guest/lib.sh
dev=0000:01:00.0
other=0000:02:00.0
unit=iommu-watch.service
config=/etc/iommu-watch/iommu-watch.toml
unbind $dev
unbind $other
load caller

# of PROPERTY: what systemd knows of the service
of() {
	systemctl show --value --property="$1" $unit
}

tell_log() {
	journalctl --sync
	journalctl --quiet --unit=$unit --output=cat --output-fields=IOMMU_WATCH_JSON,MESSAGE |
		grep -e '^{' -e '^iommu-watch: ' >$watch_log
	tail -c +$((log_told + 1)) $watch_log | grep -v '"kind":"state"' | sed 's/^iommu-watch: /@ said &/'
	log_told=$(wc -c <$watch_log)
}

# stands: how the service does, and how much is pinned
stands() {
	eval "$(systemctl show --property=MainPID,ActiveState,NRestarts $unit)"
	watch_pid=$MainPID
	echo "@ status active $ActiveState"
	echo "@ status restarts $NRestarts"
	echo "@ status pinned $(ls /sys/fs/bpf/iommu-watch 2>/dev/null | wc -l)"
}

restarted() {
	[ "$(of NRestarts)" = 1 ]
}
is_active() {
	[ "$(of ActiveState)" = active ]
}
# Waits until the watchdog was fed since the last look: every 10 s.
fed() {
	left=80
	until [ "$(of WatchdogTimestampMonotonic)" -gt "$beaten" ]; do
		left=$((left - 1))
		[ $left -gt 0 ] || return 1
		usleep 200000
	done
}

# conflict DEVICE: a claim that is refused
conflict() {
	groups $1
	as owner c claim-group $1
	as rival c claim-group $1 1
	as owner c release-group $1
}

log_told=0
watch_errors=/dev/null
mkdir -p /etc/iommu-watch
# The emulated IOMMU is slower than a real one may be.
printf '[check.flush-slow]\nenabled = false\n' >$config
phase start
told dpkg --force-confold --install /root/iommu-watch.deb
stands
beaten=$(of WatchdogTimestampMonotonic)
sed -n 's/^\(Uid\|CapEff\|CapPrm\|CapBnd\|NoNewPrivs\|Seccomp\):\t*\([^\t]*\).*/@ status \1 \2/p' /proc/$watch_pid/status
cgroup=/sys/fs/cgroup$(cut -d: -f3 /proc/$watch_pid/cgroup)
for limit in memory.max pids.max cpu.max; do
	read -r value _ <$cgroup/$limit
	echo "@ status $limit $value"
done
# In the service's namespace: with all of root's privileges, and as its user.
wrote() {
	nsenter -t $watch_pid -m "$@" mkdir $place/probe 2>/dev/null || return
	nsenter -t $watch_pid -m "$@" rmdir $place/probe
	echo "@ wrote $place"
}
for place in / /etc /usr /var/lib /home /boot; do
	wrote env
done
user=$(stat -c %u /run/iommu-watch)
for place in / /run /run/iommu-watch /dev /sys/fs/bpf /sys/fs/bpf/iommu-watch /var/lib /var/lib/iommu-watch; do
	wrote /usr/sbin/chroot --userspec=$user:$user /
done
nsenter -t $watch_pid -m ls /dev | grep -e port -e kmsg | sed 's/^/@ left /'

phase refused
conflict $dev

phase reloaded
printf '[check.flush-slow]\nenabled = false\n[check.ownership-conflict]\nseverity = "warning"\n' >$config
before=$(exact config_last_reload_success_timestamp_seconds)
told systemctl reload $unit
comes changed config_last_reload_success_timestamp_seconds
fed && echo "@ status beaten yes"

phase killed
kill -9 $watch_pid
conflict $other
comes restarted
wait_for_http $watch_url/-/ready 60
comes is_active
stands

phase stop
told systemctl stop $unit
stands
watch_pid=
tell_log

# Whoever connects starts it: systemd listens.
phase again
told systemctl start iommu-watch.socket
told wget -q -O - $watch_url/-/ready
comes is_active
stands

phase removed
told dpkg --remove iommu-watch
stands
watch_pid=
tell_log
told dpkg --purge iommu-watch
journalctl --quiet --output=json IOMMU_WATCH_CHECK=ownership-conflict IOMMU_WATCH_KIND=violation IOMMU_WATCH_DEVICE=$other
for path in /etc/iommu-watch /var/lib/iommu-watch /var/lib/private/iommu-watch /sys/fs/bpf/iommu-watch/*; do
	[ ! -e $path ] || echo "@ left $path"
done
systemctl list-unit-files --no-legend 'iommu-watch*' | sed 's/^/@ left /'
