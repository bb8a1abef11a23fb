#!/bin/sh
# PID 1 of a guest of the testbed: sets the stage, runs the script, tells its exit code, ends the machine.

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

code=0
for module in $(cat /etc/testbed/modules); do
	modprobe "$module" >$out 2>&1 || { echo "init: modprobe $module failed" >$out; code=125; }
done
if [ $code = 0 ]; then
	cd /root || code=125
	sh /etc/testbed/script </dev/null >$out 2>&1
	code=$?
fi

# The console is the artefact that a person reads after a failure.
dmesg -n 1
dmesg >/dev/ttyS0
printf '\036testbed:exit %d\036' $code >$out
# Both ports drain before the machine ends.
stty -F $out raw -echo
stty -F /dev/ttyS0 raw
printf '\000' | dd of=/dev/port bs=1 seek=1281 2>/dev/null
poweroff -f
