// SPDX-License-Identifier: MIT OR Apache-2.0
/* nanoseconds - CLOCK_MONOTONIC. With the machine's time counted in instructions, that is how many were run. */
#include <stdio.h>
#include <time.h>

int main(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	printf("%lld\n", now.tv_sec * 1000000000LL + now.tv_nsec);
	return 0;
}
