#!/bin/sh
# In a guest whose stage is set: loads modules, runs the script, tells its exit code, ends the machine.

out=/dev/ttyS1
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
