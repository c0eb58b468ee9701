package tftp

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ingot-os/ingot/internal/oracle"
)

// TestClientsOfOthers has the clients that people have fetch a file.
func TestClientsOfOthers(t *testing.T) {
	r := newRig(t, &Server{}, "127.0.0.1:0")
	r.put("boot/a.efi", noise(300_001))
	r.put("boot/lines", []byte(strings.Repeat("a line\nand\ranother\r\n", 1000)))
	port := fmt.Sprint(r.addr.Port())
	for _, c := range []struct {
		name, file, pkg, program string
		args                     []string
	}{
		{"tftp-hpa, octet", "boot/a.efi", "tftp-hpa", "tftp", []string{"-m", "octet", "127.0.0.1", port, "-c", "get", "FILE", "TO"}},
		{"tftp-hpa, netascii", "boot/lines", "tftp-hpa", "tftp", []string{"-m", "netascii", "127.0.0.1", port, "-c", "get", "FILE", "TO"}},
		{"tftp-hpa, netascii of binary", "boot/a.efi", "tftp-hpa", "tftp", []string{"-m", "netascii", "127.0.0.1", port, "-c", "get", "FILE", "TO"}},
		{"atftp", "boot/a.efi", "atftp", "atftp", []string{"-g", "-r", "FILE", "-l", "TO", "127.0.0.1", port}},
		{"atftp, all options", "boot/a.efi", "atftp", "atftp", []string{"--option", "blksize 1428", "--option", "windowsize 16", "--option", "tsize", "--option", "timeout 2", "-g", "-r", "FILE", "-l", "TO", "127.0.0.1", port}},
		{"curl", "boot/a.efi", "curl", "curl", []string{"-sS", "-o", "TO", "tftp://127.0.0.1:" + port + "/FILE"}},
		{"curl, large blocks", "boot/a.efi", "curl", "curl", []string{"-sS", "--tftp-blksize", "8192", "-o", "TO", "tftp://127.0.0.1:" + port + "/FILE"}},
		{"curl, no options", "boot/a.efi", "curl", "curl", []string{"-sS", "--tftp-no-options", "-o", "TO", "tftp://127.0.0.1:" + port + "/FILE"}},
		{"busybox", "boot/a.efi", "busybox", "busybox", []string{"tftp", "-g", "-r", "FILE", "-l", "TO", "127.0.0.1", port}},
		{"busybox, large blocks", "boot/a.efi", "busybox", "busybox", []string{"tftp", "-g", "-b", "1468", "-r", "FILE", "-l", "TO", "127.0.0.1", port}},
	} {
		t.Run(c.name, func(t *testing.T) {
			to := filepath.Join(t.TempDir(), "to")
			var args []string
			for _, a := range c.args {
				args = append(args, strings.NewReplacer("FILE", c.file, "TO", to).Replace(a))
			}
			out, err := exec.Command(oracle.Need(t, c.pkg, c.program), args...).CombinedOutput()
			got, _ := os.ReadFile(to)
			if err != nil || !bytes.Equal(got, r.shelf.files[c.file]) {
				t.Fatalf("%d bytes of %d, %v: %s", len(got), len(r.shelf.files[c.file]), err, out)
			}
		})
	}
	r.released(t)
}

// inNetwork runs the calling test anew in a network namespace of its own in which
// loopback has the MTU of Ethernet, and reports whether that is where it runs.
func inNetwork(t *testing.T) bool {
	const here = "INGOT_TEST_NETWORK"
	if os.Getenv(here) == t.Name() {
		if out, err := exec.Command(oracle.Need(t, "iproute2", "ip"), "link", "set", "lo", "mtu", "1500", "up").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("not root")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), here+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return false
}

// fragments is how many fragments the kernel has made of packets in this namespace.
func fragments(t *testing.T) (n string) {
	for _, f := range []string{"/proc/thread-self/net/snmp", "/proc/thread-self/net/snmp6"} {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var heads []string
		for line := range strings.Lines(string(b)) {
			fields := strings.Fields(line)
			switch {
			case fields[0] == "Ip:" && heads == nil:
				heads = fields
			case fields[0] == "Ip:":
				for i, h := range heads {
					if h == "FragCreates" {
						n += fields[i]
					}
				}
			case fields[0] == "Ip6FragCreates":
				n += "," + fields[1]
			}
		}
	}
	return n
}

func TestNoFragments(t *testing.T) {
	if !inNetwork(t) {
		return
	}
	for at, block := range map[string]string{"127.0.0.1:0": "1468", "[::1]:0": "1448"} {
		r := newRig(t, &Server{}, at)
		r.put("a", noise(200_000))
		for _, window := range []string{"1", "4", "64"} {
			c := dial(t, r.addr)
			got, err := c.get("a", "blksize", "65464", "windowsize", window)
			if err != nil || !bytes.Equal(got, r.shelf.files["a"]) {
				t.Fatal(len(got), err)
			}
			if c.oack[0][1] != block || fmt.Sprint(c.biggest-header) != block {
				t.Errorf("blocks of %s, the largest packet has %d, want %s", c.oack[0][1], c.biggest-header, block)
			}
		}
		if n := fragments(t); n != "0,0" {
			t.Fatalf("%s: fragments of IPv4, IPv6: %s, want none", at, n)
		}
	}
	// The count can count.
	c := dial(t, netip.MustParseAddrPort("127.0.0.1:9"))
	c.sendTo(make([]byte, 1473), c.to)
	if n := fragments(t); n != "2,0" {
		t.Errorf("a packet of 1501 bytes made %s fragments", n)
	}
}
