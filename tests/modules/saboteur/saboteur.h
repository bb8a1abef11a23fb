/* SPDX-License-Identifier: GPL-2.0 */
#ifndef SABOTEUR_H
#define SABOTEUR_H

#include <linux/mutex.h>
#include <linux/pci.h>

extern struct mutex lock;	/* all that is set by parameters */

/* What is done to a call of a function. */
enum action {
	SKIP,		/* it returns at once */
	FAIL,		/* it does its work and says that it failed */
	DELAY,		/* it does its work and returns late */
	DROP,		/* (qi_submit_sync) without the descriptors of a type */
	LOSE_PASIDS,	/* the device's PASIDs are torn down first */
	REFUSE,		/* (attach_dev) -EBUSY while there are PASIDs */
};

/* main.c */
struct pci_dev *find_pci(const char *name);
int split(char *text, char **words, int max);

/* functions.c */
int add_fault(const char *function, enum action action, struct pci_dev *pdev);
void end_faults(enum action action);
void end_all_faults(void);

/* tables.c */
bool has_pasids(struct device *dev);
void lose_pasids(struct device *dev);
void find_tear_down(void);
void end_tables(void);

#endif
