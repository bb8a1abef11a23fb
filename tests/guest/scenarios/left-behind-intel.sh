# A PASID is left behind on each way of letting a group go, under the real Intel driver.
. /guest/lib.sh
load_pasidcap
load caller
# The driver is bound only where it is said here.
echo 0 >/sys/bus/pci/drivers_autoprobe
modprobe nvme
dev=0000:01:00.0
c alloc $dev d-$dev
watch_start

phase group-clean
let_go $dev claim-group release-group
phase group-left
let_go $dev claim-group release-group left
phase group-mended
mend $dev release-group

phase device-clean
let_go $dev claim-device release-device
phase device-left
let_go $dev claim-device release-device left
phase device-mended
mend $dev release-device

phase unbind-clean
unbind_driver $dev nvme
phase unbind-left
unbind_driver $dev nvme left
phase unbind-kept
groups $dev
as tenant c detach-pasid d-$dev $dev 5
as owner c claim-group $dev
phase unbind-mended
remove $dev
modprobe -r nvme
rescan
watch_stop
