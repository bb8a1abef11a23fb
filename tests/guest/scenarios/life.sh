# The daemon from its start to its end.
. /guest/lib.sh
load softiommu
load caller
dev=softdev.0
c alloc $dev life
groups $dev
watch_start

phase pages
for name in -/healthy -/ready metrics api/v1/groups api/v1/violations ''; do
	told wget -q -O /dev/null $watch_url/$name
done
told wget -q -O /dev/null $watch_url/nowhere
phase port
refused iommu-watch daemon

phase claimed
as owner c claim-group $dev
as owner c attach-group life $dev
settle
page api/v1/groups groups
phase let-go
as owner c detach-group life $dev
as owner c release-group $dev
settle
page api/v1/groups groups

# It goes right after the fault, which it still must tell.
phase stop
as owner c claim-group $dev
as tenant c attach-pasid life $dev 5
as owner c release-group $dev
kill -TERM $watch_pid
told wait $watch_pid
tell_log
watch_pid=
as tenant c detach-pasid life $dev 5
as owner c release-group $dev
