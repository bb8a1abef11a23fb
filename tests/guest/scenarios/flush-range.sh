# Flushes of what was unmapped under the real Intel driver, whole and cut short. The DMA of a device shows what still
# translates.
. /guest/lib.sh
load_pasidcap
load_saboteur
load caller
load dmadrv
nvme=0000:01:00.0
second=0000:02:00.0
testdev=0000:00:10.0
rounds=/sys/module/dmadrv/parameters/rounds
type=$(device $testdev)/iommu_group/type
unbind $nvme
unbind $second
unbind $testdev
c alloc $nvme mine
c alloc $second theirs
c alloc $second lone
echo DMA >$type
bind $testdev dmadrv
echo 4 >/sys/module/dmadrv/parameters/pages

# ranges RESULT: how many flushes the product has judged so
ranges() {
	metric "flush_ranges_total{iommu_driver=\"intel\",result=\"$1\"}"
}

# judged COMMAND...: runs it, and tells how the flushes meanwhile were judged: each at least so often as the last
# number says
judged() {
	covered=$(ranges covered) short=$(ranges short) undecided=$(ranges undecided)
	"$@"
	covered=$(($(ranges covered) - covered))
	short=$(($(ranges short) - short))
	undecided=$(($(ranges undecided) - undecided))
	echo "judged: covered=$covered short=$short undecided=$undecided"
	verdict=
	[ $covered -lt $least ] || verdict=" covered"
	[ $short -lt $least ] || verdict="$verdict short"
	[ $((undecided * 10)) -lt $least ] || verdict="$verdict undecided"
	echo "@ said judged${verdict:- nothing}"
}

# dma: maps, unmaps and DMA to where nothing is mapped any more
dma() {
	groups $testdev
	least=100
	judged as clumsy eval 'echo 100 >$rounds'
	echo "@ said $(cat $type) $(cat $rounds)"
}

# It is asked for by the file: that the flag does the same is shown by tests on the host.
planted=$expected
expected=/tmp/asked.toml
{
	cat $planted
	printf '[check.flush-range-short]\nenabled = true\n'
} >$expected
watch_start
phase strict
dma

phase short
fault shorten cache_tag_flush_range
dma

phase strict-again
fault shorten ''
dma

# By its own clock the driver flushes everything.
phase lazy
echo DMA-FQ >$type
dma
unbind $testdev

# A domain of its own, under a device with ATS: the IOTLB and the device's. Large ranges and pieces of them.
phase mapped
groups $nvme
c claim-group $nvme
c attach mine $nvme
least=40
judged c 'repeat 20 map mine 0x100000 0x8000; unmap mine 0x100000 0x3000; unmap mine 0x103000 0x5000'
phase mapped-short
groups $nvme
fault shorten cache_tag_flush_range
least=2
judged as clumsy c 'repeat 1 map mine 0x100000 0x4000; unmap mine 0x100000 0x4000'
fault shorten ''
c detach mine $nvme
c release-group $nvme

# Nothing at all is flushed; of a domain that nothing is attached to nothing need be.
phase skipped
groups $second
c claim-group $second
c attach theirs $second
fault skip cache_tag_flush_range
least=2
judged as clumsy c 'repeat 1 map theirs 0x100000 0x1000; unmap theirs 0x100000 0x1000'
fault skip ''
c detach theirs $second
c release-group $second
phase unattached
fault skip cache_tag_flush_range
least=1
judged as clumsy c 'repeat 5 map lone 0x100000 0x4000; unmap lone 0x100000 0x4000'
fault skip ''

# A process's memory, which the device translates by the process's own tables: what it unmaps is flushed by an mm notifier.
churn &
process=$!
if as tenant c bind $nvme $process; then
	bond=$(value)
	phase sva
	groups $nvme
	least=20
	judged usleep 1000000
	phase sva-short
	groups $nvme
	echo "@ task churn $process"
	fault shorten cache_tag_flush_range,task=churn
	judged usleep 1000000
	fault shorten ''
	phase sva-again
	judged usleep 1000000
	as tenant c unbind ${bond% *}
fi
kill $process
watch_stop
