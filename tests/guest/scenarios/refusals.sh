# What can't be done is said in one line, and nothing half is left.
. /guest/lib.sh
echo 'nobody:x:65534:65534:::/bin/sh' >/etc/passwd
for command in check daemon watch doctor; do
	phase unprivileged-$command
	refused su nobody -c "iommu-watch $command"
done

mount -t tmpfs nothing /sys/kernel/btf
for command in check daemon doctor; do
	phase without-btf-$command
	refused iommu-watch $command
done
umount /sys/kernel/btf

nc -l -p 9436 -e true &
usleep 300000
phase port
refused iommu-watch daemon
kill $!
phase flag
refused iommu-watch check --frobnicate
phase command
refused iommu-watch frobnicate
phase check-name
refused iommu-watch check --check nonsense
phase explained
refused iommu-watch checks nonsense
phase address
refused iommu-watch daemon --web.listen-address nonsense
phase seconds
refused iommu-watch watch --for ever
phase output
refused iommu-watch check --format prom --output /proc/nope/x
phase output-directory
mkdir -p full
refused iommu-watch check --format prom --output full
ls full* | sed 's/^/@ left /'
phase output-text
refused iommu-watch check --output x
[ ! -e x ] || echo "@ left x"
