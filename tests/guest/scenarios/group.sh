# Two NVMes behind one switch that doesn't isolate them make a group: a PASID that is attached must be on both.
. /guest/lib.sh
load_pasidcap devs=0000:05:00.0,0000:06:00.0
load_saboteur
load caller
one=0000:05:00.0 two=0000:06:00.0
c alloc $one both
# In 6.14 the blocked domain's set_dev_pasid took the place of remove_dev_pasid.
remove_pasid=blocking_domain_set_dev_pasid
grep -q " $remove_pasid\$" /proc/kallsyms || remove_pasid=intel_iommu_remove_dev_pasid

watch_start --audit 1
groups $one
phase clean
as tenant c attach-pasid both $one 5
audited
as tenant c detach-pasid both $one 5

phase uneven
fault only_device $two
fault skip intel_pasid_setup_first_level
as tenant c attach-pasid both $one 5
fault skip ''
settle
phase mended
as tenant c detach-pasid both $one 5
audited

# An attach fails on the second member: its own entry stays, or the first one is not brought back.
phase residue
fault fail intel_iommu_set_dev_pasid,device=$two,budget=1
as tenant c attach-pasid both $one 6
fault fail ''
settle
phase residue-mended
fault present $two,6,0
audited
phase not-brought-back
fault skip intel_iommu_set_dev_pasid,result=-5,device=$two,budget=1
fault skip $remove_pasid,device=$one,budget=1
as tenant c attach-pasid both $one 7
fault skip ''
settle
phase brought-back
fault present $one,7,0
audited
phase refused
fault skip intel_iommu_set_dev_pasid,result=-5,device=$two,budget=1
as tenant c attach-pasid both $one 8
fault skip ''
audited

# A device that goes takes the PASID with it, and one that joins later doesn't get the group's PASIDs.
phase joined
as tenant c attach-pasid both $one 5
as remover remove $two
rescan
audited
phase left
as tenant c detach-pasid both $one 5
audited
watch_stop
