# What the scenario "record" and the golden recordings have in them: a group, a device and a driver let go with a
# PASID left behind, and the same mended or done rightly. Before 6.2 there are no PASIDs, and nothing is wrong.

# record_start FILE [ARGUMENT]...: returns when it records and judges
record_start() {
	file=$1
	shift
	iommu-watch record --format json -o $file "$@" >$file.said 2>$file.errors &
	record_pid=$!
	until grep -q 'recording to' $file.errors; do
		[ -e /proc/$record_pid ] || die "no recording: $(cat $file.errors)"
		usleep 100000
	done
	# Calls from before may be under way for so long.
	usleep 500000
}

# record_stop: tells how it ended
record_stop() {
	kill -TERM $record_pid
	told wait $record_pid
}

# mend_left DEVICE RELEASE: before 6.2 nothing was left, and to release once more would be a fault
mend_left() {
	case $(uname -r) in
	6.1.*) ;;
	*) mend "$@" ;;
	esac
}

one=softdev.0 pair=softdev.2 driven=softdev.1

record_workload() {
	for dev in $one $pair $driven; do
		c alloc $dev d-$dev
	done
	as owner c claim-group $one
	as owner c attach-group d-$one $one
	as owner c detach-group d-$one $one
	as owner c release-group $one
	let_go $one claim-group release-group
	let_go $one claim-group release-group left
	mend_left $one release-group
	let_go $pair claim-device release-device left
	mend_left $pair release-device
	unbind_driver $driven softdrv left
}
