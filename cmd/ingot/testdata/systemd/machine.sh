# The network of the container: eth1, on which ingot serve serves, and a machine on
# the other end of its cable. What it prints is judged by TestServeUnderSystemd.
set -eu
trap 'journalctl -u ingot -o cat; systemctl status ingot --no-pager' EXIT
cd /root
ip link add eth1 type veth peer name eth0
ip netns add machine
ip link set eth0 netns machine address 52:54:00:aa:bb:cc
ip addr add 192.0.2.1/24 dev eth1
ip link set eth1 up
ip link set lo up
ip -n machine link set eth0 up
mkdir -p /srv/ingot/releases
cp -r set /srv/ingot/releases/hello

# The words of docs/serve.md, typed as root of a system that has no other packages to fetch.
apt() { dpkg --install "$2"; }
jq() { cat; }
sudo() {
	"$@"
	if [ "$1" = cp ]; then
		cp site.yaml /etc/ingot/serve.yaml # "and edit it"
	fi
}
. ./docs.sh

# One machine asks for an address, and loads what it is offered by both methods.
boots() {
	ip netns exec machine busybox udhcpc -f -q -n -t 20 -T 1 -i eth0 -V PXEClient:Arch:00007:UNDI:003016 -x 0x5d:0007 -O bootfile -s /root/lease.sh
	file=$(cat bootfile)
	for scheme in tftp http; do
		ip netns exec machine curl -sS --fail --max-time 120 -o got "$scheme://192.0.2.1/$file"
		cmp got "set/$(basename "$file")"
		rm got
		echo "proof: loaded by $scheme: $file"
	done
}
value() { systemctl show ingot -p "$1" --value; }
await() { # FOR WHAT, at most 20 seconds
	for _ in $(seq 200); do
		if "$@"; then return; fi
		sleep 0.1
	done
	echo "proof: $* did not come"
	return 1
}
said() { journalctl -u ingot -o cat | grep -q -F "$1"; }
again() { systemctl is-active --quiet ingot && [ "$(value MainPID)" != "$pid" ]; }

boots
pid=$(value MainPID)
grep -E '^(Uid|CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):' "/proc/$pid/status" | sed 's/^/proof: /'
for dir in /etc /usr /srv /var/cache /var/lib /home /root /var/lib/ingot; do
	if touch "/proc/$pid/root$dir/written" 2>/dev/null; then # as root: only its mounts are in the way
		echo "proof: may write to $dir"
	fi
done
await said 'configuration is read'
kill -KILL "$pid"
await again
echo "proof: restarts $(value NRestarts)"
boots
systemctl stop ingot
echo "proof: stopped: $(value Result), $(value ActiveState)"
trap - EXIT
journalctl -u ingot -o cat
echo 'proof: whole'
