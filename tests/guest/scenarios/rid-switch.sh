# A RID's domain is switched while the device has PASIDs, under the real Intel driver: it keeps them, loses them, refuses
# the switch. What the PASIDs rely on is switched off. A PASID is not taken off. And resets, inside which all of it is
# right, and which give back what they took, or don't.
. /guest/lib.sh
load_pasidcap
load_saboteur
load caller
echo 0 >/sys/bus/pci/drivers_autoprobe
dev=0000:01:00.0
second=0000:02:00.0
c alloc $dev rid
c alloc $dev pasid

pasids() {
	as tenant c $1-pasid pasid $dev 5
	as tenant c $1-pasid pasid $dev 70
}

# switches: the owner attaches a domain to the RID, and detaches it
switches() {
	as owner c attach rid $dev
	as owner c detach rid $dev
}

# reset DEVICE: by its function, FLR
reset() {
	as owner eval "echo 1 >/sys/bus/pci/devices/$1/reset"
}

watch_start
groups $dev $second

phase empty
as owner c claim-device $dev
switches
phase kept
pasids attach
switches
pasids detach
phase lost
pasids attach
fault rid_drops_pasids $dev
switches
fault rid_drops_pasids ''
pasids detach
phase refused
pasids attach
fault rid_refuses $dev
as owner c attach rid $dev
fault rid_refuses ''
pasids detach

# On 6.12 ATS is on with a domain of the RID only.
phase off-empty
as owner c attach rid $dev
as saboteur c disable-ats $dev
as saboteur c enable-ats $dev
as saboteur c disable-pasid $dev
as saboteur c enable-pasid $dev
pasids attach
phase ats-off
as saboteur c disable-ats $dev
as saboteur c enable-ats $dev
phase pasid-off
as saboteur c disable-pasid $dev
as saboteur c enable-pasid $dev
phase off-again
pasids detach
as owner c detach rid $dev

if grep -q ' blocking_domain_set_dev_pasid$' /proc/kallsyms; then
	phase not-taken-off
	pasids attach
	fault skip blocking_domain_set_dev_pasid,result=-5,budget=1
	as saboteur c detach-pasid pasid $dev 5
	fault skip ''
	fault present $dev,5,0
	as tenant c detach-pasid pasid $dev 70
fi

phase reset
pasids attach
reset $dev
entries $dev
if grep -q ' pci_dev_reset_iommu_done$' /proc/kallsyms; then
	phase reset-no-rid
	as owner c attach rid $dev
	fault skip intel_iommu_attach_device,result=-12,device=$dev,budget=1
	reset $dev
	fault skip ''
	phase reset-no-pasid
	fault skip intel_iommu_set_dev_pasid,device=$dev,budget=1
	reset $dev
	fault skip ''
	entries $dev
	phase reset-mends
	reset $dev
	entries $dev
	as owner c detach rid $dev
	# Done isn't called, and is called in vain.
	phase flr-unpaired
	fault flr_unpaired $second
	reset $second
	fault flr_unpaired ''
	phase reset-not-done
	fault skip pci_dev_reset_iommu_done,device=$dev,budget=1
	reset $dev
	fault skip ''
	entries $dev
	# The device is blocked: nothing of its PASIDs is in the hardware.
	as saboteur c disable-pasid $dev
	as saboteur c enable-pasid $dev
fi
phase end
pasids detach
as owner c release-device $dev
watch_stop
remove $dev
remove $second
rescan
