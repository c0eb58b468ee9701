package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/boot/varstore"
	"github.com/ingot-os/ingot/internal/agent/listener"
	"github.com/ingot-os/ingot/internal/qemu"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/rig"
	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/state"
)

// box is one machine over all its boots: a disk and a variable store that stay,
// as those of a computer under a desk do.
type box struct {
	t    *testing.T
	f    *foundry
	m    qemu.Machine
	vm   *qemu.VM
	at   qemu.Position // what the console said before it was looked at already
	said strings.Builder
}

// newBox is a machine that a release was flashed to, still off. tweak may be nil.
func newBox(t *testing.T, f *foundry, set *release.Set, tweak func(*qemu.Machine)) *box {
	t.Helper()
	spec, err := rig.Spec(set)
	if err != nil {
		t.Fatal(err)
	}
	b := &box{t: t, f: f, m: qemu.Machine{
		Arch: set.Manifest.Arch, Image: set.Image(), Disk: filepath.Join(t.TempDir(), "disk"),
		Vars: rig.Vars(set, spec), Forwards: []qemu.Forward{{Guest: 8080}, {Guest: 9443}},
	}}
	b.m.Serial = &b.said
	if tweak != nil {
		tweak(&b.m)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("journal: %+v\nconsole:\n%s", b.journal(), lastLines(b.said.String(), 200))
		}
		b.cut()
	})
	return b
}

func lastLines(s string, n int) string {
	lines := strings.Split(s, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// on powers the machine on.
func (b *box) on() {
	b.t.Helper()
	vm, err := qemu.Start(context.WithoutCancel(b.t.Context()), b.m)
	if err != nil {
		b.t.Fatal(err)
	}
	b.vm, b.at = vm, 0
}

// cut pulls the plug.
func (b *box) cut() {
	if b.vm != nil {
		b.vm.Close()
		b.vm = nil
	}
}

// sees waits for a line of the console that was not looked at yet.
func (b *box) sees(line string) string {
	b.t.Helper()
	limit, _ := time.ParseDuration(bootLimit)
	ctx, cancel := context.WithTimeout(b.t.Context(), limit)
	defer cancel()
	text, next, err := b.vm.WaitLineFrom(ctx, b.at, regexp.MustCompile(line))
	if err != nil {
		b.t.Fatal(err)
	}
	b.at = next
	return text
}

// runs waits until a boot of this version is healthy, and asks its service.
func (b *box) runs(version string) {
	b.t.Helper()
	b.sees(`ingot: tally ` + regexp.QuoteMeta(version) + ` healthy after`)
	if body := b.get(8080, "/"); body != "version "+version+"\n" {
		b.t.Fatalf("the service says %q, want version %s", body, version)
	}
}

// get asks a port of the machine until it answers.
func (b *box) get(port int, path string) string {
	b.t.Helper()
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	var last error
	for range 20 {
		resp, err := client.Get("http://" + b.address(port) + path)
		if err == nil {
			var body []byte
			body, err = io.ReadAll(resp.Body)
			resp.Body.Close()
			if err == nil {
				return string(body)
			}
		}
		last = err
		time.Sleep(300 * time.Millisecond)
	}
	b.t.Fatalf("GET port %d %s: %v", port, path, last)
	return ""
}

func (b *box) address(port int) string { return b.vm.Forward(port) }

// starts are the versions that the service has started as, from the data
// partition: a line that is missing was lost.
func (b *box) starts() []string {
	b.t.Helper()
	return strings.Fields(b.get(8080, "/starts"))
}

// chain is what the firmware has started since power-on, or tried to:
// "slot-a", "slot-b!" for one that it could not load, "esp" for the selector.
func (b *box) chain() []string { return chainOf(b.vm.Console()) }

var firmwareLine = regexp.MustCompile(`BdsDxe: (starting|failed to load|failed to start) (Boot[0-9A-F]{4}) "([^"]*)"`)

func chainOf(console string) []string {
	var out []string
	for _, m := range firmwareLine.FindAllStringSubmatch(console, -1) {
		name := "esp"
		if at := strings.Index(m[3], "slot-"); at >= 0 {
			name = m[3][at:]
		}
		switch m[1] {
		case "failed to load":
			out = append(out, name+"!")
		case "starting":
			out = append(out, name)
		}
	}
	return out
}

// disk opens the disk while the machine is off, or to look at while it is on.
func (b *box) withDisk(f func(disk *os.File)) {
	b.t.Helper()
	disk, err := os.OpenFile(b.m.Disk, os.O_RDWR, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	defer disk.Close()
	f(disk)
}

// region is what a region of the state partition holds; nil when it is empty.
func (b *box) region(r state.Region) []byte {
	b.t.Helper()
	var out []byte
	b.withDisk(func(disk *os.File) {
		payload, _, err := state.Load(part(b.t, disk, partition.State).Section(disk), r)
		if err != nil && !errors.Is(err, state.ErrEmpty) {
			b.t.Fatal(err)
		}
		out = payload
	})
	return out
}

// journal is the slot journal as it is on the disk.
func (b *box) journal() slot.Record {
	b.t.Helper()
	if _, err := os.Stat(b.m.Disk); err != nil {
		return slot.Record{}
	}
	payload := b.region(state.Journal)
	if payload == nil {
		return slot.Record{}
	}
	r, err := slot.Parse(payload)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

// rests waits until the journal is in one of these phases.
func (b *box) rests(phases ...slot.Phase) slot.Record {
	b.t.Helper()
	var r slot.Record
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if r = b.journal(); slices.Contains(phases, r.Phase) {
			return r
		}
	}
	b.t.Fatalf("the journal is in phase %s, want %v: %+v", r.Phase, phases, r)
	return r
}

// variables changes the firmware's variables while the machine is off.
func (b *box) variables(f func(*varstore.Store)) {
	b.t.Helper()
	if b.vm != nil {
		b.t.Fatal("the machine is on")
	}
	flash := b.flash()
	s, err := varstore.Open(flash)
	if err != nil {
		b.t.Fatal(err)
	}
	f(s)
	if err := os.WriteFile(b.varsFile(), s.Bytes(), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func (b *box) varsFile() string { return filepath.Join(b.m.Disk+".machine", "vars.fd") }

func (b *box) flash() []byte {
	b.t.Helper()
	flash, err := os.ReadFile(b.varsFile())
	if err != nil {
		b.t.Fatal(err)
	}
	return flash
}

// stored is what must not change in a boot of a blessed slot: the variables of
// the boot manager, and the state partition.
func (b *box) stored() (variables, state []byte) {
	b.t.Helper()
	s, err := varstore.Open(b.flash())
	if err != nil {
		b.t.Fatal(err)
	}
	var text bytes.Buffer
	list := slices.Clone(s.List())
	slices.SortFunc(list, func(a, b varstore.Variable) int { return strings.Compare(a.Name, b.Name) })
	for _, v := range list {
		if strings.HasPrefix(v.Name, "Boot") {
			fmt.Fprintf(&text, "%s %x\n", v.Name, v.Data)
		}
	}
	b.withDisk(func(disk *os.File) {
		var err error
		if state, err = io.ReadAll(part(b.t, disk, partition.State).Section(disk)); err != nil {
			b.t.Fatal(err)
		}
	})
	return text.Bytes(), state
}

// operator runs a verb against the machine with the fleet's keys. The machine has
// no server that would name it, so it is known by the key that it shows on its
// console in this boot.
func (b *box) operator(verb string, args ...string) result {
	b.t.Helper()
	var s listener.Status
	if err := json.Unmarshal([]byte(b.get(9443, "/v1/status")), &s); err != nil {
		b.t.Fatal(err)
	}
	return ingot(b.t, append([]string{verb, b.address(9443), "--keys", b.f.keys, "--host-key", s.Management.Key}, args...)...)
}

// push is ingot update.
func (b *box) push(set *release.Set, args ...string) result {
	b.t.Helper()
	began := time.Now()
	r := b.operator("update", append([]string{"--image", set.Dir}, args...)...)
	b.t.Logf("ingot update to %s: code %d after %.1f s: %s%s", set.Manifest.Version, r.code, time.Since(began).Seconds(), r.out, r.stderr)
	return r
}

// update pushes a release and wants it to become good.
func (b *box) update(set *release.Set, args ...string) {
	b.t.Helper()
	if r := b.push(set, args...); r.code != 0 {
		b.t.Fatalf("ingot update: code %d", r.code)
	}
}

// stage pushes a release and leaves it where it is.
func (b *box) stage(set *release.Set) {
	b.t.Helper()
	if r := b.push(set, "--stage-only"); r.code != 0 {
		b.t.Fatalf("ingot update --stage-only: code %d", r.code)
	}
	b.rests(slot.Staged)
}

// approve lets the machine try what was staged.
func (b *box) approve(set *release.Set) {
	b.t.Helper()
	if r := b.push(set, "--wait", "0"); r.code != 0 {
		b.t.Fatalf("ingot update --wait 0: code %d", r.code)
	}
}

// refuses wants a push refused for a reason.
func (b *box) refuses(set *release.Set, words string) {
	b.t.Helper()
	if r := b.push(set); r.code != 3 || !strings.Contains(r.stderr, words) {
		b.t.Errorf("version %s pushed: want code 3 and %q", set.Manifest.Version, words)
	}
}

// why is ingot why on the disk, without the machine's help.
func (b *box) why() string {
	b.t.Helper()
	r := ingot(b.t, "why", b.m.Disk)
	if r.code != 0 {
		b.t.Fatalf("ingot why: code %d: %s", r.code, r.stderr)
	}
	if n := strings.Count(r.out, "\n"); n > 20 {
		b.t.Errorf("ingot why says %d lines, more than 20:\n%s", n, r.out)
	}
	return r.out
}
