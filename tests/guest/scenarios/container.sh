# The daemon as the DaemonSet starts it: PID 1 of a container, with three capabilities, and of the host's nothing but a
# directory for its pins.
. /guest/lib.sh
dev=0000:01:00.0
unbind $dev
expected=
watch_as="container /bin/iommu-watch"
# As the kubelet makes it.
export PINS=/sys/fs/bpf/iommu-watch
mkdir $PINS
watch_pins="--pin-directory /pins"
watch_start
watched=$(pidof iommu-watch)
sed -n 's/^\(Uid\|NSpid\|CapEff\|CapPrm\|CapBnd\|NoNewPrivs\):.*\t\([^\t]*\)$/@ status \1 \2/p' /proc/$watched/status

load caller
phase claimed
groups $dev
as owner c claim-group $dev
as owner c release-group $dev
watch_stop

# What happens until there is another pod is for that one.
as owner c claim-group $dev
as rival c claim-group $dev 1
as owner c release-group $dev
watch_next /tmp/next
echo "@ said $(grep -c '"check":"ownership-conflict"' /tmp/next) told"
# As packaging/kubernetes/unpin.yaml has it.
container /bin/iommu-watch iommu-watch daemon --unpin $watch_pins
echo "@ said $(ls $PINS | wc -l) pinned"
