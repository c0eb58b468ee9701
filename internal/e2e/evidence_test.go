package e2e

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/agent/listener"
	"github.com/ingot-os/ingot/internal/qemu"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/rig"
)

// TestEvidence ends a machine in three ways that no software can tell of
// afterwards, and wants the next boot to name each: the kernel panics (ERST), PID
// 1 ends (ERST), PID 1 stands still (watchdog). It is told in that boot alone.
func TestEvidence(t *testing.T) {
	needs(t, "amd64")
	dir := filepath.Join(root, "evidence")
	if err := os.CopyFS(dir, os.DirFS("testdata/evidence")); err != nil {
		t.Fatal(err)
	}
	recipe := filepath.Join(dir, "appliance.yaml")
	keys := filepath.Join(dir, "own")
	must(t, "keys", "init", keys, "--test", "--name", "evidence")
	must(t, "keys", "export", keys, filepath.Join(dir, "trust"))
	must(t, "lock", "-f", recipe)
	set, err := release.Open(must(t, "build", "-f", recipe, "-o", filepath.Join(dir, "out"), "--keys", keys))
	if err != nil {
		t.Fatal(err)
	}
	spec, err := rig.Spec(set)
	if err != nil {
		t.Fatal(err)
	}
	vm := on(t, qemu.Machine{Arch: qemu.AMD64, Image: set.Image(), Disk: filepath.Join(dir, "disk.img"), Vars: rig.Vars(set, spec),
		Forwards: []qemu.Forward{{Guest: 8080}, {Guest: 9443}}})
	s := nextBoot(t, vm, 0)
	if s.Boot.Evidence != "" || s.Watchdog == nil || s.Watchdog.State != "armed" || s.Watchdog.Identity != "i6300ESB timer" || s.Watchdog.Timeout != 10 {
		t.Fatalf("first boot: evidence %q, watchdog %+v, problems %q", s.Boot.Evidence, s.Watchdog, s.Problems)
	}
	for i, c := range []struct{ end, want string }{
		{"panic", "panic: sysrq triggered crash"},
		{"exit", "init-exit: Attempted to kill init! exitcode=0x00000200"},
		{"hang", "hang: the watchdog (i6300ESB timer) reset the machine"},
	} {
		began := time.Now()
		end(t, vm, c.end)
		s = nextBoot(t, vm, i+1)
		t.Logf("%s: healthy again after %.0f s, evidence %q, %d resets by the watchdog", c.end, time.Since(began).Seconds(), s.Boot.Evidence, count(vm, qemu.EventWatchdog))
		// The watchdog, which waits as long as the kernel after a panic, may be first.
		if got, _, _ := strings.Cut(s.Boot.Evidence, "; hang:"); got != c.want {
			t.Errorf("after %s: evidence %q, want %q", c.end, s.Boot.Evidence, c.want)
		}
	}
	// The last boot was healthy, so the one after it has nothing to tell. And a reset
	// stops the watchdog: firmware and kernel need longer than its 10 s, so it would
	// have bitten (S6).
	bites := count(vm, qemu.EventWatchdog)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := vm.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	s = nextBoot(t, vm, 4)
	t.Logf("reset: healthy again after %.0f s", time.Since(began).Seconds())
	if s.Boot.Evidence != "" || count(vm, qemu.EventWatchdog) != bites {
		t.Errorf("after a reset: evidence %q, the watchdog has reset the machine %d times, before it %d", s.Boot.Evidence, count(vm, qemu.EventWatchdog), bites)
	}
}

// end asks the service to end the machine. Connections are not kept: the host does
// not learn that the machine at the other end of one is gone.
func end(t *testing.T, vm *qemu.VM, how string) {
	t.Helper()
	eventually(t, how, func() bool {
		r, err := http.NewRequest("POST", "http://"+vm.Forward(8080)+"/"+how, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Close = true
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			return false
		}
		answer.Body.Close()
		return answer.StatusCode == 200
	})
}

// count tells how often QEMU has reported an event.
func count(vm *qemu.VM, name string) (n int) {
	for _, e := range vm.Events() {
		if e.Name == name {
			n++
		}
	}
	return n
}

// nextBoot waits for the n-th reset of a machine and then until it is healthy and has
// told everything.
func nextBoot(t *testing.T, vm *qemu.VM, n int) (s listener.Status) {
	t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); ; time.Sleep(300 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("boot %d: not healthy, last status %+v", n, s)
		}
		if count(vm, qemu.EventReset) < n {
			continue
		}
		r, err := http.Get("http://" + vm.Forward(9443) + "/v1/status")
		if err != nil {
			continue
		}
		b, err := io.ReadAll(r.Body)
		r.Body.Close()
		s = listener.Status{}
		if err == nil && json.Unmarshal(b, &s) == nil && s.Healthy && s.Watchdog != nil && len(s.Boot.Entries) > 0 { // told last
			return s
		}
	}
}
