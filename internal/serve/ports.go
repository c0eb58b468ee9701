package serve

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/ingot-os/ingot/internal/ui"
)

// bindError says why a port cannot be had, and what to do about it.
func (c *Config) bindError(key, flag, network string, port int, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		who := owner("/proc", network, port)
		hint := map[int]string{
			67:   "stop that one, or let it give the addresses and this one say what to boot: --dhcp proxy, or dhcp: {mode: proxy}",
			547:  "stop the other DHCPv6 server of this machine",
			69:   "stop the other TFTP server (dnsmasq: leave enable-tftp out); or write tftp: {listen: \"ADDRESS:69\"} with an address of this machine on which that one is not",
			4011: "stop the other PXE boot server (dnsmasq with pxe-service is one)",
		}[port]
		if port == 67 && c.DHCP.Mode == ModeProxy {
			hint = "it must let others have the port beside it (dnsmasq: --bind-dynamic, or bind-dynamic in its configuration); else one of both runs on another machine of this network"
		}
		if hint == "" {
			hint = "stop that program, or give " + key + " another port"
		}
		if who == "" {
			who = "another program (as root, this would say which; else: ss -lpn 'sport = :" + strconv.Itoa(port) + "')"
		}
		return c.wrong(key, flag, hint, "%s port %d is in use by %s", network, port, who)
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return c.wrong(key, flag, "start it as root, by systemd with CAP_NET_BIND_SERVICE and CAP_NET_RAW (the package's unit does), or: setcap cap_net_bind_service,cap_net_raw+ep $(command -v ingot)",
			"%s port %d: this user may not open it", network, port)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return c.wrong(key, flag, "name an address that ip addr shows, or none", "%s port %d: the address is none of this machine", network, port)
	}
	return &ui.Error{Err: fmt.Errorf("open %s port %d for %s: %w", network, port, key, err)}
}

// owner names the program that has a port open: "dnsmasq (pid 812)". Others see
// only their own programs; then it is empty.
func owner(proc, network string, port int) string {
	inodes := sockets(proc, network, port)
	if len(inodes) == 0 {
		return ""
	}
	fds, _ := filepath.Glob(filepath.Join(proc, "[0-9]*/fd/*"))
	for _, fd := range fds {
		to, err := os.Readlink(fd)
		if err != nil || !inodes[to] {
			continue
		}
		dir := filepath.Dir(filepath.Dir(fd))
		name, _ := os.ReadFile(filepath.Join(dir, "comm"))
		return fmt.Sprintf("%s (pid %s)", strings.TrimSpace(string(name)), filepath.Base(dir))
	}
	return ""
}

// taken reports whether some program has a port open.
func taken(proc, network string, port int) bool { return len(sockets(proc, network, port)) > 0 }

// ownName is what this program is called by owner.
func ownName() string {
	name, _ := os.ReadFile("/proc/self/comm")
	return strings.TrimSpace(string(name))
}

// sockets are those of a port.
func sockets(proc, network string, port int) map[string]bool {
	inodes := map[string]bool{}
	for _, table := range []string{network, network + "6"} {
		portInodes(filepath.Join(proc, "net", table), port, network == "tcp", inodes)
	}
	return inodes
}

// tcpListen is the state of listeners in /proc/net/tcp.
const tcpListen = "0A"

// portInodes collects the sockets of a port from a table as /proc/net/udp is:
// "sl local_address rem_address st ... inode", addresses as HEX:PORT.
func portInodes(path string, port int, listening bool, out map[string]bool) {
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		w := strings.Fields(lines.Text())
		if len(w) < 10 {
			continue
		}
		_, hex, _ := strings.Cut(w[1], ":")
		n, err := strconv.ParseUint(hex, 16, 16)
		if err == nil && int(n) == port && (!listening || w[3] == tcpListen) {
			out["socket:["+w[9]+"]"] = true
		}
	}
}
