# A PASID is detached twice, and by the name of another domain, under the real Intel driver.
. /guest/lib.sh
load_pasidcap
load caller
dev=0000:01:00.0
c alloc $dev one
c alloc $dev two
watch_start
groups $dev

phase clean
as owner c claim-device $dev
for _ in 1 2; do
	as tenant c attach-pasid one $dev 5
	as tenant c detach-pasid one $dev 5
done
as tenant c attach-pasid two $dev 5
as clumsy c detach-pasid two $dev 5
as owner c release-device $dev

phase twice
as tenant c attach-pasid one $dev 5
as tenant c detach-pasid one $dev 5
as clumsy c detach-pasid one $dev 5

# The driver keeps the PASID in the list of the first, which is therefore not used any more.
phase another
as tenant c attach-pasid one $dev 5
as clumsy c detach-pasid two $dev 5
watch_stop
# What was detached under another's name has left its cache tags: no scenario after this one shall have these domains.
c forget one
c forget two
