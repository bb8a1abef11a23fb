// SPDX-License-Identifier: GPL-2.0
/*
 * A software IOMMU beside the machine's own: a driver for the IOMMU core to
 * call, with masters ("softdev.N", platform devices) in groups of its own, and
 * with faults that are module parameters. It translates nothing for anybody.
 */
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/iommu.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/platform_device.h>
#include <linux/property.h>
#include <linux/slab.h>
#include <linux/version.h>
#include <linux/xarray.h>

#define SINCE(major, minor) \
	(LINUX_VERSION_CODE >= KERNEL_VERSION(major, minor, 0))

/* Exported, but declared in drivers/iommu/dma-iommu.h only */
void iommu_dma_get_resv_regions(struct device *dev, struct list_head *list);

#define MAX_MASTERS 64

static unsigned int groups[MAX_MASTERS] = { 1, 1, 2 };
static int nr_groups = 3;
module_param_array(groups, uint, &nr_groups, 0444);
MODULE_PARM_DESC(groups, "masters in each group (default: 1,1,2)");

static unsigned int pasid_bits[MAX_MASTERS] = { [0 ... MAX_MASTERS - 1] = 20 };
module_param_array(pasid_bits, uint, NULL, 0444);
MODULE_PARM_DESC(pasid_bits, "PASID bits of each master, 0 for none (default: 20)");

static bool identity;
module_param(identity, bool, 0444);
MODULE_PARM_DESC(identity, "identity default domains instead of translated ones");

/* The faults. An errno is given as a positive number; 0 is no fault. */
static int fail_attach, fail_blocked, fail_set_pasid, fail_remove_pasid;
module_param(fail_attach, int, 0644);
MODULE_PARM_DESC(fail_attach, "errno of a RID attach of any but the blocked domain");
module_param(fail_blocked, int, 0644);
MODULE_PARM_DESC(fail_blocked, "errno of a RID attach of the blocked domain");
module_param(fail_set_pasid, int, 0644);
MODULE_PARM_DESC(fail_set_pasid, "errno of a PASID attach");
module_param(fail_remove_pasid, int, 0644);
MODULE_PARM_DESC(fail_remove_pasid, "errno of a PASID removal; the entry stays (it can't be returned before 6.14)");

static int fail_device = -1;
module_param(fail_device, int, 0644);
MODULE_PARM_DESC(fail_device, "the master at fault (default: all)");

static bool drop_pasids, refuse_switch;
module_param(drop_pasids, bool, 0644);
MODULE_PARM_DESC(drop_pasids, "a RID attach loses the PASIDs of the device");
module_param(refuse_switch, bool, 0644);
MODULE_PARM_DESC(refuse_switch, "a RID attach is refused with EBUSY while there are PASIDs");

static bool keep_freed;
module_param(keep_freed, bool, 0644);
MODULE_PARM_DESC(keep_freed, "the memory of freed domains stays, whatever still points there; that of attached ones always does");

static unsigned int delay_us;
module_param(delay_us, uint, 0644);
MODULE_PARM_DESC(delay_us, "sleep in each attach and removal");

struct master {
	struct platform_device *pdev;	/* NULL: unplugged */
	struct iommu_domain *rid;
	struct xarray pasids;		/* the PASID table: PASID to domain */
	unsigned int group;
};

struct soft_domain {
	struct iommu_domain domain;
	bool freed;
	struct xarray pages;		/* IOVA page number to physical one */
};

static struct master masters[MAX_MASTERS];
static unsigned int nr_masters;
static DEFINE_MUTEX(plug_lock);
static struct platform_device *hardware;
static struct iommu_device soft_iommu;
static const struct iommu_ops soft_ops;

static struct soft_domain *to_soft(struct iommu_domain *domain)
{
	return container_of(domain, struct soft_domain, domain);
}

static struct master *to_master(struct device *dev)
{
	return dev_iommu_priv_get(dev);
}

static int fault(struct master *master, int err)
{
	if (delay_us)
		usleep_range(delay_us, delay_us + delay_us / 10 + 1);
	if (fail_device >= 0 && fail_device != master - masters)
		return 0;
	return -err;
}

static int attach(struct master *master, struct iommu_domain *domain, int err)
{
	/* The core goes back to the old domain after a failure: no switch */
	if (domain == master->rid)
		return 0;
	err = fault(master, err);
	if (!err && refuse_switch && !xa_empty(&master->pasids))
		err = -EBUSY;
	if (err)
		return err;
	if (drop_pasids)
		xa_destroy(&master->pasids);
	master->rid = domain;
	return 0;
}

/* The RID */
#if SINCE(6, 19)
#define OLD_DOMAIN , struct iommu_domain *old
#else
#define OLD_DOMAIN
#endif

static int soft_attach(struct iommu_domain *domain, struct device *dev OLD_DOMAIN)
{
	return attach(to_master(dev), domain, domain->type == IOMMU_DOMAIN_BLOCKED ?
		      fail_blocked : fail_attach);
}

/* PASIDs */
#if SINCE(6, 11)
static int soft_set_pasid(struct iommu_domain *domain, struct device *dev,
			  ioasid_t pasid, struct iommu_domain *old)
{
	struct master *master = to_master(dev);
	int err = fault(master, fail_set_pasid);

	if (err)
		return err;
	return xa_err(xa_store(&master->pasids, pasid, domain, GFP_KERNEL));
}

static int remove_pasid(struct device *dev, ioasid_t pasid)
{
	struct master *master = to_master(dev);
	int err = fault(master, fail_remove_pasid);

	if (!err)
		xa_erase(&master->pasids, pasid);
	return err;
}

#if SINCE(6, 14)
static int soft_set_pasid_blocked(struct iommu_domain *domain,
				  struct device *dev, ioasid_t pasid,
				  struct iommu_domain *old)
{
	return remove_pasid(dev, pasid);
}
#else
static void soft_remove_pasid(struct device *dev, ioasid_t pasid,
			      struct iommu_domain *domain)
{
	remove_pasid(dev, pasid);
}
#endif
#endif

/* Page tables */
static int soft_map(struct iommu_domain *domain, unsigned long iova,
		    phys_addr_t phys, size_t pgsize, size_t pgcount, int prot,
		    gfp_t gfp, size_t *mapped)
{
	for (*mapped = 0; pgcount--; *mapped += pgsize) {
		int err = xa_insert(&to_soft(domain)->pages,
				    (iova + *mapped) >> PAGE_SHIFT,
				    xa_mk_value((phys + *mapped) >> PAGE_SHIFT),
				    gfp);

		if (err)
			return err;
	}
	return 0;
}

static size_t soft_unmap(struct iommu_domain *domain, unsigned long iova,
			 size_t pgsize, size_t pgcount,
			 struct iommu_iotlb_gather *gather)
{
	size_t done;

	for (done = 0; pgcount--; done += pgsize)
		if (!xa_erase(&to_soft(domain)->pages, (iova + done) >> PAGE_SHIFT))
			break;
	return done;
}

static phys_addr_t soft_iova_to_phys(struct iommu_domain *domain,
				     dma_addr_t iova)
{
	void *entry = xa_load(&to_soft(domain)->pages, iova >> PAGE_SHIFT);

	return entry ? PFN_PHYS(xa_to_value(entry)) | offset_in_page(iova) : 0;
}

/* Domains */
static bool is_attached(struct iommu_domain *domain)
{
	struct master *master;
	unsigned long pasid;
	void *other;

	for (master = masters; master < masters + nr_masters; master++) {
		if (master->rid == domain)
			return true;
		xa_for_each(&master->pasids, pasid, other)
			if (other == domain)
				return true;
	}
	return false;
}

/* The core goes on with what was freed too early, and shall not break on it. */
static void soft_free(struct iommu_domain *domain)
{
	xa_destroy(&to_soft(domain)->pages);
	to_soft(domain)->freed = true;
	if (!keep_freed && !is_attached(domain))
		kfree(to_soft(domain));
}

static struct iommu_domain *alloc_domain(void)
{
	struct soft_domain *soft = kzalloc(sizeof(*soft), GFP_KERNEL);

	if (!soft)
		return NULL;
	xa_init(&soft->pages);
	soft->domain.pgsize_bitmap = PAGE_SIZE;
	soft->domain.geometry.aperture_end = DMA_BIT_MASK(48);
	soft->domain.geometry.force_aperture = true;
	return &soft->domain;
}

#if SINCE(6, 11)
static struct iommu_domain *soft_alloc_paging(struct device *dev)
{
	return alloc_domain();
}

static const struct iommu_domain_ops sva_ops = {
	.set_dev_pasid	= soft_set_pasid,
	.free		= soft_free,
};

static struct iommu_domain *soft_alloc_sva(struct device *dev,
					   struct mm_struct *mm)
{
	struct iommu_domain *domain = alloc_domain();

	if (!domain)
		return ERR_PTR(-ENOMEM);
	domain->ops = &sva_ops;
	return domain;
}

static struct iommu_domain soft_identity = {
	.type	= IOMMU_DOMAIN_IDENTITY,
	.ops	= &(const struct iommu_domain_ops) {
		.attach_dev	= soft_attach,
	},
};

static struct iommu_domain soft_blocked = {
	.type	= IOMMU_DOMAIN_BLOCKED,
	.ops	= &(const struct iommu_domain_ops) {
		.attach_dev	= soft_attach,
#if SINCE(6, 14)
		.set_dev_pasid	= soft_set_pasid_blocked,
#endif
	},
};
#else
static struct iommu_domain *soft_alloc(unsigned int type)
{
	return alloc_domain();
}
#endif

/* Devices */
static struct iommu_device *soft_probe(struct device *dev)
{
	unsigned int i;

	for (i = 0; i < nr_masters; i++) {
		if (!masters[i].pdev || &masters[i].pdev->dev != dev)
			continue;
		masters[i].rid = NULL;
		dev_iommu_priv_set(dev, &masters[i]);
		return &soft_iommu;
	}
	return ERR_PTR(-ENODEV);
}

static void soft_release(struct device *dev)
{
	struct master *master = to_master(dev);

	master->rid = NULL;
	xa_destroy(&master->pasids);
}

static struct iommu_group *soft_group(struct device *dev)
{
	struct master *self = to_master(dev), *other;
	struct iommu_group *group;

	for (other = masters; other < masters + nr_masters; other++) {
		if (other == self || !other->pdev || other->group != self->group)
			continue;
		group = iommu_group_get(&other->pdev->dev);
		if (group)
			return group;
	}
	return generic_device_group(dev);
}

static bool soft_capable(struct device *dev, enum iommu_cap cap)
{
	return cap == IOMMU_CAP_CACHE_COHERENCY;
}

static int soft_default_type(struct device *dev)
{
	return identity ? IOMMU_DOMAIN_IDENTITY : 0;
}

#if SINCE(6, 11)
/* Who asked for a page is told by nobody: there is no device. */
static void soft_page_response(struct device *dev, struct iopf_fault *request,
			       struct iommu_page_response *response)
{
}
#endif

static const struct iommu_ops soft_ops = {
	.owner			= THIS_MODULE,
	.capable		= soft_capable,
#if SINCE(6, 11)
	.identity_domain	= &soft_identity,
	.blocked_domain		= &soft_blocked,
	.domain_alloc_paging	= soft_alloc_paging,
	.domain_alloc_sva	= soft_alloc_sva,
	.page_response		= soft_page_response,
#else
	.domain_alloc		= soft_alloc,
#endif
#if SINCE(6, 11) && !SINCE(6, 14)
	.remove_dev_pasid	= soft_remove_pasid,
#endif
#if !SINCE(6, 16)
	.pgsize_bitmap		= PAGE_SIZE,
#endif
	.probe_device		= soft_probe,
	.release_device		= soft_release,
	.device_group		= soft_group,
	.def_domain_type	= soft_default_type,
	/* exported and in vmlinux: a place for others to look at the group from */
	.get_resv_regions	= iommu_dma_get_resv_regions,
	.default_domain_ops	= &(const struct iommu_domain_ops) {
		.attach_dev	= soft_attach,
#if SINCE(6, 11)
		.set_dev_pasid	= soft_set_pasid,
#endif
		.map_pages	= soft_map,
		.unmap_pages	= soft_unmap,
		.iova_to_phys	= soft_iova_to_phys,
		.free		= soft_free,
	},
};

/*
 * Up to 6.6 a bus has one IOMMU driver, and iommu_device_register() refuses a
 * second one. The platform bus of a PC has no use for the first.
 */
#if SINCE(6, 7)
static int register_iommu(void)
{
	return iommu_device_register(&soft_iommu, &soft_ops, &hardware->dev);
}

static void unregister_iommu(void)
{
	iommu_device_unregister(&soft_iommu);
}

static int mark_as_ours(struct device *dev)
{
	return iommu_fwspec_init(dev, soft_iommu.fwnode);
}
#else
static const struct iommu_ops *former_ops;

static int register_iommu(void)
{
	soft_iommu.ops = &soft_ops;
	soft_iommu.fwnode = dev_fwnode(&hardware->dev);
	former_ops = platform_bus_type.iommu_ops;
	platform_bus_type.iommu_ops = &soft_ops;
	return 0;
}

static void unregister_iommu(void)
{
	platform_bus_type.iommu_ops = former_ops;
}

static int mark_as_ours(struct device *dev)
{
	/* put by iommu_fwspec_free(), but not taken by iommu_fwspec_init() */
	return iommu_fwspec_init(dev, fwnode_handle_get(soft_iommu.fwnode),
				 &soft_ops);
}
#endif

static struct platform_device *new_device(const char *name, int id, u32 bits)
{
	const struct property_entry properties[] = {
		PROPERTY_ENTRY_U32("pasid-num-bits", bits),
		{ }
	};
	struct platform_device *pdev = platform_device_alloc(name, id);
	int err;

	if (!pdev)
		return ERR_PTR(-ENOMEM);
	err = device_create_managed_software_node(&pdev->dev, properties, NULL);
	if (err) {
		platform_device_put(pdev);
		return ERR_PTR(err);
	}
	return pdev;
}

static int plug(struct master *master)
{
	unsigned int id = master - masters;
	struct platform_device *pdev;
	int err;

	if (master->pdev)
		return -EEXIST;
	pdev = new_device("softdev", id, pasid_bits[id]);
	if (IS_ERR(pdev))
		return PTR_ERR(pdev);
	master->pdev = pdev;
	err = mark_as_ours(&pdev->dev);
	if (!err)
		err = platform_device_add(pdev);
	if (err) {
		master->pdev = NULL;
		platform_device_put(pdev);
	}
	return err;
}

static int unplug(struct master *master)
{
	struct platform_device *pdev = master->pdev;

	if (!pdev)
		return -ENODEV;
	platform_device_unregister(pdev);
	master->pdev = NULL;
	return 0;
}

static int plug_by_number(const char *text, const struct kernel_param *kp)
{
	int (*change)(struct master *master) = kp->arg;
	unsigned int id;
	int err = kstrtouint(text, 0, &id);

	if (err)
		return err;
	if (id >= nr_masters)
		return -ENODEV;
	mutex_lock(&plug_lock);
	err = change(&masters[id]);
	mutex_unlock(&plug_lock);
	return err;
}

static const struct kernel_param_ops plug_ops = { .set = plug_by_number };
module_param_cb(plug, &plug_ops, plug, 0200);
MODULE_PARM_DESC(plug, "write a master's number: it comes (back)");
module_param_cb(unplug, &plug_ops, unplug, 0200);
MODULE_PARM_DESC(unplug, "write a master's number: it goes, whatever is attached");

static const char *domain_name(struct iommu_domain *domain)
{
	if (!domain)
		return "none";
	switch (domain->type) {
	case IOMMU_DOMAIN_BLOCKED:
		return "blocked";
	case IOMMU_DOMAIN_IDENTITY:
		return "identity";
	case IOMMU_DOMAIN_UNMANAGED:
		return to_soft(domain)->freed ? "freed" : "unmanaged";
	default:
		if (to_soft(domain)->freed)
			return "freed";
		return domain->type & __IOMMU_DOMAIN_PAGING ? "dma" : "sva";
	}
}

/* What the hardware would do, whatever the core believes. */
static int show_state(char *buf, const struct kernel_param *kp)
{
	struct iommu_domain *domain;
	unsigned long pasid;
	unsigned int i;
	int len = 0;

	mutex_lock(&plug_lock);
	for (i = 0; i < nr_masters; i++) {
		if (!masters[i].pdev)
			continue;
		len += sysfs_emit_at(buf, len, "softdev.%u group %c rid %s", i,
				     'A' + masters[i].group,
				     domain_name(masters[i].rid));
		xa_for_each(&masters[i].pasids, pasid, domain)
			len += sysfs_emit_at(buf, len, " %lu:%s", pasid,
					     domain_name(domain));
		len += sysfs_emit_at(buf, len, "\n");
	}
	mutex_unlock(&plug_lock);
	return len;
}

static const struct kernel_param_ops state_ops = { .get = show_state };
module_param_cb(state, &state_ops, NULL, 0444);
MODULE_PARM_DESC(state, "each master, its group, the domains of its RID and its PASIDs");

/* Binds by driver_override only: no device has its name. */
static struct platform_driver softdrv = {
	.driver.name	= "softdrv",
};

static int add_masters(void)
{
	unsigned int group, i;
	int err;

	for (group = 0; group < nr_groups; group++) {
		for (i = 0; i < groups[group]; i++) {
			if (nr_masters == MAX_MASTERS)
				return -EINVAL;
			masters[nr_masters].group = group;
			xa_init(&masters[nr_masters].pasids);
			err = plug(&masters[nr_masters++]);
			if (err)
				return err;
		}
	}
	return 0;
}

static void remove_masters(void)
{
	while (nr_masters)
		unplug(&masters[--nr_masters]);
}

static int __init softiommu_init(void)
{
	int err;

	hardware = new_device("softiommu", PLATFORM_DEVID_NONE, 0);
	if (IS_ERR(hardware))
		return PTR_ERR(hardware);
	err = platform_device_add(hardware);
	if (err) {
		platform_device_put(hardware);
		return err;
	}
	soft_iommu.max_pasids = 1 << 20;
	err = iommu_device_sysfs_add(&soft_iommu, &hardware->dev, NULL,
				     "softiommu");
	if (err)
		goto out_hardware;
	err = register_iommu();
	if (err)
		goto out_sysfs;
	err = platform_driver_register(&softdrv);
	if (err)
		goto out_iommu;
	err = add_masters();
	if (!err)
		return 0;

	remove_masters();
	platform_driver_unregister(&softdrv);
out_iommu:
	unregister_iommu();
out_sysfs:
	iommu_device_sysfs_remove(&soft_iommu);
out_hardware:
	platform_device_unregister(hardware);
	return err;
}
module_init(softiommu_init);

/* The core holds the module for each master: unplug them all to get here. */
static void __exit softiommu_exit(void)
{
	remove_masters();
	platform_driver_unregister(&softdrv);
	unregister_iommu();
	iommu_device_sysfs_remove(&soft_iommu);
	platform_device_unregister(hardware);
}
module_exit(softiommu_exit);

MODULE_DESCRIPTION("A software IOMMU with faults on demand");
MODULE_LICENSE("GPL");
