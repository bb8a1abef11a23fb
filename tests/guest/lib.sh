# SPDX-License-Identifier: MIT OR Apache-2.0
# Helpers for the scripts that run in a guest of the testbed (busybox sh): ". lib.sh".
#
# What a script does is told on the output, a line each: "caller: COMMAND -> RESULT". Lines that begin with "@"
# are for the judge (tests/src/scenario/transcript.rs lists them).

PATH=$PATH:/guest
modules=${modules:-/testmod}
caller=/proc/iommu-caller
faults=/sys/module/saboteur/parameters
soft=/sys/module/softiommu/parameters
tracing=/sys/kernel/tracing
watch_url=http://127.0.0.1:9436
watch_log=/tmp/iommu-watch.log
watch_errors=/tmp/iommu-watch.errors

die() {
	echo "lib: $*" >&2
	exit 1
}

# load NAME [PARAMETER=VALUE]...: a test module, if it isn't there already
load() {
	name=$1
	shift
	[ -e "/sys/module/$name" ] && return
	insmod "$modules/$name.ko" "$@" || die "insmod $name"
}

# The PASID capability for all NVMe, or for those named by "devs=…".
load_pasidcap() {
	set -- "$@" off_iommu=$(btfoff device_domain_info.iommu) off_flags=$(btfoff intel_iommu.flags)
	load pasidcap "$@"
}

# The same behind AMD's IOMMU, for whose driver the emulated one lacks what PASIDs need.
load_pasidcap_amd() {
	load pasidcap pasids=512 "efr=0x$(sed -n 's/^\([0-9a-f]*\) . amd_iommu_efr$/\1/p' /proc/kallsyms)"
}

load_saboteur() {
	load saboteur "off_pasid_table=$(btfoff device_domain_info.pasid_table)" \
		"off_iommu=$(btfoff device_domain_info.iommu)" \
		"off_table=$(btfoff pasid_table.table)" "off_max_pasid=$(btfoff pasid_table.max_pasid)"
}

# device NAME: its directory in sysfs
device() {
	for dir in "/sys/bus/pci/devices/$1" "/sys/bus/platform/devices/$1"; do
		[ -e "$dir" ] && echo "$dir" && return
	done
	return 1
}

# group NAME: the number of the device's group
group() {
	basename "$(readlink "$(device "$1")/iommu_group")"
}

# driver NAME: the driver of the device, nothing if it has none
driver() {
	link=$(readlink "$(device "$1")/driver") && basename "$link"
}

# bind DEVICE DRIVER: takes the device from its driver, if any, and binds it to this one
bind() {
	dir=$(device "$1") || die "no device $1"
	unbind "$1"
	echo "$2" >"$dir/driver_override"
	echo "$1" >"$dir/subsystem/drivers/$2/bind"
}

# unbind DEVICE: leaves it without a driver
unbind() {
	dir=$(device "$1") || die "no device $1"
	[ -e "$dir/driver" ] || return 0
	echo "$1" >"$dir/driver/unbind"
}

# remove DEVICE, rescan: a PCI device goes and comes back
remove() {
	echo 1 >"/sys/bus/pci/devices/$1/remove"
}

rescan() {
	echo 1 >/sys/bus/pci/rescan
}

# c COMMAND...: the caller runs it; its result is told and is our exit code
c() {
	echo "$*" 2>/dev/null >"$caller"
	status=$?
	echo "caller: $* -> $(cat "$caller")"
	return $status
}

# value: what the last command gave ("max-pasids", "alloc-pasid", "bind")
value() {
	cut -s -d' ' -f2- "$caller"
}

# fault NAME VALUE: a switch of softiommu or of the saboteur, whichever has it
fault() {
	for dir in "$faults" "$soft"; do
		[ -e "$dir/$1" ] || continue
		# A kprobe that changes where its function goes on is refused for the moment while programs on it come or go
		# (bpf_tramp_ftrace_ops_func, kernel/bpf/trampoline.c, from 6.0).
		comes set_fault "$dir/$1" "$2" || die "$1 refused $2"
		echo "fault: $1=$2"
		return
	done
	die "no fault $1"
}

set_fault() {
	echo "$2" 2>/dev/null >"$1"
}

# entries DEVICE: the PASIDs that are present in its table, each with the first word of its entry
entries() {
	echo "$1" >$faults/pasids
	echo "entries: $1 $(cat $faults/pasids)"
}

# submitted COMMAND...: runs it; $kinds are the kinds of descriptors that went to VT-d's queue meanwhile
submitted() {
	echo >$tracing/trace
	echo 1 >$tracing/events/intel_iommu/qi_submit/enable
	"$@"
	status=$?
	echo 0 >$tracing/events/intel_iommu/qi_submit/enable
	kinds=$(sed -n 's/.* qi_submit: \([a-z_]*\) .*/\1/p' $tracing/trace | grep -v iec_inv | sort -u | xargs echo)
	echo "submitted: $kinds"
	return $status
}

# let_go_of_memory: an idle processor keeps the mm_struct of the process that it ran last (lazy TLB), however long it is
# idle. Each runs another one now.
let_go_of_memory() {
	cpus=$(nproc)
	cpu=1
	while [ $cpus -gt 0 ]; do
		taskset $cpu true
		cpu=$((cpu * 2)) cpus=$((cpus - 1))
	done
}

# comes COMMAND...: whether it succeeds now or within some seconds. A process's mm_struct goes only when the last
# processor has left it.
comes() {
	left=20
	until "$@" >/dev/null; do
		left=$((left - 1))
		[ $left -gt 0 ] || return 1
		usleep 200000
	done
}

# as NAME COMMAND...: what the command does itself is done by a task of this name, which is told
as() {
	(
		printf %s "$1" >/proc/self/comm
		read -r task_pid _ </proc/self/stat
		echo "@ task $1 $task_pid"
		shift
		"$@"
	)
}

# An owner claims a group, a tenant attaches a PASID, the owner lets go. For each device there is a domain d-DEVICE.

# let_go DEVICE CLAIM RELEASE [left]: whether PASID 5 is left
let_go() {
	groups $1
	as owner c $2 $1
	as tenant c attach-pasid d-$1 $1 5
	as tenant c attach-pasid d-$1 $1 6
	as tenant c detach-pasid d-$1 $1 6
	[ -n "$4" ] || as tenant c detach-pasid d-$1 $1 5
	as owner c $3 $1
}

# mend DEVICE RELEASE: what was left is detached, and the owner goes at last
mend() {
	groups $1
	as tenant c detach-pasid d-$1 $1 5
	as owner c $2 $1
}

# unbind_driver DEVICE DRIVER [left]: the same with a driver for an owner
unbind_driver() {
	groups $1
	as owner bind $1 $2
	as tenant c attach-pasid d-$1 $1 5
	[ -n "$3" ] || as tenant c detach-pasid d-$1 $1 5
	as owner unbind $1
}

# warnings: the functions in which the kernel warned or worse, a line each, since "forget_warnings". A soft
# lockup only tells that the host was too busy for the guest.
warnings() {
	dmesg | tail -n +$((${known_messages:-0} + 1)) | grep -v 'soft lockup' |
		sed -n 's/.*WARNING: .*[ ]\([A-Za-z0-9_]*\)[^ ]*+0x.*/\1/p; s/.*\(BUG: .*\)/\1/p; s/.*\(Oops: .*\)/\1/p'
}

# The messages stay, for the console.
forget_warnings() {
	known_messages=$(dmesg | wc -l)
}

# wait_for_http URL [SECONDS]: until it answers
wait_for_http() {
	left=$((${2:-10} * 10))
	until wget -q -O /dev/null "$1" 2>/dev/null; do
		left=$((left - 1))
		[ $left -gt 0 ] || return 1
		usleep 100000
	done
}

# count FUNCTION...: from now on ftrace notes their calls; counted: tells how many of each
count() {
	echo "$*" >$tracing/set_ftrace_filter
	echo >$tracing/trace
	echo function >$tracing/current_tracer
}
counted() {
	echo 0 >$tracing/tracing_on
	sed -n '/^#/!s/.*: \([A-Za-z0-9_]*\) <-.*/\1/p' $tracing/trace | sort | uniq -c |
		while read -r calls name; do echo "@ counted $name $calls"; done
	echo nop >$tracing/current_tracer
	echo >$tracing/set_ftrace_filter
	echo 1 >$tracing/tracing_on
}

# What the daemon is told to expect of the IOMMU drivers: that faults are planted in them. Empty: nothing.
expected=/guest/planted.toml

# How long an invalidation may take, ms. The IOMMU is emulated by the virtual CPU that submits, and a busy host takes that
# away for longer than the daemon's own 10 ms.
flush_slow=100

# What the daemon is started by.
watch_as=

# Where it pins its programs: nowhere, so that each scenario begins anew.
watch_pins=--no-pins

# watch_start [ARGUMENT]...: the daemon; returns when it is ready
watch_start() {
	[ -z "$current" ] || end_phase
	current=
	: >$watch_log
	$watch_as iommu-watch daemon $watch_pins ${expected:+--config $expected} --flush-slow $flush_slow "$@" >>$watch_log 2>$watch_errors &
	watch_pid=$!
	wait_for_http $watch_url/-/ready 60 || die "the daemon is not ready: $(cat $watch_errors)"
	log_told=0
	cat $watch_errors
	phase start
}

# phase NAME: what happens from now on is a phase of its own, and is judged by itself (tests/src/expect.rs)
phase() {
	[ -z "$current" ] || end_phase
	current=$1
	forget_warnings
	echo "@ phase $1"
}

# What the kernel and the daemon said in this phase. A script without phase "stop" calls it at its end.
end_phase() {
	if [ -n "$watch_pid" ]; then
		settle
		grep 'left out' $watch_errors
		echo "$scraped"
		tell_log
	fi
	warnings | sed 's/^/@ warned /'
}

# told COMMAND...: runs it, and tells its exit code
told() {
	"$@"
	echo "@ exit $?"
}

# refused COMMAND...: tells what it said on stderr, how much on stdout, and its exit code
refused() {
	timeout 60 "$@" >/tmp/refused.output 2>/tmp/refused.errors
	echo "@ exit $?"
	sed 's/^/@ said /' /tmp/refused.errors
	echo "@ output $(wc -c </tmp/refused.output)"
}

# page NAME KIND: a page of JSON of the daemon, as an object of that kind
page() {
	echo "{\"kind\":\"$2\",\"is\":$(wget -q -O - $watch_url/$1)}"
}

# Lines of the daemon's log that were not told yet.
tell_log() {
	tail -c +$((log_told + 1)) $watch_log | grep -v '"kind":"state"'
	log_told=$(wc -c <$watch_log)
}

# scrape: what the daemon has counted so far, without zeros
scrape() {
	wget -q -O - $watch_url/metrics |
		grep -e '^iommu_watch_events' -e '^iommu_watch_hook_misses' -e '^iommu_watch_groups' -e '^iommu_watch_check' -e '^iommu_watch_violations' -e '^iommu_watch_config_reload' |
		grep -v ' 0$'
}

# settle: waits until the daemon has taken in what happened; $scraped is the last scrape. Its own reads of the kernel don't
# end where it audits each second.
settle() {
	happened=
	until scraped=$(scrape); now=$(echo "$scraped" | grep -v 'event="snapshot_'); [ "$now" = "$happened" ]; do
		happened=$now
		usleep 250000
	done
}

# metric NAME{LABELS}: its value, 0 where there is no such line
metric() {
	wget -q -O - $watch_url/metrics | awk -v name="iommu_watch_$1" '$1 == name { value = $2 } END { print value + 0 }'
}

# reload METRIC: the daemon reads its configuration again, which is what comes in on stdin; returns when this metric is
# another one than before
reload() {
	cat >$expected
	before=$(exact $1)
	kill -HUP $watch_pid
	comes changed $1 || die "the daemon does not read its configuration: $(cat $watch_errors)"
}
changed() {
	[ "$(exact $1)" != "$before" ]
}
exact() {
	wget -q -O - $watch_url/metrics | grep "^iommu_watch_$1 "
}

# storm COUNT COMMANDS...: a task for each list of commands does them COUNT times, all at once
storm() {
	rounds=$1
	shift
	storms=
	for commands in "$@"; do
		c "repeat $rounds $commands" &
		storms="$storms $!"
	done
	wait $storms
}

# found_again: waits until events were lost in this phase and no group is unknown any more, and tells what the
# daemon said of groups meanwhile
found_again() {
	left=200
	until tail -c +$((log_told + 1)) $watch_log | grep -q '"kind":"loss"' &&
		[ "$(metric 'groups{knowledge="unknown"}')" = 0 ]; do
		left=$((left - 1))
		[ $left -gt 0 ] || break
		usleep 100000
	done
	settle
	tail -c +$((log_told + 1)) $watch_log | grep '"kind":"state"'
}

# audited: waits until the daemon has looked at every group twice, and at what it found once more
audited() {
	seen=$(metric 'resyncs_total{reason="audit"}')
	until [ $(metric 'resyncs_total{reason="audit"}') -ge $((seen + 4)) ]; do
		usleep 200000
	done
}

# groups DEVICE...: tells the number of each device's group
groups() {
	for member in "$@"; do
		echo "@ group $member $(group "$member")"
	done
}

# watch_stop: asks the daemon to end, and tells what it had left to say
watch_stop() {
	phase stop
	kill -TERM $watch_pid
	told wait $watch_pid
	tell_log
	watch_pid=
}

# watch_next FILE: the daemon after that one, until it is ready; tells whether it took over what was left pinned, and FILE is
# what it wrote
watch_next() {
	$watch_as iommu-watch daemon $watch_pins --flush-slow $flush_slow >$1 2>$watch_errors &
	watch_pid=$!
	wait_for_http $watch_url/-/ready 60 || die "the next is not ready: $(cat $watch_errors)"
	sed -n 's/.* hooks \(taken over\),.*/@ said \1/p' $watch_errors
	kill -TERM $watch_pid
	wait $watch_pid
	watch_pid=
}
