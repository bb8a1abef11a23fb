# SPDX-License-Identifier: MIT OR Apache-2.0
# What the programs on the invalidation queue add to a submission, in instructions: the machine's time counts them.
# One line of JSON. `one`: a map and an unmap of one page, whose flush is one submission of one descriptor.

. /guest/lib.sh
load_pasidcap devs=0000:01:00.0
load caller
dev=0000:01:00.0
plain=0000:02:00.0
rounds=${rounds:-20000}
cycles=500
c alloc $plain one >/dev/null
c attach one $plain >/dev/null || die "attach"
c alloc $dev two >/dev/null
c map one 0x100000 0x1000 >/dev/null

# one: instructions of a map and an unmap, the least of three tries
one() {
	least=
	for try in 1 2 3; do
		start=$(nanoseconds)
		c "repeat $rounds map one 0x20000 0x1000; unmap one 0x20000 0x1000" >/dev/null
		took=$((($(nanoseconds) - start) / rounds))
		[ -n "$least" ] && [ "$least" -le $took ] || least=$took
	done
	echo $least
}
# mapping: the same of maps alone, which submit nothing
mapping() {
	start=$(nanoseconds)
	c "repeat $rounds map one 0x40000 0x1000; unmap-nosync one 0x40000 0x1000" >/dev/null
	echo $((($(nanoseconds) - start) / rounds))
}

# hold COMMAND...: what says "attached" stays so until let_go_of_it
hold() {
	rm -f /tmp/hold /tmp/held
	mkfifo /tmp/hold
	"$@" </tmp/hold >/tmp/held 2>/tmp/hold.errors &
	holder=$!
	exec 3>/tmp/hold
	until grep -q '^attached' /tmp/held; do
		kill -0 $holder 2>/dev/null || die "$1: $(cat /tmp/hold.errors)"
		sleep 1
	done
}
let_go_of_it() {
	exec 3>&-
	wait $holder
	# The kernel frees programs and their trampolines later, which would be counted with what comes next.
	sleep 20
}
# counting NAME PROGRAM: NAME is what `one` is while bpftrace runs a program that counts by type
counting() {
	/opt/bpftrace/ld.so --library-path /opt/bpftrace /opt/bpftrace/bpftrace -e "$2" >/tmp/counted 2>&1 &
	holder=$!
	until cat /proc/$holder/fdinfo/* 2>/dev/null | grep -q '^prog_type'; do
		kill -0 $holder 2>/dev/null || die "bpftrace: $(cat /tmp/counted)"
		sleep 1
	done
	sleep 5
	eval "$1=\$(one)"
	kill -INT $holder
	wait $holder
	# Three tries are counted, or it was not there from their begin.
	total=$(sed -n 's/^@\[.*\]: //p' /tmp/counted | awk '{ total += $1 } END { print total + 0 }')
	[ "$total" -ge $((3 * rounds)) ] || die "bpftrace counted $total: $(cat /tmp/counted)"
}
# times PROGRAM: how often it ran and how long, of what `attach` holds
times() {
	: >/tmp/held
	echo >&3
	until grep -q '^told' /tmp/held; do usleep 100000; done
	awk -v name="$1" '$1 == name { print $2, $3 }' /tmp/held
}

none=$(one)
none_map=$(mapping)
hold empty tp_btf qi_submit
empty=$(one)
let_go_of_it
hold empty fexit qi_submit_sync
empty_exit=$(one)
let_go_of_it
hold attach vtd_qi_submit
ours=$(one)
let_go_of_it
hold attach vtd_qi_submit_sync
ours_exit=$(one)
let_go_of_it
hold attach all
all=$(one)
all_map=$(mapping)
let_go_of_it
hold attach all --no-submission-returns
without_returns=$(one)
let_go_of_it
counting bpftrace 'tracepoint:intel_iommu:qi_submit { @[args.qw0 & 0xf] = count(); }'
counting bpftrace_raw 'rawtracepoint:qi_submit { @[arg1 & 0xf] = count(); }'

# Inside a window: the programs' own run time, since nothing else is there only.
echo 1 >/proc/sys/kernel/bpf_stats_enabled
hold empty tp_btf qi_submit
one >/dev/null
empty_run=$(cat /proc/$holder/fdinfo/* | awk '/^run_time_ns/ { ns += $2 } /^run_cnt/ { runs += $2 } END { print ns / runs }')
let_go_of_it
hold attach vtd_qi_submit vtd_tear_down vtd_qi_submit_sync
one >/dev/null
set -- $(times vtd_qi_submit_tp)
outside_runs=$1
outside_ns=$2
c "repeat $cycles attach-pasid two $dev 5; detach-pasid two $dev 5" >/dev/null || die "PASIDs"
set -- $(times vtd_qi_submit_tp)
window_runs=$(($1 - outside_runs))
window_ns=$(($2 - outside_ns))
let_go_of_it

echo "{\"kernel\":\"$(uname -r)\",\"none\":$none,\"empty\":$empty,\"ours\":$ours,\"empty_exit\":$empty_exit,\"ours_exit\":$ours_exit,\"all\":$all,\"without_returns\":$without_returns,\"bpftrace\":$bpftrace,\"bpftrace_raw\":$bpftrace_raw,\"none_map\":$none_map,\"all_map\":$all_map,\"empty_run\":$empty_run,\"outside_runs\":$outside_runs,\"outside_ns\":$outside_ns,\"window_runs\":$window_runs,\"window_ns\":$window_ns,\"cycles\":$cycles}"
