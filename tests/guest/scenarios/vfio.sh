# VFIO claims, attaches, detaches and releases a group, 100 times. The kernel counts by itself: calls by its
# function tracer, the ids of their groups by histograms.
. /guest/lib.sh
modprobe -a vfio-pci vfio_iommu_type1
dev=0000:01:00.0
bind $dev vfio-pci
groups $dev
iommu-watch watch --format json >/tmp/events 2>/tmp/events.errors &
watcher=$!
watch_start
until grep -q watching /tmp/events.errors; do usleep 100000; done

# count_groups EVENT FUNCTION REGISTER: of the group that the register points to
count_groups() {
	id=$(btfoff iommu_group.id)
	echo "p:groups/$1 $2 id=+$id(%$3):s32" >>$tracing/kprobe_events
	echo hist:keys=id >$tracing/events/groups/$1/trigger
}
count_groups claim_group iommu_group_claim_dma_owner di
count_groups attach_group iommu_attach_group si
count_groups detach_group iommu_detach_group si
count_groups release_group iommu_group_release_dma_owner di
count iommu_group_claim_dma_owner iommu_attach_group iommu_detach_group iommu_group_release_dma_owner

phase rounds
told vfio $(group $dev) 100
counted
for event in claim_group attach_group detach_group release_group; do
	sed -n "s/{ id: *\([0-9]*\) } hitcount: *\([0-9]*\)/@ counted $event:\1 \2/p" $tracing/events/groups/$event/hist
	echo '!hist:keys=id' >$tracing/events/groups/$event/trigger
done
echo >$tracing/kprobe_events

phase opened
told vfio $(group $dev) 3 $dev
kill $watcher
wait $watcher

# Who is refused is told who is in the way.
load caller
phase busy
groups $dev
as owner c claim-group $dev
as rival c claim-group $dev 1
as owner c release-group $dev
phase free
as rival c claim-group $dev 1
as rival c release-group $dev
watch_stop

grep '"phase":"end"' /tmp/events |
	sed -n 's/.*"name":"\([a-z]*_group\)".*"group":\([0-9]*\).*/\1:\2/p' | sort | uniq -c |
	while read -r times event; do echo "@ watched $event $times"; done
