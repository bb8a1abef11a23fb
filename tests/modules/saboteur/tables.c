// SPDX-License-Identifier: GPL-2.0
/*
 * Faults in PASID tables: they are changed in memory, behind the driver's back,
 * or its own function is called at the wrong time.
 */
#include <linux/iommu.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "saboteur.h"

/* Offsets in the driver's own structures: from BTF, by tests/guest/btfoff.c. */
static int off_pasid_table = -1;
module_param(off_pasid_table, int, 0444);
MODULE_PARM_DESC(off_pasid_table, "offset of device_domain_info.pasid_table");
static int off_iommu = -1;
module_param(off_iommu, int, 0444);
MODULE_PARM_DESC(off_iommu, "offset of device_domain_info.iommu");
static int off_table;
module_param(off_table, int, 0444);
MODULE_PARM_DESC(off_table, "offset of pasid_table.table (default: 0)");
static int off_max_pasid = -1;
module_param(off_max_pasid, int, 0444);
MODULE_PARM_DESC(off_max_pasid, "offset of pasid_table.max_pasid");

/* A device that was aliased stays referenced until that ends. */
static struct pci_dev *aliased;
static void *own_table;

static void *info_of(struct device *dev)
{
	return dev->iommu ? dev_iommu_priv_get(dev) : NULL;
}

static void **table_of(struct device *dev)
{
	void *info = info_of(dev);

	return info && off_pasid_table >= 0 ? info + off_pasid_table : NULL;
}

static void end_alias(void)
{
	if (!aliased)
		return;
	if (table_of(&aliased->dev))
		*table_of(&aliased->dev) = own_table;
	pci_dev_put(aliased);
	aliased = NULL;
}

static int alias(const char *from, const char *to)
{
	struct pci_dev *lender = find_pci(from), *borrower = find_pci(to);
	int err = -ENODEV;

	if (lender && borrower && table_of(&lender->dev) && table_of(&borrower->dev)) {
		own_table = *table_of(&borrower->dev);
		*table_of(&borrower->dev) = *table_of(&lender->dev);
		aliased = borrower;
		borrower = NULL;
		err = 0;
	}
	pci_dev_put(lender);
	pci_dev_put(borrower);
	return err;
}

static int set_alias(const char *text, const struct kernel_param *kp)
{
	char *words[2], *copy = kstrdup(text, GFP_KERNEL);
	int n, err = 0;

	if (!copy)
		return -ENOMEM;
	n = split(copy, words, 2);
	mutex_lock(&lock);
	end_alias();
	if (n == 2)
		err = alias(words[0], words[1]);
	else if (n != 1 || *words[0])
		err = -EINVAL;
	mutex_unlock(&lock);
	kfree(copy);
	return err;
}

static const struct kernel_param_ops alias_ops = { .set = set_alias };
module_param_cb(alias, &alias_ops, NULL, 0200);
MODULE_PARM_DESC(alias, "\"A,B\": B's PASID table is A's; empty: its own again");

#define PRESENT 1ULL
#define LEAF 64		/* PASIDs to a leaf, and bytes to an entry */

/* The leaf of the table in which this PASID is; NULL before there is one. */
static u64 *find_leaf(struct device *dev, u32 pasid)
{
	void **table = table_of(dev);
	u64 *directory, leaf;

	if (!table || !*table)
		return NULL;
	directory = *(void **)(*table + off_table);
	leaf = READ_ONCE(directory[pasid / LEAF]);
	return leaf & PRESENT ? phys_to_virt(leaf & PAGE_MASK) : NULL;
}

static u64 *find_entry(struct device *dev, u32 pasid)
{
	u64 *leaf = find_leaf(dev, pasid);

	return leaf ? leaf + pasid % LEAF * (LEAF / sizeof(*leaf)) : NULL;
}

/* The first present PASID from @pasid on, 0 for none. */
static u32 next_pasid(struct device *dev, u32 pasid)
{
	void **table = table_of(dev);
	u32 max;

	if (!table || !*table || off_max_pasid < 0)
		return 0;
	max = *(u32 *)(*table + off_max_pasid);
	while (pasid < max) {
		if (!find_leaf(dev, pasid))
			pasid = (pasid / LEAF + 1) * LEAF;
		else if (READ_ONCE(*find_entry(dev, pasid)) & PRESENT)
			return pasid;
		else
			pasid++;
	}
	return 0;
}

bool has_pasids(struct device *dev)
{
	return next_pasid(dev, 1);
}

static void (*tear_down_entry)(void *iommu, struct device *dev, u32 pasid,
			       bool fault_ignore);

int find_tear_down(void)
{
	tear_down_entry = address_of("intel_pasid_tear_down_entry");
	return tear_down_entry && off_iommu >= 0 ? 0 : -ENOENT;
}

/* Tears down every PASID but 0, as the driver does it. */
void lose_pasids(struct device *dev)
{
	void *iommu = *(void **)(info_of(dev) + off_iommu);
	u32 pasid;

	for (pasid = 0; (pasid = next_pasid(dev, pasid + 1)); )
		tear_down_entry(iommu, dev, pasid, false);
}

static struct pci_dev *looked_at;

static int set_pasids(const char *text, const struct kernel_param *kp)
{
	char *words[1], *copy = kstrdup(text, GFP_KERNEL);
	struct pci_dev *pdev = NULL;

	if (!copy)
		return -ENOMEM;
	if (split(copy, words, 1) == 1)
		pdev = find_pci(words[0]);
	kfree(copy);
	if (!pdev)
		return -ENODEV;
	mutex_lock(&lock);
	swap(looked_at, pdev);
	mutex_unlock(&lock);
	pci_dev_put(pdev);
	return 0;
}

/* What the hardware would find: each present entry, and its first word. */
static int get_pasids(char *buf, const struct kernel_param *kp)
{
	u64 *entry;
	u32 pasid;
	int len = 0;

	mutex_lock(&lock);
	if (looked_at) {
		entry = find_entry(&looked_at->dev, 0);
		if (entry && *entry & PRESENT)
			len += sysfs_emit_at(buf, len, "0:%llx", *entry);
		for (pasid = 0; (pasid = next_pasid(&looked_at->dev, pasid + 1)); )
			len += sysfs_emit_at(buf, len, " %u:%llx", pasid,
					     *find_entry(&looked_at->dev, pasid));
	}
	mutex_unlock(&lock);
	return len + sysfs_emit_at(buf, len, "\n");
}

static const struct kernel_param_ops pasids_ops = {
	.set = set_pasids, .get = get_pasids,
};
module_param_cb(pasids, &pasids_ops, NULL, 0600);
MODULE_PARM_DESC(pasids, "write a device's address; read its present entries");

void end_tables(void)
{
	end_alias();
	pci_dev_put(looked_at);
}

static int set_present(const char *text, const struct kernel_param *kp)
{
	char *words[3], *copy = kstrdup(text, GFP_KERNEL);
	struct pci_dev *pdev = NULL;
	int err = -EINVAL;
	u64 *entry;
	u32 pasid;
	bool on;

	if (!copy)
		return -ENOMEM;
	if (split(copy, words, 3) != 3 || kstrtou32(words[1], 0, &pasid) ||
	    pasid >> 20 || kstrtobool(words[2], &on))
		goto out;
	err = -ENODEV;
	pdev = find_pci(words[0]);
	if (!pdev)
		goto out;
	err = -ENOENT;
	entry = find_entry(&pdev->dev, pasid);
	if (!entry)
		goto out;
	WRITE_ONCE(*entry, on ? *entry | PRESENT : *entry & ~PRESENT);
	err = 0;
out:
	pci_dev_put(pdev);
	kfree(copy);
	return err;
}

static const struct kernel_param_ops present_ops = { .set = set_present };
module_param_cb(present, &present_ops, NULL, 0200);
MODULE_PARM_DESC(present, "\"DEVICE,PASID,0|1\": the present bit of its entry");
