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

# A known defect that this kernel's types tell, and the same where they tell its fix.
for verdict in affected fixed; do
	phase $verdict
	told iommu-watch check --format json --advisories /guest/advisories/$verdict.toml
done

phase watch
iommu-watch watch --for 2 >lines 2>errors &
watcher=$!
until grep -q watching errors; do usleep 100000; done
vfio $(group $dev) 2
told wait $watcher
tail -n 12 lines
