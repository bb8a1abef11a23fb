# Who holds a group and where it sits, without any PASID: a release that lets nothing go, an unbind that keeps the
# driver's use, a free group on somebody's domain. On the software IOMMU, or on the device that is named before.
. /guest/lib.sh
if [ -z "$dev" ]; then
	load softiommu
	dev=softdev.0 driver=softdrv
fi
load caller
load_saboteur
c alloc $dev somebodys
watch_start --audit 1

phase clean
groups $dev
as owner c claim-group $dev
as owner c release-group $dev
as owner bind $dev $driver
as owner unbind $dev
audited

phase stuck
groups $dev
as owner c claim-group $dev
fault skip iommu_group_release_dma_owner,budget=1
as clumsy c release-group $dev
fault skip ''
settle
phase stuck-mended
as owner c release-group $dev

phase astray
groups $dev
as tenant c attach somebodys $dev
audited
phase back
as tenant c detach somebodys $dev
audited
c free somebodys

phase leaked
groups $dev
as owner bind $dev $driver
fault skip iommu_device_unuse_default_domain,budget=1
as clumsy unbind $dev
fault skip ''
settle
# Only a new group mends it.
phase leaked-mended
if [ -e /sys/bus/pci/devices/$dev ]; then
	remove $dev
	rescan
else
	fault unplug 0
	fault plug 0
fi
watch_stop
