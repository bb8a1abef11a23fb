# A recording tells later what was said live; a kill, a full disk and a damaged file cost only what they must.
. /guest/lib.sh
. /guest/recorded.sh
load softiommu
load caller
mkdir -p small
echo 'nobody:x:65534:65534:::/bin/sh' >/etc/passwd

phase live
record_start a.iwrec
groups $one $pair $driven
record_workload
# It goes right after the last fault, which it still must tell.
record_stop
grep -e '"kind":"violation"' -e '"kind":"resolved"' -e '"kind":"loss"' a.iwrec.said

phase replayed
iommu-watch replay --format json a.iwrec >replayed
echo "@ exit $?"
groups $one $pair $driven
grep -e '"kind":"violation"' -e '"kind":"resolved"' -e '"kind":"loss"' replayed

# As text, which a person reads; and each event.
phase shown
told iommu-watch replay a.iwrec
iommu-watch watch a.iwrec >watched
echo "@ exit $?"
for call in claim_group claim_device attach_group; do
	echo "@ watched $call $(grep -c " < $call " watched)"
done

# What was half a second and more before the kill is there, and how far it goes is said.
phase killed
record_start killed.iwrec
for round in 1 2 3; do
	as owner c claim-group $pair
	as owner c release-group $pair
done
sleep 1
kill -KILL $record_pid
wait $record_pid
refused iommu-watch replay --format json killed.iwrec
iommu-watch watch -q killed.iwrec 2>/dev/null >watched
echo "@ watched claim_group $(grep -c ' < claim_group ' watched)"
echo "@ watched release_group $(grep -c ' < release_group ' watched)"

# A disk that is full for a while.
phase full
groups $pair
mount -t tmpfs -o size=256k nothing small
record_start small/a.iwrec
dd if=/dev/zero of=small/filler bs=1k count=300 2>/dev/null
# More than has room in the last page that it has.
round=0
while [ $round -lt 30 ]; do
	as owner c claim-group $pair
	as owner c release-group $pair
	round=$((round + 1))
done >/dev/null
sleep 1
rm small/filler
as owner c claim-group $pair
as owner c release-group $pair
# Every group is read again.
sleep 2
let_go $pair claim-group release-group left
mend_left $pair release-group
sleep 1
kill -TERM $record_pid
told wait $record_pid
grep missing small/a.iwrec.errors | sed 's/^/@ said /'
iommu-watch replay --format json small/a.iwrec >lost
echo "@ exit $?"
grep -e '"kind":"violation"' -e '"kind":"resolved"' -e '"kind":"loss"' lost
umount small

phase taken
refused iommu-watch record -o a.iwrec
phase no-place
refused iommu-watch record -o nowhere/a.iwrec
ls nowhere 2>/dev/null | sed 's/^/@ left /'
phase too-small
refused iommu-watch record -o b.iwrec --max-size 1K
ls b.iwrec 2>/dev/null | sed 's/^/@ left /'
phase unprivileged
refused su nobody -c "iommu-watch record -o /tmp/nobody.iwrec"
ls /tmp/nobody.iwrec 2>/dev/null | sed 's/^/@ left /'
phase no-recording
refused iommu-watch replay /guest/lib.sh
phase missing
refused iommu-watch replay nothing.iwrec
phase cut
head -c 1500 a.iwrec >cut.iwrec
refused iommu-watch replay cut.iwrec
phase end
mend_left $driven release-group
fault unplug 1
fault plug 1
end_phase
