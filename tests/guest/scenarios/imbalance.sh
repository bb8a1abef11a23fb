# A PASID is detached twice, and by the name of another domain, on the software IOMMU; and a device asks for pages with
# one that it has not any more.
. /guest/lib.sh
load softiommu
load caller
dev=softdev.0
c alloc $dev one
c alloc $dev two
# Only newer kernels can replace: they say that there is nothing to be replaced.
c replace-pasid two $dev 5
[ "$(cat $caller)" = -EOPNOTSUPP ] || can_replace=yes
watch_start
groups $dev

phase clean
as owner c claim-device $dev
for _ in 1 2; do
	as tenant c attach-pasid one $dev 5
	as tenant c detach-pasid one $dev 5
done
# The same PASID from another domain, once the first has gone.
as tenant c attach-pasid two $dev 5
as clumsy c detach-pasid two $dev 5
as owner c release-device $dev

phase twice
as tenant c attach-pasid one $dev 5
as tenant c detach-pasid one $dev 5
as clumsy c detach-pasid one $dev 5

phase another
as tenant c attach-pasid one $dev 5
as clumsy c detach-pasid two $dev 5

if [ -n "$can_replace" ]; then
	phase replace
	as tenant c attach-pasid-handle one $dev 5
	as successor c replace-pasid two $dev 5
	as successor c detach-pasid two $dev 5

	phase replaced
	as tenant c attach-pasid-handle one $dev 5
	as successor c replace-pasid two $dev 5
	as clumsy c detach-pasid one $dev 5
fi

# Page requests are for PASIDs that are attached, or never were, or were detached just now.
phase requests
as tenant c attach-pasid one $dev 5
as device c page-request $dev 5
as device c page-request $dev 9
as tenant c "repeat 1 detach-pasid one $dev 5; page-request $dev 5"
phase request-late
usleep 1200000
as device c page-request $dev 5
watch_stop
