# SPDX-License-Identifier: MIT OR Apache-2.0
# A storm of invalidations from both processors while the daemon watches and is scraped every 15 seconds: what it has
# counted against what was submitted, its memory before and after, and its processor time beside the storm's. One line
# of JSON. Each unmap is one descriptor, and nothing else uses the queue.

. /guest/lib.sh
rounds=${rounds:-500000}
load caller
iommu-watch daemon >/tmp/daemon.lines 2>/tmp/daemon.errors &
daemon=$!
wait_for_http $watch_url/-/ready 120 || die "the daemon is not ready: $(cat /tmp/daemon.errors)"
# Now that it watches: it sees who claims the groups.
ones=0000:01:00.0
others=0000:02:00.0
for name in ones others; do
	eval "dev=\$$name"
	c alloc $dev $name >/dev/null
	c claim-group $dev >/dev/null
	c attach $name $dev >/dev/null || die "attach"
	c map $name 0x100000 0x1000 >/dev/null
done

scopes="iotlb pasid_cache device_tlb context drain"

# counted SCOPE: what the daemon has counted
counted_of() {
	metric "invalidations_total{iommu_driver=\"intel\",scope=\"$1\"}"
}
# memory NAME: of the daemon, in KiB
memory() {
	awk -v name="$1:" '$1 == name { print $2 }' /proc/$daemon/status
}
# The daemon's processor time, ns: of all its threads.
spent() {
	echo $(($(cat /proc/$daemon/task/*/schedstat | awk '{ us += int($1 / 1000) } END { printf "%d\n", us }') * 1000))
}
# What tasks that this shell has waited for have spent, ns; /proc counts it in hundredths of a second.
spent_by_children() {
	echo $(($(awk '{ sub(/.*\) /, ""); print $14 + $15 }' /proc/$$/stat) * 10000000))
}
lost() {
	wget -q -O - $watch_url/metrics | awk '/^iommu_watch_events_lost_total/ { lost += $2 } END { print lost + 0 }'
}

# Records that the programs on the queue have sent.
sent() {
	wget -q -O - $watch_url/metrics | awk '/^iommu_watch_events_total\{event="vtd_/ { sent += $2 } END { print sent + 0 }'
}

# storm_of ROUNDS: each task does so many, and what came of it is in variables
storm_of() {
	before=$(for scope in $scopes; do counted_of $scope; done | xargs echo)
	rss_before=$(memory VmRSS)
	anon_before=$(memory RssAnon)
	spent_before=$(spent)
	children_before=$(spent_by_children)
	from=$(nanoseconds)
	tasks=
	for name in ones others; do
		(echo "repeat $1 map $name 0x20000 0x1000; unmap $name 0x20000 0x1000" >$caller) &
		tasks="$tasks $!"
	done
	for task in $tasks; do wait $task || die "the storm broke off: $(cat $caller)"; done
	took=$(($(nanoseconds) - from))
	storm_ns=$(($(spent_by_children) - children_before))
	daemon_ns=$(($(spent) - spent_before))
	rss_after=$(memory VmRSS)
	anon_after=$(memory RssAnon)
	after=$(for scope in $scopes; do counted_of $scope; done | xargs echo)
}

# At its start the daemon reads the names of the kernel's functions beside its work.
while grep -qx symbols /proc/$daemon/task/*/comm; do usleep 100000; done
# The first one warms the daemon up: what it takes for a scrape it takes once.
storm_of 1000
lost_before=$(lost)
sent_before=$(sent)
(while [ ! -e /tmp/enough ]; do sleep 15; wget -q -O /dev/null $watch_url/metrics; done) &
scraper=$!
storm_of $rounds
touch /tmp/enough
wait $scraper
submitted=$((2 * rounds))
set -- $before
iotlb=$1 rest=$(($2 + $3 + $4 + $5))
set -- $after
iotlb=$(($1 - iotlb)) rest=$(($2 + $3 + $4 + $5 - rest))
violations=$(grep -c '"kind":"violation"' /tmp/daemon.lines)
timed=$(wget -q -O - $watch_url/metrics | awk '/^iommu_watch_invalidation_duration_seconds_count/ { print $2 }')
echo "{\"kernel\":\"$(uname -r)\",\"submitted\":$submitted,\"counted\":$iotlb,\"counted_of_other_scopes\":$rest,\"events_lost\":$(($(lost) - lost_before)),\"records_sent\":$(($(sent) - sent_before)),\"violations\":$violations,\"timed\":${timed:-0},\"rss_before_kib\":$rss_before,\"rss_after_kib\":$rss_after,\"anon_before_kib\":$anon_before,\"anon_after_kib\":$anon_after,\"daemon_ns\":$daemon_ns,\"storm_ns\":$storm_ns,\"took_ns\":$took}"
kill -TERM $daemon
wait $daemon || die "the daemon ended with $?"
