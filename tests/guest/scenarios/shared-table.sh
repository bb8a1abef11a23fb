# Two devices of the Intel driver get one PASID table.
. /guest/lib.sh
load_pasidcap
load_saboteur
load caller
one=0000:01:00.0 two=0000:02:00.0
c alloc $one mine
c alloc $two theirs

# attach_both, detach_both: a PASID of its own on each
attach_both() {
	as tenant c attach-pasid mine $one 5
	as neighbour c attach-pasid theirs $two 6
}
detach_both() {
	as neighbour c detach-pasid theirs $two 6
	as tenant c detach-pasid mine $one 5
}

watch_start
groups $one $two
phase clean
attach_both
detach_both

phase shared
fault alias $one,$two
attach_both
detach_both

phase mended
fault alias ''
attach_both
detach_both
watch_stop
