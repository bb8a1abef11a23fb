# The daemon from its start to its end.
. /guest/lib.sh
load softiommu
load caller
dev=softdev.0
c alloc $dev life
groups $dev
planted=$expected
expected=/tmp/config.toml
cp $planted $expected
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

# Who is refused, and whom the kernel keeps the group for.
phase refused
as owner c claim-group $dev
for i in 1 2 3; do
	as rival c claim-group $dev 1
	as tenant bind $dev softdrv
done
as owner c release-group $dev
phase refused-by-driver
as owner bind $dev softdrv
as rival c claim-group $dev 1
as owner unbind $dev
# A driver leaves its device on a domain of its own.
phase strayed
as owner bind $dev softdrv
as tenant c attach life $dev
as owner unbind $dev
phase back
as tenant c detach life $dev
as owner bind $dev softdrv
as tenant c attach life $dev
as tenant c detach life $dev
as owner unbind $dev
phase granted
as rival c claim-group $dev 1
as rival c release-group $dev
as tenant bind $dev softdrv
as tenant unbind $dev

# The configuration is read again: what is known of the host stays.
good=config_last_reload_success_timestamp_seconds
phase switched-off
printf '[check.ownership-conflict]\nenabled = false\n' | reload $good
as owner c claim-group $dev
as rival c claim-group $dev 1
as owner c release-group $dev
settle
reload $good <$planted
phase expected
{
	printf '[[expected]]\ncheck = "domain-off-default"\ndevice = "%s"\n' $dev
	printf 'reason = "it is planted here"\nuntil = 2099-12-31\n'
	cat $planted
	printf '[check.flush-range-short]\nenabled = true\n'
} | reload $good
tail -1 $watch_errors | sed 's/^/@ said /'
as owner bind $dev softdrv
as tenant c attach life $dev
as owner unbind $dev
phase bad-file
printf '[check.domain-off-default]\nenabled = false\ncolor = 1\n' | reload config_reload_success
tail -1 $watch_errors | sed 's/^/@ said /'
phase expected-no-more
reload $good <$planted
phase mended
as tenant c detach life $dev
as owner bind $dev softdrv
as tenant c attach life $dev
as tenant c detach life $dev
as owner unbind $dev

# A group goes, with nothing attached and with a PASID, where the kernel has any.
phase unplugged-clean
as remover fault unplug 0
fault plug 0
groups $dev
phase unplugged
groups $dev
as tenant c attach-pasid life $dev 6
as remover fault unplug 0
settle
phase plugged
fault plug 0
groups $dev

# It goes right after the fault, which it still must tell.
phase stop
groups $dev
as owner c claim-group $dev
as tenant c attach-pasid life $dev 5
as owner c release-group $dev
kill -TERM $watch_pid
told wait $watch_pid
tell_log
watch_pid=
as tenant c detach-pasid life $dev 5
as owner c release-group $dev
