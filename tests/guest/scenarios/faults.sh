# What the daemon does where something around it is broken: docs/faults.md is written from this.
. /guest/lib.sh
dev=0000:01:00.0
unbind $dev
load caller

# start COMMAND...: the daemon; returns when it is ready, or has ended
start() {
	"$@" >out 2>errors &
	watch_pid=$!
	until wget -q -O /dev/null $watch_url/-/ready 2>/dev/null || ! kill -0 $watch_pid 2>/dev/null; do
		usleep 100000
	done
}

# seen: whether it watches, what it has raised of others than the kernel itself, what it says, and how it ends
seen() {
	ready=no
	wget -q -O /dev/null $watch_url/-/ready 2>/dev/null && ready=yes
	echo "@ status ready $ready"
	kill -TERM $watch_pid 2>/dev/null
	told wait $watch_pid
	watch_pid=
	echo "@ status raised $(grep '"kind":"violation"' out | grep -vc kernel-advisory)"
	sed 's/^iommu-watch: \([0-9]*\) of \1 hooks/iommu-watch: all hooks/
		s/^iommu-watch: [0-9]* of [0-9]* hooks/iommu-watch: not all hooks/
		s/ (kernel types [^)]*)//; s/ in [0-9.]* s,/,/g; s/ after [0-9.]* s;/;/
		s/^/@ said /' errors
}

# broken NAME WHAT...: a phase in which that is so
broken() {
	phase $1
	shift
	echo "@ broken $*"
}

broken bpf "CAP_BPF is withheld"
start env WITHOUT=39 container /bin/iommu-watch iommu-watch daemon
seen
broken perfmon "CAP_PERFMON is withheld"
start env WITHOUT=38 container /bin/iommu-watch iommu-watch daemon
seen
broken syslog "CAP_SYSLOG is withheld"
start env WITHOUT=34 container /bin/iommu-watch iommu-watch daemon
seen

broken btf "the kernel has no BTF"
mount -t tmpfs nothing /sys/kernel/btf
start iommu-watch daemon
umount /sys/kernel/btf
seen

broken groups "sysfs shows no groups"
mount -t tmpfs nothing /sys/kernel/iommu_groups
start iommu-watch daemon
umount /sys/kernel/iommu_groups
seen

broken tracefs "neither tracefs nor bpffs is mounted"
umount $tracing /sys/fs/bpf 2>/dev/null
start iommu-watch daemon
seen
mount -t tracefs nothing $tracing

broken port "the port is taken"
nc -l -p 9436 -e true &
usleep 300000
iommu-watch daemon >out 2>errors &
watch_pid=$!
wait $watch_pid
code=$?
kill %1 2>/dev/null
(exit $code) &
watch_pid=$!
seen

broken configuration "the configuration file has a fault"
echo 'web = 1' >wrong.toml
start iommu-watch daemon --config wrong.toml
seen

broken reload "the configuration file has a fault when it is read again"
: >wrong.toml
start iommu-watch daemon --config wrong.toml
echo 'web = 1' >wrong.toml
kill -HUP $watch_pid
comes grep -q wrong.toml errors
seen

broken clock "the clock is set forward by a day, and back"
start iommu-watch daemon
now=$(date +%s)
for time in $((now + 86400)) $now; do
	date -s @$time >/dev/null
	as owner c claim-group $dev
	as owner c release-group $dev
	sleep 2
done
seen

broken processor "a processor goes offline"
start iommu-watch daemon
echo 0 >/sys/devices/system/cpu/cpu1/online
as owner c claim-group $dev
as owner c release-group $dev
settle
seen
echo 1 >/sys/devices/system/cpu/cpu1/online

broken output "its standard output is closed"
"iommu-watch" daemon >&- 2>errors &
watch_pid=$!
wait_for_http $watch_url/-/ready 60
: >out
seen
