# The hardware's PASID tables where the core keeps no account of PASIDs: two devices with one table, and a table that
# goes with an entry in it.
. /guest/lib.sh
load_pasidcap
load_saboteur
load caller
one=0000:01:00.0 two=0000:02:00.0

watch_start --audit 1
phase clean
groups $one $two
audited
as remover remove $one
rescan
audited

phase shared
groups $one $two
fault alias $one,$two
audited
phase mended
fault alias ''
audited

phase gone
groups $one
fault present $one,5,1
as remover remove $one
settle
phase back
rescan
audited
watch_stop
