// SPDX-License-Identifier: GPL-2.0
/*
 * Faults in functions. A function is diverted into one of the entries here by an
 * ftrace callback that owns the instruction pointer (IPMODIFY, as live patches
 * do), so that BPF programs on it still run and see it as it now is. Its body is
 * called from here, so what is done beside it happens inside the function, in
 * its caller's context. A function has one fault at a time.
 */
#include <linux/delay.h>
#include <linux/ftrace.h>
#include <linux/iommu.h>
#include <linux/slab.h>

#include "saboteur.h"

/* What holds for a fault that doesn't say otherwise. */
long result;
unsigned int delay_us = 1000;
int budget = -1;
struct pci_dev *only_device;

struct fault faults[MAX_FAULTS];
atomic_t hits = ATOMIC_INIT(0);
void (*drop_pasid)(struct mm_struct *mm);
int (*prepare_reset)(struct pci_dev *pdev);

struct arguments { unsigned long a[6]; };

static bool among_first(const struct arguments *args, struct pci_dev *pdev)
{
	int i;

	for (i = 0; i < 3; i++)
		if (args->a[i] == (unsigned long)pdev ||
		    args->a[i] == (unsigned long)&pdev->dev)
			return true;
	return false;
}

static bool is_meant(struct fault *fault, const struct arguments *args)
{
	struct pci_dev *pdev = fault->pdev ?: READ_ONCE(only_device);

	if (pdev && fault->action != DROP && !among_first(args, pdev))
		return false;
	if (fault->mm && args->a[0] != (unsigned long)fault->mm)
		return false;
	if (fault->task[0] && strcmp(fault->task, current->comm))
		return false;
	return fault->type == ANY || fault->action == DROP ||
	       (*(u64 *)args->a[1] & 0xf) == fault->type;
}

static bool spend(struct fault *fault)
{
	int *budget_of = fault->has_budget ? &fault->budget : &budget;
	int left = READ_ONCE(*budget_of);

	while (left > 0) {
		int seen = cmpxchg(budget_of, left, left - 1);

		if (seen == left)
			break;
		left = seen;
	}
	if (!left)
		return false;
	atomic_inc(&fault->hits);
	atomic_inc(&hits);
	return true;
}

static long call(struct fault *fault, const struct arguments *args)
{
	long (*body)(unsigned long, unsigned long, unsigned long, unsigned long,
		     unsigned long, unsigned long) = (void *)fault->body;

	return body(args->a[0], args->a[1], args->a[2], args->a[3], args->a[4],
		    args->a[5]);
}

static long error_of(struct fault *fault)
{
	long error = fault->has_result ? fault->result : READ_ONCE(result);

	return error || fault->action == SKIP ? error : -EIO;
}

/* qi_submit_sync(iommu, desc, count, options): takes out what has the type. */
static long submit_less(struct fault *fault, struct arguments *args)
{
	struct { u64 qw[4]; } *desc = (void *)args->a[1];
	unsigned int count = args->a[2], kept = 0, i;

	for (i = 0; i < count; i++) {
		if ((desc[i].qw[0] & 0xf) == fault->type && spend(fault))
			continue;
		if (kept != i)
			desc[kept] = desc[i];
		kept++;
	}
	if (!kept && count)
		return 0;
	args->a[2] = kept;
	return call(fault, args);
}

static void wait_late(struct fault *fault)
{
	u64 us = fault->us >= 0 ? fault->us : READ_ONCE(delay_us);
	u64 end = ktime_get_mono_fast_ns() + us * NSEC_PER_USEC;

	while (ktime_get_mono_fast_ns() < end)	/* in a guest udelay() errs */
		cpu_relax();
}

/*
 * qi_submit_sync() waits with interrupts off, and so is it late: nothing comes
 * in between, and the task stays where it is.
 */
static long answer_late(struct fault *fault, const struct arguments *args)
{
	unsigned long flags;
	long ret;

	local_irq_save(flags);
	ret = call(fault, args);
	if (spend(fault))
		wait_late(fault);
	local_irq_restore(flags);
	return ret;
}

/* attach_dev(domain, dev): going back to where the core is never fails. */
static bool is_switch_under_pasids(const struct arguments *args)
{
	struct device *dev = (struct device *)args->a[1];

	return (struct iommu_domain *)args->a[0] != iommu_get_domain_for_dev(dev) &&
	       has_pasids(dev);
}

/*
 * __mmdrop(mm) of an mm_struct that is still in use elsewhere: its PASID goes back
 * as it must, but what lists and bonds point to stays in memory, for good.
 */
static void drop_hollow(struct mm_struct *mm)
{
#if IS_ENABLED(CONFIG_IOMMU_MM_DATA)
	struct iommu_mm_data *own = mm->iommu_mm;

	if (!own)
		return;
	mm->iommu_mm = kmemdup(own, sizeof(*own), GFP_ATOMIC);
	drop_pasid(mm);
	mm->iommu_mm = own;
#endif
}

/* cache_tag_flush_range(domain, start, end, ih): the second half stays. */
static void halve(struct arguments *args)
{
	args->a[2] = args->a[1] + (args->a[2] - args->a[1] + 1) / 2 - 1;
}

static long strike(struct fault *fault, struct arguments *args)
{
	long ret;

	if (!is_meant(fault, args))
		return call(fault, args);
	switch (fault->action) {
	case SKIP:
		if (spend(fault))
			return error_of(fault);
		break;
	case FAIL:
		ret = call(fault, args);
		return ret || !spend(fault) ? ret : error_of(fault);
	case DELAY:
		if (fault->type != ANY)
			return answer_late(fault, args);
		ret = call(fault, args);
		if (spend(fault))
			wait_late(fault);
		return ret;
	case SHORTEN:
		if (args->a[2] - args->a[1] >= PAGE_SIZE && spend(fault))
			halve(args);
		break;
	case DROP:
		return submit_less(fault, args);
	case LOSE_PASIDS:
		if (has_pasids((struct device *)args->a[0]) && spend(fault))
			lose_pasids((struct device *)args->a[0]);
		break;
	case REFUSE:
		if (is_switch_under_pasids(args) && spend(fault))
			return -EBUSY;
		break;
	case HOLLOW:
		if (!spend(fault))
			break;
		drop_hollow((struct mm_struct *)args->a[0]);
		return 0;
	case UNPAIR:
		if (spend(fault))
			return prepare_reset((struct pci_dev *)args->a[0]);
		break;
	}
	return call(fault, args);
}

static noinline notrace long enter(struct fault *fault, unsigned long a,
				   unsigned long b, unsigned long c,
				   unsigned long d, unsigned long e,
				   unsigned long f)
{
	struct arguments args = { { a, b, c, d, e, f } };
	long ret;

	atomic_inc(&fault->inside);
	ret = strike(fault, &args);
	atomic_dec(&fault->inside);
	return ret;
}

/* A diverted call brings nothing but its arguments: an entry for each fault. */
#define ENTRY(n)							\
static noinline notrace long entry_##n(unsigned long a, unsigned long b,	\
				       unsigned long c, unsigned long d,	\
				       unsigned long e, unsigned long f)	\
{									\
	return enter(&faults[n], a, b, c, d, e, f);			\
}
ENTRY(0) ENTRY(1) ENTRY(2) ENTRY(3) ENTRY(4) ENTRY(5)
ENTRY(6) ENTRY(7) ENTRY(8) ENTRY(9) ENTRY(10) ENTRY(11)

static long (*const entries[MAX_FAULTS])(unsigned long, unsigned long,
					 unsigned long, unsigned long,
					 unsigned long, unsigned long) = {
	entry_0, entry_1, entry_2, entry_3, entry_4, entry_5,
	entry_6, entry_7, entry_8, entry_9, entry_10, entry_11,
};

static void notrace divert(unsigned long ip, unsigned long parent_ip,
			   struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	struct fault *fault = container_of(ops, struct fault, ops);
	struct pt_regs *regs = ftrace_get_regs(fregs);

	if (!regs)
		return;
	fault->body = ip + MCOUNT_INSN_SIZE;
	regs->ip = (unsigned long)entries[fault - faults];
}

int put_up(struct fault *fault)
{
	int err;

	fault->ops.func = divert;
	fault->ops.flags = FTRACE_OPS_FL_SAVE_REGS | FTRACE_OPS_FL_RECURSION |
			   FTRACE_OPS_FL_IPMODIFY;
	err = ftrace_set_filter(&fault->ops, fault->function,
				strlen(fault->function), 1);
	if (!err)
		err = register_ftrace_function(&fault->ops);
	if (err) {
		ftrace_free_filter(&fault->ops);
		return err;
	}
	fault->used = true;
	return 0;
}

static void take_down(struct fault *fault)
{
	unregister_ftrace_function(&fault->ops);
	ftrace_free_filter(&fault->ops);
	while (atomic_read(&fault->inside))
		msleep(1);
	pci_dev_put(fault->pdev);
	fault->used = false;
}

struct fault *new_fault(enum action action)
{
	struct fault *fault;

	for (fault = faults; fault < faults + MAX_FAULTS; fault++) {
		if (fault->used)
			continue;
		memset(fault, 0, sizeof(*fault));
		fault->action = action;
		fault->us = fault->type = ANY;
		return fault;
	}
	return NULL;
}

int add_fault(const char *function, enum action action, struct pci_dev *pdev)
{
	struct fault *fault = new_fault(action);
	int err;

	if (!fault)
		return -ENOSPC;
	strscpy(fault->function, function, sizeof(fault->function));
	fault->pdev = pci_dev_get(pdev);
	err = put_up(fault);
	if (err)
		pci_dev_put(pdev);
	return err;
}

void end_faults(enum action action)
{
	struct fault *fault;

	for (fault = faults; fault < faults + MAX_FAULTS; fault++)
		if (fault->used && fault->action == action)
			take_down(fault);
}

void end_all_faults(void)
{
	struct fault *fault;

	for (fault = faults; fault < faults + MAX_FAULTS; fault++)
		if (fault->used)
			take_down(fault);
	synchronize_rcu_tasks();	/* who is on the way out of here */
	pci_dev_put(only_device);
}
