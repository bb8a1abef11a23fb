# VT-d's cache tags: assigned and taken back as they should be; an assignment left out, an unassignment left out, each of
# a RID and of a PASID; and tags that the driver itself leaves behind.
. /guest/lib.sh
load_pasidcap
load_saboteur
load caller
nvme=0000:01:00.0
second=0000:02:00.0
for domain in one two three lost gone bare; do c alloc $nvme $domain; done
watch_start --audit 2
groups $nvme $second

# without FUNCTION COMMAND...: the first call of the function does nothing while the command runs
without() {
	fault budget 1
	fault skip $1
	shift
	"$@"
	fault skip ''
	fault budget -1
}

phase clean
groups $nvme
as owner c claim-group $nvme
as owner c attach one $nvme
# One domain for a RID and two PASIDs, another for two devices.
as tenant c attach-pasid one $nvme 5
as tenant c attach-pasid one $nvme 6
as tenant c attach-pasid two $nvme 7
as tenant c attach-pasid two $second 7
c map one 0x10000 0x4000
c unmap one 0x10000 0x4000
as tenant c detach-pasid one $nvme 5
as tenant c detach-pasid two $nvme 7
as tenant c detach-pasid two $second 7
as owner c detach one $nvme
as owner c attach three $nvme
as owner c detach three $nvme
as owner c attach one $nvme
as tenant c detach-pasid one $nvme 6
as owner c detach one $nvme
as owner c release-group $nvme

# The driver gives up half-way, and takes its tags back.
phase refused
groups $nvme
for setup in intel_pasid_setup_first_level intel_pasid_setup_second_level; do
	fault skip $setup,result=-12,budget=1
done
as tenant c attach-pasid two $nvme 8
fault skip ''

phase missing-pasid
groups $nvme
without cache_tag_assign_domain as clumsy c attach-pasid two $nvme 21
as tenant c detach-pasid two $nvme 21

phase missing-rid
groups $second
without cache_tag_assign_domain as clumsy c attach bare $second
as owner c detach bare $second

phase leaked-pasid
groups $nvme
as tenant c attach-pasid lost $nvme 22
without cache_tag_unassign_domain as clumsy c detach-pasid lost $nvme 22

phase leaked-rid
groups $second
as owner c attach gone $second
without cache_tag_unassign_domain as clumsy c detach gone $second

phase right
groups $nvme $second
as tenant c attach-pasid two $nvme 21
as tenant c detach-pasid two $nvme 21
as owner c attach bare $second
as owner c detach bare $second

# Up to 6.14 the driver switches ATS off while the RID is blocked, and the tag of a PASID stays then.
phase blocked
groups $nvme
as owner c claim-group $nvme
as owner c attach one $nvme
as tenant c attach-pasid three $nvme 23
as owner c detach one $nvme
as tenant c detach-pasid three $nvme 23
as owner c release-group $nvme

# A tag that is left points to its device: the domains go before that does.
phase freed
for domain in one two three lost gone bare; do c free $domain; done

# From 6.15 a device's ATS comes on in probe_finalize, and its tag with it: that is told by no event, and read by looks.
if grep -q ' T cache_tag_assign$' /proc/kallsyms; then
	again() {
		groups $nvme
		remove $nvme
		fault skip "$1"
		rescan
		fault skip ''
		audited
	}
	phase finalized
	again ''
	phase unfinalized
	again cache_tag_assign
	phase finalized-again
	again ''
fi
watch_stop
