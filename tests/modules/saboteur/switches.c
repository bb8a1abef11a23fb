// SPDX-License-Identifier: GPL-2.0
/* The parameters that put up faults in functions, and their defaults. */
#include <linux/module.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "saboteur.h"

module_param(result, long, 0644);
MODULE_PARM_DESC(result, "what a function returns that is skipped (default: 0) or fails (default: -EIO)");
module_param(delay_us, uint, 0644);
MODULE_PARM_DESC(delay_us, "how long a delayed function is late (default: 1000)");
module_param(budget, int, 0644);
MODULE_PARM_DESC(budget, "calls that are still to be hit (default: -1, all)");

static struct mm_struct *mm_of(const char *number)
{
	struct task_struct *task;
	struct mm_struct *mm;
	struct pid *pid;
	int nr;

	if (kstrtoint(number, 0, &nr))
		return NULL;
	pid = find_get_pid(nr);
	task = get_pid_task(pid, PIDTYPE_PID);
	put_pid(pid);
	if (!task)
		return NULL;
	mm = get_task_mm(task);
	put_task_struct(task);
	if (mm)
		mmput(mm);
	return mm;
}

/* "KEY=VALUE": one fault's own setting */
static int set_own(struct fault *fault, char *word)
{
	char *value = strchr(word, '=');

	if (!value)
		return -EINVAL;
	*value++ = '\0';
	if (!strcmp(word, "result")) {
		fault->has_result = true;
		return kstrtol(value, 0, &fault->result);
	}
	if (!strcmp(word, "budget")) {
		fault->has_budget = true;
		return kstrtoint(value, 0, &fault->budget);
	}
	if (!strcmp(word, "us"))
		return kstrtoint(value, 0, &fault->us);
	if (!strcmp(word, "type"))
		return strcmp(fault->function, "qi_submit_sync") ? -EINVAL :
			kstrtoint(value, 0, &fault->type);
	if (!strcmp(word, "task"))
		return strscpy(fault->task, value, sizeof(fault->task)) < 0 ?
			-EINVAL : 0;
	if (!strcmp(word, "mm")) {
		fault->mm = mm_of(value);
		return fault->mm ? 0 : -ESRCH;
	}
	if (!strcmp(word, "device")) {
		fault->pdev = find_pci(value);
		return fault->pdev ? 0 : -ENODEV;
	}
	return -EINVAL;
}

/* FUNCTION[,KEY=VALUE]…, for a drop TYPE[,KEY=VALUE]… */
static int add_described(char *text, enum action action)
{
	struct fault *fault = new_fault(action);
	char *word = strsep(&text, ",");
	int err = 0;

	if (!fault)
		return -ENOSPC;
	if (action == DROP) {
		err = kstrtoint(word, 0, &fault->type);
		word = "qi_submit_sync";
	}
	if (strscpy(fault->function, word, sizeof(fault->function)) < 0)
		err = -EINVAL;
	while (!err && (word = strsep(&text, ",")))
		err = set_own(fault, word);
	if (!err)
		err = put_up(fault);
	if (err)
		pci_dev_put(fault->pdev);
	return err;
}

/* A description adds a fault; an empty string, or 0, ends all of the kind. */
static int set_faults(const char *text, const struct kernel_param *kp)
{
	enum action action = (unsigned long)kp->arg;
	char *copy = kstrdup(text, GFP_KERNEL), *word;
	int err = 0;

	if (!copy)
		return -ENOMEM;
	word = strim(copy);
	mutex_lock(&lock);
	if (action == DROP || !*word)
		end_faults(action);
	if (*word && strcmp(word, "0"))
		err = add_described(word, action);
	mutex_unlock(&lock);
	kfree(copy);
	return err;
}

static int get_faults(char *buf, const struct kernel_param *kp)
{
	enum action action = (unsigned long)kp->arg;
	struct fault *fault;
	int len = 0;

	mutex_lock(&lock);
	for (fault = faults; fault < faults + MAX_FAULTS; fault++)
		if (fault->used && fault->action == action)
			len += sysfs_emit_at(buf, len, "%s %d\n", fault->function,
					     atomic_read(&fault->hits));
	mutex_unlock(&lock);
	return len;
}

static const struct kernel_param_ops fault_ops = {
	.set = set_faults, .get = get_faults,
};
module_param_cb(skip, &fault_ops, (void *)SKIP, 0600);
MODULE_PARM_DESC(skip, "a function that returns at once; empty: none");
module_param_cb(fail, &fault_ops, (void *)FAIL, 0600);
MODULE_PARM_DESC(fail, "a function that does its work and returns an error; empty: none");
module_param_cb(delay, &fault_ops, (void *)DELAY, 0600);
MODULE_PARM_DESC(delay, "a function that does its work and returns late; empty: none");
module_param_cb(shorten, &fault_ops, (void *)SHORTEN, 0600);
MODULE_PARM_DESC(shorten, "a function that flushes from its second argument to its third, and does half of it; empty: none");
module_param_cb(drop, &fault_ops, (void *)DROP, 0600);
MODULE_PARM_DESC(drop, "type of descriptor that never reaches the queue; 0: none");

/* A process's number begins it, an empty string ends it. */
static int set_hollow(const char *text, const struct kernel_param *kp)
{
	char *copy = kstrdup(text, GFP_KERNEL), *pid, *described;
	int err = 0;

	if (!copy)
		return -ENOMEM;
	pid = strim(copy);
	described = kasprintf(GFP_KERNEL, "__mmdrop,mm=%s", pid);
	mutex_lock(&lock);
	end_faults(HOLLOW);
	if (*pid) {
		drop_pasid = address_of("mm_pasid_drop");
		err = described && drop_pasid ?
			add_described(described, HOLLOW) : -ENOENT;
	}
	mutex_unlock(&lock);
	kfree(described);
	kfree(copy);
	return err;
}

static const struct kernel_param_ops hollow_ops = { .set = set_hollow };
module_param_cb(hollow_mmdrop, &hollow_ops, NULL, 0200);
MODULE_PARM_DESC(hollow_mmdrop, "a process whose mm_struct stays in memory when it is freed; empty: none");

/* A device's address begins it, an empty string ends it. */
static int set_unpaired(const char *text, const struct kernel_param *kp)
{
	char *copy = kstrdup(text, GFP_KERNEL), *address, *described;
	int err = 0;

	if (!copy)
		return -ENOMEM;
	address = strim(copy);
	described = kasprintf(GFP_KERNEL, "pcie_flr,budget=1,device=%s", address);
	mutex_lock(&lock);
	end_faults(UNPAIR);
	if (*address) {
		prepare_reset = address_of("pci_dev_reset_iommu_prepare");
		err = described && prepare_reset ?
			add_described(described, UNPAIR) : -ENOENT;
	}
	mutex_unlock(&lock);
	kfree(described);
	kfree(copy);
	return err;
}

static const struct kernel_param_ops unpaired_ops = { .set = set_unpaired };
module_param_cb(flr_unpaired, &unpaired_ops, NULL, 0200);
MODULE_PARM_DESC(flr_unpaired, "a device that is prepared for its next FLR, of which nothing more comes; empty: none");

static int set_only(const char *text, const struct kernel_param *kp)
{
	char *words[1], *copy = kstrdup(text, GFP_KERNEL);
	struct pci_dev *pdev = NULL, *former;
	int err;

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
	former = only_device;
	WRITE_ONCE(only_device, pdev);
	mutex_unlock(&lock);
	pci_dev_put(former);
	return 0;
}

static const struct kernel_param_ops only_ops = { .set = set_only };
module_param_cb(only_device, &only_ops, NULL, 0200);
MODULE_PARM_DESC(only_device, "hit only calls with this PCI device among the first three arguments; empty: any");

static int get_hits(char *buf, const struct kernel_param *kp)
{
	return sysfs_emit(buf, "%d\n", atomic_read(&hits));
}

static const struct kernel_param_ops hits_ops = { .get = get_hits };
module_param_cb(hits, &hits_ops, NULL, 0400);
MODULE_PARM_DESC(hits, "how often a fault struck since the module came");
