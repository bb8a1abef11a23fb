// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * vfio GROUP ROUNDS [DEVICE] - what a user of VFIO's container does, again and
 * again: claim the group, attach, map, unmap, detach, release. With a DEVICE
 * (its PCI address) the device's file is opened as well.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/*
 * One page: the flush of a range that isn't aligned to its size makes the Intel
 * driver of 6.1 WARN once (qi_flush_piotlb), and it isn't that which is tested.
 */
#define SIZE 4096
#define IOVA 0x100000

static int check(int ret, const char *what)
{
	if (ret < 0) {
		fprintf(stderr, "vfio: %s: %s\n", what, strerror(errno));
		exit(1);
	}
	return ret;
}

static void map_and_unmap(int container, void *memory)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (unsigned long)memory,
		.iova = IOVA,
		.size = SIZE,
	};
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap),
		.iova = IOVA,
		.size = SIZE,
	};

	check(ioctl(container, VFIO_IOMMU_MAP_DMA, &map), "map");
	check(ioctl(container, VFIO_IOMMU_UNMAP_DMA, &unmap), "unmap");
}

static void one_round(const char *path, const char *address, void *memory)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };
	int container = check(open("/dev/vfio/vfio", O_RDWR), "container");
	int group = check(open(path, O_RDWR), path);
	int device = -1;

	check(ioctl(group, VFIO_GROUP_GET_STATUS, &status), "status");
	if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE)) {
		fprintf(stderr, "vfio: %s: not viable\n", path);
		exit(1);
	}
	check(ioctl(group, VFIO_GROUP_SET_CONTAINER, &container), "claim");
	check(ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), "attach");
	if (address)
		device = check(ioctl(group, VFIO_GROUP_GET_DEVICE_FD, address),
			       address);
	map_and_unmap(container, memory);
	if (device >= 0)
		close(device);
	close(group);
	close(container);
}

int main(int argc, char **argv)
{
	char path[64];
	void *memory;
	int rounds;

	if (argc < 3) {
		fprintf(stderr, "usage: vfio GROUP ROUNDS [DEVICE]\n");
		return 2;
	}
	snprintf(path, sizeof(path), "/dev/vfio/%s", argv[1]);
	memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	check(memory == MAP_FAILED ? -1 : 0, "memory");
	for (rounds = atoi(argv[2]); rounds > 0; rounds--)
		one_round(path, argv[3], memory);
	return 0;
}
