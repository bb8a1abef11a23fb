// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * stamps - reads the daemon's JSON lines as they come. For each violation "CHECK EVENT READ" when the input ends:
 * the time of the event, by the kernel, and when its line was read here, both in ns of CLOCK_MONOTONIC.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char buffer[1 << 20];
static struct stamp {
	char check[48];
	long long event, read;
} stamps[8192];
static int count;

/* What follows "NAME": in the line. */
static const char *member(const char *line, const char *name)
{
	const char *at = strstr(line, name);

	return at ? at + strlen(name) : NULL;
}

static void take(const char *line, long long now)
{
	const char *check = member(line, "\"check\":\""), *event = member(line, "\"mono_ns\":");

	if (!strstr(line, "\"kind\":\"violation\"") || !check || !event || count == 8192)
		return;
	snprintf(stamps[count].check, sizeof(stamps[count].check), "%.*s", (int)strcspn(check, "\""), check);
	stamps[count].event = atoll(event);
	stamps[count++].read = now;
}

int main(void)
{
	size_t have = 0;
	ssize_t got;
	int i;

	while ((got = read(0, buffer + have, sizeof(buffer) - have - 1)) > 0) {
		struct timespec at;
		char *line = buffer, *end;

		clock_gettime(CLOCK_MONOTONIC, &at);
		have += got;
		buffer[have] = 0;
		for (; (end = strchr(line, '\n')); line = end + 1) {
			*end = 0;
			take(line, at.tv_sec * 1000000000LL + at.tv_nsec);
		}
		have -= line - buffer;
		memmove(buffer, line, have);
	}
	for (i = 0; i < count; i++)
		printf("%s %lld %lld\n", stamps[i].check, stamps[i].event, stamps[i].read);
	return 0;
}
