# Makes a golden recording: monitor/tests/recordings/golden/make runs it on each kernel.
. /guest/lib.sh
. /guest/recorded.sh
load softiommu
load caller
record_start /tmp/golden.iwrec
record_workload
sleep 1
record_stop
cat /tmp/golden.iwrec.errors
echo "@ recording"
base64 /tmp/golden.iwrec
echo "@ said"
grep -e '"kind":"violation"' -e '"kind":"resolved"' /tmp/golden.iwrec.said
echo "@ done"
