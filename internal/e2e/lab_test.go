package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/qemu"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/rig"
)

// lab is a site as an operator sets it up: keys, and a signed release of
// examples/hello that attests. Servers and machines come with each test.
type lab struct {
	dir, keys string
	set       *release.Set
	port      int // of the server: the image names it
}

var theLab struct {
	once sync.Once
	used sync.Mutex // by one test: its image names one port
	*lab
}

func newLab(t *testing.T) *lab {
	t.Helper()
	theLab.used.Lock()
	t.Cleanup(theLab.used.Unlock) // after those of the test, which end its server
	theLab.once.Do(func() {
		l := &lab{dir: filepath.Join(root, "lab"), port: freePort(t)}
		l.keys = filepath.Join(l.dir, "own")
		if err := os.CopyFS(l.dir, os.DirFS(hello)); err != nil {
			t.Fatal(err)
		}
		recipe := filepath.Join(l.dir, "appliance.yaml")
		edit(t, recipe, fmt.Sprintf("arch: amd64=arch: amd64\ntrust: {keys: ./trust}\nattest: {server: \"https://%s:%d\", interval: 2s}", host, l.port))
		must(t, "keys", "init", l.keys, "--test", "--name", "lab")
		must(t, "keys", "export", l.keys, filepath.Join(l.dir, "trust"))
		must(t, "lock", "-f", recipe, "--update", "ingot", "--update", "go")
		dir := must(t, "build", "-f", recipe, "-o", filepath.Join(l.dir, "out"), "--keys", l.keys)
		var err error
		if l.set, err = release.Open(dir); err != nil {
			t.Fatal(err)
		}
		theLab.lab = l
	})
	if theLab.lab == nil {
		t.Fatal("the release of this test could not be built")
	}
	return theLab.lab
}

// must calls ingot, which has to succeed, and gives what it printed.
func must(t *testing.T, args ...string) string {
	t.Helper()
	r := ingot(t, args...)
	if r.code != 0 {
		t.Fatalf("ingot %v: code %d: %s", args, r.code, r.stderr)
	}
	return strings.TrimSpace(r.out)
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// serve runs ingot attest serve until the test ends or stop is called.
func (l *lab) serve(t *testing.T, state string, args ...string) (stop func()) {
	t.Helper()
	exe, err := program()
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	c := exec.Command(exe, append([]string{"attest", "serve", "--state", state, "--keys", l.keys, "--release", l.set.Dir,
		"--listen", fmt.Sprintf("127.0.0.1:%d", l.port), "--name", host + ",127.0.0.1", "--interval", "2s", "--verbose"}, args...)...)
	c.Stdout, c.Stderr = &said, &said
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		c.Process.Signal(os.Interrupt)
		if err := c.Wait(); err != nil {
			t.Errorf("ingot attest serve: %v\n%s", err, &said)
		}
		if t.Failed() {
			t.Logf("the server:\n%s", tail(said.String()))
		}
	})
	t.Cleanup(stop)
	eventually(t, "a server that listens", func() bool {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", l.port))
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return stop
}

// standing is what ingot hosts --json says of one host, in part.
type standing struct {
	Name     string `json:"name"`
	State    string `json:"state"`
	Standing string `json:"standing"`
	Last     *struct {
		Seq  int64       `json:"seq"`
		Code attest.Code `json:"code"`
		Boot string      `json:"boot"`
		Slot string      `json:"slot"`
	} `json:"last"`
	Rejected *struct {
		Code attest.Code `json:"code"`
	} `json:"rejected"`
	Verdict *attest.Verdict `json:"verdict"`
}

// hosts is ingot hosts as the operator types it.
func (l *lab) hosts(t *testing.T, args ...string) []byte {
	t.Helper()
	r := ingot(t, append([]string{"hosts", "--json", "--server", fmt.Sprintf("https://127.0.0.1:%d", l.port), "--keys", l.keys}, args...)...)
	if r.code != 0 && r.code != 3 {
		t.Fatalf("ingot hosts %v: code %d: %s", args, r.code, r.stderr)
	}
	return []byte(r.out)
}

func (l *lab) host(t *testing.T, name string, args ...string) (s standing) {
	t.Helper()
	if err := json.Unmarshal(l.hosts(t, append([]string{name}, args...)...), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// until asks for a host until it is as wanted.
func (l *lab) until(t *testing.T, name, what string, want func(standing) bool) (s standing) {
	t.Helper()
	for deadline := time.Now().Add(4 * time.Minute); time.Now().Before(deadline); time.Sleep(time.Second) {
		var list struct {
			Hosts []struct {
				Name string `json:"name"`
			} `json:"hosts"`
		}
		if err := json.Unmarshal(l.hosts(t), &list); err != nil {
			t.Fatal(err)
		}
		for _, h := range list.Hosts {
			if h.Name != name && (name != "" || strings.HasPrefix(h.Name, "edge-")) {
				continue
			}
			if s = l.host(t, h.Name); want(s) {
				return s
			}
		}
	}
	t.Fatalf("host %q is not %s: %+v, last %+v", name, what, s, s.Last)
	return s
}

func pending(s standing) bool { return s.State == "pending" }
func trusted(s standing) bool { return s.Standing == "trusted" }

// machine is a host of the lab with a TPM and a disk of its own.
func (l *lab) machine(t *testing.T, name, disk string) qemu.Machine {
	t.Helper()
	spec, err := rig.Spec(l.set)
	if err != nil {
		t.Fatal(err)
	}
	return qemu.Machine{Arch: qemu.AMD64, Image: l.set.Image(), Disk: disk, TPM: true, Vars: rig.Vars(l.set, spec),
		State: rig.State(fmt.Appendf(nil, "hostname: %s\n", name)), Forwards: []qemu.Forward{{Guest: 9443}}}
}

// on starts a machine; the test ends it by pulling the plug.
func on(t *testing.T, m qemu.Machine) *qemu.VM {
	t.Helper()
	vm, err := qemu.Start(context.WithoutCancel(t.Context()), m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("console:\n%s", tail(string(vm.Console())))
		}
		vm.Close()
	})
	return vm
}

// swap replaces the first occurrence of a text in a partition of a disk by
// another of the same length, and gives what undoes it.
func swap(t *testing.T, disk string, start, size int64, old, new string) (undo func()) {
	t.Helper()
	if len(old) != len(new) {
		t.Fatalf("%q and %q differ in length", old, new)
	}
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, start, size))
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(b, []byte(old))
	if at < 0 {
		t.Fatalf("%q is not on the disk", old)
	}
	if _, err := f.WriteAt([]byte(new), start+int64(at)); err != nil {
		t.Fatal(err)
	}
	return func() { swap(t, disk, start, size, new, old) }
}
