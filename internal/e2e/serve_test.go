package e2e

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/netlab"
	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/internal/qemu"
)

// TestServeBoots has real firmware boot the hello example from ingot serve, each way
// that one process offers: the service is healthy in the end, and the log tells
// the story.
func TestServeBoots(t *testing.T) {
	const (
		noPXE4 = "opt/org.tianocore/IPv4PXESupport"
		noPXE6 = "opt/org.tianocore/IPv6PXESupport"
		full   = "dhcp: {mode: full, subnets: [{subnet: 10.77.0.0/24, pools: [10.77.0.100-10.77.0.120]}]}\n"
	)
	off := func(m *qemu.Machine, names ...string) {
		for _, n := range names {
			m.Options[n] = []byte("n")
		}
	}
	for _, tt := range []struct {
		name, config string
		tweak        func(m *qemu.Machine, l *serveLab)
		story        []string
	}{
		{"PXE", full, func(m *qemu.Machine, _ *serveLab) { off(m, noPXE6) },
			[]string{"is offered hello-\\S+ by TFTP", "looks at hello-\\S+ by TFTP", "loads hello-\\S+ by TFTP", "has loaded hello-\\S+ by TFTP"}},
		{"HTTP Boot", full, func(m *qemu.Machine, _ *serveLab) { off(m, noPXE4, noPXE6) },
			[]string{"is offered hello-\\S+ by HTTP", "has loaded hello-\\S+ by HTTP"}},
		{"HTTPS Boot", full + "https: {on: true, prefer: true}\n", func(m *qemu.Machine, l *serveLab) {
			off(m, noPXE4, noPXE6)
			m.Options["etc/edk2/https/cacerts"] = l.authority
		}, []string{"is offered hello-\\S+ by HTTPS", "has loaded hello-\\S+ by HTTPS"}},
		{"PXE beside dnsmasq", "dhcp: {mode: proxy}\n", func(m *qemu.Machine, l *serveLab) {
			off(m, noPXE6)
			oracle.Need(t, "dnsmasq-base", "dnsmasq")
			l.space.Start("dnsmasq", "-k", "-C", "/dev/null", "-p", "0", "--interface=br0", "--bind-interfaces", "--user=root", "--pid-file=", "--no-ping",
				"--dhcp-leasefile="+filepath.Join(l.dir, "dnsmasq"), "--dhcp-range=10.77.0.100,10.77.0.150,255.255.255.0,1h")
		}, []string{"is offered hello-\\S+ by TFTP", "has loaded hello-\\S+ by TFTP"}},
		{"PXE over IPv6", "dhcp: {mode: off}\ndhcp6: {mode: full, subnets: [{subnet: \"fd00:77::/64\", pool: \"fd00:77::100-fd00:77::1ff\", advertise: true}]}\n",
			func(m *qemu.Machine, _ *serveLab) { off(m, noPXE4) },
			[]string{"is offered hello-\\S+", "has loaded hello-\\S+ by TFTP"}},
		{"BIOS by iPXE", full, func(m *qemu.Machine, _ *serveLab) { m.BIOS, m.TPM, m.Net.ROM = true, false, true },
			[]string{"has loaded boot.ipxe by HTTP", "has loaded vmlinuz by HTTP", "has loaded initrd by HTTP"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			needs(t, qemu.AMD64)
			l := newServeLab(t, tt.config)
			m := qemu.Machine{Arch: qemu.AMD64, Accel: qemu.AccelTCG, TPM: true, WorkDir: t.TempDir(), Options: map[string][]byte{}, Net: &qemu.Net{Open: l.cable.Open, First: true}}
			tt.tweak(&m, l)
			vm, err := qemu.Start(context.WithoutCancel(t.Context()), m)
			if err != nil {
				t.Fatal(err)
			}
			g := &guest{VM: vm, t: t}
			t.Cleanup(g.unplug)
			g.wait(healthy)
			at := 0
			for _, line := range tt.story { // in this order
				i := regexp.MustCompile(line).FindStringIndex(l.server.Said()[at:])
				if i == nil {
					t.Fatalf("the log does not say %q there", line)
				}
				at += i[0]
			}
			if regexp.MustCompile(`broke off hello`).MatchString(l.server.Said()) {
				t.Error("a probe counts as a broken transfer")
			}
		})
	}
}

// serveLab is a server on a switch, and a cable for a machine.
type serveLab struct {
	space     *netlab.Space
	cable     *netlab.Tap
	server    *netlab.Process
	dir       string
	authority []byte // of HTTPS Boot, as firmware takes it
}

func newServeLab(t *testing.T, config string) *serveLab {
	t.Helper()
	set := image(t, variant{example: hello})
	l := &serveLab{space: netlab.New(t, "server"), dir: t.TempDir()}
	l.space.Bridge("br0", "10.77.0.1/24", "fd00:77::1/64")
	l.cable = l.space.Tap("vm0", "br0")
	keys := filepath.Join(l.dir, "keys")
	must(t, "keys", "init", keys, "--name", "acme", "--test")
	must(t, "keys", "export", keys, filepath.Join(l.dir, "public"))
	var err error
	if l.authority, err = os.ReadFile(filepath.Join(l.dir, "public", "boot-ca.esl")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(l.dir, "serve.yaml")
	text := "releases: [" + set + "]\ninsecureReleases: true\nkeys: keys\nstate: state\nnames: [10.77.0.1]\ninterfaces: [br0]\n" + config
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	exe, err := program()
	if err != nil {
		t.Fatal(err)
	}
	l.server = l.space.Start(exe, "serve", "-c", path, "-v")
	l.server.Await("serving: parts", time.Minute)
	return l
}

// TestServeAttested: a machine without a disk boots by PXE, finds the attestation
// API of the server that it booted from by DHCP (its image names another address),
// and is trusted with the reference of the release as it was built for disks.
func TestServeAttested(t *testing.T) {
	needs(t, qemu.AMD64)
	site := newLab(t)
	l := &serveLab{space: netlab.New(t, "server"), dir: t.TempDir()}
	l.space.Bridge("br0", "10.77.0.1/24")
	l.cable = l.space.Tap("vm0", "br0")
	path := filepath.Join(l.dir, "serve.yaml")
	text := "releases: [" + site.set.Dir + "]\nkeys: " + site.keys + "\nstate: state\nnames: [10.77.0.1, localhost]\ninterfaces: [br0]\n" +
		"dhcp: {mode: full, subnets: [{subnet: 10.77.0.0/24, pools: [10.77.0.100-10.77.0.120]}]}\nattest: {interval: 2s}\n"
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	exe, err := program()
	if err != nil {
		t.Fatal(err)
	}
	l.server = l.space.Start(exe, "serve", "-c", path, "-v")
	l.server.Await("serving: parts", time.Minute)
	vm, err := qemu.Start(context.WithoutCancel(t.Context()), qemu.Machine{Arch: qemu.AMD64, Accel: qemu.AccelTCG, TPM: true, WorkDir: t.TempDir(),
		Options: map[string][]byte{"opt/org.tianocore/IPv6PXESupport": []byte("n")}, Net: &qemu.Net{Open: l.cable.Open, First: true}})
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{VM: vm, t: t}
	t.Cleanup(g.unplug)
	l.server.Await("waits for approval", 4*time.Minute)
	name := regexp.MustCompile(`(\S+) waits for approval`).FindStringSubmatch(l.server.Said())[1]
	hosts := []string{"hosts", "--server", "https://10.77.0.1:9444", "--keys", site.keys}
	l.space.Run(exe, append(hosts, name, "--approve")...)
	l.server.Await(name+" is trusted", 2*time.Minute)
	if shown := l.space.Run(exe, append(hosts, name)...); !regexp.MustCompile(`(?m)^ *boot +pxe, Secure Boot off`).MatchString(shown) {
		t.Errorf("the boot path is not told:\n%s", shown)
	}
}
