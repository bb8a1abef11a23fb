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

c attach-pasid pasid $dev 5
c disconnect $dev
submitted c detach-pasid pasid $dev 5
c reconnect $dev
must "a device that was pulled out has no device TLB" same "$kinds" "p_iotlb_inv pc_inv"
for drop in 0 1; do
	fault drop $drop
	submitted remove $dev
	fault drop 0
	rescan
	must "the context's flush, drop: $drop" same "$(echo "$kinds" | grep -o cc_inv)" "$([ $drop = 1 ] || echo cc_inv)"
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

echo "== a failed attach"
# In 6.14 the blocked domain's set_dev_pasid took the place of remove_dev_pasid.
remove_pasid=blocking_domain_set_dev_pasid
grep -q " $remove_pasid\$" /proc/kallsyms || remove_pasid=intel_iommu_remove_dev_pasid
fault fail intel_iommu_set_dev_pasid,budget=1
c attach-pasid pasid $dev 5
must "an attach fails" result -EIO
fault fail ''
must "and leaves its entry" entries_are $dev 5
fault present $dev,5,0
type=/sys/kernel/iommu_groups/$(group $dev)/type
echo identity >$type
c current $dev identity
fault fail identity_domain_set_dev_pasid,budget=1
c attach-pasid identity $dev 5
if [ "$(cat $caller)" != -EINVAL ]; then
	must "an attach of the identity domain fails" result -EIO
	must "and leaves its entry" entries_are $dev 5
	fault present $dev,5,0
else
	echo "no identity domain on a PASID in this kernel"
fi
fault fail ''
c forget identity
echo DMA-FQ >$type
fault fail intel_iommu_set_dev_pasid,device=$two,budget=1
c attach-pasid both $one 5
must "an attach fails on the second member" result -EIO
fault fail ''
must "the first is rolled back" entries_are $one
must "the second keeps the entry" entries_are $two 5
fault present $two,5,0
fault skip intel_iommu_set_dev_pasid,result=-5,device=$two,budget=1
fault skip $remove_pasid,device=$one,budget=1
c attach-pasid both $one 6
must "an attach is refused by the second member" result -EIO
fault skip ''
must "the first is not rolled back" entries_are $one 6
must "the second has nothing" entries_are $two
fault present $one,6,0
must "the kernel says nothing of it" warned

echo "== a group"
for at in $two ''; do
	[ -z "$at" ] || fault skip intel_iommu_set_dev_pasid,device=$two,budget=1
	c attach-pasid both $one 7
	must "an attach to a group" result 0
	fault skip ''
	must "one member has the PASID" entries_are $one 7
	must "and the other, fault: $at" entries_are $two $([ -n "$at" ] || echo 7)
	c detach-pasid both $one 7
done

echo "== a removal that fails"
forget_warnings
for way in '' skip fail; do
	c attach-pasid pasid $dev 5
	[ -z "$way" ] || fault $way $remove_pasid,result=-5,budget=1
	c detach-pasid pasid $dev 5
	[ -z "$way" ] || fault $way ''
	must "a removal, fault: $way" entries_are $dev $([ "$way" != skip ] || echo 5)
	# It can't be told before 6.14.
	must "is warned of, or not" warned $([ -z "$way" -o $remove_pasid = intel_iommu_remove_dev_pasid ] || echo iommu_detach_device_pasid)
	forget_warnings
	[ "$way" != skip ] || fault present $dev,5,0
done

echo "== capabilities"
# capability OFFSET: a control register as pasidcap places it
capability() {
	dd if=/sys/bus/pci/devices/$dev/config bs=1 skip=$((0xe00 + $1)) count=2 2>/dev/null | hexdump -e '1/2 "%04x"'
}
c attach-pasid pasid $dev 5
must "ATS and PASID are on" same "$(capability 6) $(capability 0x26)" "8000 0007"
c disable-pasid $dev
c disable-ats $dev
must "ATS and PASID are off" same "$(capability 6) $(capability 0x26)" "0000 0000"
must "under a PASID" entries_are $dev 5
c enable-pasid $dev
c enable-ats $dev
must "ATS and PASID are on again" same "$(capability 6) $(capability 0x26)" "8000 0007"

echo "== a reset under a PASID"
submitted eval 'echo 1 >/sys/bus/pci/devices/$dev/reset'
must "a reset gives the PASID back" entries_are $dev 5
if [ $remove_pasid = blocking_domain_set_dev_pasid ]; then
	must "it tore the PASID down" same "$kinds" "dev_tlb_inv p_dev_tlb_inv p_iotlb_inv pc_inv"
	fault skip pci_dev_reset_iommu_done,device=$dev,budget=1
	echo 1 >/sys/bus/pci/devices/$dev/reset
	fault skip ''
	must "a reset that isn't done: nothing is back" same "$(entries $dev)" "entries: $dev "
	c attach-pasid pasid $dev 6
	must "nor can anything be attached" result -EBUSY
else
	must "before 7.0 the driver isn't told" same "$kinds" ""
fi

echo "== a device goes"
remove $dev
rescan
c alloc $dev again
c attach-pasid again $dev 5
submitted remove $dev
must "a PASID that is attached isn't torn down" [ "$kinds" = "${kinds#*p_dev_tlb_inv}" ]
rescan
c attach-pasid again $dev 5
must "its table is another" entries_are $dev 5
c detach-pasid again $dev 5
must "the kernel says nothing of it" warned

echo "== a PASID that goes back while it is attached"
for free in '' yes; do
	c alloc-pasid $dev
	pasid=$(value)
	c attach-pasid again $dev $pasid
	[ -z "$free" ] || c free-pasid $pasid
	must "it is attached" entries_are $dev $pasid
	c alloc-pasid $dev
	must "it is free: ${free:-no}" [ "$free" = "$([ $(value) != $pasid ] || echo yes)" ]
	c free-pasid $(value)
	c detach-pasid again $dev $pasid
	[ -n "$free" ] || c free-pasid $pasid
done

echo "== a domain that goes while it is attached"
c alloc softdev.0 shared
c attach shared softdev.0
c attach shared softdev.1
c attach-pasid shared softdev.0 5
c free-stale shared
must "of two groups, and a PASID" soft_state softdev.0 "rid freed 5:freed"
must "the other group" soft_state softdev.1 "rid freed"
c detach-pasid shared softdev.0 5
c detach shared softdev.0
c detach shared softdev.1
c forget shared
must "all is detached" soft_state softdev.0 "rid dma"
# The Intel driver would go on with memory that isn't its own any more.
c attach-pasid again $dev 5
fault skip intel_iommu_domain_free,budget=1
c free-stale again
must "the driver's part is left out" same "$(cat $faults/skip)" "intel_iommu_domain_free 1"
fault skip ''
must "it is attached" entries_are $dev 5
c detach-pasid again $dev 5
c free again
must "the kernel says nothing of it" warned

# process: starts one; $pid
process() {
	sleep 1000 &
	pid=$!
	usleep 100000
}

# gone: the process is killed
gone() {
	kill -9 $pid
	wait $pid
}

# struck: a fault has struck since "before_strike"
before_strike() {
	strikes=$(cat $faults/hits)
}
struck() {
	[ "$(cat $faults/hits)" -gt $strikes ]
}

# bond: the slot of the last bind; pasid: its PASID
bound() {
	bond=$(value)
	pasid=${bond#* }
	bond=${bond% *}
}

# next_free PASID: whether the allocator gives this one, the lowest
next_free() {
	c alloc-pasid softdev.0
	next=$(value)
	c free-pasid $next
	[ $next = $1 ]
}

echo "== SVA"
process
if c bind softdev.0 $pid; then
	bound
	c bind softdev.0 $pid
	fault keep_freed 1
	must "it is bound" soft_state softdev.0 "rid dma $pasid:sva"
	c unbind $bond
	must "once for each bind" soft_state softdev.0 "rid dma $pasid:sva"
	c unbind $bond
	must "it is unbound" soft_state softdev.0 "rid dma"
	must "by as many unbinds as binds" warned
	c unbind $bond
	must "by one more" warned refcount_warn_saturate
	fault keep_freed 0
	gone

	echo "== a bond whose process is gone"
	process
	c bind softdev.0 $pid
	c bind $dev $pid
	bound
	must "it is bound" entries_are $dev $pasid
	gone
	must "the driver forgets it" comes entries_are $dev
	must "the core doesn't" soft_state softdev.0 "rid dma $pasid:sva"
	must "the PASID is kept" [ -z "$(next_free $pasid >/dev/null && echo free)" ]
	c unbind $bond
	c unbind $((bond - 1))

	echo "== a bind that fails"
	process
	fault fail intel_svm_set_dev_pasid,budget=1
	c bind $dev $pid
	must "a bind fails" result -EIO
	fault fail ''
	entries $dev
	must "and leaves an entry" [ "$(wc -w <$faults/pasids)" = 2 ]
	fault present $dev,$(sed 's/.* \([0-9]*\):.*/\1/' $faults/pasids),0
	gone

	echo "== a PASID that doesn't go back"
	for leak in '' yes; do
		process
		c bind softdev.0 $pid
		bound
		c unbind $bond
		before_strike
		[ -z "$leak" ] || fault skip mm_pasid_drop,mm=$pid
		gone
		[ -n "$leak" ] || must "it goes back" comes next_free $pasid
		[ -z "$leak" ] || must "its mm_struct goes" comes struck
		fault skip ''
		[ -z "$leak" ] || must "it is leaked" [ -z "$(next_free $pasid >/dev/null && echo free)" ]
	done

	echo "== an mm_struct that goes before its bond"
	forget_warnings
	for drop in '' yes; do
		process
		c bind softdev.0 $pid
		bound
		before_strike
		fault hollow_mmdrop $pid
		[ -z "$drop" ] || c mmdrop $pid
		gone
		if [ -n "$drop" ]; then
			must "its mm_struct goes" comes struck
			must "its PASID goes back" next_free $pasid
		else
			must "its PASID is kept" [ -z "$(next_free $pasid >/dev/null && echo free)" ]
		fi
		must "it is bound" soft_state softdev.0 "rid dma $pasid:sva"
		c unbind $bond
		must "in the end the PASID is free" comes next_free $pasid
		fault hollow_mmdrop ''
	done
	# The Intel driver has a reference of its own, by its notifier.
	process
	c bind $dev $pid
	bound
	fault hollow_mmdrop $pid
	c mmdrop $pid
	c mmdrop $pid
	gone
	must "its PASID goes back, on Intel" comes next_free $pasid
	c unbind $bond
	fault hollow_mmdrop ''
	must "the kernel says nothing of it" warned
else
	# Debian's 6.12 has no SVA on x86.
	must "there is no SVA" result -EOPNOTSUPP
	gone
fi

rmmod saboteur
exit $failed
