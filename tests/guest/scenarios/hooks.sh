# What the daemon does on a kernel that lacks one function or tracepoint that it listens to: each of them, one at a time.
. /guest/lib.sh
. /guest/broken.sh

lacking whole "the kernel lacks nothing"

# alone WHAT NAME...: a phase for each name
alone() {
	shift
	for name in "$@"; do
		lacking "without-$name" "the kernel has no $name" $name
	done
}
each_kind alone
forget_warnings
