# The ring overruns: in a storm of calls while the daemon is stopped. What is right, a fault afterwards, and
# a fault that is itself lost.
. /guest/lib.sh
load softiommu
load caller
one=softdev.0 still=softdev.1 pair=softdev.2
for dev in $one $still $pair; do
	c alloc $dev d-$dev
done
watch_start --audit 5

phase overrun
groups $one $still $pair
kill -STOP $watch_pid
storm 2000 "claim-group $one; attach-pasid d-$one $one 7; detach-pasid d-$one $one 7; release-group $one" \
	"claim-device $pair; release-device $pair"
kill -CONT $watch_pid
found_again
phase fault
let_go $one claim-group release-group left
phase mended
mend $one release-group

phase hidden
kill -STOP $watch_pid
storm 4000 "claim-device $pair; release-device $pair"
let_go $still claim-group release-group left
kill -CONT $watch_pid
found_again
phase hidden-mended
mend $still release-group
watch_stop
