// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * service USEC FILE COMMAND...: runs the command as systemd runs packaging/iommu-watch.service: as nobody, with three
 * ambient capabilities and no other to be had, and with a socket to tell what there is to tell. What is told goes to
 * FILE, a line each. The watchdog's time is USEC. SIGTERM goes on to the command, whose exit code is this one's.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOBODY 65534
#define SOCKET "/tmp/notify"

static const int kept[] = { CAP_BPF, CAP_PERFMON, CAP_SYSLOG };
#define KEPT (sizeof(kept) / sizeof(*kept))

static pid_t child;

static void must(int failed, const char *what)
{
	if (failed) {
		perror(what);
		_exit(125);
	}
}

static int is_kept(int cap)
{
	for (unsigned int i = 0; i < KEPT; i++)
		if (kept[i] == cap)
			return 1;
	return 0;
}

static void become_the_service(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { { 0 } };

	for (int cap = 0; prctl(PR_CAPBSET_READ, cap) >= 0; cap++)
		must(!is_kept(cap) && prctl(PR_CAPBSET_DROP, cap), "bounding set");
	must(prctl(PR_SET_KEEPCAPS, 1), "keep");
	must(setgroups(0, NULL) || setgid(NOBODY) || setuid(NOBODY), "nobody");
	for (unsigned int i = 0; i < KEPT; i++) {
		struct __user_cap_data_struct *word = &data[kept[i] / 32];

		word->permitted |= 1u << (kept[i] % 32);
		word->effective = word->inheritable = word->permitted;
	}
	must(syscall(SYS_capset, &header, data), "capset");
	for (unsigned int i = 0; i < KEPT; i++)
		must(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, kept[i], 0, 0), "ambient");
	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges");
}

static void pass_on(int signal)
{
	kill(child, signal);
}

int main(int argc, char **argv)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = SOCKET };
	int told, status = 0;
	FILE *file;

	if (argc < 4)
		return 125;
	unlink(SOCKET);
	told = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	must(told < 0 || bind(told, (struct sockaddr *)&address, sizeof(address)), SOCKET);
	must(chmod(SOCKET, 0666), SOCKET);
	file = fopen(argv[2], "we");
	must(!file, argv[2]);
	setvbuf(file, NULL, _IOLBF, 0);
	child = fork();
	must(child < 0, "fork");
	if (!child) {
		setenv("NOTIFY_SOCKET", SOCKET, 1);
		setenv("WATCHDOG_USEC", argv[1], 1);
		become_the_service();
		execvp(argv[3], argv + 3);
		perror(argv[3]);
		_exit(126);
	}
	signal(SIGTERM, pass_on);
	for (;;) {
		struct pollfd poll_told = { .fd = told, .events = POLLIN };
		char message[4096];
		ssize_t len;

		if (poll(&poll_told, 1, 50) > 0 && (len = recv(told, message, sizeof(message), 0)) > 0)
			fwrite(message, 1, len, file);
		else if (waitpid(child, &status, WNOHANG) == child)
			break;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
