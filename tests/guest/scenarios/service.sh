# The daemon as the unit starts it: no user of its own, three capabilities, and a service manager that wants to hear of it.
. /guest/lib.sh
dev=0000:01:00.0
unbind $dev
watch_as="service 3000000 /tmp/told"
# The directory that the unit makes for it.
pins=/sys/fs/bpf/iommu-watch
mkdir -m 0700 $pins
chown 65534 $pins
watch_pins=
watch_start
watched=$(pidof iommu-watch)
sed -n 's/^\(Uid\|CapEff\|CapPrm\|CapBnd\|NoNewPrivs\):\t*\([^\t]*\).*/@ status \1 \2/p' /proc/$watched/status

load caller
phase refused
groups $dev
as owner c claim-group $dev
as rival c claim-group $dev 1
as owner c release-group $dev
# Longer than the service manager waits.
sleep 4
watch_stop
sed 's/^/@ notified /' /tmp/told
# What it has left is taken over by the next, as whose user it is.
watch_next /tmp/next
iommu-watch daemon --unpin
