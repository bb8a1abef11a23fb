// SPDX-License-Identifier: GPL-2.0
/*
 * Makes the real Intel driver misbehave, for a monitor to notice: its functions
 * (functions.c, by the parameters of switches.c) and its PASID tables (tables.c).
 * rmmod takes all of it back but what was written into the tables.
 */
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/string.h>

#include "saboteur.h"

DEFINE_MUTEX(lock);

struct pci_dev *find_pci(const char *name)
{
	struct device *dev = bus_find_device_by_name(&pci_bus_type, NULL, name);

	return dev ? to_pci_dev(dev) : NULL;
}

/* Splits "a,b,c" into at most @max words, in place. */
int split(char *text, char **words, int max)
{
	int n = 0;

	text = strim(text);
	while (text && n < max)
		words[n++] = strsep(&text, ",");
	return text ? -EINVAL : n;
}

/* Of a function that isn't exported: a kprobe finds it. */
void *address_of(const char *function)
{
	struct kprobe probe = { .symbol_name = function };

	if (register_kprobe(&probe))
		return NULL;
	unregister_kprobe(&probe);
	return probe.addr;
}

/*
 * What a switch of the RID's domain does to the PASIDs of a device. The Intel
 * driver goes through these functions for it, inside the core's
 * __iommu_attach_device().
 */
static const char *const switches[] = {
	"intel_iommu_attach_device",
	"blocking_domain_attach_dev",
	"identity_domain_attach_dev",	/* since 6.10 */
};

static int add_rid_fault(enum action action, struct pci_dev *pdev)
{
	int i, err = -EINVAL, added = 0;

	if (action == LOSE_PASIDS)
		return find_tear_down() ?: add_fault("device_block_translation", action, pdev);
	for (i = 0; i < ARRAY_SIZE(switches); i++) {
		err = add_fault(switches[i], action, pdev);
		if (!err)
			added++;
		else if (err != -EINVAL)	/* not in this kernel */
			break;
	}
	return added ? 0 : err;
}

/* A device's address begins it, an empty string ends it. */
static int set_rid_fault(const char *text, const struct kernel_param *kp)
{
	enum action action = (unsigned long)kp->arg;
	char *words[1], *copy = kstrdup(text, GFP_KERNEL);
	struct pci_dev *pdev = NULL;
	int err;

	if (!copy)
		return -ENOMEM;
	err = split(copy, words, 1) == 1 ? 0 : -EINVAL;
	if (!err && *words[0]) {
		pdev = find_pci(words[0]);
		err = pdev ? 0 : -ENODEV;
	}
	kfree(copy);
	if (err)
		return err;
	mutex_lock(&lock);
	end_faults(action);
	if (pdev)
		err = add_rid_fault(action, pdev);
	mutex_unlock(&lock);
	pci_dev_put(pdev);
	return err;
}

static const struct kernel_param_ops rid_ops = { .set = set_rid_fault };
module_param_cb(rid_drops_pasids, &rid_ops, (void *)LOSE_PASIDS, 0200);
MODULE_PARM_DESC(rid_drops_pasids, "a device that loses its PASIDs when its RID's domain is switched; empty: none");
module_param_cb(rid_refuses, &rid_ops, (void *)REFUSE, 0200);
MODULE_PARM_DESC(rid_refuses, "a device whose RID isn't switched while it has PASIDs (-EBUSY); empty: none");

static int __init saboteur_init(void)
{
	return 0;
}
module_init(saboteur_init);

static void __exit saboteur_exit(void)
{
	end_all_faults();
	end_tables();
}
module_exit(saboteur_exit);

MODULE_DESCRIPTION("Faults in the real Intel IOMMU driver");
MODULE_LICENSE("GPL");
