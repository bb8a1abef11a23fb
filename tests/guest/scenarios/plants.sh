# Each planted fault, and the same without it, held against something that is not the product: the hardware's
# entries, the queue's trace, errors, the kernel's own warnings, the state of softiommu.
. /guest/lib.sh
dev=0000:01:00.0 one=0000:05:00.0 two=0000:06:00.0
load_pasidcap devs=$dev,$one,$two
load_saboteur
load softiommu
load caller
failed=0

# must WHAT COMMAND...
must() {
	what=$1
	shift
	if "$@"; then
		echo "ok: $what"
	else
		echo "FAILED: $what ($*)"
		failed=1
	fi
}

# entries_are DEVICE PASID...: what is present in its table, beside the RID's
entries_are() {
	entries "$1"
	found=$(sed 's/:[0-9a-f]*//g; s/^0 *//' $faults/pasids)
	shift
	[ "$found" = "$*" ]
}

# same A B, warned FUNCTION (or nothing) since the last forget_warnings
same() {
	[ "$1" = "$2" ]
}
warned() {
	same "$(warnings | sort -u | xargs echo)" "$*"
}

# soft_state DEVICE TEXT: softiommu's state of this master ends so
soft_state() {
	grep "^$1 " $soft/state
	grep -q "^$1 group . $2\$" $soft/state
}

# result ERROR: of the last command of the caller
result() {
	same "$(cat $caller)" "$1"
}

c alloc $dev rid
c alloc $dev pasid
c alloc $one both

echo "== rid_drops_pasids"
for at in '' $dev; do
	fault rid_drops_pasids $at
	c attach-pasid pasid $dev 5
	c attach-pasid pasid $dev 70
	c attach rid $dev
	[ -n "$at" ] || must "a RID switch keeps PASIDs" entries_are $dev 5 70
	[ -z "$at" ] || must "a RID switch drops PASIDs" entries_are $dev
	c detach rid $dev
	c detach-pasid pasid $dev 5
	c detach-pasid pasid $dev 70
done
fault rid_drops_pasids ''

echo "== rid_refuses"
for at in '' $dev; do
	fault rid_refuses $at
	c attach-pasid pasid $dev 5
	c attach rid $dev
	[ -n "$at" ] || must "a RID switch under PASIDs" result 0
	[ -z "$at" ] || must "a RID switch under PASIDs is refused" result -EBUSY
	[ -n "$at" ] || c detach rid $dev
	c detach-pasid pasid $dev 5
	c attach rid $dev
	must "a RID switch without PASIDs" result 0
	c detach rid $dev
done
fault rid_refuses ''

echo "== skipped flushes"
c attach-pasid pasid $dev 5
submitted c detach-pasid pasid $dev 5
must "a tear-down flushes all" same "$kinds" "p_dev_tlb_inv p_iotlb_inv pc_inv"
for kind in 6:p_iotlb_inv 7:pc_inv 8:p_dev_tlb_inv; do
	c attach-pasid pasid $dev 5
	fault drop ${kind%%:*}
	submitted c detach-pasid pasid $dev 5
	fault drop 0
	must "without ${kind#*:}" same "$kinds" \
		"$(echo "p_dev_tlb_inv p_iotlb_inv pc_inv" | tr ' ' '\n' | grep -vx ${kind#*:} | xargs echo)"
done

echo "== failed invalidation"
c attach-pasid pasid $dev 5
c attach-pasid pasid $dev 6
fault fail "qi_submit_sync,type=6,result=-5,budget=1"
submitted c detach-pasid pasid $dev 5
c detach-pasid pasid $dev 6
must "one submission failed" same "$(cat $faults/fail)" "qi_submit_sync 1"
fault fail ''

echo "== late answer"
c attach-pasid pasid $dev 5
fault delay "qi_submit_sync,type=7,us=200000"
before=$(cut -d' ' -f1 /proc/uptime | tr -d .)
c detach-pasid pasid $dev 5
after=$(cut -d' ' -f1 /proc/uptime | tr -d .)
fault delay ''
echo "took $((after - before)) hundredths"
must "a tear-down takes 0.2 s" [ $((after - before)) -ge 20 ]

echo "== failed attach that leaves its entry"
for set in intel_iommu_set_dev_pasid; do
	fault fail "$set,budget=1"
	c attach-pasid pasid $dev 5
	must "it fails" result -EIO
	fault fail ''
	must "it leaves the entry" entries_are $dev 5
	c attach-pasid pasid $dev 5
	must "the next one fails" result -EBUSY
	fault present $dev,5,0
done
must "the kernel says nothing" warned

exit $failed
