# Teardowns of PASID entries under the real Intel driver, each of their flushes left out in turn, one that fails, some
# that are late, and one of a device that was pulled out.
. /guest/lib.sh
load_pasidcap
load_saboteur
load caller
nvme=0000:01:00.0
second=0000:02:00.0
c alloc $nvme one
c alloc $nvme two
c alloc $second theirs
pasids=; c max-pasids $nvme && pasids=yes
watch_start
groups $nvme

# torn_down PASID FAULT...: a PASID is attached and detached while the fault strikes
torn_down() {
	pasid=$1
	shift
	groups $nvme
	as tenant c attach-pasid one $nvme $pasid
	for wrong in "$@"; do fault ${wrong%%:*} "${wrong#*:}"; done
	as clumsy c detach-pasid one $nvme $pasid
	fault drop 0
	fault fail ''
	fault skip ''
	fault budget -1
}

# late US PASID: the same, and the answer to the flush of the PASID cache is so late
late() {
	fault delay "qi_submit_sync,type=7,us=$1,budget=1"
	torn_down $2
	fault delay ''
}

# crowd: from now on more tasks want to run than there are processors, until they go home. Who has waited with interrupts
# off for long has used up its time, and is preempted as soon as they are on again, before the function returns.
crowd() {
	crowd=
	for _ in 1 2 3 4; do
		while :; do :; done &
		crowd="$crowd $!"
	done
}
go_home() {
	kill $crowd
	wait $crowd 2>/dev/null
}

# pulled_out PASID: it is attached, and detached when the device is marked as disconnected
pulled_out() {
	groups $nvme
	as tenant c attach-pasid one $nvme $1
	c disconnect $nvme
	as clumsy c detach-pasid one $nvme $1
	c reconnect $nvme
}

# switched DEVICE DOMAIN FAULT...: the RID's domain is switched while the fault strikes, and switched back
switched() {
	rid=$1
	domain=$2
	shift 2
	groups $rid
	for wrong in "$@"; do fault ${wrong%%:*} "${wrong#*:}"; done
	as clumsy c attach $domain $rid
	fault drop 0
	fault fail ''
	fault budget -1
	as owner c detach $domain $rid
}

phase clean
groups $nvme
as owner c claim-group $nvme
as owner c attach one $nvme
c map one 0x10000 0x4000
c unmap one 0x10000 0x4000
if [ -n "$pasids" ]; then
	for _ in 1 2; do
		torn_down 5
	done
	# The RID is switched under it, and takes nothing with it.
	as tenant c attach-pasid two $nvme 9
fi
as owner c detach one $nvme
[ -z "$pasids" ] || as tenant c detach-pasid two $nvme 9
as owner c release-group $nvme

phase rid-pasid-cache
switched $nvme one budget:1 drop:7
phase rid-device-tlb
switched $second theirs budget:1 drop:3
phase rid-right
switched $second theirs

if [ -n "$pasids" ]; then
	phase pasid-cache
	torn_down 21 budget:1 drop:7
	phase iotlb
	torn_down 22 budget:1 drop:6
	phase device-tlb
	torn_down 23 budget:1 drop:8
	phase nothing
	torn_down 24 skip:qi_submit_sync
	phase failed
	torn_down 25 fail:qi_submit_sync,type=6,result=-5,budget=1

	phase reused
	groups $nvme
	as heir c attach-pasid two $nvme 22
	as heir c detach-pasid two $nvme 22
	phase reused-right
	groups $nvme
	as heir c attach-pasid two $nvme 22
	as heir c detach-pasid two $nvme 22

	# Late once may be an interrupt.
	phase late-once
	late 200000 26
	phase late
	late 200000 27
	phase in-time
	torn_down 29
	phase late-crowded
	crowd
	late 200000 28
	go_home
	phase dead
	late 1200000 32

	# The driver is made to believe that the device is there.
	phase absent
	fault skip "pci_device_is_present,result=1,device=$nvme"
	pulled_out 30
	fault skip ''
	phase absent-right
	pulled_out 31
else
	# There and back: twice.
	phase rid-late
	fault delay "qi_submit_sync,type=7,us=200000,budget=2"
	switched $nvme one
	fault delay ''
	phase rid-in-time
	switched $nvme one
	phase rid-dead
	fault delay "qi_submit_sync,type=7,us=1200000,budget=1"
	switched $nvme one
	fault delay ''
fi

phase outside
as owner c attach one $nvme
c map one 0x10000 0x1000
fault fail qi_submit_sync,result=-5,budget=1
as clumsy c unmap one 0x10000 0x1000
fault fail ''
as owner c detach one $nvme
watch_stop
# On 6.12 some of their cache tags are left: no scenario after this one shall have these domains.
for domain in one two theirs; do c forget $domain; done
