# A PASID is left behind on each way of letting a group go, on the software IOMMU.
. /guest/lib.sh
load softiommu
load caller
one=softdev.0 pair=softdev.2 driven=softdev.1
for dev in $one $pair $driven; do
	c alloc $dev d-$dev
done
watch_start $watch_arguments
echo "@ kprobes $(metric 'hook_attached{hook="pasid_attach",backend="kprobe"}')"

phase group-clean
let_go $one claim-group release-group
phase group-left
let_go $one claim-group release-group left
phase group-mended
mend $one release-group

phase device-clean
let_go $pair claim-device release-device
phase device-left
let_go $pair claim-device release-device left
phase device-mended
mend $pair release-device

phase unbind-clean
unbind_driver $driven softdrv
phase unbind-left
unbind_driver $driven softdrv left
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
