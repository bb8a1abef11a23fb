# A PASID is detached twice, and by the name of another domain, on the software IOMMU; and a device asks for pages with
# one that it has not any more, or gets no response.
. /guest/lib.sh
load softiommu
load caller
dev=softdev.0
c alloc $dev one
c alloc $dev two
# Only newer kernels can replace: they say that there is nothing to be replaced.
c replace-pasid two $dev 5
[ "$(cat $caller)" = -EOPNOTSUPP ] || can_replace=yes
watch_start --audit 1
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

# What its device asked for with a PASID is answered: before the detach (6), by the core since it fails (7), just after the
# detach (8); or the PASID is attached still (9).
phase answered
c queue $dev
c hold-requests one
c refuse-requests two
for pasid in 6 8 9; do
	as tenant c attach-pasid-handle one $dev $pasid
	as device c page-request $dev $pasid
done
as tenant c attach-pasid-handle two $dev 7
as device c page-request $dev 7
c answer 6
for pasid in 6 8; do
	as tenant c detach-pasid one $dev $pasid
done
as tenant c detach-pasid two $dev 7
c answer 8
usleep 5500000
audited

phase unanswered
as tenant c attach-pasid-handle one $dev 6
as device c page-request $dev 6
as hasty c detach-pasid one $dev 6
usleep 5500000
audited
# Who turns page requests off answers those that wait.
phase answered-late
c unqueue $dev
as tenant c detach-pasid one $dev 9
audited
watch_stop
