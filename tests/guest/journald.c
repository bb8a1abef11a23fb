// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * journald SOCKET: a journal that takes no entries until it gets a SIGUSR1. From then on it writes the line in each that
 * it gets (IOMMU_WATCH_JSON=) to stdout.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define FIELD "\nIOMMU_WATCH_JSON="

static void must(int failed, const char *what)
{
	if (failed) {
		perror(what);
		exit(1);
	}
}

static void print_line(const char *entry, size_t length)
{
	const char *from = memmem(entry, length, FIELD, strlen(FIELD));
	const char *end;

	if (!from)
		return;
	from += strlen(FIELD);
	end = memchr(from, '\n', entry + length - from);
	printf("%.*s\n", (int)(end ? end - from : entry + length - from), from);
	fflush(stdout);
}

/* What is too long for a datagram comes as a file in memory. */
static void print_file(int file)
{
	struct stat is;
	char *entry;

	must(fstat(file, &is), "fstat");
	entry = mmap(NULL, is.st_size, PROT_READ, MAP_PRIVATE, file, 0);
	must(entry == MAP_FAILED, "mmap");
	print_line(entry, is.st_size);
	munmap(entry, is.st_size);
	close(file);
}

int main(int argc, char **argv)
{
	static char entry[1 << 20];
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int socket_ = socket(AF_UNIX, SOCK_DGRAM, 0);
	sigset_t signals;
	int signal;

	must(argc != 2, "usage: journald SOCKET");
	sigemptyset(&signals);
	sigaddset(&signals, SIGUSR1);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	strncpy(address.sun_path, argv[1], sizeof(address.sun_path) - 1);
	must(bind(socket_, (struct sockaddr *)&address, sizeof(address)), "bind");
	sigwait(&signals, &signal);
	for (;;) {
		struct iovec piece = { entry, sizeof(entry) };
		struct msghdr message = {
			.msg_iov = &piece,
			.msg_iovlen = 1,
			.msg_control = &control,
			.msg_controllen = sizeof(control),
		};
		ssize_t length = recvmsg(socket_, &message, 0);
		struct cmsghdr *with = CMSG_FIRSTHDR(&message);

		must(length < 0, "recvmsg");
		if (with && with->cmsg_type == SCM_RIGHTS) {
			int file;

			memcpy(&file, CMSG_DATA(with), sizeof(file));
			print_file(file);
		} else {
			print_line(entry, length);
		}
	}
}
