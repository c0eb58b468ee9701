package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/netlab"
	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/internal/qemu"
	"github.com/ingot-os/ingot/internal/release"
)

// chainLab is a boot server that has iPXE, with an attested appliance.
type chainLab struct {
	t      *testing.T
	space  *netlab.Space
	server *netlab.Process
	exe    string
	keys   string
	dir    string
}

const chainMAC = "52:54:00:12:34:56"

// chainFoundry makes the release of the tests here: it attests, to the server that it
// finds by DHCP.
var chainFoundry struct {
	once sync.Once
	*foundry
}

func chainRelease(t *testing.T) (*foundry, *release.Set) {
	t.Helper()
	chainFoundry.once.Do(func() {
		chainFoundry.foundry = foundryAt(t, filepath.Join(root, "chain"), "trust:=attest: {interval: 2s}\ntrust:")
	})
	if chainFoundry.foundry == nil {
		t.Fatal("the keys of this test could not be made")
	}
	return chainFoundry.foundry, chainFoundry.release(t, "1.0.0", "")
}

// newChainLab starts a server that gives addresses on br0; config is what serve.yaml has
// more.
func newChainLab(t *testing.T, config string) *chainLab {
	t.Helper()
	f, set := chainRelease(t)
	return startChainLab(t, f.keys, set, config)
}

func startChainLab(t *testing.T, keys string, set *release.Set, config string) *chainLab {
	t.Helper()
	l := &chainLab{t: t, dir: t.TempDir(), keys: keys, space: netlab.New(t, "server")}
	l.space.Bridge("br0", "10.77.0.1/24", "fd00:77::1/64")
	var err error
	if l.exe, err = program(); err != nil {
		t.Fatal(err)
	}
	l.put("rules.yaml", "format: 1\nrules:\n  - {name: old, mac: [\""+chainMAC+"\"], boot: "+set.Manifest.Name+", chain: ipxe}\n")
	if !strings.Contains(config, "dhcp: ") {
		config += "dhcp: {mode: full, subnets: [{subnet: 10.77.0.0/24, pools: [10.77.0.100-10.77.0.120]}]}\n"
	}
	l.put("serve.yaml", "releases: ["+set.Dir+"]\nkeys: "+keys+"\nstate: state\nnames: [10.77.0.1, localhost]\ninterfaces: [br0]\n"+
		"attest: {interval: 2s}\n"+config)
	l.server = l.space.Start(l.exe, "serve", "-c", filepath.Join(l.dir, "serve.yaml"), "-v")
	l.server.Await("serving: parts", time.Minute)
	return l
}

// withIPXE are the lines of serve.yaml that name Debian's iPXE.
func withIPXE(t *testing.T) string {
	t.Helper()
	return "ipxe:\n  bios: {file: /usr/lib/ipxe/undionly.kpxe, sha256: " + ipxeDigest(t, "undionly.kpxe") + "}\n" +
		"  x64: {file: /usr/lib/ipxe/snponly.efi, sha256: " + ipxeDigest(t, "snponly.efi") + "}\n"
}

func ipxeDigest(t *testing.T, name string) string {
	t.Helper()
	sum := sha256.Sum256(oracle.ReadFile(t, "ipxe", "/usr/lib/ipxe/"+name))
	return hex.EncodeToString(sum[:])
}

func (l *chainLab) put(name, text string) {
	l.t.Helper()
	if err := os.WriteFile(filepath.Join(l.dir, name), []byte(text), 0o644); err != nil {
		l.t.Fatal(err)
	}
}

// hosts is ingot hosts beside the server. Its exit code is 3 for a host that is refused.
func (l *chainLab) hosts(args ...string) string {
	l.t.Helper()
	var out, stderr strings.Builder
	cmd := exec.Command(l.exe, append([]string{"hosts", "--server", "https://10.77.0.1:9444", "--keys", l.keys}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &stderr
	<-l.space.StartCommand(cmd).Done()
	if code := cmd.ProcessState.ExitCode(); code != 0 && code != 3 {
		l.t.Fatalf("ingot hosts %q: code %d: %s", args, code, &stderr)
	}
	return out.String()
}

// on starts a machine with a TPM, without a disk, on a cable.
func (l *chainLab) on(cable *netlab.Tap, tweak func(m *qemu.Machine)) *guest {
	l.t.Helper()
	m := qemu.Machine{Arch: qemu.AMD64, Accel: qemu.AccelTCG, TPM: true, WorkDir: l.t.TempDir(), Options: map[string][]byte{noIPv6: []byte("n")},
		Net: &qemu.Net{Open: cable.Open, MAC: chainMAC, First: true}}
	tweak(&m)
	vm, err := qemu.Start(context.WithoutCancel(l.t.Context()), m)
	if err != nil {
		l.t.Fatal(err)
	}
	g := &guest{VM: vm, t: l.t}
	l.t.Cleanup(g.unplug)
	return g
}

// noIPv6 has firmware leave out PXE over IPv6, which no server here answers.
const noIPv6 = "opt/org.tianocore/IPv6PXESupport"

// story wants lines in the server's log, in this order.
func (l *chainLab) story(lines ...string) {
	l.t.Helper()
	said := l.server.Said()
	for _, line := range lines {
		i := regexp.MustCompile(line).FindStringIndex(said)
		if i == nil {
			l.t.Fatalf("the log does not say %q there:\n%s", line, l.server.Said())
		}
		said = said[i[0]:]
	}
}

// approve lets the machine in that asks, and gives its name.
func (l *chainLab) approve() string {
	l.t.Helper()
	l.server.Await(" waits for approval", 4*time.Minute)
	name := regexp.MustCompile(`(\S+) waits for approval`).FindStringSubmatch(l.server.Said())[1]
	l.hosts(name, "--approve")
	return name
}

// refused approves the machine that asks, wants it refused, and gives the verdict.
func (l *chainLab) refused(code attest.Code) attest.Verdict {
	l.t.Helper()
	name := l.approve()
	l.server.Await(name+" is REFUSED: "+string(code), 2*time.Minute)
	if strings.Contains(l.server.Said(), name+" is trusted") {
		l.t.Error("a chained boot was trusted")
	}
	var host standing
	if err := json.Unmarshal([]byte(l.hosts(name, "--json")), &host); err != nil || host.Verdict == nil {
		l.t.Fatal(err, host)
	}
	return *host.Verdict
}

// TestNetbootBIOS: a machine with a BIOS, whose card has a plain PXE ROM, gets iPXE by
// TFTP, and with that kernel and initrd out of the release's UKI by HTTP. Its service is
// healthy, and it is not trusted, approved or not: nobody has measured what it runs.
func TestNetbootBIOS(t *testing.T) {
	needs(t, qemu.AMD64)
	l := newChainLab(t, withIPXE(t))
	l.space.Bridge("card0")
	cable := l.space.Tap("vm0", "card0")
	netlab.Splice(l.space.Tap("in0", "card0"), l.space.Tap("out0", "br0"), func(frame []byte, out bool) int {
		if out && isDHCP(frame) && !strings.Contains(l.server.Said(), "has loaded undionly.kpxe") {
			plainROM(frame)
		}
		return 1
	})
	g := l.on(cable, func(m *qemu.Machine) { m.BIOS, m.Net.ROM = true, true })
	g.wait(healthy)
	l.story("is offered tally-1.0.0 by TFTP: .*; a BIOS starts no UKI: iPXE first", "has loaded undionly.kpxe by TFTP",
		"has loaded boot.ipxe by HTTP", "has loaded vmlinuz by HTTP", "has loaded initrd by HTTP")
	l.refused(attest.FirmwareUnmeasured)
}

// Where in a frame the headers of IPv4 and UDP are, and the options of DHCP.
const ipAt, udpAt, optionsAt = 14, 34, 34 + 8 + 240

// isDHCP reports whether a frame is a client's message.
func isDHCP(frame []byte) bool {
	return len(frame) > optionsAt && frame[ipAt] == 0x45 && frame[ipAt+9] == 17 && binary.BigEndian.Uint16(frame[udpAt+2:]) == 67
}

// plainROM hides in such a message that the ROM of QEMU's cards is iPXE: the server takes
// it for the PXE client of a BIOS, which it is as well.
func plainROM(frame []byte) {
	for b := frame[optionsAt:]; len(b) > 2 && b[0] != 255; {
		if b[0] == 0 {
			b = b[1:]
			continue
		}
		if b[0] == 77 || b[0] == 175 { // user class, iPXE's own
			b[0] = 224 // for private use (RFC 3942)
		}
		b = b[min(len(b), 2+int(b[1])):]
	}
	frame[udpAt+6], frame[udpAt+7] = 0, 0 // no checksum
}

// TestNetbootByIPXE: UEFI firmware that a rule sends by way of iPXE, and firmware whose
// card has iPXE as its ROM, boot the same UKI with its own command line. Neither is
// trusted: iPXE ran before it (PCR 4) and gave it load options (PCR 12). What the kernel
// gets is the release's, so PCR 9 is as always.
func TestNetbootByIPXE(t *testing.T) {
	for _, tt := range []struct {
		name, config string
		rom          bool
		story        []string
	}{
		{"by a rule", "rules: rules.yaml\n", false, []string{`rule 1 "old"; a rule says by way of iPXE: iPXE first`, "has loaded snponly by TFTP"}},
		{"in the card's ROM", "", true, []string{"asks: DISCOVER on br0, UEFI x86-64 \\(7\\), iPXE", "iPXE asks: a script loads the release by HTTP"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			needs(t, qemu.AMD64)
			l := newChainLab(t, withIPXE(t)+tt.config)
			g := l.on(l.space.Tap("vm0", "br0"), func(m *qemu.Machine) { m.Net.ROM = tt.rom })
			g.wait(healthy)
			l.story(append(tt.story, "has loaded boot.ipxe by HTTP", "has loaded tally-1.0.0 by HTTP")...)
			v := l.refused(attest.CmdlineAdded)
			for register, want := range map[int]bool{4: true, 9: false, 12: true} {
				if got := slices.ContainsFunc(v.Findings, func(x attest.Finding) bool { return x.PCR == register }); got != want {
					t.Errorf("PCR %d is in the verdict: %t, want %t: %v", register, got, want, v.Findings)
				}
			}
		})
	}
}
