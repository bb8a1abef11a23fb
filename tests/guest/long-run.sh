# SPDX-License-Identifier: MIT OR Apache-2.0
# Everything at once that may be done to devices behind an IOMMU, at random, for a while (movers.c), and the daemon
# watches. What it raises is a find, or a mistake of its own: tests/src/long_run.rs judges. "seconds" and "seed" come first.

. /guest/lib.sh
seconds=${seconds:-60}
seed=${seed:-1}
load_pasidcap
load caller
load dmadrv
modprobe -a nvme e1000e vfio-pci vfio_iommu_type1
echo 0 >/sys/bus/pci/drivers_autoprobe

devices=
for dir in /sys/bus/pci/devices/*; do
	dev=$(basename $dir)
	case $(cat $dir/vendor):$(cat $dir/device) in
	0x1b36:0x0010) kind=nvme ;;
	0x8086:0x10d3) kind=nic ;;
	0x1b36:0x0005) kind=dma ;;
	*) continue ;;
	esac
	unbind $dev
	devices="$devices $kind:$dev"
done
# From there on SVA works, and PASIDs can be replaced.
sva=0
grep -q ' pci_dev_reset_iommu_done$' /proc/kallsyms && sva=1

# anonymous: the daemon's memory, in KiB
anonymous() {
	awk '$1 == "RssAnon:" { print $2 }' /proc/$watch_pid/status
}
violations() {
	grep -c '"kind":"violation"' $watch_log
}
# lost: events that the daemon was told were lost, whose groups it read again
lost() {
	wget -q -O - $watch_url/metrics | awk '/^iommu_watch_events_lost_total/ { lost += $2 } END { print lost + 0 }'
}

# Nothing is planted here: no check is told to expect anything.
expected=
watch_start --audit 5
while grep -qx symbols /proc/$watch_pid/task/*/comm; do usleep 100000; done
phase run
echo "movers: $seconds s, seed $seed, sva $sva:$devices"
begun=$(date +%s)
movers $seconds $seed $sva $devices >/tmp/movers.said 2>&1 &
movers=$!
quarter=1
told=0
while kill -0 $movers 2>/dev/null; do
	sleep 1
	at=$(($(date +%s) - begun))
	while [ $quarter -le 3 ] && [ $((at * 4)) -ge $((seconds * quarter)) ]; do
		echo "@ memory $((quarter * 25)) $(anonymous)"
		quarter=$((quarter + 1))
	done
	[ $at -ge $((told + 10)) ] || continue
	told=$at
	echo "long-run: $at of $seconds s, $(awk '{ n += $4 } END { print n }' /tmp/movers.actions) actions, $(violations) violations"
done
wait $movers
echo "@ movers $?"
echo 1 2>/dev/null >/sys/devices/system/cpu/cpu1/online
cat /tmp/movers.said /tmp/movers.actions
# The whole of what the kernel complained of: the scripts' helpers tell the function alone.
dmesg | sed -n '/cut here/,/end trace/p'
settle
echo "@ memory 100 $(anonymous)"

# Whoever was unknown has been asked again by then.
phase audited
audited
echo "@ unknown $(metric 'groups{knowledge="unknown"}')"
echo "@ lost $(lost)"
watch_stop
