// SPDX-License-Identifier: GPL-2.0
/*
 * A caller of the IOMMU API that does what it is told, right or wrong.
 *
 * One command per write to /proc/iommu-caller. write() fails with the errno of
 * the API call; a read gives the result of the last command, "0 [VALUE]" or the
 * error's name: of this open file's last one, else of anybody's. No lock is held
 * around an API call, so two writers really race.
 */
#include <linux/iommu.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pci-ats.h>
#include <linux/pci.h>
#include <linux/platform_device.h>
#include <linux/proc_fs.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>
#include <linux/version.h>

#define KERNEL_HAS_PASIDS (LINUX_VERSION_CODE >= KERNEL_VERSION(6, 11, 0))
#define KERNEL_HAS_REPLACE (LINUX_VERSION_CODE >= KERNEL_VERSION(6, 15, 0))

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0)
MODULE_IMPORT_NS("IOMMUFD_INTERNAL");
#else
MODULE_IMPORT_NS(IOMMUFD_INTERNAL);
#endif

#define MAX_ARGS 5
#define MAX_BONDS 256
#define MAX_OWNERS 8

struct call {
	int argc;
	char *argv[MAX_ARGS];
	char out[32];
};

struct named_domain {
	struct list_head link;
	struct iommu_domain *domain;
	char name[];
};

static LIST_HEAD(domains);
static DEFINE_MUTEX(lock);	/* domains, bonds, last_result */
static struct iommu_sva *bonds[MAX_BONDS];
static unsigned int nr_bonds;
static char owners[MAX_OWNERS];	/* owner cookies, only their addresses count */
static char last_result[64] = "0\n";
static struct page *target;	/* what every "map" maps */

static struct device *find_device(const char *name)
{
	struct device *dev = bus_find_device_by_name(&pci_bus_type, NULL, name);

	return dev ?: bus_find_device_by_name(&platform_bus_type, NULL, name);
}

static struct iommu_domain *find_domain(const char *name)
{
	struct iommu_domain *domain = NULL;
	struct named_domain *pos;

	mutex_lock(&lock);
	list_for_each_entry(pos, &domains, link)
		if (!strcmp(pos->name, name))
			domain = pos->domain;
	mutex_unlock(&lock);
	return domain;
}

static int name_domain(const char *name, struct iommu_domain *domain)
{
	size_t size = strlen(name) + 1;
	struct named_domain *named;

	named = kzalloc(sizeof(*named) + size, GFP_KERNEL);
	if (!named)
		return -ENOMEM;
	named->domain = domain;
	memcpy(named->name, name, size);
	mutex_lock(&lock);
	list_add(&named->link, &domains);
	mutex_unlock(&lock);
	return 0;
}

static struct iommu_domain *forget_domain(const char *name)
{
	struct iommu_domain *domain = NULL;
	struct named_domain *pos, *next;

	mutex_lock(&lock);
	list_for_each_entry_safe(pos, next, &domains, link) {
		if (strcmp(pos->name, name))
			continue;
		domain = pos->domain;
		list_del(&pos->link);
		kfree(pos);
		break;
	}
	mutex_unlock(&lock);
	return domain;
}

static struct iommu_domain *alloc_domain(struct device *dev)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 11, 0)
	return iommu_paging_domain_alloc(dev);
#else
	return iommu_domain_alloc(dev->bus) ?: ERR_PTR(-ENODEV);
#endif
}

/* The commands. Each gets what it names looked up: see struct command. */
struct target {
	struct device *dev;
	struct iommu_group *group;
	struct iommu_domain *domain;
	struct call *call;
	u32 nr[3];		/* the numbers of the command, in their order */
	u64 iova;
	size_t size;
};

static int do_alloc(struct target *t)
{
	struct iommu_domain *domain = alloc_domain(t->dev);
	int ret;

	if (IS_ERR(domain))
		return PTR_ERR(domain);
	ret = name_domain(t->call->argv[2], domain);
	if (ret)
		iommu_domain_free(domain);
	return ret;
}

/* Names the domain that the device's RID is on, as idxd's system PASID needs. */
static int do_current(struct target *t)
{
	struct iommu_domain *domain = iommu_get_domain_for_dev(t->dev);

	return domain ? name_domain(t->call->argv[2], domain) : -ENODEV;
}

static int do_forget(struct target *t)
{
	return forget_domain(t->call->argv[1]) ? 0 : -ENOENT;
}

static int do_free(struct target *t)
{
	forget_domain(t->call->argv[1]);
	iommu_domain_free(t->domain);
	return 0;
}

/* The name stays and is stale, so that one can go on using what was freed. */
static int do_free_stale(struct target *t)
{
	iommu_domain_free(t->domain);
	return 0;
}

static int do_attach(struct target *t)
{
	return iommu_attach_device(t->domain, t->dev);
}

static int do_detach(struct target *t)
{
	iommu_detach_device(t->domain, t->dev);
	return 0;
}

/* What AMD's driver says when a device's DMA faults. */
static int do_io_fault(struct target *t)
{
	/* Nobody has asked to be told: -ENOSYS. */
	report_iommu_fault(t->domain, t->dev, t->iova, IOMMU_FAULT_READ);
	return 0;
}

static int do_attach_group(struct target *t)
{
	return iommu_attach_group(t->domain, t->group);
}

static int do_detach_group(struct target *t)
{
	iommu_detach_group(t->domain, t->group);
	return 0;
}

static int do_claim_group(struct target *t)
{
	return iommu_group_claim_dma_owner(t->group,
					   &owners[t->nr[0] % MAX_OWNERS]);
}

static int do_release_group(struct target *t)
{
	iommu_group_release_dma_owner(t->group);
	return 0;
}

static phys_addr_t target_phys(void)
{
	return page_to_phys(target);
}

static int do_map(struct target *t)
{
	size_t done;
	int ret;

	for (done = 0; done < t->size; done += PAGE_SIZE) {
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
		ret = iommu_map(t->domain, t->iova + done, target_phys(),
				PAGE_SIZE, IOMMU_READ | IOMMU_WRITE, GFP_KERNEL);
#else
		ret = iommu_map(t->domain, t->iova + done, target_phys(),
				PAGE_SIZE, IOMMU_READ | IOMMU_WRITE);
#endif
		if (ret)
			return ret;
	}
	return 0;
}

static int do_unmap(struct target *t)
{
	return iommu_unmap(t->domain, t->iova, t->size) == t->size ? 0 : -ENOENT;
}

/* Leaves the IOTLB stale: the gather is never synced. */
static int do_unmap_nosync(struct target *t)
{
	struct iommu_iotlb_gather gather;

	iommu_iotlb_gather_init(&gather);
	return iommu_unmap_fast(t->domain, t->iova, t->size, &gather) ==
		t->size ? 0 : -ENOENT;
}

/* Bonds keep their slot when they are unbound, so that one can unbind twice. */
static int do_bind(struct target *t)
{
	struct task_struct *task = NULL;
	unsigned int slot = 0;
	struct mm_struct *mm;
	struct iommu_sva *bond;
	struct pid *pid;
	int ret = 0;

	if (t->nr[0]) {
		pid = find_get_pid(t->nr[0]);
		task = get_pid_task(pid, PIDTYPE_PID);
		put_pid(pid);
		if (!task)
			return -ESRCH;
	}
	mm = get_task_mm(task ?: current);
	if (task)
		put_task_struct(task);
	if (!mm)
		return -ESRCH;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 2, 0)
	bond = iommu_sva_bind_device(t->dev, mm);
#else
	bond = iommu_sva_bind_device(t->dev, mm, NULL);
#endif
	mmput(mm);
	if (IS_ERR(bond))
		return PTR_ERR(bond);

	mutex_lock(&lock);
	while (slot < nr_bonds && bonds[slot])
		slot++;
	if (slot < MAX_BONDS) {
		bonds[slot] = bond;
		nr_bonds = max(nr_bonds, slot + 1);
		snprintf(t->call->out, sizeof(t->call->out), "%u %u", slot,
			 iommu_sva_get_pasid(bond));
	} else {
		ret = -ENOSPC;
	}
	mutex_unlock(&lock);
	if (ret)
		iommu_sva_unbind_device(bond);
	return ret;
}

/* Takes a reference to the mm_struct away from whoever holds it. */
static int do_mmdrop(struct target *t)
{
	struct pid *pid = find_get_pid(t->nr[0]);
	struct task_struct *task = get_pid_task(pid, PIDTYPE_PID);
	struct mm_struct *mm;

	put_pid(pid);
	if (!task)
		return -ESRCH;
	mm = get_task_mm(task);
	put_task_struct(task);
	if (!mm)
		return -ESRCH;
	mmdrop(mm);	/* not the last one: its users hold one */
	mmput(mm);
	return 0;
}

/* What is done to a PCI device behind the back of whoever relies on it. */
static struct pci_dev *pci_of(struct target *t)
{
	return dev_is_pci(t->dev) ? to_pci_dev(t->dev) : NULL;
}

static int do_pasid_off(struct target *t)
{
	if (!pci_of(t))
		return -ENODEV;
	pci_disable_pasid(pci_of(t));
	return 0;
}

static int do_pasid_on(struct target *t)
{
	if (!pci_of(t))
		return -ENODEV;
	return pci_enable_pasid(pci_of(t), pci_pasid_features(pci_of(t)));
}

static int do_ats_off(struct target *t)
{
	if (!pci_of(t))
		return -ENODEV;
	pci_disable_ats(pci_of(t));
	return 0;
}

static int do_ats_on(struct target *t)
{
	return pci_of(t) ? pci_enable_ats(pci_of(t), PAGE_SHIFT) : -ENODEV;
}

/* As a hotplug driver marks a device that was pulled out. */
static int do_disconnect(struct target *t)
{
	if (!pci_of(t))
		return -ENODEV;
	pci_of(t)->error_state = pci_channel_io_perm_failure;
	return 0;
}

static int do_reconnect(struct target *t)
{
	if (!pci_of(t))
		return -ENODEV;
	pci_of(t)->error_state = pci_channel_io_normal;
	return 0;
}

#if KERNEL_HAS_PASIDS
/* As an IOMMU's driver reports that a device asks for a page. */
static int do_page_request(struct target *t)
{
	struct iopf_fault request = {
		.fault.type = IOMMU_FAULT_PAGE_REQ,
		.fault.prm = {
			.flags = IOMMU_FAULT_PAGE_REQUEST_PASID_VALID |
				 IOMMU_FAULT_PAGE_REQUEST_LAST_PAGE,
			.pasid = t->nr[0],
			.perm = IOMMU_FAULT_PERM_READ,
		},
	};

	return iommu_report_device_fault(t->dev, &request);
}

/*
 * Who handles page requests: a queue of ours for devices whose IOMMU's driver
 * has none, and handlers for domains. The core finds a handler by the handle
 * that a PASID was attached with.
 */
static struct iopf_queue *requests;
static LIST_HEAD(held);		/* struct iopf_group, by node */
static DEFINE_MUTEX(held_lock);

static int do_queue(struct target *t)
{
	if (!requests)
		requests = iopf_queue_alloc("iommu-caller");
	return requests ? iopf_queue_add_device(requests, t->dev) : -ENOMEM;
}

/* The core answers what waits, and frees it. */
static int do_unqueue(struct target *t)
{
	struct iopf_group *pos, *next;

	if (!requests || !t->dev->iommu->fault_param)
		return -ENOENT;
	mutex_lock(&held_lock);
	list_for_each_entry_safe(pos, next, &held, node)
		if (pos->fault_param->dev == t->dev)
			list_del(&pos->node);
	iopf_queue_remove_device(requests, t->dev);
	mutex_unlock(&held_lock);
	return 0;
}

static int hold_request(struct iopf_group *request)
{
	mutex_lock(&held_lock);
	list_add_tail(&request->node, &held);
	mutex_unlock(&held_lock);
	return 0;
}

/* The core answers that it failed. */
static int refuse_request(struct iopf_group *request)
{
	return -EBUSY;
}

static int do_hold_requests(struct target *t)
{
	t->domain->iopf_handler = hold_request;
	return 0;
}

static int do_refuse_requests(struct target *t)
{
	t->domain->iopf_handler = refuse_request;
	return 0;
}

/* Of this PASID, or all. */
static void answer(u32 pasid, bool all)
{
	struct iopf_group *pos, *next;

	mutex_lock(&held_lock);
	list_for_each_entry_safe(pos, next, &held, node) {
		if (!all && pos->last_fault.fault.prm.pasid != pasid)
			continue;
		list_del(&pos->node);
		iopf_group_response(pos, IOMMU_PAGE_RESP_SUCCESS);
		iopf_free_group(pos);
	}
	mutex_unlock(&held_lock);
}

static int do_answer(struct target *t)
{
	answer(t->nr[0], false);
	return 0;
}

static void free_requests(void)
{
	answer(0, true);
	iopf_queue_free(requests);
}

/* From drivers/iommu/iommu-priv.h, which no headers package has. */
int iommu_attach_group_handle(struct iommu_domain *domain,
			      struct iommu_group *group,
			      struct iommu_attach_handle *handle);
void iommu_detach_group_handle(struct iommu_domain *domain,
			       struct iommu_group *group);
int iommu_replace_group_handle(struct iommu_group *group,
			       struct iommu_domain *new_domain,
			       struct iommu_attach_handle *handle);
int iommu_replace_device_pasid(struct iommu_domain *domain,
			       struct device *dev, ioasid_t pasid,
			       struct iommu_attach_handle *handle);

/*
 * The last unbind frees the bond. To be unbound once more without breaking the
 * kernel it must be memory of ours again: the allocator gives out last what came
 * in last.
 */
static bool revive(struct iommu_sva *bond, const struct iommu_sva *copy)
{
	struct { void *next; } *others = NULL, *got = NULL;
	int i;

	for (i = 0; i < 1000; i++) {
		got = kmalloc(sizeof(*bond), GFP_KERNEL);
		if (!got || (void *)got == bond)
			break;
		got->next = others;
		others = (void *)got;
		got = NULL;
	}
	while (others) {
		void *next = others->next;

		kfree(others);
		others = next;
	}
	if (!got)
		return false;
	memcpy(bond, copy, sizeof(*bond));
	refcount_set(&bond->users, 0);
	return true;
}

static int do_unbind(struct target *t)
{
	struct iommu_sva *bond, copy;

	if (t->nr[0] >= nr_bonds)
		return -ENOENT;
	bond = bonds[t->nr[0]];
	if (IS_ERR_OR_NULL(bond))
		return -ESTALE;
	copy = *bond;
	iommu_sva_unbind_device(bond);
	if (refcount_read(&copy.users) == 1 && !revive(bond, &copy))
		bonds[t->nr[0]] = ERR_PTR(-ESTALE);
	return 0;
}

/* Once for its bind, as it should be: its slot can be had again. */
static int do_end_bond(struct target *t)
{
	struct iommu_sva *bond = NULL;

	mutex_lock(&lock);
	if (t->nr[0] < nr_bonds)
		swap(bond, bonds[t->nr[0]]);
	mutex_unlock(&lock);
	if (IS_ERR_OR_NULL(bond))
		return -ESTALE;
	iommu_sva_unbind_device(bond);
	return 0;
}

/*
 * The core keeps a handle from attach to detach and wants a new one for each
 * replace; the commands name none, so they live until the module goes.
 */
struct owned_handle {
	struct iommu_attach_handle handle;
	struct list_head link;
};

static LIST_HEAD(handles);

static struct iommu_attach_handle *new_handle(void)
{
	struct owned_handle *owned = kzalloc(sizeof(*owned), GFP_KERNEL);

	if (!owned)
		return NULL;
	mutex_lock(&lock);
	list_add(&owned->link, &handles);
	mutex_unlock(&lock);
	return &owned->handle;
}

static void free_handles(void)
{
	struct owned_handle *pos, *next;

	list_for_each_entry_safe(pos, next, &handles, link)
		kfree(pos);
}

static int do_attach_handle(struct target *t)
{
	struct iommu_attach_handle *handle = new_handle();

	if (!handle)
		return -ENOMEM;
	return iommu_attach_group_handle(t->domain, t->group, handle);
}

static int do_detach_handle(struct target *t)
{
	iommu_detach_group_handle(t->domain, t->group);
	return 0;
}

static int do_replace_handle(struct target *t)
{
	struct iommu_attach_handle *handle = new_handle();

	if (!handle)
		return -ENOMEM;
	return iommu_replace_group_handle(t->group, t->domain, handle);
}

static int do_claim_device(struct target *t)
{
	return iommu_device_claim_dma_owner(t->dev,
					    &owners[t->nr[0] % MAX_OWNERS]);
}

static int do_release_device(struct target *t)
{
	iommu_device_release_dma_owner(t->dev);
	return 0;
}

static int do_attach_pasid(struct target *t)
{
	return iommu_attach_device_pasid(t->domain, t->dev, t->nr[0], NULL);
}

static int do_attach_pasid_handle(struct target *t)
{
	struct iommu_attach_handle *handle = new_handle();

	if (!handle)
		return -ENOMEM;
	return iommu_attach_device_pasid(t->domain, t->dev, t->nr[0], handle);
}

static int do_replace_pasid(struct target *t)
{
#if KERNEL_HAS_REPLACE
	struct iommu_attach_handle *handle = new_handle();

	if (!handle)
		return -ENOMEM;
	return iommu_replace_device_pasid(t->domain, t->dev, t->nr[0], handle);
#else
	return -EOPNOTSUPP;
#endif
}

static int do_detach_pasid(struct target *t)
{
	iommu_detach_device_pasid(t->domain, t->dev, t->nr[0]);
	return 0;
}

static int do_alloc_pasid(struct target *t)
{
	ioasid_t pasid = iommu_alloc_global_pasid(t->dev);

	if (pasid == IOMMU_PASID_INVALID)
		return -ENOSPC;
	snprintf(t->call->out, sizeof(t->call->out), "%u", pasid);
	return 0;
}

static int do_free_pasid(struct target *t)
{
	iommu_free_global_pasid(t->nr[0]);
	return 0;
}

static int do_max_pasids(struct target *t)
{
	if (!t->dev->iommu)
		return -ENODEV;
	snprintf(t->call->out, sizeof(t->call->out), "%u",
		 t->dev->iommu->max_pasids);
	return 0;
}
#else
static int do_nothing(struct target *t)
{
	return -EOPNOTSUPP;
}

static int do_unbind(struct target *t)
{
	if (t->nr[0] >= nr_bonds)
		return -ENOENT;
	iommu_sva_unbind_device(bonds[t->nr[0]]);
	return 0;
}

static void free_handles(void)
{
}

static void free_requests(void)
{
}

#define do_attach_handle	do_nothing
#define do_detach_handle	do_nothing
#define do_replace_handle	do_nothing
#define do_end_bond		do_nothing
#define do_claim_device		do_nothing
#define do_release_device	do_nothing
#define do_attach_pasid		do_nothing
#define do_attach_pasid_handle	do_nothing
#define do_replace_pasid	do_nothing
#define do_detach_pasid		do_nothing
#define do_alloc_pasid		do_nothing
#define do_free_pasid		do_nothing
#define do_max_pasids		do_nothing
#define do_page_request		do_nothing
#define do_queue		do_nothing
#define do_unqueue		do_nothing
#define do_hold_requests	do_nothing
#define do_refuse_requests	do_nothing
#define do_answer		do_nothing
#endif

/*
 * args, a letter each: D a device, N a domain, n a new name, u a number,
 * i an address, s a size; after '?' they may be left out.
 */
static const struct command {
	const char *name, *args;
	int (*run)(struct target *t);
} commands[] = {
	{ "alloc",			"Dn",	do_alloc },
	{ "current",			"Dn",	do_current },
	{ "forget",			"N",	do_forget },
	{ "free",			"N",	do_free },
	{ "free-stale",			"N",	do_free_stale },
	{ "attach",			"ND",	do_attach },
	{ "detach",			"ND",	do_detach },
	{ "attach-group",		"ND",	do_attach_group },
	{ "detach-group",		"ND",	do_detach_group },
	{ "attach-group-handle",	"ND",	do_attach_handle },
	{ "detach-group-handle",	"ND",	do_detach_handle },
	{ "replace-group-handle",	"ND",	do_replace_handle },
	{ "claim-group",		"D?u",	do_claim_group },
	{ "release-group",		"D",	do_release_group },
	{ "claim-device",		"D?u",	do_claim_device },
	{ "release-device",		"D",	do_release_device },
	{ "attach-pasid",		"NDu",	do_attach_pasid },
	{ "attach-pasid-handle",	"NDu",	do_attach_pasid_handle },
	{ "replace-pasid",		"NDu",	do_replace_pasid },
	{ "detach-pasid",		"NDu",	do_detach_pasid },
	{ "alloc-pasid",		"D",	do_alloc_pasid },
	{ "free-pasid",			"u",	do_free_pasid },
	{ "max-pasids",			"D",	do_max_pasids },
	{ "bind",			"D?u",	do_bind },
	{ "unbind",			"u",	do_unbind },
	{ "end-bond",			"u",	do_end_bond },
	{ "mmdrop",			"u",	do_mmdrop },
	{ "disable-pasid",		"D",	do_pasid_off },
	{ "enable-pasid",		"D",	do_pasid_on },
	{ "disable-ats",		"D",	do_ats_off },
	{ "enable-ats",			"D",	do_ats_on },
	{ "disconnect",			"D",	do_disconnect },
	{ "reconnect",			"D",	do_reconnect },
	{ "io-fault",			"NDi",	do_io_fault },
	{ "page-request",		"Du",	do_page_request },
	{ "queue",			"D",	do_queue },
	{ "unqueue",			"D",	do_unqueue },
	{ "hold-requests",		"N",	do_hold_requests },
	{ "refuse-requests",		"N",	do_refuse_requests },
	{ "answer",			"u",	do_answer },
	{ "map",			"Nis",	do_map },
	{ "unmap",			"Nis",	do_unmap },
	{ "unmap-nosync",		"Nis",	do_unmap_nosync },
};

static int look_up(struct target *t, char kind, const char *word, int *nr)
{
	u64 size;
	int ret;

	switch (kind) {
	case 'D':
		t->dev = find_device(word);
		if (!t->dev)
			return -ENODEV;
		t->group = iommu_group_get(t->dev);
		return t->group ? 0 : -ENODEV;
	case 'N':
		t->domain = find_domain(word);
		return t->domain ? 0 : -ENOENT;
	case 'n':
		return find_domain(word) ? -EEXIST : 0;
	case 'u':
		return kstrtou32(word, 0, &t->nr[(*nr)++]);
	case 'i':
		return kstrtou64(word, 0, &t->iova);
	case 's':
		ret = kstrtou64(word, 0, &size);
		t->size = size;
		return ret;
	}
	return -EINVAL;
}

static int run_command(const struct command *cmd, struct call *call)
{
	struct target t = { .call = call };
	const char *kind = cmd->args;
	int i, nr = 0, ret = 0;
	bool optional = false;

	for (i = 1; *kind; kind++) {
		if (*kind == '?') {
			optional = true;
			continue;
		}
		if (i == call->argc) {
			ret = optional ? 0 : -EINVAL;
			break;
		}
		ret = look_up(&t, *kind, call->argv[i++], &nr);
		if (ret)
			break;
	}
	if (!ret)
		ret = i == call->argc ? cmd->run(&t) : -EINVAL;
	iommu_group_put(t.group);
	put_device(t.dev);
	return ret;
}

static int run_line(char *line, struct call *call)
{
	char *word;
	int i;

	call->argc = 0;
	call->out[0] = '\0';
	while ((word = strsep(&line, " \t\n"))) {
		if (!*word)
			continue;
		if (call->argc == MAX_ARGS)
			return -E2BIG;
		call->argv[call->argc++] = word;
	}
	if (!call->argc)
		return 0;
	for (i = 0; i < ARRAY_SIZE(commands); i++)
		if (!strcmp(commands[i].name, call->argv[0]))
			return run_command(&commands[i], call);
	return -ENOSYS;
}

/* "repeat COUNT CMD; CMD; …" stops at the first command that fails. */
static int run(char *text, struct call *call)
{
	unsigned int count = 1;
	char *copy, *rest, *line;
	int len, ret = 0;

	if (sscanf(text, "repeat %u %n", &count, &len) == 1)
		text += len;
	while (count-- && !ret) {
		copy = kstrdup(text, GFP_KERNEL);
		if (!copy)
			return -ENOMEM;
		rest = copy;
		while (!ret && (line = strsep(&rest, ";")))
			ret = run_line(line, call);
		kfree(copy);
		cond_resched();
		if (!ret && fatal_signal_pending(current))
			ret = -EINTR;
	}
	return ret;
}

static ssize_t caller_write(struct file *file, const char __user *buf,
			    size_t count, loff_t *ppos)
{
	struct call call = {};
	char *text;
	int ret;

	if (count > PAGE_SIZE)
		return -E2BIG;
	if (!file->private_data)
		file->private_data = kzalloc(sizeof(last_result), GFP_KERNEL);
	if (!file->private_data)
		return -ENOMEM;
	text = memdup_user_nul(buf, count);
	if (IS_ERR(text))
		return PTR_ERR(text);
	ret = run(text, &call);
	kfree(text);

	mutex_lock(&lock);
	if (ret)
		snprintf(last_result, sizeof(last_result), "%pe\n", ERR_PTR(ret));
	else
		snprintf(last_result, sizeof(last_result), "0%s%s\n",
			 call.out[0] ? " " : "", call.out);
	memcpy(file->private_data, last_result, sizeof(last_result));
	mutex_unlock(&lock);
	return ret ?: count;
}

static ssize_t caller_read(struct file *file, char __user *buf, size_t count,
			   loff_t *ppos)
{
	char text[sizeof(last_result)];

	mutex_lock(&lock);
	memcpy(text, file->private_data ?: last_result, sizeof(text));
	mutex_unlock(&lock);
	return simple_read_from_buffer(buf, count, ppos, text, strlen(text));
}

static int caller_release(struct inode *inode, struct file *file)
{
	kfree(file->private_data);
	return 0;
}

static const struct proc_ops caller_proc_ops = {
	.proc_read	= caller_read,
	.proc_write	= caller_write,
	.proc_release	= caller_release,
	.proc_lseek	= default_llseek,
};

static int __init caller_init(void)
{
	target = alloc_page(GFP_KERNEL | __GFP_ZERO);
	if (!target)
		return -ENOMEM;
	if (!proc_create("iommu-caller", 0600, NULL, &caller_proc_ops)) {
		__free_page(target);
		return -ENOMEM;
	}
	return 0;
}
module_init(caller_init);

/* What the commands left attached stays so: leaving it is what they test. */
static void __exit caller_exit(void)
{
	struct named_domain *pos, *next;

	remove_proc_entry("iommu-caller", NULL);
	list_for_each_entry_safe(pos, next, &domains, link)
		kfree(pos);
	free_requests();
	free_handles();
	__free_page(target);
}
module_exit(caller_exit);

MODULE_DESCRIPTION("Calls the IOMMU API as told, right or wrong");
MODULE_LICENSE("GPL");
