# The daemon is killed again and again, at any moment, while PASIDs come and go and faults are planted: before, after,
# while nobody reads, and while another version starts in its place. What they say all told goes to one file.
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

# Another version: its eBPF object names its license otherwise, as the kernel takes it, too.
other=/tmp/iommu-watch-other
cp /bin/iommu-watch $other
strings -t d $other | awk '{ at = index($0, "Dual MIT/GPL") } at { print $1 + at - index($0, $2) }' | while read -r at; do
	printf 'Dual BSD/GPL' | dd of=$other bs=1 seek=$at conv=notrunc 2>/dev/null
done
cmp -s /bin/iommu-watch $other && die "the other version is none"
daemon=/bin/iommu-watch

# From now on the other one of the two is started.
upgrade() {
	case $daemon in $other) daemon=/bin/iommu-watch ;; *) daemon=$other ;; esac
	echo "@ upgrade"
}

start() {
	$daemon daemon --config $expected --flush-slow $flush_slow >>$watch_log 2>>$watch_errors &
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
	kill -9 $watch_pid && echo "@ killed"
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
	# While it is done; just afterwards; while nobody reads, and while another one starts; when all was told, and mended
	# unseen.
	0) plant $round & planting=$!; killed $(random 400000); wait $planting; start; ready; mend $round ;;
	1) plant $round; killed $(random 5000); start; ready; mend $round ;;
	2) killed; plant $round; start; ready; mend $round ;;
	3)
		plant $round; usleep $(random 600000); killed; mend $round; upgrade; start
		usleep $(random 3000000); plant $((round + 500)); ready; mend $((round + 500))
		;;
	esac
	# Also while it starts, at times, be it an upgrade or not, which another one then ends or takes back.
	case $((round % 5)) in
	3) killed; upgrade; start; killed $(random 4000000); [ $((round % 2)) = 0 ] || upgrade; start ;;
	4) killed $(random 300000); start ;;
	esac
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
sed -n 's/^iommu-watch: \(succeeded\) programs.*/@ \1/p; s/^iommu-watch: what happened in the last .*/@ gap/p' $watch_errors
grep -v -e '"kind":"state"' -e '"kind":"check-state"' $watch_log
# What is compiled of them.
programs() {
	grep -c '\[bpf\]$' /proc/kallsyms
}
echo "@ pinned $(ls /sys/fs/bpf/iommu-watch | wc -l) $(programs)"
# With other options the programs are others, too. Those that they can't succeed they replace: here as if the set were of a
# version that knows nothing of that.
rm /sys/fs/bpf/iommu-watch/*/maps/RECORDING
iommu-watch daemon --no-submission-returns >>$watch_log 2>/tmp/other &
watch_pid=$!
ready
cat /tmp/other
sed -n 's/^iommu-watch: \(replaced\) programs.*/@ said \1/p; s/^.*what happened in the last .* s is \(not judged\)$/@ said \1/p' /tmp/other
kill -TERM $watch_pid
told wait $watch_pid
watch_pid=
echo "@ pinned $(ls /sys/fs/bpf/iommu-watch | wc -l) $(programs)"
told iommu-watch daemon --unpin
left=50
until [ "$(programs)" = 0 ] || [ $left = 0 ]; do usleep 200000; left=$((left - 1)); done
echo "@ unpinned $(ls /sys/fs/bpf | wc -l) $(programs)"
end_phase
