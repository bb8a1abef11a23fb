// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * churn - maps, touches and unmaps memory until it is killed: a process whose
 * page tables change all the time. The memory is aligned to its size: half of
 * it is a range that the IOMMU can be told to drop alone.
 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SIZE (16 * 4096)

int main(void)
{
	for (;;) {
		char *memory = mmap((void *)0x40000000, SIZE, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

		if (memory == MAP_FAILED) {
			perror("churn: mmap");
			return 1;
		}
		memset(memory, 1, SIZE);
		munmap(memory, SIZE);
		usleep(1000);
	}
}
