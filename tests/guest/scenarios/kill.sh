# The daemon is killed again and again, at any moment, while PASIDs come and go and faults are planted: before, after and
# while nobody reads. What it says all told goes to one file. `kills=50` for more of them.
. /guest/lib.sh
kills=${kills:-8}
load_pasidcap
load_saboteur
load caller
nvme=0000:01:00.0
second=0000:02:00.0
unbind $nvme
unbind $second
c alloc $nvme one
c alloc $second theirs
# Nothing here is about time, and the killing takes it.
flush_slow=20000

start() {
	iommu-watch daemon --config $expected --flush-slow $flush_slow >>$watch_log 2>>$watch_errors &
	watch_pid=$!
}

ready() {
	wait_for_http $watch_url/-/ready 60 || die "the daemon is not ready: $(cat $watch_errors)"
}

# Faults strike the descriptors of any device: nobody else submits meanwhile. And a kernel that preempts a task within a
# program leaves out the run of another, which is told as a loss.
hold() {
	until mkdir /tmp/held 2>/dev/null; do usleep 2000; done
}
let_on() {
	rmdir /tmp/held
}

# What is no fault, all the while.
load() {
	while [ -e /tmp/loaded ]; do
		hold
		echo "repeat 1 claim-group $second; attach-pasid theirs $second 40; attach-pasid theirs $second 41; detach-pasid theirs $second 40; detach-pasid theirs $second 41; release-group $second" >$caller || echo "load: $(cat $caller)"
		let_on
		usleep 200000
	done
}

# A PASID is torn down without a flush: an event. Another one is left behind: a state.
plant() {
	hold
	c attach-pasid one $nvme $((1000 + $1))
	fault budget 1
	fault drop 7
	c detach-pasid one $nvme $((1000 + $1))
	fault drop 0
	fault budget -1
	echo "@ planted teardown-flush-incomplete $((1000 + $1))"
	c claim-group $nvme
	c attach-pasid one $nvme $((2000 + $1))
	c release-group $nvme
	let_on
	echo "@ planted pasid-left-on-release $((2000 + $1))"
}

mend() {
	hold
	c detach-pasid one $nvme $((2000 + $1))
	c release-group $nvme
	let_on
}

# killed [MICROSECONDS]: the daemon, now or so much later
killed() {
	usleep ${1:-0}
	kill -9 $watch_pid
	wait $watch_pid 2>/dev/null
}

random() {
	od -An -N2 -tu2 /dev/urandom | awk -v most=$1 '{ print $1 * most / 65536 }' | cut -d. -f1
}

: >$watch_log
: >$watch_errors
phase kills
start
ready
echo "@ fresh $(sed -n 's/.*watching after \(.*\) s;.*/\1/p' $watch_errors)"
: >/tmp/loaded
load &
loading=$!
round=0
while [ $round -lt $kills ]; do
	case $((round % 4)) in
	# While it is done; just afterwards; while nobody reads; when all was told, and mended unseen.
	0) plant $round & planting=$!; killed $(random 400000); wait $planting; start; ready; mend $round ;;
	1) plant $round; killed $(random 5000); start; ready; mend $round ;;
	2) killed; plant $round; start; ready; mend $round ;;
	3) plant $round; usleep $(random 600000); killed; mend $round; start ;;
	esac
	# Also while it starts, at times.
	[ $((round % 5)) -ne 4 ] || { killed $(random 300000); start; }
	ready
	round=$((round + 1))
done
rm /tmp/loaded
wait $loading
settle
usleep 500000
echo "anonymous: $(sed -n 's/^RssAnon:[^0-9]*//p' /proc/$watch_pid/status)"
page api/v1/violations violations
# Two that read one ring would each have half of it.
refused iommu-watch daemon --web.listen-address 127.0.0.1:9437
kill -TERM $watch_pid
told wait $watch_pid
watch_pid=
cat $watch_errors
grep -v -e '"kind":"state"' -e '"kind":"check-state"' $watch_log
# What is compiled of them.
programs() {
	grep -c '\[bpf\]$' /proc/kallsyms
}
echo "@ pinned $(ls /sys/fs/bpf/iommu-watch | wc -l) $(programs)"
# With other options the programs are others: they replace those that are there.
iommu-watch daemon --no-submission-returns >>$watch_log 2>/tmp/other &
other=$!
ready
cat /tmp/other
sed -n 's/^iommu-watch: \(replaced\) programs.*/@ said \1/p; s/^.*what happened in the last .* s is \(not judged\)$/@ said \1/p' /tmp/other
kill -TERM $other
told wait $other
echo "@ pinned $(ls /sys/fs/bpf/iommu-watch | wc -l) $(programs)"
told iommu-watch daemon --unpin
left=50
until [ "$(programs)" = 0 ] || [ $left = 0 ]; do usleep 200000; left=$((left - 1)); done
echo "@ unpinned $(ls /sys/fs/bpf | wc -l) $(programs)"
end_phase
