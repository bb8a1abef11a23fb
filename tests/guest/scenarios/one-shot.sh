# What is read at one go, without having watched: each fault beside the same without it.
. /guest/lib.sh
load_pasidcap
load_saboteur
load caller
modprobe -a nvme vfio-pci
one=0000:01:00.0 two=0000:02:00.0
c alloc $one mine
c alloc $two theirs

# look NAME: a phase that is one look
look() {
	phase $1
	groups $one $two
	told iommu-watch check --format json
}

bind $one nvme
bind $two vfio-pci
c attach-pasid mine $one 5
c claim-group $two
c attach-group theirs $two
c attach-pasid theirs $two 6
look clean
phase text
told iommu-watch

# Both owners go, and leave their PASIDs.
unbind $one
unbind $two
c detach-group theirs $two
c release-group $two
look left
# Only what is asked for changes the exit code.
phase filtered
told iommu-watch check --check attach-imbalance
# With the PASIDs gone what they caused is still there.
c detach-pasid mine $one 5
c detach-pasid theirs $two 6
look stuck
c release-group $two
look released

# Somebody leaves a free group on a domain of his.
c attach theirs $two
look astray
c detach theirs $two
look back

# The hardware's table and the core's account.
fault present $two,9,1
look extra
fault present $two,9,0
bind $two nvme
c attach-pasid theirs $two 6
fault present $two,6,0
look missing
fault present $two,6,1
look agreed

# Two devices with one table.
c detach-pasid theirs $two 6
bind $one nvme
c attach-pasid mine $one 5
fault alias $one,$two
c attach-pasid theirs $two 6
look shared
# The daemon that comes later says the same, first of all.
watch_start
watch_stop
c detach-pasid theirs $two 6
c detach-pasid mine $one 5
fault alias ''
