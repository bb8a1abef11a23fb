# The daemon as the DaemonSet starts it: PID 1 of a container, with three capabilities and nothing of the host's.
. /guest/lib.sh
dev=0000:01:00.0
unbind $dev
expected=
watch_as="container /bin/iommu-watch"
watch_start
watched=$(pidof iommu-watch)
sed -n 's/^\(Uid\|NSpid\|CapEff\|CapPrm\|CapBnd\|NoNewPrivs\):.*\t\([^\t]*\)$/@ status \1 \2/p' /proc/$watched/status

load caller
phase claimed
groups $dev
as owner c claim-group $dev
as owner c release-group $dev
watch_stop
