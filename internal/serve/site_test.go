package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/attestapi"
	"github.com/ingot-os/ingot/internal/bootrule"
	"github.com/ingot-os/ingot/internal/dispatch"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/ui"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// ruled is a site without releases, with rules.
func ruled(t *testing.T, text string) *site {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rules.yaml")
	put(t, path, text)
	x := &site{log: slog.New(slog.DiscardHandler), metrics: newMetrics("")}
	x.c.Store(&Config{Rules: path})
	x.offered.Store(&offer{list: []bootrule.Release{{Digest: digest0, Name: "hello", Version: "1.0.0", Arch: "amd64"}}, sets: map[string]*bootable{digest0: {stem: "hello-1.0.0"}}})
	if err := x.loadRules(t.Context()); err != nil {
		t.Fatal(err)
	}
	store, err := fleet.Open(filepath.Join(t.TempDir(), "state"), fleet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	x.store = store
	if x.boots, err = dispatch.New(t.Context(), dispatch.Options{Store: store, Site: served{x}, Answer: x.answer}); err != nil {
		t.Fatal(err)
	}
	return x
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

const someRules = "format: 1\nrules:\n  - mac: [\"52:54:00:12:34:56\"]\n    boot: hello\ndefault: local\n"

var known, other = netboot.MAC{0x52, 0x54, 0, 0x12, 0x34, 0x56}, netboot.MAC{0x52, 0x54, 0, 0, 0, 1}

func TestDecide(t *testing.T) {
	s := ruled(t, someRules)
	for _, tt := range []struct {
		name   string
		c      netboot.Client
		change func(c *Config)
		want   netboot.Answer
	}{
		{"PXE", netboot.Client{MAC: known, Arch: netboot.EFIX64}, nil, netboot.Answer{Verb: netboot.Boot, Method: netboot.TFTP, Path: "boot/525400123456/hello-1.0.0.efi", Release: "hello-1.0.0"}},
		{"byte code", netboot.Client{MAC: known, Arch: netboot.EFIBC}, nil, netboot.Answer{Verb: netboot.Boot, Method: netboot.TFTP, Path: "boot/525400123456/hello-1.0.0.efi", Release: "hello-1.0.0"}},
		{"HTTP", netboot.Client{MAC: known, Arch: netboot.HTTPX64, Class: "HTTPClient"}, nil, netboot.Answer{Verb: netboot.Boot, Method: netboot.HTTP, Path: "boot/525400123456/hello-1.0.0.efi", Release: "hello-1.0.0"}},
		{"HTTPS", netboot.Client{MAC: known, Arch: netboot.HTTPX64, Class: "HTTPClient"}, func(c *Config) { c.HTTPS = HTTPS{On: true, Prefer: true} }, netboot.Answer{Verb: netboot.Boot, Method: netboot.HTTPS, Path: "boot/525400123456/hello-1.0.0.efi", Release: "hello-1.0.0"}},
		{"iPXE", netboot.Client{MAC: known, Arch: netboot.BIOS, IPXE: true}, nil, netboot.Answer{Verb: netboot.Boot, Method: netboot.HTTP, Path: "boot/525400123456/boot.ipxe", Release: "hello-1.0.0"}},
		{"no TFTP", netboot.Client{MAC: known, Arch: netboot.EFIX64}, func(c *Config) { c.TFTP.Off = true }, netboot.Answer{Verb: netboot.Refuse, Release: "hello-1.0.0"}},
		{"BIOS without iPXE", netboot.Client{MAC: known, Arch: netboot.BIOS}, nil, netboot.Answer{Verb: netboot.Refuse, Release: "hello-1.0.0"}},
		{"another machine", netboot.Client{MAC: other, Arch: netboot.EFIX64}, nil, netboot.Answer{Verb: netboot.Refuse}},
		{"unknown architecture", netboot.Client{MAC: known, Arch: 4711}, nil, netboot.Answer{Verb: netboot.Refuse}},
	} {
		c := &Config{Rules: s.c.Load().Rules}
		if tt.change != nil {
			tt.change(c)
		}
		s.c.Store(c)
		got := s.Decide(t.Context(), tt.c)
		if got.Reason == "" {
			t.Errorf("%s: no reason", tt.name)
		}
		got.Reason = ""
		if got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

// TestOpenNothingElse: a path is looked up, whatever it says.
func TestOpenNothingElse(t *testing.T) {
	s := ruled(t, someRules)
	for _, path := range []string{
		"", "/", "boot", "boot/", "boot/525400123456", "boot/525400123456/", "boot/525400123456/../../etc/passwd", "../rules.yaml", "rules.yaml", "etc/passwd",
		"boot/52:54:00:12:34:56/hello-1.0.0.efi", "boot/525400123456/hello-1.0.0.efi/", "boot/525400123456/hello-9.efi", "boot/525400123456/.efi", "root/", "root/" + digest0,
		"boot/525400123456/x/hello-1.0.0.efi", "boot/525400123456/HELLO-1.0.0.EFI", "boot/525400000001/vmlinuz",
	} {
		c, err := s.Open(t.Context(), netboot.Request{Method: netboot.HTTP, Path: path})
		if err == nil {
			c.Close()
			t.Errorf("%q: it is served", path)
		} else if strings.Contains(err.Error(), "/") {
			t.Errorf("%q: the error says a path: %v", path, err)
		}
	}
}

// TestRulesAgain: a rules file that changes is read; one with a mistake leaves what
// was, and is complained about once.
func TestRulesAgain(t *testing.T) {
	s := ruled(t, someRules)
	c := netboot.Client{MAC: other, Arch: netboot.EFIX64}
	change := func(text string) error {
		put(t, s.c.Load().Rules, text)
		if err := os.Chtimes(s.c.Load().Rules, time.Time{}, time.Now().Add(time.Duration(len(text))*time.Minute)); err != nil {
			t.Fatal(err)
		}
		if !s.rulesChanged() {
			t.Fatal("the change is not seen")
		}
		err := s.loadRules(context.Background())
		if s.rulesChanged() {
			t.Error("it is read again and again")
		}
		return err
	}
	if err := change("format: 1\ndefault: hello\n"); err != nil || s.Decide(t.Context(), c).Verb != netboot.Boot {
		t.Errorf("%v, %+v", err, s.Decide(t.Context(), c))
	}
	if err := change("format: 1\ndefult: local\n"); err == nil || s.Decide(t.Context(), c).Verb != netboot.Boot {
		t.Errorf("a broken file: %v, %+v", err, s.Decide(t.Context(), c))
	}
}

func TestMachineFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "machines")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "../edge-1.yaml"), "hostname: not-in-there\n")
	put(t, filepath.Join(dir, "52-54-00-12-34-56.yaml"), "hostname: by-mac\n")
	put(t, filepath.Join(dir, "edge-1.yaml"), "hostname: by-name\n")
	m := &machines{dir: dir, host: func(mac netboot.MAC) string {
		if mac == other {
			return "edge-1"
		}
		return "../edge-1"
	}}
	if n, err := m.check(); n != 2 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	ask := func(macs ...string) string {
		f, err := m.Machine(t.Context(), attestapi.MachineRequest{MACs: macs})
		if err != nil {
			t.Fatal(err)
		}
		return string(f.Data)
	}
	for _, tt := range []struct {
		want string
		macs []string
	}{
		{"hostname: by-mac\n", []string{"nonsense", "00:00:00:00:00:00", "52:54:00:12:34:56"}},
		{"hostname: by-name\n", []string{other.String()}},
		{"", []string{"52:54:00:99:99:99", "../edge-1", "edge-1"}},
		{"", nil},
	} {
		if got := ask(tt.macs...); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.macs, got, tt.want)
		}
	}
	put(t, filepath.Join(dir, "edge-1.yaml"), "hostnam: x\n")
	if _, err := m.Machine(t.Context(), attestapi.MachineRequest{MACs: []string{other.String()}}); err == nil {
		t.Error("a broken file is handed out")
	}
	put(t, filepath.Join(dir, "AA-BB-CC-DD-EE-FF.yaml"), "hostname: x\n")
	put(t, filepath.Join(dir, "no host!.yaml"), "hostname: x\n")
	_, err := m.check()
	for _, want := range []string{"rename it to aa-bb-cc-dd-ee-ff.yaml", "neither the name of a host", `unknown key "hostnam"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("check says %v, want %s", err, want)
		}
	}
}

// TestRestart: what cannot change while the server runs is named.
func TestRestart(t *testing.T) {
	parse := func(text string) *Config {
		c, err := Parse("serve.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	old := parse("releases: [a]\nkeys: k\ndhcp: {mode: full, subnets: [{subnet: 192.0.2.0/24, pools: [192.0.2.5-192.0.2.9]}]}\n")
	new := parse("releases: [b]\nkeys: other\ndefault: x\nhttp: {listen: \":81\"}\ndhcp: {mode: proxy, relays: [192.0.2.1]}\nattest: {interval: 5m}\n")
	if got := strings.Join(restart(old.with(new), new), " "); got != "keys dhcp.mode dhcp.relays dhcp.subnets http.listen attest.interval" {
		t.Errorf("%s", got)
	}
	if got := restart(old.with(old), old); len(got) > 0 {
		t.Errorf("nothing changed: %v", got)
	}
}

// TestOwner: who has a port is found in /proc, as root or for one's own programs.
func TestOwner(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got, want := owner("/proc", "tcp", port(l.Addr().String())), fmt.Sprintf("(pid %d)", os.Getpid()); !strings.HasSuffix(got, want) {
		t.Errorf("%q, want %s", got, want)
	}
	if got := owner("/proc", "udp", port(l.Addr().String())); got != "" {
		t.Errorf("%q has a port that nobody has", got)
	}
}

// TestPortInUse says which port, who has it, and what to do, at the line of the key.
func TestPortInUse(t *testing.T) {
	for mode, want := range map[string]string{ModeProxy: "bind-dynamic", ModeFull: "dhcp: {mode: proxy}"} {
		c, err := Parse("serve.yaml", []byte("releases: [a]\ndhcp:\n  port: 67\n"))
		if err != nil {
			t.Fatal(err)
		}
		c.DHCP.Mode = mode
		got := c.bindError("dhcp.port", "dhcp", "udp", 67, syscall.EADDRINUSE)
		var hint *ui.Error
		if !strings.Contains(got.Error(), "serve.yaml:3:9: udp port 67 is in use by ") || !errors.As(got, &hint) || !strings.Contains(hint.Hint, want) {
			t.Errorf("%s: %v", mode, got)
		}
	}
	flagged := (&Config{}).bindError("http.listen", "http", "tcp", 80, syscall.EACCES)
	if got := flagged.Error(); got != "http: tcp port 80: this user may not open it" {
		t.Errorf("%s", got)
	}
}

// TestPrograms: what is wrong with the programs of the rules is said at their lines, of all of
// them, with what to do.
func TestPrograms(t *testing.T) {
	s := ruled(t, someRules)
	sum, odd := digestOf("MZ"), digestOf("another")
	path := s.c.Load().Rules
	put(t, filepath.Join(filepath.Dir(path), "shell.efi"), "MZ")
	put(t, path, "format: 1\nprograms:\n  memtest:\n    file: memtest86+x64.efi\n    sha256: "+odd+"\n  shell.1: {file: shell.efi, sha256: "+odd+"}\n")
	err := s.loadRules(t.Context())
	for _, want := range []string{
		path + ":4:11: load programs.memtest: open ", "no such file or directory\nhint: put the program there; or take memtest out of programs:",
		path + ":6:38: load programs.shell.1: ", "shell.efi has the SHA-256 " + sum + ", not " + odd + "\nhint: if the file is the one you mean, write under programs.shell.1: sha256: " + sum,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in\n%v", want, err)
		}
	}
	put(t, path, "format: 1\nprograms:\n  shell.1: {file: shell.efi, sha256: "+sum+"}\n")
	if err := s.loadRules(t.Context()); err != nil || string(s.ruled.Load().programs["shell.1"]) != "MZ" {
		t.Errorf("the right digest: %v", err)
	}
}
