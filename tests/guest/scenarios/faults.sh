# What the daemon does where something around it is broken: docs/faults.md is written from this.
. /guest/lib.sh
. /guest/broken.sh

# in_time COMMAND...: until it succeeds, for as long as a busy host may need: the first violation waits for the kernel's
# symbols
in_time() {
	tries=300
	until "$@" || [ $((tries -= 1)) = 0 ]; do
		usleep 200000
	done
}

# plant: sixty calls that each break a rule
plant() {
	c claim-group $dev
	for pasid in $(seq 60); do
		c detach-pasid mine $dev $pasid >/dev/null
	done
	c release-group $dev
	planted='"check":"attach-imbalance"'
}
counted() {
	metric 'violations_total{check="attach-imbalance",severity="critical"}'
}
all_counted() {
	[ $(counted) -ge 60 ]
}
all_taken() {
	[ $(grep -c attach-imbalance taken) -ge 60 ]
}

broken bpf "CAP_BPF is withheld"
start env WITHOUT=39 container /bin/iommu-watch iommu-watch daemon
seen
broken perfmon "CAP_PERFMON is withheld"
start env WITHOUT=38 container /bin/iommu-watch iommu-watch daemon
seen
broken syslog "CAP_SYSLOG is withheld"
start env WITHOUT=34 container /bin/iommu-watch iommu-watch daemon
calls
settle
seen

broken btf "the kernel has no BTF"
mount -t tmpfs nothing /sys/kernel/btf
start iommu-watch daemon
umount /sys/kernel/btf
seen

# without WHAT NAME...: a phase on a kernel that has no functions or tracepoints of these names
without() {
	what=$1
	shift
	lacking "without-$(echo $what | tr ' ' -)" "the kernel has nothing of $what" "$@"
}
each_kind without

broken groups "sysfs shows no groups"
mount -t tmpfs nothing /sys/kernel/iommu_groups
start iommu-watch daemon --no-pins
umount /sys/kernel/iommu_groups
seen

broken ftrace "functions call nothing that is attached (kernel.ftrace_enabled=0)"
echo 0 >/proc/sys/kernel/ftrace_enabled
start iommu-watch daemon
echo 1 >/proc/sys/kernel/ftrace_enabled
seen

broken compiler "the kernel compiles no programs (net.core.bpf_jit_enable=0)"
echo 0 >/proc/sys/net/core/bpf_jit_enable
start iommu-watch daemon --no-pins
echo 1 >/proc/sys/net/core/bpf_jit_enable
calls
settle
seen

broken memory "it may have 48 MiB of memory (memory.max)"
small=/sys/fs/cgroup/small
echo +memory >/sys/fs/cgroup/cgroup.subtree_control
mkdir $small
echo 48M >$small/memory.max
start sh -c "echo 0 >$small/cgroup.procs; exec iommu-watch daemon --no-pins"
seen
rmdir $small

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

# From here on one takes over from the other.

broken reload "the configuration file has a fault when it is read again"
: >wrong.toml
start iommu-watch daemon --config wrong.toml
echo 'web = 1' >wrong.toml
kill -HUP $watch_pid
comes grep -q wrong.toml errors
seen

broken silenced "functions call nothing any more while it watches, for a while"
start iommu-watch daemon --audit 1
as owner c claim-group $dev
echo 0 >/proc/sys/kernel/ftrace_enabled
in_time grep -q 'report nothing' errors
as owner c release-group $dev
echo 1 >/proc/sys/kernel/ftrace_enabled
in_time grep -q 'report again' errors
calls
settle
seen

broken clock "the clock is set forward by a day, and back"
start iommu-watch daemon
now=$(date +%s)
for time in $((now + 86400)) $now; do
	date -s @$time >/dev/null
	calls
	sleep 1
done
seen

broken processor "a processor goes offline"
start iommu-watch daemon
echo 0 >/sys/devices/system/cpu/cpu1/online
calls
settle
seen
echo 1 >/sys/devices/system/cpu/cpu1/online

broken output "its standard output is closed"
"iommu-watch" daemon >&- 2>errors &
watch_pid=$!
ready
: >out
seen

broken stuck "nobody reads its standard output, and the disk of its spool is full"
mkdir spool
mount -t tmpfs -o size=32k,mode=0700 nothing spool
printf '[output]\nspool = "%s"\n' "$PWD/spool" >spool.toml
mkfifo pipe
sleep 1000 3<>pipe &
holder=$!
iommu-watch daemon --config spool.toml >pipe 2>errors &
watch_pid=$!
ready
plant
in_time grep -q 'the spool takes no more' errors
# It watches all the same.
echo "@ status counted $(counted)"
cat pipe >out &
reader=$!
in_time grep -q 'takes lines again' errors
kill $holder
seen
wait $reader
umount spool

broken journal "the journal takes no entries for a while"
mkdir -p /run/systemd/journal
mkdir -m 0700 kept
printf '[output]\nspool = "%s"\n' "$PWD/kept" >kept.toml
journald /run/systemd/journal/socket >taken &
holder=$!
in_time [ -S /run/systemd/journal/socket ]
: >out
JOURNAL_STREAM=$(stat -c %d:%i out) iommu-watch daemon --no-pins --config kept.toml >>out 2>errors &
watch_pid=$!
ready
plant
in_time grep -q 'takes no more lines' errors
in_time all_counted
echo "@ status counted $(counted)"
kill -USR1 $holder
in_time grep -q 'takes lines again' errors
in_time all_taken
cat taken >>out
seen
kill $holder
rm /run/systemd/journal/socket

broken tracefs "neither tracefs nor bpffs is mounted"
iommu-watch daemon --unpin
umount $tracing /sys/fs/bpf 2>/dev/null
start iommu-watch daemon
calls
settle
seen
mount -t tracefs nothing $tracing
mount -t bpf bpf /sys/fs/bpf
forget_warnings
