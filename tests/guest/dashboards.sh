# SPDX-License-Identifier: MIT OR Apache-2.0
# A Prometheus on the host, whose address is in $prometheus, scrapes the daemon here through the network card $card. A
# tenant leaves a PASID behind; how long until the alert fires there is told, by the clock of this guest. The same is
# pushed to an Alertmanager on the host, at $alertmanager, where nobody listens until a push has failed.

. /guest/lib.sh
nvme=0000:01:00.0
load_pasidcap devs=$nvme
load caller
for address in /sys/class/net/*/address; do
	[ "$(cat $address)" = $card ] && ifconfig "$(basename ${address%/address})" 10.0.2.15 up
done
cat >/tmp/push.toml <<END
[output]
spool = "/tmp/spool"
[push]
url = "$alertmanager"
runbooks = "https://runbooks.example.com/"
END
iommu-watch --config /tmp/push.toml daemon --web.listen-address 0.0.0.0:9436 >/tmp/log 2>/tmp/errors &
daemon=$!
wait_for_http $watch_url/-/ready 60 || die "the daemon is not ready: $(cat /tmp/errors)"

# holds QUERY: waits until Prometheus has something for it, for a minute at most
holds() {
	left=600
	until wget -q -O - "$prometheus/api/v1/query?query=$1" 2>/dev/null | grep -q '"value"'; do
		left=$((left - 1))
		[ $left -gt 0 ] || die "Prometheus never had $1"
		usleep 50000
	done
}

# milliseconds: since the boot
milliseconds() {
	read -r up _ </proc/uptime
	echo $((${up%.*} * 1000 + 1${up#*.} * 10 - 1000))
}

# The reading of the groups at the start is over, and rates have their samples.
holds 'sum(count_over_time(iommu_watch_build_info%5B30s%5D))%3E4'

c alloc $nvme mine
as owner c claim-device $nvme
as tenant c attach-pasid mine $nvme 5
before=$(milliseconds)
as owner c release-device $nvme
holds 'ALERTS%7Balertname%3D%22IommuWatchPasidLeftOnRelease%22%2Calertstate%3D%22firing%22%7D'
echo "@ fired after $(($(milliseconds) - before)) ms"

# pushed PATTERN: waits until what Alertmanager has is like that, for half a minute at most
pushed() {
	left=600
	until wget -q -O /tmp/alerts "$alertmanager/api/v2/alerts" 2>/dev/null && grep -q "$1" /tmp/alerts; do
		left=$((left - 1))
		[ $left -gt 0 ] || die "Alertmanager never had $1: $(cat /tmp/alerts /tmp/errors)"
		usleep 50000
	done
}
pushed pasid-left-on-release
echo "@ alerts $(cat /tmp/alerts)"
as tenant c detach-pasid mine $nvme 5
# The group was not let go: that is what follows from it.
as owner c release-device $nvme
pushed '^\[\]$'
echo "@ no alerts"

# Once more, so that there is something to be shown; and what happened since then is in the rates, too.
as owner c claim-device $nvme
as tenant c attach-pasid mine $nvme 5
as owner c release-device $nvme
sleep 4
kill $daemon
wait $daemon
