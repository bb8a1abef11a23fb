// SPDX-License-Identifier: MIT OR Apache-2.0
/* realtime PRIORITY: from now on no task of ordinary priority preempts the shell that calls it; 0 ends that. */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct sched_param param = { .sched_priority = argc > 1 ? atoi(argv[1]) : 0 };

	if (sched_setscheduler(getppid(), param.sched_priority ? SCHED_FIFO : SCHED_OTHER, &param)) {
		perror("realtime");
		return 1;
	}
	return 0;
}
