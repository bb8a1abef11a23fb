# The sequence that all of this began with: d1 is attached to a device, then d2 to one of its PASIDs (a process is bound,
# where the kernel has SVA), then d1 is detached. What happened to d2? (a) nothing; (b) it is gone; (c) the detach is
# refused.
. /guest/lib.sh
load_pasidcap
load_saboteur
load softiommu
load caller
# The driver is bound only where it is said here.
echo 0 >/sys/bus/pci/drivers_autoprobe
dev=0000:01:00.0
other=softdev.0
for at in $dev $other; do
	c alloc $at d1-$at
	c alloc $at d2-$at
done
sleep 10000 &
process=$!
usleep 100000

# Before 6.2 there is no way to attach a PASID; SVA may be there and refuse.
second() {
	if [ $1 != $other ] && as user c bind $1 $process; then
		bond=$(value)
		bond=${bond% *}
		d2=sva
	elif as user c attach-pasid d2-$1 $1 5; then
		d2=pasid
	else
		d2=none
		echo "seed: not possible on this kernel: $(cat $caller)"
	fi
	echo "@ second $d2"
}

second_gone() {
	case $d2 in
	sva) as user c unbind $bond ;;
	pasid) as user c detach-pasid d2-$1 $1 5 ;;
	esac
}

# sequence DEVICE [FAULT VALUE]
sequence() {
	groups $1
	as owner c claim-group $1
	as driver c attach d1-$1 $1
	second $1
	[ -z "$2" ] || fault $2 $3
	as driver c detach d1-$1 $1
	if [ $1 = $other ]; then grep "^$1 " $soft/state; else entries $1; fi
	[ -z "$2" ] || fault $2 "$4"
	second_gone $1
	as owner c release-group $1
}

# handed DOMAIN: userspace gets a PASID, and gives it back
handed() {
	groups $dev
	as owner c claim-group $dev
	as user c attach-pasid $1 $dev 5
	as user c detach-pasid $1 $dev 5
	as owner c release-group $dev
}

# Here nobody expects anything of the drivers, and the verdict on them is asked for.
expected=
watch_start
# Before 6.2 there is no call for it. The driver broke nothing so far; what it breaks later is known then.
case $(uname -r) in
6.1.*) ;;
*)
	phase unknown
	handed d2-$dev
	;;
esac
phase a
sequence $dev
[ $d2 = none ] || {
	phase b
	sequence $dev rid_drops_pasids $dev
	phase handed
	# On 6.12 the other has cache tags left, which is told in the phases before.
	c alloc $dev d3
	handed d3
	phase a-softiommu
	sequence $other
	phase c
	sequence $other refuse_switch 1 0
	phase verdict
	page api/v1/conformance verdicts
}
watch_stop
kill $process
