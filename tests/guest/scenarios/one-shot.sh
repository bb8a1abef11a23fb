# What is read at one go, without having watched: a clean guest, and one with an aliased PASID table.
. /guest/lib.sh
load_pasidcap
load_saboteur
load caller
one=0000:01:00.0 two=0000:02:00.0
c alloc $one own
c alloc $two other
c attach-pasid own $one 5

phase clean
told iommu-watch check
fault alias $one,$two
c attach-pasid other $two 6
phase shared
told iommu-watch check
phase shared-json
told iommu-watch --format json
# Only what is asked for changes the exit code.
phase filtered
told iommu-watch check --check ownership-stuck

watch_start
watch_stop
c detach-pasid other $two 6
c detach-pasid own $one 5
fault alias ''
