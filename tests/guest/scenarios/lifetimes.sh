# What attachments stand on goes before them, each beside what is right: domains, PASIDs of the allocator, and the
# memory of processes. On the software IOMMU, or on the devices that are named before.
. /guest/lib.sh
if [ -z "$one" ]; then
	load softiommu
	one=softdev.0 two=softdev.1
fi
load caller

# process: starts one; $pid
process() {
	sleep 1000 &
	pid=$!
	until grep -q sleep /proc/$pid/cmdline; do usleep 50000; done
	usleep 100000
}

# gone: the process is killed, and the machine has let go of its memory where nobody else holds it
gone() {
	kill -9 $pid
	wait $pid
	usleep 300000
	let_go_of_memory
	usleep 200000
}

# unbound BOND: by the tenant, after the process has exited: its mm_struct goes with the bond
unbound() {
	as tenant c unbind $1
	let_go_of_memory
	usleep 200000
}

# bound: the slot of the last bind
bound() {
	bond=$(value)
	bond=${bond% *}
}

# asks PID: this process is bound, its device asks for a page, and it is unbound
asks() {
	as tenant c bind $one $1
	bound
	pasid=$(value)
	as device c page-request $one ${pasid#* }
	as hasty c unbind $bond
	usleep 5500000
	audited
}

# warned_of CHECK: waits until it was raised
warned_of() {
	left=300
	until tail -c +$((log_told + 1)) $watch_log | grep -q "\"violation\".*\"$1\""; do
		left=$((left - 1))
		[ $left -gt 0 ] || break
		usleep 100000
	done
}

c alloc $two others
if c alloc-pasid $one; then
	has_pasids=yes
	c free-pasid $(value)
	process
	c bind $one $pid && has_sva=yes && bound && c unbind $bond
	gone
fi
load_saboteur
watch_start --audit 1 --sva-grace 8

# domain LAST: a domain is made and attached, and goes before the detach or after it
domain() {
	groups $one $two
	as owner c claim-group $one
	as owner c claim-group $two
	as tenant c alloc $one shared
	as tenant c attach-group shared $one
	as tenant c attach-group shared $two
	[ -z "$has_pasids" ] || as tenant c attach-pasid shared $one 5
	if [ "$1" = freed ]; then
		[ -z "$static" ] || fault skip $static,budget=1
		as thief c free-stale shared
		[ -z "$static" ] || fault skip ''
	fi
	[ -z "$has_pasids" ] || as tenant c detach-pasid shared $one 5
	as tenant c detach-group shared $two
	as tenant c detach-group shared $one
	[ "$1" = freed ] || as tenant c free shared
	[ "$1" != freed ] || c forget shared
	as owner c release-group $two
	as owner c release-group $one
}

phase domain-clean
domain
phase domain-freed
domain freed

if [ -n "$has_pasids" ]; then
	c alloc $one own
	phase pasid-clean
	groups $one $two
	as tenant c alloc-pasid $one
	pasid=$(value)
	as tenant c attach-pasid own $one $pasid
	# Somebody else has chosen the same number for himself.
	as owner c claim-device $two
	as guest c attach-pasid others $two $pasid
	as tenant c detach-pasid own $one $pasid
	as tenant c free-pasid $pasid
	as guest c detach-pasid others $two $pasid
	as owner c release-device $two

	phase pasid-freed
	groups $one
	as tenant c alloc-pasid $one
	pasid=$(value)
	as tenant c attach-pasid own $one $pasid
	as thief c free-pasid $pasid
	as tenant c detach-pasid own $one $pasid
fi

if [ -n "$has_sva" ]; then
	phase sva-clean
	groups $one $two
	process
	as tenant c bind $one $pid
	bound
	first=$bond
	as tenant c bind $one $pid
	as other c bind $two $pid
	bound
	as tenant c unbind $first
	as other c unbind $bond
	as tenant c unbind $first
	gone
	# Killed while it is bound: its memory goes with the unbind.
	process
	as tenant c bind $one $pid
	bound
	gone
	unbound $bond

	# Pages are asked for, as no emulated device does. One process stays bound: with the last one the driver takes the
	# device off its queue, and that answers all.
	if [ ! -e $soft/keep_freed ]; then
		phase asked
		groups $one
		process
		as tenant c bind $one $pid
		bound
		first=$bond stays=$pid
		process
		asks $pid
		phase unanswered
		groups $one
		fault skip iommu_sva_handle_iopf
		asks $pid
		fault skip ''
		phase answered-late
		gone
		pid=$stays
		as tenant c unbind $first
		gone
		audited
	fi

	phase sva-lingers
	groups $one
	process
	as tenant c bind $one $pid
	bound
	gone
	warned_of sva-outlives-mm
	unbound $bond

	if [ -e $soft/keep_freed ]; then
		phase sva-again
		groups $one
		fault keep_freed 1
		process
		as tenant c bind $one $pid
		bound
		as tenant c unbind $bond
		as clumsy c unbind $bond
		fault keep_freed 0
		gone
	fi

	phase pasid-leaked
	groups $one
	process
	as tenant c bind $one $pid
	bound
	as tenant c unbind $bond
	fault skip mm_pasid_drop,mm=$pid
	gone
	fault skip ''

	phase sva-outlives
	groups $one
	process
	as tenant c bind $one $pid
	bound
	fault hollow_mmdrop $pid
	c mmdrop $pid
	# The Intel driver has a reference of its own, by its notifier.
	[ -e $soft/keep_freed ] || c mmdrop $pid
	gone
	as tenant c unbind $bond
	fault hollow_mmdrop ''

	phase sva-kept
	groups $one
	process
	as tenant c bind $one $pid
	bound
	fault skip iommu_sva_unbind_device,budget=1
	as clumsy c unbind $bond
	fault skip ''
fi
watch_stop
