// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * container FILE COMMAND...: runs the static program in FILE by this command line, as a container engine runs it for
 * packaging/kubernetes/iommu-watch.yaml: as PID 1 and UID 0 with three capabilities and no other to be had, in a root
 * with nothing else in it that it can't write to, with a /proc and a read-only /sys of its own, and /proc/kcore masked.
 * WITHOUT=NUMBER withholds one of the three; PINS=DIRECTORY is mounted at /pins. The network is the guest's, by which the test asks. SIGTERM goes on to the program, whose exit code is this one's.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROOT "/tmp/container"
#define PROGRAM "/iommu-watch"
#define LOCKED (MS_NOSUID | MS_NODEV | MS_NOEXEC)

static pid_t child;

static void must(int failed, const char *what)
{
	if (failed) {
		perror(what);
		_exit(125);
	}
}

static void lay_out(const char *program)
{
	const char *pins = getenv("PINS");
	int file;

	must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "private");
	must(mkdir(ROOT, 0755) && access(ROOT, F_OK), ROOT);
	must(mount("root", ROOT, "tmpfs", MS_NOSUID | MS_NODEV, NULL), "root");
	must(mkdir(ROOT "/proc", 0755) || mkdir(ROOT "/sys", 0755), "directories");
	file = open(ROOT PROGRAM, O_CREAT | O_CLOEXEC, 0755);
	must(file < 0 || close(file), PROGRAM);
	must(mount(program, ROOT PROGRAM, NULL, MS_BIND, NULL), program);
	must(mount("proc", ROOT "/proc", "proc", LOCKED, NULL), "proc");
	must(mount("/dev/null", ROOT "/proc/kcore", NULL, MS_BIND, NULL), "kcore");
	must(mount("sysfs", ROOT "/sys", "sysfs", LOCKED | MS_RDONLY, NULL), "sysfs");
	if (pins)
		must(mkdir(ROOT "/pins", 0755) || mount(pins, ROOT "/pins", NULL, MS_BIND, NULL), pins);
	must(mount(NULL, ROOT, NULL, MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL), "read-only");
	must(chroot(ROOT) || chdir("/"), "chroot");
	must(sethostname("pod", 3), "hostname");
}

static void give_up_privileges(void)
{
	const char *without = getenv("WITHOUT");
	int withheld = without ? atoi(without) : -1;

	for (int cap = 0; prctl(PR_CAPBSET_READ, cap) >= 0; cap++)
		if ((cap != CAP_BPF && cap != CAP_PERFMON && cap != CAP_SYSLOG) || cap == withheld)
			must(prctl(PR_CAPBSET_DROP, cap), "bounding set");
	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges");
}

static void pass_on(int signal)
{
	kill(child, signal);
}

int main(int argc, char **argv)
{
	int status;

	if (argc < 3)
		return 125;
	must(unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS), "unshare");
	child = fork();
	must(child < 0, "fork");
	if (!child) {
		lay_out(argv[1]);
		give_up_privileges();
		execv(PROGRAM, argv + 2);
		perror(PROGRAM);
		_exit(126);
	}
	signal(SIGTERM, pass_on);
	while (waitpid(child, &status, 0) < 0)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
