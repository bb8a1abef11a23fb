#!/bin/sh
# PID 1 of a guest of the testbed: sets the stage for the script.

export PATH=/bin HOME=/root TERM=dumb
out=/dev/ttyS1

mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tracefs tracefs /sys/kernel/tracing
mount -t debugfs debugfs /sys/kernel/debug
mount -t securityfs securityfs /sys/kernel/security
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
ifconfig lo up
stty -F $out raw -echo
printf '\036testbed:booted\036' >$out

# Of a guest with a Debian, its systemd is PID 1 from here on, and starts what follows as a service.
if [ -d /debian ]; then
	mount --bind /debian /debian
	for dir in guest testmod lib/modules etc/testbed; do
		[ -d "/$dir" ] || continue
		mkdir -p "/debian/$dir"
		mount --bind "/$dir" "/debian/$dir"
	done
	mkdir -p /debian/busybox
	mount --bind /bin /debian/busybox
	cd /debian || poweroff -f
	mount --move . /
	exec chroot . /usr/lib/systemd/systemd --unit=testbed.service
fi
exec sh /etc/testbed/run
