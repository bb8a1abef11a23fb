# SPDX-License-Identifier: MIT OR Apache-2.0
# For the scenarios in which something around the daemon is broken: ". broken.sh" after lib.sh. $dev is a device of the
# caller's, with a domain "mine".
dev=0000:01:00.0
unbind $dev
load caller
c alloc $dev mine

# start COMMAND...: the daemon; returns when it is ready, or has ended
start() {
	"$@" >out 2>errors &
	watch_pid=$!
	ready
}
ready() {
	until wget -q -O /dev/null $watch_url/-/ready 2>/dev/null || ! kill -0 $watch_pid 2>/dev/null; do
		usleep 100000
	done
}

# seen: whether it watches, what it has raised of others than the kernel itself and what was planted, what it says, and how
# it ends
seen() {
	ready=no
	wget -q -O /dev/null $watch_url/-/ready 2>/dev/null && ready=yes
	echo "@ status ready $ready"
	kill -TERM $watch_pid 2>/dev/null
	told wait $watch_pid
	watch_pid=
	echo "@ status raised $(grep '"kind":"violation"' out | grep -vc -e kernel-advisory ${planted:+-e $planted})"
	[ -z "$planted" ] || echo "@ status planted $(grep '"kind":"violation"' out | grep -c $planted)"
	planted=
	# What it takes over is what the daemon before it has attached.
	sed '/took over after/d
		s/^iommu-watch: \([0-9]*\) of \1 hooks [a-z ]* in/iommu-watch: all hooks attached in/
		s/^iommu-watch: \([0-9]*\) of \1 hooks taken over/iommu-watch: all hooks attached/
		s/^iommu-watch: [0-9]* of [0-9]* hooks/iommu-watch: not all hooks/
		s/ (kernel types [^)]*)//; s/ in [0-9.]* s,/,/g; s/ after [0-9.]* s;/;/
		s/^/@ said /' errors
}

# broken NAME WHAT...: a phase in which that is so
broken() {
	phase $1
	shift
	echo "@ broken $*"
}

# calls: what is no fault, and would be one to whoever sees half of it
calls() {
	as owner c claim-group $dev
	as owner c attach-group mine $dev
	as owner c detach-group mine $dev
	as owner c release-group $dev
}

# lacking PHASE WHAT NAME...: a phase on a kernel that has no functions or tracepoints of these names
lacking() {
	broken "$1" "$2"
	shift 2
	btfoff -without "$@" >types || die "not all of $*"
	mount --bind types /sys/kernel/btf/vmlinux
	start iommu-watch daemon --no-pins
	umount /sys/kernel/btf/vmlinux
	calls
	settle
	listening
	seen
}

# The hooks that are attached.
listening() {
	wget -q -O - $watch_url/metrics | grep '^iommu_watch_hook_attached.* 1$'
}

# each_kind COMMAND: runs it for each kind of what the daemon listens to behind VT-d: COMMAND WHAT NAME...
each_kind() {
	$1 owners iommu_group_claim_dma_owner iommu_group_release_dma_owner iommu_device_claim_dma_owner \
		iommu_device_release_dma_owner iommu_device_use_default_domain iommu_device_unuse_default_domain \
		__iommu_release_dma_ownership
	$1 "PASIDs and processes" iommu_attach_device_pasid iommu_detach_device_pasid iommu_alloc_global_pasid \
		iommu_free_global_pasid iommu_sva_bind_device iommu_sva_unbind_device __mmdrop exit_mmap \
		iommu_report_device_fault pci_enable_pasid pci_disable_pasid pci_enable_ats pci_disable_ats
	$1 "RIDs and domains" __iommu_attach_device iommu_attach_device iommu_detach_device iommu_attach_group \
		iommu_detach_group iommu_attach_group_handle iommu_detach_group_handle iommu_replace_group_handle \
		iommu_group_replace_domain __iommu_domain_alloc iommu_domain_free
	$1 "the Intel driver" intel_pasid_setup_first_level intel_pasid_setup_second_level \
		intel_pasid_setup_pass_through intel_pasid_setup_nested intel_pasid_tear_down_entry intel_pasid_alloc_table \
		intel_pasid_free_table cache_tag_assign_domain cache_tag_unassign_domain intel_iommu_attach_device \
		qi_submit qi_submit_sync pci_device_is_present
	$1 "groups and their reading" add_device_to_group remove_device_from_group iommu_deinit_device \
		iommu_group_release iommu_get_group_resv_regions intel_iommu_get_resv_regions iommu_dma_get_resv_regions
}
