package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/internal/netlab"
)

// TestServeUnprivileged runs the whole program as a user without capabilities, on
// high ports, and boots a client that another project's codec speaks for: DHCP,
// then the UKI by TFTP and by HTTP, byte for byte. A reload in between costs
// nobody a transfer.
func TestServeUnprivileged(t *testing.T) {
	f := warm(t)
	_, set := f.built(t, "plain")
	lab := serveLab(t, f.exe, set, labConfig, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobodyID, Gid: nobodyID}})
	offer := lab.discover(t, iana.EFI_X86_64, "PXEClient:Arch:00007:UNDI:003000")
	if got := offer.YourIPAddr.String(); got != "10.88.0.77" {
		t.Errorf("address %s, want the reserved one", got)
	}
	file := bootFile(offer)
	if !strings.HasPrefix(file, "boot/525400aabbcc/hello-") || offer.ServerIPAddr.String() != "10.88.0.1" {
		t.Fatalf("offer: file %q, server %s", file, offer.ServerIPAddr)
	}
	want := digestOf(t, filepath.Join(set, filepath.Base(file)))
	if got := lab.tftp(t, file, nil); got != want {
		t.Errorf("TFTP: %s, want %s", got, want)
	}
	offer = lab.discover(t, iana.EFI_X86_64_HTTP, "HTTPClient:Arch:00016:UNDI:003000")
	url := string(offer.Options.Get(dhcpv4.OptionBootfileName))
	if !strings.HasPrefix(url, "http://10.88.0.1:10080/boot/525400aabbcc/hello-") || string(offer.Options.Get(dhcpv4.OptionClassIdentifier)) != "HTTPClient" {
		t.Fatalf("HTTP offer: %q", url)
	}
	again := func() { // while the transfer runs
		lab.server.Signal(syscall.SIGHUP)
		lab.server.Await("configuration is read", 10*time.Second)
	}
	if got := lab.http(t, url, again); got != want {
		t.Errorf("HTTP: %s, want %s", got, want)
	}
	if got := lab.tftp(t, file, again); got != want {
		t.Errorf("TFTP across a reload: %s, want %s", got, want)
	}
	lab.metrics(t)
	if err := lab.server.Stop(); err != nil || !strings.Contains(lab.server.Said(), "stopped") {
		t.Errorf("stop: %v", err)
	}
	for _, line := range []string{"52:54:00:aa:bb:cc is offered hello-", "loads hello-", "has loaded hello-"} {
		if !strings.Contains(lab.server.Said(), line) {
			t.Errorf("the log has no %q", line)
		}
	}
}

// TestServeCapabilities runs the program as ingot.service does: another user, two
// capabilities, the ports of firmware.
func TestServeCapabilities(t *testing.T) {
	f := warm(t)
	_, set := f.built(t, "plain")
	lab := serveLab(t, f.exe, set, usualPorts(labConfig), &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: nobodyID, Gid: nobodyID}, AmbientCaps: []uintptr{unix.CAP_NET_BIND_SERVICE, unix.CAP_NET_RAW},
	})
	lab.boots(t)
	if got, want := lab.capabilities(t), uint64(1<<unix.CAP_NET_BIND_SERVICE|1<<unix.CAP_NET_RAW); got != want {
		t.Errorf("capabilities %x, want %x", got, want)
	}
}

// TestServeDropsRoot runs it as root with user: the ports of firmware are open, and
// nothing of root is left.
func TestServeDropsRoot(t *testing.T) {
	f := warm(t)
	_, set := f.built(t, "plain")
	lab := serveLab(t, f.exe, set, "user: nobody\n"+usualPorts(labConfig), &syscall.SysProcAttr{Credential: &syscall.Credential{Groups: []uint32{4, 27}}})
	lab.boots(t)
	if got := lab.capabilities(t); got != 0 {
		t.Errorf("capabilities %x are left", got)
	}
	status := lab.status(t)
	if !regexp.MustCompile(`(?m)^Uid:\s65534\s65534\s65534\s65534$`).MatchString(status) || !regexp.MustCompile(`(?m)^Groups:\s*$`).MatchString(status) {
		t.Errorf("users and groups:\n%s", status)
	}
	lab.server.Signal(syscall.SIGHUP)
	lab.server.Await("configuration is read", 10*time.Second)
}

// usualPorts are those that firmware knows.
func usualPorts(config string) string {
	return strings.NewReplacer("  port: 10067\n", "", "  proxyPort: 14011\n", "", "tftp: {listen: \":10069\"}\n", "", "http: {listen: \":10080\"}\n", "").Replace(config)
}

// boots boots a client by the usual ports.
func (l *bootLab) boots(t *testing.T) {
	t.Helper()
	l.dhcp, l.tftpPort = 67, 69
	offer := l.discover(t, iana.EFI_X86_64, "PXEClient:Arch:00007:UNDI:003000")
	want := digestOf(t, filepath.Join(l.set, filepath.Base(bootFile(offer))))
	if got := l.tftp(t, bootFile(offer), nil); got != want {
		t.Errorf("TFTP: %s, want %s", got, want)
	}
	offer = l.discover(t, iana.EFI_X86_64_HTTP, "HTTPClient:Arch:00016:UNDI:003000")
	if got := l.http(t, string(offer.Options.Get(dhcpv4.OptionBootfileName)), func() {}); got != want {
		t.Errorf("HTTP: %s, want %s", got, want)
	}
}

func (l *bootLab) status(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", l.server.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// capabilities are those that the server could use.
func (l *bootLab) capabilities(t *testing.T) uint64 {
	t.Helper()
	m := regexp.MustCompile(`(?m)^CapPrm:\s([0-9a-f]+)$`).FindStringSubmatch(l.status(t))
	if m == nil {
		t.Fatal("no CapPrm")
	}
	n, err := strconv.ParseUint(m[1], 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// bootLab is a running server and a client on a cable to it.
type bootLab struct {
	server *netlab.Process
	host   *netlab.Space
	client *netlab.Space
	set    string
	dir    string // of serve.yaml
	again  func() // starts the server once more

	dhcp, tftpPort int
}

func serveLab(t *testing.T, exe, set, text string, as *syscall.SysProcAttr) *bootLab {
	t.Helper()
	lab := &bootLab{set: set, dhcp: 10067, tftpPort: 10069, host: netlab.New(t, "server"), client: netlab.New(t, "client")}
	netlab.Cable(lab.host, "up0", lab.client, "down0")
	lab.host.Address("up0", "10.88.0.1/24")
	lab.client.Address("down0", "10.88.0.2/24")
	dir, err := os.MkdirTemp("", "ingot-serve-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	lab.dir = dir
	config := filepath.Join(dir, "serve.yaml")
	for _, step := range []error{
		os.Chmod(dir, 0o755), os.Mkdir(filepath.Join(dir, "state"), 0o700), os.Chown(filepath.Join(dir, "state"), nobodyID, nobodyID),
		os.CopyFS(filepath.Join(dir, "releases", filepath.Base(set)), os.DirFS(set)),
		os.WriteFile(config, []byte(text), 0o644),
	} {
		if step != nil {
			t.Fatal(step)
		}
	}
	lab.again = func() {
		t.Helper()
		cmd := exec.Command(exe, "serve", "-c", config, "-v")
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/"}
		cmd.Dir = dir
		cmd.SysProcAttr = as
		lab.server = lab.host.StartCommand(cmd)
		lab.server.Await("serving: parts", 20*time.Second)
	}
	lab.again()
	return lab
}

const nobodyID = 65534

const labConfig = `releases: [releases]
insecureReleases: true
state: state
interfaces: [up0]
dhcp:
  mode: full
  port: 10067
  proxyPort: 14011
  subnets:
    - subnet: 10.88.0.0/24
      pools: [10.88.0.100-10.88.0.150]
      router: 10.88.0.1
      reservations: [{mac: "52:54:00:aa:bb:cc", address: 10.88.0.77, hostname: edge-1}]
tftp: {listen: ":10069"}
http: {listen: ":10080"}
metrics: {listen: "10.88.0.1:19445"}
`

// discover asks as firmware does, and gives the first offer.
func (l *bootLab) discover(t *testing.T, arch iana.Arch, class string) *dhcpv4.DHCPv4 {
	t.Helper()
	m, err := dhcpv4.NewDiscovery(net.HardwareAddr{0x52, 0x54, 0, 0xaa, 0xbb, 0xcc},
		dhcpv4.WithBroadcast(true), dhcpv4.WithOption(dhcpv4.OptClientArch(arch)), dhcpv4.WithOption(dhcpv4.OptClassIdentifier(class)),
		dhcpv4.WithRequestedOptions(dhcpv4.OptionTFTPServerName, dhcpv4.OptionBootfileName))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := l.client.ListenPacket("udp4", "0.0.0.0:68")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	buf := make([]byte, 2048)
	for range 5 {
		if _, err := conn.WriteTo(m.ToBytes(), &net.UDPAddr{IP: net.IPv4(10, 88, 0, 255), Port: l.dhcp}); err != nil {
			t.Fatal(err)
		}
		conn.SetReadDeadline(time.Now().Add(3 * time.Second))
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			continue
		}
		if o, err := dhcpv4.FromBytes(buf[:n]); err == nil && o.TransactionID == m.TransactionID {
			return o
		}
	}
	t.Fatal("no offer")
	return nil
}

func bootFile(m *dhcpv4.DHCPv4) string {
	if m.BootFileName != "" {
		return m.BootFileName
	}
	return string(m.Options.Get(dhcpv4.OptionBootfileName))
}

func (l *bootLab) http(t *testing.T, url string, during func()) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DialContext: l.client.Dial}}
	r, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	h := sha256.New()
	if _, err := io.CopyN(h, r.Body, 1<<20); err != nil {
		t.Fatal(err)
	}
	during()
	if _, err := io.Copy(h, r.Body); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// tftp is a client of RFC 1350 with a window of 64 blocks (RFC 7440).
func (l *bootLab) tftp(t *testing.T, file string, during func()) string {
	t.Helper()
	conn, err := l.client.ListenPacket("udp4", "10.88.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ask := fmt.Sprintf("\x00\x01%s\x00octet\x00blksize\x001428\x00windowsize\x0064\x00", file)
	send := func(b []byte, to net.Addr) {
		if _, err := conn.WriteTo(b, to); err != nil {
			t.Fatal(err)
		}
	}
	send([]byte(ask), &net.UDPAddr{IP: net.IPv4(10, 88, 0, 1), Port: l.tftpPort})
	sum, next, buf := sha256.New(), uint16(1), make([]byte, 2048)
	for taken := 0; ; {
		conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			t.Fatal(err)
		}
		ack := func() { send(binary.BigEndian.AppendUint16([]byte{0, 4}, next-1), from) }
		switch op := binary.BigEndian.Uint16(buf); {
		case op == 6:
			ack()
		case op != 3:
			t.Fatalf("TFTP: %q", buf[:n])
		case binary.BigEndian.Uint16(buf[2:]) != next:
			if taken%64 == 0 {
				ack()
			}
		default:
			sum.Write(buf[4:n])
			next, taken = next+1, taken+1
			if taken == 64 && during != nil {
				during()
			}
			if last := n-4 < 1428; last || taken%64 == 0 {
				ack()
				if last {
					return hex.EncodeToString(sum.Sum(nil))
				}
			}
		}
	}
}

// metrics looks at what the server counts. It counts a transfer when the last
// acknowledgement is in, which is after the client has its file.
func (l *bootLab) metrics(t *testing.T) {
	t.Helper()
	want := []string{
		`ingot_transfers_total{method="tftp",result="done"} 2`, `ingot_transfers_total{method="http",result="done"} 1`,
		`ingot_boot_decisions_total{arch="7",verdict="boot"} `, `ingot_boot_stages_total{method="tftp",stage="offered"} `, `ingot_releases{state="loaded"} 1`, `ingot_reloads_total{result="ok"} `,
	}
	body, missing := l.scrape(t), want
	for range 100 {
		if missing = lacks(body, want); len(missing) == 0 {
			break
		}
		time.Sleep(50 * time.Millisecond)
		body = l.scrape(t)
	}
	if len(missing) > 0 {
		t.Errorf("no %s in\n%s", missing, body)
	}
	if strings.Contains(strings.ToLower(body), "52:54") || strings.Contains(body, "525400") {
		t.Error("a MAC address is a label")
	}
}

// lacks returns the starts of lines that no line of the text has.
func lacks(text string, starts []string) (missing []string) {
	for _, s := range starts {
		if !strings.Contains(text, "\n"+s) {
			missing = append(missing, s)
		}
	}
	return missing
}

// scrape reads the metrics as the client's machine sees them.
func (l *bootLab) scrape(t *testing.T) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		return l.client.Dial(ctx, network, address)
	}}}
	r, err := client.Get("http://10.88.0.1:19445/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func digestOf(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
