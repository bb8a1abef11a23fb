/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What the movers (movers.c) share: the actions and their counts, the devices and
 * their locks, chance, and the ways to act.
 */
#ifndef MOVERS_H
#define MOVERS_H

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAX_DEVICES 16
enum { NVME = 1, NIC = 2, DMA = 4 };

#define ACTIONS(X)                                                             \
	X(DRIVER_BIND, "driver-bind") X(DRIVER_UNBIND, "driver-unbind")        \
	X(VFIO_ROUNDS, "vfio") X(REMOVE, "remove") X(RESCAN, "rescan")         \
	X(RESET, "flr") X(PASID_ATTACH, "pasid-attach")                        \
	X(PASID_DETACH, "pasid-detach") X(PASID_OF_ALLOCATOR, "pasid-alloc")   \
	X(MAP, "map") X(UNMAP, "unmap") X(CLAIM, "claim") X(RELEASE, "release") \
	X(RID_ATTACH, "rid-attach") X(RID_DETACH, "rid-detach")                \
	X(SWITCH_UNDER_PASID, "rid-switch-under-pasid")                        \
	X(RIVAL_CLAIM, "rival-claim") X(RIVAL_RELEASE, "rival-release")        \
	X(TYPE_STRICT, "type-strict") X(TYPE_LAZY, "type-lazy")                \
	X(TYPE_IDENTITY, "type-identity") X(DMA_ROUNDS, "dma")                 \
	X(CPU_OFF, "cpu-offline") X(CPU_ON, "cpu-online")                      \
	X(CACHES, "drop-caches") X(PRESSURE, "memory-pressure")                \
	X(PASID_REPLACE, "pasid-replace") X(SVA_BIND, "sva-bind")              \
	X(SVA_KILL, "sva-kill") X(SVA_UNBIND, "sva-unbind")

enum action {
#define X(name, text) name,
	ACTIONS(X)
#undef X
	NR_ACTIONS,
	FIRST_WITH_SVA = PASID_REPLACE,
};

static const char *const names[] = {
#define X(name, text) text,
	ACTIONS(X)
#undef X
};

struct device {
	char address[16];
	int kind;
	pthread_rwlock_t lock;		/* whose it is */
	pthread_rwlock_t present;	/* for who has no right to it */
};

/* Shared by all movers */
static struct shared {
	struct { unsigned int done, refused, failed; } actions[NR_ACTIONS];
	struct device devices[MAX_DEVICES];
} *shared;
static int nr_devices, sva, caller, self;
static unsigned long long state;
/* xorshift64*: the same seed gives each mover the same choices */
static unsigned int below(unsigned int bound)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return (unsigned int)((state * 2685821657736338717ULL) >> 32) % bound;
}

static void pause_ms(unsigned int most)
{
	usleep(1000 * (1 + below(most)));
}

/* What somebody else is in the way of is refused; 0 where it was done. */
static int counted(enum action action, int error, const char *what)
{
	unsigned int failed;

	if (!error) {
		__atomic_fetch_add(&shared->actions[action].done, 1, __ATOMIC_RELAXED);
	} else if (error == EBUSY || error == EAGAIN || error == EPERM) {
		__atomic_fetch_add(&shared->actions[action].refused, 1, __ATOMIC_RELAXED);
	} else {
		failed = __atomic_fetch_add(&shared->actions[action].failed, 1, __ATOMIC_RELAXED);
		if (failed < 5)
			printf("movers: %s: %s: %s\n", names[action], what, strerror(error));
	}
	return error;
}

static int put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY), error = 0;

	if (fd < 0)
		return errno;
	if (write(fd, text, strlen(text)) < 0)
		error = errno;
	close(fd);
	return error;
}

__attribute__((format(printf, 2, 3)))
static int do_write(const char *text, const char *format, ...)
{
	char path[128];
	va_list args;

	va_start(args, format);
	vsnprintf(path, sizeof(path), format, args);
	va_end(args);
	return put(path, text);
}

/* A command of the caller's; its result stays in this file. */
__attribute__((format(printf, 2, 3)))
static int call(enum action action, const char *format, ...)
{
	char text[256];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return counted(action, write(caller, text, strlen(text)) < 0 ? errno : 0, text);
}

/* For what isn't counted: it must work. */
__attribute__((format(printf, 1, 2)))
static int prepare(const char *format, ...)
{
	char text[256];
	va_list args;
	int error = 0;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (write(caller, text, strlen(text)) < 0) {
		error = errno;
		printf("movers: %s: %s\n", text, strerror(error));
	}
	return error;
}

static int result(int which)
{
	int values[2] = { -1, -1 };
	char text[64] = "";

	if (pread(caller, text, sizeof(text) - 1, 0) > 0)
		sscanf(text, "0 %d %d", &values[0], &values[1]);
	return values[which];
}

static struct device *any(int kinds)
{
	struct device *dev;

	do
		dev = &shared->devices[below(nr_devices)];
	while (!(dev->kind & kinds));
	return dev;
}

static struct device *alone_with(int kinds)
{
	struct device *dev = any(kinds);

	pthread_rwlock_wrlock(&dev->lock);
	return dev;
}

static struct device *together_with(int kinds)
{
	struct device *dev = any(kinds);

	pthread_rwlock_rdlock(&dev->lock);
	return dev;
}

static void done_with(struct device *dev)
{
	pthread_rwlock_unlock(&dev->lock);
}

#define SYSFS "/sys/bus/pci/devices/%s/"

static void unbind(struct device *dev)
{
	char path[128];

	snprintf(path, sizeof(path), SYSFS "driver", dev->address);
	if (!access(path, F_OK))
		counted(DRIVER_UNBIND, do_write(dev->address, SYSFS "driver/unbind", dev->address), dev->address);
}

static int bind(struct device *dev, const char *driver)
{
	unbind(dev);
	do_write(driver, SYSFS "driver_override", dev->address);
	return counted(DRIVER_BIND, do_write(dev->address, "/sys/bus/pci/drivers/%s/bind", driver), driver);
}

static void map_and_unmap(int domain)
{
	if (call(MAP, "map m%d.%d 0x100000 0x4000", self, domain))
		return;
	pause_ms(5);
	call(UNMAP, "unmap m%d.%d 0x100000 0x4000", self, domain);
}

#endif
