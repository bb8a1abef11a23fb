// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * movers SECONDS SEED SVA KIND:ADDRESS... - everything at once that may be done
 * to devices behind an IOMMU, at random, and nothing that may not. KIND is nvme
 * (with PASIDs), nic or dma (iommu-testdev); SVA is 1 where processes can be
 * bound, and PASIDs replaced.
 *
 * Each mover is a process. One that gives a device to somebody else, or takes it
 * away, holds its lock alone; what drivers do to a device that they have, they
 * do all at once. /tmp/movers.actions tells the counts meanwhile:
 * "@ action NAME DONE REFUSED FAILED"; what failed is told on the output.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#include "movers.h"

/* A mover that is that late hangs in the kernel, or TCG is slower than ever. */
#define PATIENCE 180

static time_t until;

static time_t now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

/* A driver comes, and stays until somebody else wants the device. */
static void drive(void)
{
	struct device *dev = alone_with(NVME | NIC);

	bind(dev, dev->kind == NVME ? "nvme" : "e1000e");
	if (below(2)) {
		pause_ms(100);
		unbind(dev);
	}
	done_with(dev);
}

/* By the same program as the scenarios have. */
static void use_vfio(void)
{
	struct device *dev = alone_with(NVME | NIC);
	char link[128] = "", path[128], *group;
	int status;
	pid_t pid;

	snprintf(path, sizeof(path), SYSFS "iommu_group", dev->address);
	if (readlink(path, link, sizeof(link) - 1) > 0 && !bind(dev, "vfio-pci")) {
		group = strrchr(link, '/') + 1;
		pid = fork();
		if (!pid) {
			execl("/guest/vfio", "vfio", group, below(2) ? "3" : "1", below(2) ? dev->address : NULL, NULL);
			_exit(127);
		}
		waitpid(pid, &status, 0);
		/* A rival is in the way of a claim. It tells nothing but 1. */
		counted(VFIO_ROUNDS, !status ? 0 : dev->kind == NIC ? EBUSY : EIO, dev->address);
		unbind(dev);
	}
	done_with(dev);
}

static void replug(void)
{
	struct device *dev = alone_with(NVME | NIC);
	int tries = 100;
	char path[128];

	pthread_rwlock_wrlock(&dev->present);
	snprintf(path, sizeof(path), SYSFS "vendor", dev->address);
	if (!counted(REMOVE, do_write("1", SYSFS "remove", dev->address), dev->address)) {
		pause_ms(50);
		do {
			do_write("1", "/sys/bus/pci/rescan");
		} while (access(path, F_OK) && tries-- && !usleep(50000));
		counted(RESCAN, access(path, F_OK) ? errno : 0, dev->address);
	}
	pthread_rwlock_unlock(&dev->present);
	done_with(dev);
}

static void reset(void)
{
	struct device *dev = together_with(NVME | NIC);

	counted(RESET, do_write("1", SYSFS "reset", dev->address), dev->address);
	done_with(dev);
}

/* Each mover has PASIDs and domains of its own. The allocator's begin at 1. */
static int some_pasid(struct device *dev, int nth)
{
	if (below(2) || call(PASID_OF_ALLOCATOR, "alloc-pasid %s", dev->address))
		return 10000 * (self + 1) + 100 * nth + below(100);
	return result(0);
}

static void give_back(int pasid)
{
	if (pasid > 0 && pasid < 10000)
		prepare("free-pasid %d", pasid);
}

static void attach_pasids(struct device *dev)
{
	int pasids[3], on[3], nr = 1 + below(3), i;

	if (prepare("alloc %s m%d.0", dev->address, self))
		return;
	if (prepare("alloc %s m%d.1", dev->address, self)) {
		prepare("free m%d.0", self);
		return;
	}
	for (i = 0; i < nr; i++) {
		on[i] = below(2);
		pasids[i] = some_pasid(dev, i);
		if (call(PASID_ATTACH, "attach-pasid-handle m%d.%d %s %d", self, on[i], dev->address, pasids[i]))
			on[i] = -1;
	}
	map_and_unmap(below(2));
	for (i = 0; i < nr && sva; i++)
		if (on[i] >= 0 && below(2) &&
		    !call(PASID_REPLACE, "replace-pasid m%d.%d %s %d", self, !on[i], dev->address, pasids[i]))
			on[i] = !on[i];
	pause_ms(30);
	for (i = 0; i < nr; i++) {
		if (on[i] >= 0)
			call(PASID_DETACH, "detach-pasid m%d.%d %s %d", self, on[i], dev->address, pasids[i]);
		give_back(pasids[i]);
	}
	prepare("free m%d.0", self);
	prepare("free m%d.1", self);
}

static void use_pasids(void)
{
	struct device *dev = together_with(NVME);

	attach_pasids(dev);
	done_with(dev);
}

/* Maps and unmaps until it is killed. */
static pid_t process(void)
{
	pid_t pid = fork();
	char *memory;

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		memory = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (memory == MAP_FAILED)
			pause();
		memset(memory, 1, 65536);
		munmap(memory, 65536);
		usleep(2000);
	}
}

static void share_memory(void)
{
	struct device *dev = together_with(NVME);
	int bonds[2], nr = 0, i, killed = below(2);
	pid_t pid = process();

	for (i = 1 + below(2); i > 0; i--)
		if (!call(SVA_BIND, "bind %s %d", dev->address, pid))
			bonds[nr++] = result(0);
	pause_ms(100);
	if (killed && !counted(SVA_KILL, kill(pid, SIGKILL) ? errno : 0, "kill")) {
		waitpid(pid, NULL, 0);
		pause_ms(30);
	}
	while (nr--)
		call(SVA_UNBIND, "end-bond %d", bonds[nr]);
	if (!killed) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	done_with(dev);
}

/* Who owns a device attaches a domain to its RID, and PASIDs beside it. */
static void own(void)
{
	struct device *dev = alone_with(NVME | NIC);
	const char *what = below(2) ? "group" : "device";
	int under;

	unbind(dev);
	if (prepare("alloc %s m%d.2", dev->address, self))
		goto out;
	if (!call(CLAIM, "claim-%s %s", what, dev->address)) {
		if (!call(RID_ATTACH, "attach m%d.2 %s", self, dev->address)) {
			map_and_unmap(2);
			if (dev->kind == NVME && below(2))
				attach_pasids(dev);
			/* With a PASID attached still. Seldom: each is a find on 6.12, and kept for 15 minutes. */
			under = dev->kind == NVME && !below(12) &&
				!call(PASID_ATTACH, "attach-pasid m%d.2 %s %d", self, dev->address, 10000 * (self + 1));
			call(RID_DETACH, "detach m%d.2 %s", self, dev->address);
			if (under) {
				counted(SWITCH_UNDER_PASID, 0, "");
				call(PASID_DETACH, "detach-pasid m%d.2 %s %d", self, dev->address, 10000 * (self + 1));
			}
		}
		call(RELEASE, "release-%s %s", what, dev->address);
	}
	prepare("free m%d.2", self);
out:
	done_with(dev);
}

/* Claims what may be somebody else's; only that it is not taken out meanwhile. */
static void rival(void)
{
	struct device *dev = any(NIC);

	pthread_rwlock_rdlock(&dev->present);
	if (!call(RIVAL_CLAIM, "claim-group %s %d", dev->address, 1 + self % 7)) {
		pause_ms(20);
		call(RIVAL_RELEASE, "release-group %s", dev->address);
	}
	pthread_rwlock_unlock(&dev->present);
	pause_ms(400);
}

/* The type of a default domain changes while no driver is there, to lazy flushing at any time. */
static void do_dma(void)
{
	static const struct { enum action action; const char *type; } types[] = {
		{ TYPE_STRICT, "DMA" }, { TYPE_LAZY, "DMA-FQ" }, { TYPE_IDENTITY, "identity" },
	};
	struct device *dev = alone_with(DMA);
	int i = below(3);

	unbind(dev);
	counted(types[i].action, do_write(types[i].type, SYSFS "iommu_group/type", dev->address), types[i].type);
	if (!bind(dev, "dmadrv")) {
		counted(DMA_ROUNDS, put("/sys/module/dmadrv/parameters/rounds", "20"), "rounds");
		if (i == 0) {
			counted(TYPE_LAZY, do_write("DMA-FQ", SYSFS "iommu_group/type", dev->address), "while driven");
			counted(DMA_ROUNDS, put("/sys/module/dmadrv/parameters/rounds", "20"), "rounds");
		}
	}
	done_with(dev);
	pause_ms(100);
}

static void plug_cpu(void)
{
	pause_ms(2000);
	if (!counted(CPU_OFF, put("/sys/devices/system/cpu/cpu1/online", "0"), "cpu1")) {
		do
			pause_ms(1000);
		while (counted(CPU_ON, put("/sys/devices/system/cpu/cpu1/online", "1"), "cpu1") && now() < until);
	}
}

static void press(void)
{
	unsigned long available = 0, size;
	char line[128], *memory;
	FILE *info = fopen("/proc/meminfo", "r");

	while (info && fgets(line, sizeof(line), info))
		sscanf(line, "MemAvailable: %lu", &available);
	if (info)
		fclose(info);
	counted(CACHES, put("/proc/sys/vm/drop_caches", "3"), "drop_caches");
	size = available * 1024 / 100 * (30 + below(40));
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	counted(PRESSURE, memory == MAP_FAILED ? errno : 0, "mmap");
	if (memory != MAP_FAILED)
		munmap(memory, size);
	pause_ms(3000);
}

static const struct mover {
	const char *name;
	void (*act)(void);
	int needs_sva;
} movers[] = {
	{ "driver", drive, 0 }, { "vfio", use_vfio, 0 }, { "replugger", replug, 0 },
	{ "resetter", reset, 0 }, { "tenant-1", use_pasids, 0 }, { "tenant-2", use_pasids, 0 },
	{ "owner", own, 0 }, { "rival-1", rival, 0 }, { "rival-2", rival, 0 },
	{ "dma", do_dma, 0 }, { "cpu", plug_cpu, 0 }, { "memory", press, 0 },
	{ "sva-1", share_memory, 1 }, { "sva-2", share_memory, 1 },
};
#define NR_MOVERS (int)(sizeof(movers) / sizeof(movers[0]))

static void move(int which, unsigned long long seed)
{
	self = which;
	state = (seed + 1) * 0x9e3779b97f4a7c15ULL + which + 1;
	prctl(PR_SET_NAME, movers[which].name);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	caller = open("/proc/iommu-caller", O_RDWR);
	if (caller < 0) {
		perror("movers: caller");
		exit(1);
	}
	while (now() < until) {
		movers[which].act();
		pause_ms(20);
	}
	exit(0);
}

static void tell(void)
{
	FILE *file = fopen("/tmp/movers.new", "w");
	int i;

	for (i = 0; file && i < (sva ? NR_ACTIONS : FIRST_WITH_SVA); i++)
		fprintf(file, "@ action %s %u %u %u\n", names[i], shared->actions[i].done,
			shared->actions[i].refused, shared->actions[i].failed);
	if (file) {
		fclose(file);
		rename("/tmp/movers.new", "/tmp/movers.actions");
	}
}

static void add(struct device *dev, const char *text)
{
	pthread_rwlockattr_t attr;
	const char *colon = strchr(text, ':');

	if (!colon || strlen(colon + 1) >= sizeof(dev->address)) {
		fprintf(stderr, "movers: %s: not KIND:ADDRESS\n", text);
		exit(2);
	}
	strcpy(dev->address, colon + 1);
	dev->kind = !strncmp(text, "nvme", 4) ? NVME : !strncmp(text, "nic", 3) ? NIC : DMA;
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&dev->lock, &attr);
	pthread_rwlock_init(&dev->present, &attr);
}

int main(int argc, char **argv)
{
	pid_t pids[NR_MOVERS] = {};
	int i, status, left = 0, failed = 0;
	pid_t pid;

	if (argc < 5 || argc - 4 > MAX_DEVICES) {
		fprintf(stderr, "usage: movers SECONDS SEED SVA KIND:ADDRESS...\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return 1;
	for (i = 4; i < argc; i++)
		add(&shared->devices[nr_devices++], argv[i]);
	until = now() + atoi(argv[1]);
	sva = atoi(argv[3]);
	for (i = 0; i < NR_MOVERS; i++) {
		if (movers[i].needs_sva && !sva)
			continue;
		pids[i] = fork();
		if (!pids[i])
			move(i, strtoull(argv[2], NULL, 0));
		left++;
	}
	while (left && now() < until + PATIENCE) {
		while (left && (pid = waitpid(-1, &status, WNOHANG)) > 0) {
			left--;
			for (i = 0; i < NR_MOVERS; i++) {
				if (pids[i] != pid)
					continue;
				pids[i] = 0;
				if (status && ++failed)
					printf("@ mover %s ended with %#x\n", movers[i].name, status);
			}
		}
		tell();
		usleep(500000);
	}
	for (i = 0; i < NR_MOVERS; i++)
		if (pids[i] && ++failed)
			printf("@ mover %s hangs\n", movers[i].name);
	return !!failed;
}
