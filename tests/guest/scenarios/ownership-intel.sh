# Who holds a group and where it sits, under the real Intel driver.
. /guest/lib.sh
load_pasidcap
# The driver is bound only where it is said.
echo 0 >/sys/bus/pci/drivers_autoprobe
modprobe nvme
dev=0000:01:00.0 driver=nvme
. /guest/scenarios/ownership.sh
modprobe -r nvme
