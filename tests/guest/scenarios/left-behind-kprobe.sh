# The same as left-behind, seen by the lower rungs of the ladder: kprobes and raw tracepoints.
watch_arguments=--no-trampolines
. /guest/scenarios/left-behind.sh
