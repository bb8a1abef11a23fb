# A driver is bound and unbound 100 times, and a device goes and comes back 100 times: nothing is wrong, and
# nothing is unknown in the end.
. /guest/lib.sh
one=0000:01:00.0 two=0000:02:00.0
watch_start

phase replug
count iommu_group_release
i=0
while [ $i -lt 100 ]; do
	remove $two
	rescan
	i=$((i + 1))
done
counted

# Only bound when it is said.
echo 0 >/sys/bus/pci/drivers_autoprobe
modprobe nvme
echo 1 >/sys/bus/pci/drivers_autoprobe
phase rebind
count iommu_device_use_default_domain iommu_device_unuse_default_domain
i=0
while [ $i -lt 100 ]; do
	bind $one nvme
	unbind $one
	i=$((i + 1))
done
counted

# With the driver at work.
phase both
bind $two nvme
for _ in 1 2 3; do
	remove $two
	rescan
done
watch_stop
