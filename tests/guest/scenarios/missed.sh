# The kernel leaves out runs of a program: more calls of a function are under way than its kretprobe has room for.
. /guest/lib.sh
load softiommu
load caller
dev=softdev.1
c alloc $dev d-$dev
watch_start --no-trampolines --audit 5
echo "@ kprobes $(metric 'hook_attached{hook="pasid_attach",backend="kprobe"}')"

phase missed
groups $dev
# The first one holds the group's mutex, and the others wait for it.
fault delay_us 100000
storms=
for pasid in $(seq 101 120); do
	c attach-pasid d-$dev $dev $pasid &
	storms="$storms $!"
done
wait $storms
fault delay_us 0
for pasid in $(seq 101 120); do
	c detach-pasid d-$dev $dev $pasid
done
found_again
phase fault
let_go $dev claim-group release-group left
phase mended
mend $dev release-group
watch_stop
