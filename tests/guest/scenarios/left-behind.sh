# A PASID is left behind on each way of letting a group go, on the software IOMMU.
. /guest/lib.sh
load softiommu
load caller
one=softdev.0 pair=softdev.2 driven=softdev.1
for dev in $one $pair $driven; do
	c alloc $dev d-$dev
done
watch_start

# let_go DEVICE CLAIM RELEASE [PASID]: without the PASID nothing is left
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

phase group-clean
let_go $one claim-group release-group
phase group-left
let_go $one claim-group release-group 5
phase group-mended
mend $one release-group

phase device-clean
let_go $pair claim-device release-device
phase device-left
let_go $pair claim-device release-device 5
phase device-mended
mend $pair release-device

# unbind_driver DEVICE DRIVER [PASID]
unbind_driver() {
	groups $1
	as owner bind $1 $2
	as tenant c attach-pasid d-$1 $1 5
	[ -n "$3" ] || as tenant c detach-pasid d-$1 $1 5
	as owner unbind $1
}

phase unbind-clean
unbind_driver $driven softdrv
phase unbind-left
unbind_driver $driven softdrv 5
# Not even the detach mends it.
phase unbind-kept
groups $driven
as tenant c detach-pasid d-$driven $driven 5
as owner c claim-group $driven
# Only a new group does.
phase unbind-mended
fault unplug 1
fault plug 1
watch_stop
