# AMD's real driver: what goes to its command buffer, beside the guest's own count; a wait that fails. Where the kernel has
# SVA, PASIDs as well: the emulated IOMMU has none, but its driver writes its tables and its commands all the same.
. /guest/lib.sh
nvme=0000:01:00.0
load_pasidcap_amd
load_saboteur
load caller
c alloc $nvme one
wait=iommu_completion_wait.isra.0
sleep 10000 &
process=$!
usleep 100000
sva=
if as tenant c bind $nvme $process; then
	sva=yes
	bond=$(value)
	as tenant c unbind ${bond% *}
fi
echo "@ second ${sva:-none}"

# Every command that the driver queues, by the guest's own tracing: the opcode is in the highest bits of the second word.
echo 'p:command __iommu_queue_command_sync op=+4(%si):x32' >$tracing/kprobe_events
echo 1 >$tracing/events/kprobes/command/enable

# guest WHEN, counted WHEN: how many there were of each scope, by the guest and by the daemon
guest() {
	queued() { grep -c "command: .* op=0x$1.......\$" $tracing/trace; }
	echo "{\"kind\":\"guest\",\"when\":\"$1\",\"context\":$(queued 2),\"iotlb\":$(queued 3),\"device_tlb\":$(queued 4)}"
}
counted() {
	of() { metric "invalidations_total{iommu_driver=\"amd\",scope=\"$1\"}"; }
	echo "{\"kind\":\"counted\",\"when\":\"$1\",\"context\":$(of context),\"iotlb\":$(of iotlb),\"device_tlb\":$(of device_tlb)}"
}

# bound, unbound: the process is bound to the device, and let go
bound() {
	as tenant c bind $nvme $process
	bond=$(value)
	bond=${bond% *}
}
unbound() {
	as clumsy c unbind $bond
}

watch_start
phase clean
groups $nvme
guest before
counted before
guest begun
as owner c claim-group $nvme
as owner c attach one $nvme
# Of 256 waits of a processor one is timed.
c "repeat 600 map one 0x10000 0x1000; unmap one 0x10000 0x1000"
c "repeat 3 io-fault one $nvme 0xdead000"
as owner c detach one $nvme
as owner c release-group $nvme
[ -z "$sva" ] || for _ in 1 2 3; do
	bound
	unbound
done
guest ended
counted after
guest after
echo "{\"kind\":\"faults\",\"counted\":$(metric 'io_page_faults_total{iommu_driver="amd"}')}"
echo "{\"kind\":\"timed\",\"waits\":$(metric invalidation_duration_seconds_count)}"

phase failed
groups $nvme
fault fail $wait
as clumsy c attach one $nvme
fault fail ''
as owner c detach one $nvme

[ -z "$sva" ] || {
	phase device-tlb
	groups $nvme
	bound
	fault skip device_flush_iotlb.isra.0
	unbound
	fault skip ''

	phase reused
	groups $nvme
	bound
	fault skip amd_iommu_dev_flush_pasid_pages
	unbound
	as heir c bind $nvme $process
	fault skip ''
	bond=$(value)
	bond=${bond% *}
	unbound

	phase made-up
	groups $nvme
	bound
	fault skip amd_iommu_dev_flush_pasid_pages
	unbound
	fault skip ''
	bound
	unbound

	phase failed-pasid
	groups $nvme
	bound
	fault fail $wait
	unbound
	fault fail ''

	phase lost
	groups $nvme
	bound
	as clumsy c attach one $nvme
	as owner c detach one $nvme
	unbound

	phase left
	groups $nvme
	bound
	as clumsy remove $nvme
}
watch_stop
