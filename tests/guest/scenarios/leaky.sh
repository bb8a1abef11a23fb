# A hook misses a call: that is the product's own fault, and the next audit shows it.
. /guest/lib.sh
load softiommu
load caller
dev=softdev.0
c alloc $dev mine
mount -t debugfs none /sys/kernel/debug 2>/dev/null
kprobes=/sys/kernel/debug/kprobes/enabled

watch_start --audit 1 --no-trampolines
groups $dev
phase clean
as tenant c attach-pasid mine $dev 4
audited
phase missed
# No audit comes in between: it would find out that nothing is called at all.
kill -STOP $watch_pid
echo 0 >$kprobes
as tenant c attach-pasid mine $dev 5
echo 1 >$kprobes
kill -CONT $watch_pid
audited
page api/v1/groups groups
# It goes on from what was read.
phase after
as tenant c detach-pasid mine $dev 5
as clumsy c detach-pasid mine $dev 5
as tenant c detach-pasid mine $dev 4
watch_stop
