/* SPDX-License-Identifier: GPL-2.0 */
#ifndef SABOTEUR_H
#define SABOTEUR_H

#include <linux/ftrace.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/sched.h>

extern struct mutex lock;	/* all that is set by parameters */

/* What is done to a call of a function. */
enum action {
	SKIP,		/* it returns at once */
	FAIL,		/* it does its work and says that it failed */
	DELAY,		/* it does its work and returns late */
	DROP,		/* (qi_submit_sync) without the descriptors of a type */
	LOSE_PASIDS,	/* the device's PASIDs are torn down first */
	REFUSE,		/* (attach_dev) -EBUSY while there are PASIDs */
	SHORTEN,	/* (a flush of a range) of half of it */
	HOLLOW,		/* (__mmdrop) the PASID goes back, the memory stays */
	UNPAIR,		/* (pcie_flr) prepares the IOMMU for the reset, no more */
};

#define MAX_FAULTS 12
#define ANY (-1)

struct fault {
	struct ftrace_ops ops;
	bool used;
	enum action action;
	char function[64];
	unsigned long body;		/* behind its call of ftrace */
	atomic_t inside, hits;
	/* What it says for itself */
	bool has_result, has_budget;
	long result;
	int us, budget;
	/* The calls that it is about */
	struct pci_dev *pdev;
	struct mm_struct *mm;		/* compared, never looked into */
	char task[TASK_COMM_LEN];
	int type;			/* of qi_submit_sync's first descriptor */
};

/* main.c */
struct pci_dev *find_pci(const char *name);
int split(char *text, char **words, int max);
void *address_of(const char *function);

/* functions.c */
extern struct fault faults[MAX_FAULTS];
extern atomic_t hits;
extern long result;
extern unsigned int delay_us;
extern int budget;
extern struct pci_dev *only_device;
extern void (*drop_pasid)(struct mm_struct *mm);	/* mm_pasid_drop() */
extern int (*prepare_reset)(struct pci_dev *pdev);	/* since 7.0 */
struct fault *new_fault(enum action action);
int put_up(struct fault *fault);
int add_fault(const char *function, enum action action, struct pci_dev *pdev);
void end_faults(enum action action);
void end_all_faults(void);

/* tables.c */
bool has_pasids(struct device *dev);
void lose_pasids(struct device *dev);
int find_tear_down(void);
void end_tables(void);

#endif
