# What is right on the real Intel driver, with PASIDs, ATS and SVA: nothing is raised. `vfio` and `replug` do their
# part of it without PASIDs, more often.
. /guest/lib.sh
dev=0000:01:00.0
load_pasidcap
load caller
load dmadrv
c alloc $dev mine
c alloc $dev other
modprobe -a nvme vfio-pci vfio_iommu_type1
unbind $dev
watch_start
groups $dev

# queued COMMAND...: which kinds of descriptors went to the queue while it ran
queued() {
	submitted "$@" >/dev/null
	echo "@ said queued $kinds"
}

phase mapped
queued c 'repeat 50 attach mine 0000:01:00.0; map mine 0x100000 0x4000; unmap mine 0x100000 0x4000; detach mine 0000:01:00.0'

phase pasids
queued c 'repeat 50 attach-pasid mine 0000:01:00.0 5; map mine 0x100000 0x4000; attach-pasid other 0000:01:00.0 6; unmap mine 0x100000 0x4000; detach-pasid mine 0000:01:00.0 5; detach-pasid other 0000:01:00.0 6'

# A process maps and unmaps all the time; once it is unbound before its end, once it is killed before.
phase sva
for killed in '' yes; do
	churn &
	pid=$!
	as tenant c bind $dev $pid || kill $pid
	bond=$(value)
	usleep 300000
	[ -z "$killed" ] || kill -9 $pid
	[ -z "$killed" ] || wait $pid
	as tenant c unbind ${bond% *}
	kill $pid 2>/dev/null
done

# From 7.0 on PASIDs are parked for a reset, without an attach or a detach.
phase reset
as tenant c attach-pasid mine $dev 5
as tenant c attach-pasid other $dev 6
for _ in 1 2 3; do
	queued eval 'echo 1 >/sys/bus/pci/devices/$dev/reset'
done
as tenant c detach-pasid mine $dev 5
as tenant c detach-pasid other $dev 6

phase driver
for _ in 1 2 3 4 5; do
	bind $dev nvme
	c attach-pasid mine $dev 5
	c detach-pasid mine $dev 5
	unbind $dev
done

phase vfio
bind $dev vfio-pci
told vfio $(group $dev) 10 $dev
unbind $dev
echo >/sys/bus/pci/devices/$dev/driver_override

# With nvme on it; what was attached is gone before the device is.
phase replugged
echo 0 >/sys/bus/pci/drivers_autoprobe
for _ in 1 2 3; do
	remove $dev
	rescan
	bind $dev nvme
	c alloc $dev again
	c attach-pasid again $dev 5
	c detach-pasid again $dev 5
	c free again
done
unbind $dev

# Lazily flushed, a translation outlives its unmap for a while; strictly, no DMA gets through any more.
rounds=/sys/module/dmadrv/parameters/rounds
testdev=$(basename $(dirname $(grep -l 0x0005 /sys/bus/pci/devices/*/device)))
type=$(device $testdev)/iommu_group/type
phase lazy
bind $testdev dmadrv
echo 200 >$rounds
echo "@ said $(cat $type) $(cat $rounds)"
phase strict
unbind $testdev
echo DMA >$type
bind $testdev dmadrv
echo 200 >$rounds
echo "@ said $(cat $type) $(cat $rounds)"
phase lazy-again
echo DMA-FQ >$type
echo 200 >$rounds
echo "@ said $(cat $type) $(cat $rounds)"
unbind $testdev
watch_stop
