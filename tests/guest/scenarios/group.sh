# Two NVMes behind one switch that doesn't isolate them make a group: a PASID that is attached must be on both.
. /guest/lib.sh
load_pasidcap devs=0000:05:00.0,0000:06:00.0
load_saboteur
load caller
one=0000:05:00.0 two=0000:06:00.0
c alloc $one both

watch_start --audit 2
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
audited
phase mended
as tenant c detach-pasid both $one 5
audited

# A device that joins later doesn't get the group's PASIDs.
phase joined
as tenant c attach-pasid both $one 5
remove $two
rescan
audited
phase left
as tenant c detach-pasid both $one 5
audited
watch_stop
