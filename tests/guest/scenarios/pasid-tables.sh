# The hardware PASID table of the real Intel driver, as a snapshot reads it.
. /guest/lib.sh
load_pasidcap
load_saboteur
load caller
dev=0000:01:00.0
c alloc $dev mine
c alloc $dev other

# look NAME: what one reading of all groups shows
look() {
	echo "@ look $1"
	iommu-watch watch -v --for 1 --format json | grep '"name":"snapshot_'
}

look none
for pasid in 1 5 63 64 4096 70000; do
	c attach-pasid mine $dev $pasid
done
c attach-pasid other $dev 7
look attached

# What the core says doesn't count here: the present bit of the entry does.
fault present "$dev,5,0"
look hidden
iommu-watch check --format json
fault present "$dev,5,1"

for pasid in 5 64 4096 70000; do
	c detach-pasid mine $dev $pasid
done
look detached

for pasid in $(seq 100 179); do
	c attach-pasid mine $dev $pasid >/dev/null
done
look many
iommu-watch check --format json
for pasid in $(seq 100 179) 1 63; do
	c detach-pasid mine $dev $pasid >/dev/null
done
c detach-pasid other $dev 7
look empty
