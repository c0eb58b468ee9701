package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/ingot-os/ingot/internal/netlab"
)

// twin is one of two servers with the same configuration, rules and releases, and
// states of their own.
type twin struct {
	space *netlab.Space
	run   func() *netlab.Process
	*netlab.Process
}

const twinRules = `format: 1
groups:
  web: {mac: ["52:54:00:00:01:*"], uuid: [4c4c4544-0034-5310-8052-b4c04f4e4d32]}
deny:
  - {mac: ["52:54:00:66:*"], reason: sold}
rules:
  - {group: [web], boot: hello@1.0.0}
  - {arch: [arm64], boot: hello}
  - {mac: ["52:54:00:00:02:*"], boot: local}
  - {subnet: [10.88.0.0/24], boot: hello}
`

// twinConfig is serve.yaml for a mode of DHCP.
func twinConfig(mode, rest string) string {
	return "releases: [releases]\ninsecureReleases: true\nstate: state\nrules: rules.yaml\ninterfaces: [up0]\nmetrics: {off: true}\ndhcp:\n  mode: " + mode + "\n" + rest
}

const twinSubnet = "  subnets:\n    - subnet: 10.88.0.0/24\n      pools: [10.88.0.100-10.88.0.150]\n      router: 10.88.0.254\n      dns: [192.0.2.53]\n"

func newTwin(t *testing.T, exe, set, config string, space *netlab.Space) *twin {
	t.Helper()
	dir := tempDir(t)
	for name, text := range map[string]string{"serve.yaml": config, "rules.yaml": twinRules} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(filepath.Join(dir, "releases", filepath.Base(set)), os.DirFS(set)); err != nil {
		t.Fatal(err)
	}
	w := &twin{space: space}
	w.run = func() *netlab.Process {
		t.Helper()
		if err := os.RemoveAll(filepath.Join(dir, "state")); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(exe, "serve", "-v")
		cmd.Dir = dir
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/"}
		w.Process = space.StartCommand(cmd)
		w.Await("serving: parts", 30*time.Second)
		return w.Process
	}
	w.run()
	return w
}

// question is a DISCOVER of which each byte is given by its number.
func question(t *testing.T, n int) *dhcpv4.DHCPv4 {
	t.Helper()
	mac := net.HardwareAddr{0x52, 0x54, 0, []byte{0, 0, 0, 0x66}[n%4], byte(n % 5), byte(n)}
	arch := []iana.Arch{iana.EFI_X86_64, iana.EFI_X86_64_HTTP, iana.INTEL_X86PC, iana.EFI_ARM64, iana.EFI_BC, 1234}[n%6]
	class := "PXEClient:Arch:00007:UNDI:003016"
	if arch == iana.EFI_X86_64_HTTP {
		class = "HTTPClient:Arch:00016:UNDI:003001"
	}
	more := []dhcpv4.Modifier{dhcpv4.WithBroadcast(true), dhcpv4.WithOption(dhcpv4.OptClientArch(arch)), dhcpv4.WithOption(dhcpv4.OptClassIdentifier(class)),
		dhcpv4.WithRequestedOptions(dhcpv4.OptionTFTPServerName, dhcpv4.OptionBootfileName), dhcpv4.WithTransactionID(dhcpv4.TransactionID{1, 2, 3, byte(n)})}
	uuid := make([]byte, 17)
	if n%7 == 0 { // of the group web; others have one of zeros
		copy(uuid[1:], []byte{0x44, 0x45, 0x4c, 0x4c, 0x34, 0x00, 0x10, 0x53, 0x80, 0x52, 0xb4, 0xc0, 0x4f, 0x4e, 0x4d, 0x32})
	}
	more = append(more, dhcpv4.WithGeneric(dhcpv4.OptionClientMachineIdentifier, uuid))
	if n%11 == 0 {
		more = append(more, dhcpv4.WithGeneric(dhcpv4.OptionUserClassInformation, []byte("iPXE")))
	}
	m, err := dhcpv4.NewDiscovery(mac, more...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// exchange sends a message, and gives each answer of a moment as it came; nothing
// when there is none in a second.
func exchange(t *testing.T, client *netlab.Space, m *dhcpv4.DHCPv4, port int) []byte {
	t.Helper()
	conn, err := client.ListenPacket("udp4", "0.0.0.0:68")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	buf := make([]byte, 2048)
	for range 3 {
		if _, err := conn.WriteTo(m.ToBytes(), &net.UDPAddr{IP: net.IPv4(10, 88, 0, 255), Port: port}); err != nil {
			t.Fatal(err)
		}
		for until := time.Now().Add(5 * time.Second); ; {
			conn.SetReadDeadline(until)
			n, _, err := conn.ReadFrom(buf)
			if err != nil {
				break
			}
			if o, err := dhcpv4.FromBytes(buf[:n]); err == nil && o.TransactionID == m.TransactionID {
				return bytes.Clone(buf[:n])
			}
		}
	}
	return nil
}

// TestTwoServers: two servers that know the same rules and releases, and nothing of
// each other, answer each machine with the same bytes; so does one that has lost its
// state. Both have the same address, each in a network of its own. Which address a
// machine gets depends on what others have asked for: in mode full a server that has
// forgotten that may name another one, and all else is the same.
func TestTwoServers(t *testing.T) {
	f := warm(t)
	_, set := f.built(t, "plain")
	for mode, config := range map[string]string{"proxy": twinConfig("proxy", ""), "full": twinConfig("full", twinSubnet)} {
		t.Run(mode, func(t *testing.T) {
			var twins [2]*twin
			var clients [2]*netlab.Space
			for i := range twins {
				server, client := netlab.New(t, fmt.Sprint("server", i)), netlab.New(t, fmt.Sprint("client", i))
				netlab.Cable(server, "up0", client, "down0")
				server.Address("up0", "10.88.0.1/24")
				client.Address("down0", "10.88.0.2/24")
				twins[i], clients[i] = newTwin(t, f.exe, set, config, server), client
			}
			texts := map[string]bool{}
			compare := func(n int, got [2][]byte) {
				t.Helper()
				if got[0] == nil || !bytes.Equal(got[0], got[1]) {
					t.Errorf("machine %d: two answers\n%x\n%x", n, got[0], got[1])
					return
				}
				o, err := dhcpv4.FromBytes(got[0])
				if err != nil {
					t.Fatal(err)
				}
				texts[bootFile(o)] = true
			}
			for n := range 40 {
				if n == 20 { // one of them begins anew
					if err := twins[1].Stop(); err != nil {
						t.Fatal(err)
					}
					twins[1].run()
				}
				m := question(t, n)
				if n%6 == 5 && mode == "proxy" { // an architecture that nobody knows is told no by both, or not heard
					continue
				}
				got := [2][]byte{exchange(t, clients[0], m, 67), exchange(t, clients[1], m, 67)}
				if n >= 20 && mode == "full" {
					for _, b := range got {
						clear(b[16:20]) // yiaddr
					}
				}
				compare(n, got)
			}
			if len(texts) < 8 {
				t.Errorf("the answers have %d boot files: the machines are too much alike", len(texts))
			}
		})
	}
}

// TestOneOfTwoDies: two servers beside each other in mode proxy; one is killed while
// machines boot. The machine that loads from it at that moment asks again and has its file
// within ten seconds, and each other gets its own.
func TestOneOfTwoDies(t *testing.T) {
	f := warm(t)
	_, set := f.built(t, "plain")
	link, client := netlab.New(t, "switch"), netlab.New(t, "machines")
	link.Bridge("br0", "10.88.0.254/24")
	netlab.Cable(client, "down0", link, "p0")
	link.Plug("p0", "br0")
	client.Address("down0", "10.88.0.2/24")
	var twins [2]*twin
	for i := range twins {
		server := netlab.New(t, fmt.Sprint("server", i))
		port := fmt.Sprint("s", i)
		netlab.Cable(server, "up0", link, port)
		link.Plug(port, "br0")
		server.Address("up0", fmt.Sprintf("10.88.0.%d/24", i+1+10))
		twins[i] = newTwin(t, f.exe, set, twinConfig("proxy", ""), server)
	}
	by := map[string]int{}
	const count = 30
	for n := range count {
		if n == count/3 {
			half := loadsHalf(t, client, n, "10.88.0.11")
			twins[0].Signal(syscall.SIGKILL)
			<-twins[0].Done()
			if got, err := io.Copy(io.Discard, half); err == nil {
				t.Errorf("a server that was killed has sent %d bytes more, and the end", got)
			}
			half.Close()
		}
		began, server := time.Now(), ""
		for try := 0; server == "" && try < 5; try++ {
			server = bootsOnce(t, client, n, try)
		}
		if took := time.Since(began); server == "" || took > 10*time.Second {
			t.Fatalf("machine %d was served by %q after %s", n, server, took)
		}
		by[server]++
	}
	if by["10.88.0.12"] < count-count/3 || by["10.88.0.11"]+by["10.88.0.12"] != count {
		t.Errorf("served by %v", by)
	}
	o, err := dhcpv4.FromBytes(exchange(t, client, httpQuestion(t, 200), 67))
	if err != nil || o.ServerIdentifier().String() != "10.88.0.12" {
		t.Errorf("%v, %v", o, err)
	}
}

func httpQuestion(t *testing.T, n int) *dhcpv4.DHCPv4 {
	t.Helper()
	m, err := dhcpv4.NewDiscovery(net.HardwareAddr{0x52, 0x54, 0, 0, 1, byte(n)}, dhcpv4.WithBroadcast(true), dhcpv4.WithOption(dhcpv4.OptClientArch(iana.EFI_X86_64_HTTP)),
		dhcpv4.WithOption(dhcpv4.OptClassIdentifier("HTTPClient:Arch:00016:UNDI:003001")), dhcpv4.WithTransactionID(dhcpv4.TransactionID{9, 9, 9, byte(n)}))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// loadsHalf begins to load from one server, and stops in the middle.
func loadsHalf(t *testing.T, client *netlab.Space, n int, server string) io.ReadCloser {
	t.Helper()
	o, err := dhcpv4.FromBytes(exchange(t, client, httpQuestion(t, n), 67))
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(string(o.Options.Get(dhcpv4.OptionBootfileName)))
	if err != nil {
		t.Fatal(err)
	}
	u.Host = server // both serve the same under one path
	r, err := (&http.Client{Transport: &http.Transport{DialContext: client.Dial}}).Get(u.String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, r.Body, 1<<20); err != nil || r.ContentLength < 16<<20 {
		t.Fatalf("%s of %d bytes: %v", r.Status, r.ContentLength, err)
	}
	return r.Body
}

// bootsOnce asks, and loads what the first answer names, as firmware does. It gives
// the address of who has served it; "" when that came to nothing.
func bootsOnce(t *testing.T, client *netlab.Space, n, try int) string {
	t.Helper()
	answer := exchange(t, client, httpQuestion(t, n), 67)
	o, err := dhcpv4.FromBytes(answer)
	if err != nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, string(o.Options.Get(dhcpv4.OptionBootfileName)), nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := (&http.Client{Transport: &http.Transport{DialContext: client.Dial, DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return ""
	}
	defer r.Body.Close()
	if got, err := io.Copy(io.Discard, r.Body); r.StatusCode != http.StatusOK || err != nil || got != r.ContentLength {
		t.Logf("machine %d, try %d: %s, %d bytes, %v", n, try, r.Status, got, err)
		return ""
	}
	return o.ServerIdentifier().String()
}
