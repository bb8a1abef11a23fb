# The core's account of PASIDs against the hardware's tables, at every audit.
. /guest/lib.sh
load_pasidcap
load_saboteur
load caller
one=0000:01:00.0
c alloc $one mine

watch_start --audit 1
groups $one
phase clean
as tenant c attach-pasid mine $one 5
as tenant c attach-pasid mine $one 6
audited
page api/v1/groups groups

phase extra
fault present $one,7,1
audited
phase extra-mended
fault present $one,7,0
audited

phase missing
fault present $one,5,0
audited
phase missing-mended
fault present $one,5,1
audited

# The core forgets the PASID, and the driver leaves it in its table.
phase kept
fault skip intel_pasid_tear_down_entry
as tenant c detach-pasid mine $one 5
fault skip ''
audited
phase kept-mended
fault present $one,5,0
as tenant c detach-pasid mine $one 6
audited

# An attach fails, and what the driver had done by then stays.
phase residue
fault fail intel_iommu_set_dev_pasid,budget=1
as tenant c attach-pasid mine $one 9
fault fail ''
settle
phase residue-mended
fault present $one,9,0
audited
phase refused
fault skip intel_iommu_set_dev_pasid,result=-5,budget=1
as tenant c attach-pasid mine $one 9
fault skip ''
audited

# A device goes, with nothing attached and with a PASID. Nobody uses that domain again: it believes to be attached.
# (PASID 5 would be in use again without a flush, after what was left out above.)
phase gone-clean
c alloc $one doomed
as tenant c attach-pasid doomed $one 8
as tenant c detach-pasid doomed $one 8
as remover remove $one
rescan
phase gone
groups $one
as tenant c attach-pasid doomed $one 8
as remover remove $one
settle
phase back
rescan
watch_stop
