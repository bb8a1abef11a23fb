# The commands on a guest in which nothing is wrong.
. /guest/lib.sh
modprobe -a vfio-pci vfio_iommu_type1
dev=0000:01:00.0
bind $dev vfio-pci
groups $dev

phase check
told iommu-watch check
phase check-json
told iommu-watch check --format json
phase check-prom
told iommu-watch check --format prom --output /tmp/check.prom
grep '^iommu_watch_groups' /tmp/check.prom
ls /tmp/check.prom*

phase watch
iommu-watch watch --for 2 >lines 2>errors &
watcher=$!
until grep -q watching errors; do usleep 100000; done
vfio $(group $dev) 2
told wait $watcher
tail -n 12 lines
