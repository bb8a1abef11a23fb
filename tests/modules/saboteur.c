// SPDX-License-Identifier: GPL-2.0
/*
 * Makes the real Intel driver misbehave, for a monitor to notice.
 *
 * Functions are skipped, failed or delayed from an ftrace callback that owns
 * the instruction pointer (IPMODIFY, as live patches do), so that BPF programs
 * on the same function still run and see the function as it now is. Tables are
 * changed in memory, behind the driver's back; rmmod takes all of it back but
 * the present bits.
 */
#include <linux/delay.h>
#include <linux/ftrace.h>
#include <linux/iommu.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/slab.h>

/* Offsets in the driver's own structures: from BTF, by tests/guest/btfoff.c. */
static int off_pasid_table = -1;
module_param(off_pasid_table, int, 0444);
MODULE_PARM_DESC(off_pasid_table, "offset of device_domain_info.pasid_table");
static int off_table;
module_param(off_table, int, 0444);
MODULE_PARM_DESC(off_table, "offset of pasid_table.table (default: 0)");

static DEFINE_MUTEX(lock);

static struct pci_dev *find_pci(const char *name)
{
	struct device *dev = bus_find_device_by_name(&pci_bus_type, NULL, name);

	return dev ? to_pci_dev(dev) : NULL;
}

/* Splits "a,b,c" into at most @max words, in place. */
static int split(char *text, char **words, int max)
{
	int n = 0;

	text = strim(text);
	while (text && n < max)
		words[n++] = strsep(&text, ",");
	return text ? -EINVAL : n;
}

/*
 * A fault in a function. "skip" makes it return result at once, "delay" busy
 * waits before it runs; only_device and budget narrow both.
 */
static long result;
module_param(result, long, 0644);
MODULE_PARM_DESC(result, "what a skipped function returns (default: 0)");
static unsigned int delay_us = 1000;
module_param(delay_us, uint, 0644);
MODULE_PARM_DESC(delay_us, "how long a delayed function is late (default: 1000)");
static int budget = -1;
module_param(budget, int, 0644);
MODULE_PARM_DESC(budget, "calls that are still to be hit (default: -1, all)");
static atomic_t hits = ATOMIC_INIT(0);
static struct device *only_device;
static unsigned int drop_type;	/* of descriptor, at qi_submit_sync(); 0: none */

enum action { SKIP, DELAY, DROP };

struct hook {
	struct ftrace_ops ops;
	enum action action;
	struct list_head link;
	char function[];
};

static LIST_HEAD(hooks);

static noinline notrace long just_return(void)
{
	return READ_ONCE(result);
}

/* qi_submit_sync() without work: 0 whatever a skipped function returns */
static noinline notrace long submitted(void)
{
	return 0;
}

static bool about_device(struct pt_regs *regs)
{
	unsigned long dev = (unsigned long)READ_ONCE(only_device);

	return !dev || regs->di == dev || regs->si == dev || regs->dx == dev;
}

static bool spend(void)
{
	int left = READ_ONCE(budget);

	while (left > 0) {
		int seen = cmpxchg(&budget, left, left - 1);

		if (seen == left)
			return true;
		left = seen;
	}
	return left < 0;
}

/* qi_submit_sync(iommu, desc, count, options): takes out what has the type. */
static void drop_descriptors(struct pt_regs *regs)
{
	struct { u64 qw[4]; } *desc = (void *)regs->si;
	unsigned int type = READ_ONCE(drop_type);
	unsigned int count = regs->dx, kept = 0, i;

	for (i = 0; i < count; i++) {
		if ((desc[i].qw[0] & 0xf) == type && spend()) {
			atomic_inc(&hits);
			continue;
		}
		if (kept != i)
			desc[kept] = desc[i];
		kept++;
	}
	if (kept)
		regs->dx = kept;
	else
		regs->ip = (unsigned long)submitted;
}

static void notrace on_call(unsigned long ip, unsigned long parent_ip,
			    struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	struct hook *hook = container_of(ops, struct hook, ops);
	struct pt_regs *regs = ftrace_get_regs(fregs);

	if (!regs)
		return;
	if (hook->action == DROP) {
		drop_descriptors(regs);
		return;
	}
	if (!about_device(regs) || !spend())
		return;
	atomic_inc(&hits);
	if (hook->action == DELAY)
		udelay(READ_ONCE(delay_us));
	else
		regs->ip = (unsigned long)just_return;
}

static int hook(const char *function, enum action action)
{
	size_t size = strlen(function) + 1;
	struct hook *hook;
	int err;

	hook = kzalloc(sizeof(*hook) + size, GFP_KERNEL);
	if (!hook)
		return -ENOMEM;
	memcpy(hook->function, function, size);
	hook->action = action;
	hook->ops.func = on_call;
	hook->ops.flags = FTRACE_OPS_FL_SAVE_REGS | FTRACE_OPS_FL_RECURSION;
	if (action != DELAY)
		hook->ops.flags |= FTRACE_OPS_FL_IPMODIFY;
	err = ftrace_set_filter(&hook->ops, hook->function, size - 1, 1);
	if (!err)
		err = register_ftrace_function(&hook->ops);
	if (err) {
		ftrace_free_filter(&hook->ops);
		kfree(hook);
		return err;
	}
	list_add(&hook->link, &hooks);
	return 0;
}

static void unhook(enum action action)
{
	struct hook *pos, *next;

	list_for_each_entry_safe(pos, next, &hooks, link) {
		if (pos->action != action)
			continue;
		list_del(&pos->link);
		unregister_ftrace_function(&pos->ops);
		ftrace_free_filter(&pos->ops);
		kfree(pos);
	}
}

/* A function's name adds it, an empty string ends them all. */
static int set_hook(const char *text, enum action action)
{
	char *name = kstrdup(text, GFP_KERNEL);
	int err = 0;

	if (!name)
		return -ENOMEM;
	mutex_lock(&lock);
	if (*strim(name))
		err = hook(strim(name), action);
	else
		unhook(action);
	mutex_unlock(&lock);
	kfree(name);
	return err;
}

static int get_hooks(char *buf, enum action action)
{
	struct hook *pos;
	int len = 0;

	mutex_lock(&lock);
	list_for_each_entry(pos, &hooks, link)
		if (pos->action == action)
			len += sysfs_emit_at(buf, len, "%s\n", pos->function);
	mutex_unlock(&lock);
	return len;
}

static int set_skip(const char *text, const struct kernel_param *kp)
{
	return set_hook(text, SKIP);
}

static int get_skip(char *buf, const struct kernel_param *kp)
{
	return get_hooks(buf, SKIP);
}

static const struct kernel_param_ops skip_ops = {
	.set = set_skip, .get = get_skip,
};
module_param_cb(skip, &skip_ops, NULL, 0600);
MODULE_PARM_DESC(skip, "a function that returns at once; empty: none");

static int set_delay(const char *text, const struct kernel_param *kp)
{
	return set_hook(text, DELAY);
}

static int get_delay(char *buf, const struct kernel_param *kp)
{
	return get_hooks(buf, DELAY);
}

static const struct kernel_param_ops delay_ops = {
	.set = set_delay, .get = get_delay,
};
module_param_cb(delay, &delay_ops, NULL, 0600);
MODULE_PARM_DESC(delay, "a function that is late by delay_us; empty: none");

static int set_drop(const char *text, const struct kernel_param *kp)
{
	unsigned int type;
	int err = kstrtouint(text, 0, &type);

	if (err || type > 0xf)
		return err ?: -EINVAL;
	mutex_lock(&lock);
	unhook(DROP);
	drop_type = type;
	if (type)
		err = hook("qi_submit_sync", DROP);
	mutex_unlock(&lock);
	return err;
}

static const struct kernel_param_ops drop_ops = {
	.set = set_drop, .get = param_get_uint,
};
module_param_cb(drop, &drop_ops, &drop_type, 0600);
MODULE_PARM_DESC(drop, "type of descriptor that never reaches the queue; 0: none");

static int set_only(const char *text, const struct kernel_param *kp)
{
	char *words[1], *copy = kstrdup(text, GFP_KERNEL);
	struct pci_dev *pdev = NULL;
	int err = 0;

	if (!copy)
		return -ENOMEM;
	err = split(copy, words, 1);
	if (err == 1 && *words[0]) {
		pdev = find_pci(words[0]);
		err = pdev ? 0 : -ENODEV;
	}
	kfree(copy);
	if (err < 0)
		return err;
	mutex_lock(&lock);
	put_device(only_device);
	only_device = pdev ? &pdev->dev : NULL;
	mutex_unlock(&lock);
	return 0;
}

static const struct kernel_param_ops only_ops = { .set = set_only };
module_param_cb(only_device, &only_ops, NULL, 0200);
MODULE_PARM_DESC(only_device, "hit only calls with this PCI device (struct device) among the first three arguments; empty: any");

static int get_hits(char *buf, const struct kernel_param *kp)
{
	return sysfs_emit(buf, "%d\n", atomic_read(&hits));
}

static const struct kernel_param_ops hits_ops = { .get = get_hits };
module_param_cb(hits, &hits_ops, NULL, 0400);
MODULE_PARM_DESC(hits, "how often a fault struck since the module came");

/* Tables. A device that was aliased stays referenced until that ends. */
static struct pci_dev *aliased;
static void *own_table;

static void **table_of(struct pci_dev *pdev)
{
	void *info = pdev->dev.iommu ? dev_iommu_priv_get(&pdev->dev) : NULL;

	return info && off_pasid_table >= 0 ? info + off_pasid_table : NULL;
}

static void unalias(void)
{
	if (!aliased)
		return;
	if (table_of(aliased))
		*table_of(aliased) = own_table;
	pci_dev_put(aliased);
	aliased = NULL;
}

static int alias(const char *from, const char *to)
{
	struct pci_dev *lender = find_pci(from), *borrower = find_pci(to);
	int err = -ENODEV;

	if (lender && borrower && table_of(lender) && table_of(borrower)) {
		own_table = *table_of(borrower);
		*table_of(borrower) = *table_of(lender);
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
	unalias();
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

static u64 *find_entry(struct pci_dev *pdev, u32 pasid)
{
	void **table = table_of(pdev);
	u64 *directory, leaf;

	if (!table || !*table)
		return NULL;
	directory = *(void **)(*table + off_table);
	leaf = READ_ONCE(directory[pasid >> 6]);
	if (!(leaf & PRESENT))
		return NULL;
	return phys_to_virt(leaf & PAGE_MASK) + (pasid & 63) * 64;
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
	entry = find_entry(pdev, pasid);
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

static int __init saboteur_init(void)
{
	return 0;
}
module_init(saboteur_init);

static void __exit saboteur_exit(void)
{
	unhook(SKIP);
	unhook(DELAY);
	unhook(DROP);
	unalias();
	put_device(only_device);
}
module_exit(saboteur_exit);

MODULE_DESCRIPTION("Faults in the real Intel IOMMU driver");
MODULE_LICENSE("GPL");
