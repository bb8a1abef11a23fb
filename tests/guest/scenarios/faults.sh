# What the daemon does where something around it is broken: docs/faults.md is written from this.
. /guest/lib.sh
dev=0000:01:00.0
unbind $dev
load caller
c alloc $dev mine

# start COMMAND...: the daemon; returns when it is ready, or has ended
start() {
	"$@" >out 2>errors &
	watch_pid=$!
	ready
}
ready() {
	until wget -q -O /dev/null $watch_url/-/ready 2>/dev/null || ! kill -0 $watch_pid 2>/dev/null; do
		usleep 100000
	done
}

# seen: whether it watches, what it has raised of others than the kernel itself and what was planted, what it says, and how
# it ends
seen() {
	ready=no
	wget -q -O /dev/null $watch_url/-/ready 2>/dev/null && ready=yes
	echo "@ status ready $ready"
	kill -TERM $watch_pid 2>/dev/null
	told wait $watch_pid
	watch_pid=
	echo "@ status raised $(grep '"kind":"violation"' out | grep -vc -e kernel-advisory ${planted:+-e $planted})"
	[ -z "$planted" ] || echo "@ status planted $(grep '"kind":"violation"' out | grep -c $planted)"
	planted=
	# What it takes over is what the daemon before it has attached.
	sed '/took over after/d
		s/^iommu-watch: \([0-9]*\) of \1 hooks [a-z ]* in/iommu-watch: all hooks attached in/
		s/^iommu-watch: \([0-9]*\) of \1 hooks taken over/iommu-watch: all hooks attached/
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

# in_time COMMAND...: until it succeeds, for as long as a busy host may need: the first violation waits for the kernel's
# symbols
in_time() {
	tries=300
	until "$@" || [ $((tries -= 1)) = 0 ]; do
		usleep 200000
	done
}

# calls: what is no fault, and would be one to whoever sees half of it
calls() {
	as owner c claim-group $dev
	as owner c attach-group mine $dev
	as owner c detach-group mine $dev
	as owner c release-group $dev
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

# without WHAT NAME...: a phase on a kernel that has no functions or tracepoints of these names; with "each=yes" a phase for
# each of them
without() {
	what=$1
	shift
	[ -z "$each" ] || for name in "$@"; do
		lacking "without-$name" "the kernel has no $name" $name
	done
	[ -n "$each" ] || lacking "without-$(echo $what | tr ' ' -)" "the kernel has nothing of $what" "$@"
}
lacking() {
	broken "$1" "$2"
	shift 2
	btfoff -without "$@" >types || die "not all of $*"
	mount --bind types /sys/kernel/btf/vmlinux
	start iommu-watch daemon --no-pins
	umount /sys/kernel/btf/vmlinux
	calls
	settle
	seen
}
without owners iommu_group_claim_dma_owner iommu_group_release_dma_owner iommu_device_claim_dma_owner \
	iommu_device_release_dma_owner iommu_device_use_default_domain iommu_device_unuse_default_domain \
	__iommu_release_dma_ownership
without "PASIDs and processes" iommu_attach_device_pasid iommu_detach_device_pasid iommu_alloc_global_pasid \
	iommu_free_global_pasid iommu_sva_bind_device iommu_sva_unbind_device __mmdrop exit_mmap \
	iommu_report_device_fault pci_enable_pasid pci_disable_pasid pci_enable_ats pci_disable_ats
without "RIDs and domains" __iommu_attach_device iommu_attach_device iommu_detach_device iommu_attach_group \
	iommu_detach_group iommu_attach_group_handle iommu_detach_group_handle iommu_replace_group_handle \
	__iommu_domain_alloc iommu_domain_free
without "the Intel driver" intel_pasid_setup_first_level intel_pasid_setup_second_level \
	intel_pasid_setup_pass_through intel_pasid_setup_nested intel_pasid_tear_down_entry intel_pasid_alloc_table \
	intel_pasid_free_table cache_tag_assign_domain cache_tag_unassign_domain intel_iommu_attach_device \
	qi_submit qi_submit_sync pci_device_is_present
without "groups and their reading" add_device_to_group remove_device_from_group iommu_deinit_device \
	iommu_group_release iommu_get_group_resv_regions intel_iommu_get_resv_regions iommu_dma_get_resv_regions

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
