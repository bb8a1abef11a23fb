# On a kernel that preempts everywhere: a task is preempted within a program, and others make the same call on
# that CPU. The kernel leaves their runs of the program out.
. /guest/lib.sh
load softiommu
load caller
one=softdev.0 other=softdev.1
for dev in $one $other; do
	c alloc $dev d-$dev
done
watch_start --audit 5

phase missed
groups $one $other
storm 600 "attach-pasid d-$one $one 7; detach-pasid d-$one $one 7" \
	"attach-pasid d-$one $one 8; detach-pasid d-$one $one 8" \
	"attach-pasid d-$other $other 7; detach-pasid d-$other $other 7" \
	"attach-pasid d-$other $other 8; detach-pasid d-$other $other 8"
found_again
phase fault
let_go $other claim-group release-group left
phase mended
mend $other release-group
watch_stop
