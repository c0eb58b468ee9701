package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
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

	"github.com/ingot-os/ingot/boot/efivar"
	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/boot/varstore"
	"github.com/ingot-os/ingot/internal/agent/listener"
	"github.com/ingot-os/ingot/internal/agent/slots"
	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/internal/qemu"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/rig"
	"github.com/ingot-os/ingot/internal/updateapi"
	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/state"
)

// desk is one machine over several boots, driven by its journal and variables
// alone: no update client is there.
type desk struct {
	t       *testing.T
	m       qemu.Machine
	vm      *qemu.VM
	console string // of the last boot
}

// TestSlotsOfAPlainImage: the keeper is part of every init. A disk that was just
// flashed gets its journal and digest in its first boot, the second writes
// nothing, a try that was armed is blessed, and the boot after that writes
// nothing again.
func TestSlotsOfAPlainImage(t *testing.T) {
	needs(t, "amd64")
	d, spec := newDesk(t)
	s := d.boot(func(s updateapi.Slots) bool { return s.Slots[0].Image != "" })
	sum := sha256.Sum256(d.part(partition.SlotA))
	if s.Running != "a" || s.Good != "a" || s.Phase != "IDLE" || s.Slots[0].Image != fmt.Sprintf("%x", sum) || s.Slots[0].Condition != "good" {
		t.Fatalf("after the first boot: %+v, want digest %x", s, sum)
	}
	before := d.written()
	d.boot(nil)
	if after := d.written(); after != before {
		t.Errorf("a healthy boot of a blessed slot has written:\n%s\nbefore:\n%s", after, before)
	}

	d.arm(spec.Version)
	s = d.boot(func(s updateapi.Slots) bool { return s.Phase != "TRYING" && slices.Index(s.Order, "b") == 0 }) // the journal is first
	if s.Running != "b" || s.Good != "b" || s.Phase != "BLESSED" || !slices.Equal(s.Order, []string{"b", "a"}) || s.Next != "" {
		t.Fatalf("after the trial: %+v", s)
	}
	before = d.written()
	s = d.boot(nil)
	if after := d.written(); after != before || s.Running != "b" {
		t.Errorf("%+v; a healthy boot of a blessed slot has written:\n%s\nbefore:\n%s", s, after, before)
	}
}

func newDesk(t *testing.T) (*desk, *appliance.Spec) {
	t.Helper()
	set, err := release.Open(image(t, variant{example: hello}))
	if err != nil {
		t.Fatal(err)
	}
	spec, err := rig.Spec(set)
	if err != nil {
		t.Fatal(err)
	}
	return &desk{t: t, m: qemu.Machine{Arch: qemu.AMD64, Image: set.Image(), Disk: filepath.Join(t.TempDir(), "disk"),
		Vars: rig.Vars(set, spec), Forwards: []qemu.Forward{{Guest: 9443}}}}, spec
}

// boot starts the machine, waits until it is healthy and its slots are as they
// should be, and turns it off.
func (d *desk) boot(until func(updateapi.Slots) bool) (s updateapi.Slots) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), 5*time.Minute)
	defer cancel()
	vm, err := qemu.Start(ctx, d.m)
	if err != nil {
		d.t.Fatal(err)
	}
	defer vm.Close()
	d.vm = vm
	if _, err := vm.WaitLine(ctx, regexp.MustCompile("healthy after")); err != nil {
		d.t.Fatalf("%v\n%s", err, vm.Console())
	}
	for d.get(updateapi.SlotsPath, &s); until != nil && !until(s); d.get(updateapi.SlotsPath, &s) {
		if ctx.Err() != nil {
			d.t.Fatalf("the slots stay %+v\n%s", s, vm.Console())
		}
		time.Sleep(500 * time.Millisecond)
	}
	d.console = string(vm.Console())
	if err := vm.PowerDown(ctx); err != nil {
		d.t.Fatal(err)
	}
	d.t.Logf("%s", strings.Join(s.Why, "\n"))
	return s
}

func (d *desk) status() (s listener.Status) {
	d.get("/v1/status", &s)
	return s
}

func (d *desk) get(path string, v any) {
	d.t.Helper()
	r, err := http.Get("http://" + d.vm.Forward(9443) + path)
	if err != nil {
		d.t.Fatal(err)
	}
	defer r.Body.Close()
	if err := json.NewDecoder(r.Body).Decode(v); err != nil {
		d.t.Fatal(err)
	}
}

// part is what a partition holds.
func (d *desk) part(role string) (b []byte) {
	d.disk(func(disk *os.File, l partition.Layout) error {
		p, ok := l.Part(role)
		if !ok {
			return os.ErrNotExist
		}
		var err error
		b, err = io.ReadAll(io.NewSectionReader(disk, p.Start, p.Size))
		return err
	})
	return b
}

func (d *desk) disk(f func(*os.File, partition.Layout) error) {
	d.t.Helper()
	disk, err := os.OpenFile(d.m.Disk, os.O_RDWR, 0)
	if err != nil {
		d.t.Fatal(err)
	}
	defer disk.Close()
	info, err := disk.Stat()
	if err != nil {
		d.t.Fatal(err)
	}
	l, err := partition.Read(disk, info.Size())
	if err == nil {
		err = f(disk, l)
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

// written is everything that a boot of a blessed slot must not write: the state
// partition, and the variables of the boot manager.
func (d *desk) written() string {
	d.t.Helper()
	text := fmt.Sprintf("state %x\n", sha256.Sum256(d.part(partition.State)))
	d.vars(func(s *varstore.Store) {
		for _, v := range s.List() {
			if _, ok := efivar.ParseBootName(v.Name); ok || v.Name == efivar.BootOrder || v.Name == efivar.BootNext || strings.HasPrefix(v.Name, "Ingot") {
				text += fmt.Sprintf("%s %x\n", v.Name, v.Data)
			}
		}
	})
	return text
}

// vars changes the variable store of the machine, which is off.
func (d *desk) vars(f func(*varstore.Store)) {
	d.t.Helper()
	path := filepath.Join(d.m.Disk+".machine", "vars.fd")
	b, err := os.ReadFile(path)
	if err != nil {
		d.t.Fatal(err)
	}
	s, err := varstore.Open(b)
	if err != nil {
		d.t.Fatal(err)
	}
	f(s)
	if err := os.WriteFile(path, s.Bytes(), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// arm prepares what an update leaves behind: slot B written, a baseline, ARMED in
// the journal, BootNext. The bytes in slot B are those of slot A, under another name.
func (d *desk) arm(version string) {
	d.t.Helper()
	image := d.part(partition.SlotA)
	d.disk(func(disk *os.File, l partition.Layout) error {
		p, _ := l.Part(partition.SlotB)
		_, err := p.Window(disk).WriteAt(image, 0)
		return err
	})
	sum := sha256.Sum256(image)
	d.keep(slots.Kept{Baseline: []byte("{}"), BaselineOf: sum})
	d.journal(func(r *slot.Record) {
		r.Phase, r.Candidate, r.TriesLeft, r.Arms = slot.Armed, slot.B, 3, 1
		r.Slots[1] = slot.Content{Version: version + "+next", Image: sum, Condition: slot.Ready}
	})
	d.vars(func(s *varstore.Store) {
		order, _ := s.Get(efivar.BootOrder, efivar.Global)
		numbers, err := efivar.ParseOrder(bytes.Clone(order.Data))
		if err == nil {
			err = s.Set(varstore.Variable{Name: efivar.BootNext, GUID: efivar.Global, Attributes: efivar.BootAttributes, Data: efivar.MarshalOrder(numbers[1])})
		}
		if err != nil {
			d.t.Fatal(err)
		}
	})
}

// state opens the state partition.
func (d *desk) state(f func(state.ReadWriterAt) error) {
	d.t.Helper()
	d.disk(func(disk *os.File, l partition.Layout) error {
		p, _ := l.Part(partition.State)
		return f(struct {
			io.ReaderAt
			io.WriterAt
		}{p.Section(disk), p.Window(disk)})
	})
}

// keep writes the region Update.
func (d *desk) keep(k slots.Kept) {
	d.t.Helper()
	d.state(func(area state.ReadWriterAt) error {
		b, err := json.Marshal(k)
		if err != nil {
			return err
		}
		return state.Store(area, state.Update, b)
	})
}

// journal changes the journal.
func (d *desk) journal(change func(*slot.Record)) {
	d.t.Helper()
	d.state(func(area state.ReadWriterAt) error {
		journal, _, err := state.Load(area, state.Journal)
		if err != nil {
			return err
		}
		r, err := slot.Parse(journal)
		if err != nil {
			return err
		}
		change(&r)
		if journal, err = r.AppendBinary(nil); err != nil {
			return err
		}
		return state.Store(area, state.Journal, journal)
	})
}

// wipe takes the boot entries away, as a flat battery does.
func (d *desk) wipe() {
	d.t.Helper()
	d.vars(func(s *varstore.Store) {
		for _, v := range s.List() {
			if _, ok := efivar.ParseBootName(v.Name); ok || v.Name == efivar.BootOrder || v.Name == efivar.BootNext {
				s.Delete(v.Name, v.GUID)
			}
		}
	})
}

// TestSelectorStartsASlot: on a machine whose boot variables are of no use the
// image on the ESP starts the good slot by kexec, measures that, and says so.
// When the journal says that the variables are good and they are gone, it makes
// them again.
func TestSelectorStartsASlot(t *testing.T) {
	needs(t, "amd64")
	d, spec := newDesk(t)
	d.m.TPM = true
	d.boot(nil)
	d.arm(spec.Version)
	d.journal(func(r *slot.Record) {
		r.Good, r.Candidate, r.Phase, r.Means = slot.B, slot.None, slot.Idle, slot.Selector
		r.Slots[1].Condition = slot.Good
	})
	d.wipe()
	s := d.boot(func(updateapi.Slots) bool {
		if path := d.status().Boot.Path; path != "kexec" {
			t.Errorf("booted by %q", path)
		}
		return true
	})
	if s.Running != "b" || s.Good != "b" || s.Phase != "IDLE" || s.Means != "selector" {
		t.Errorf("%+v\n%s", s, d.console)
	}
	before := d.written()
	if s = d.boot(nil); s.Running != "b" || d.written() != before {
		t.Errorf("%+v; written\n%s, before\n%s", s, d.written(), before)
	}

	d.journal(func(r *slot.Record) { r.Means = slot.Firmware })
	if s = d.boot(nil); s.Running != "b" || s.Means != "firmware" || !slices.Equal(s.Order, []string{"b", "a"}) {
		t.Errorf("after the variables were made again: %+v\n%s", s, d.console)
	}
}
