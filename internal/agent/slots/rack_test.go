package slots

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/boot"
	"github.com/ingot-os/ingot/boot/efivar"
	"github.com/ingot-os/ingot/boot/pe"
	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/agent/nvram"
	"github.com/ingot-os/ingot/partition/fat"
	"github.com/ingot-os/ingot/partition/gpt"
	"github.com/ingot-os/ingot/partition/state"
	"github.com/ingot-os/ingot/partition/tree"
)

// releases are slot images by version: real FAT volumes with a boot file, made
// once. Their kernels differ, and nothing runs them.
var releases = map[string]slot.Content{}
var images = map[string][]byte{}

const (
	slotSize = 34 << 20
	bootPath = "EFI/BOOT/BOOTX64.EFI"
)

func release(t testing.TB, version string, epoch uint32) slot.Content {
	t.Helper()
	if c, ok := releases[version]; ok {
		return c
	}
	plan, err := pe.AppendSections(stub(), []pe.Section{
		{Name: ".linux", Data: tree.Bytes("kernel " + version)}, {Name: ".initrd", Data: tree.Bytes("initrd " + version)},
		{Name: ".cmdline", Data: tree.Bytes("console=ttyS0 version=" + version + "\x00")},
	})
	if err != nil {
		t.Fatal(err)
	}
	var uki bytes.Buffer
	if _, err := plan.WriteTo(&uki); err != nil {
		t.Fatal(err)
	}
	var files tree.Tree
	if err := files.Add(tree.Node{Path: bootPath, Mode: 0o644, Content: tree.Bytes(uki.Bytes())}); err != nil {
		t.Fatal(err)
	}
	img, err := fat.Plan(&files, fat.Options{Size: slotSize, Serial: 1, Epoch: 1_700_000_000})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := img.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	images[version] = b.Bytes()
	releases[version] = slot.Content{Version: version, Image: sha256.Sum256(b.Bytes()), Epoch: epoch}
	return releases[version]
}

// stub is the smallest EFI program that sections can be added to.
func stub() []byte {
	b := make([]byte, 0x1000+0x200)
	le := binary.LittleEndian
	copy(b, "MZ")
	b[0x3c] = 0x40
	copy(b[0x40:], "PE\x00\x00")
	coff := b[0x44:]
	le.PutUint16(coff, pe.MachineAMD64)
	le.PutUint16(coff[2:], 1)
	le.PutUint16(coff[16:], 0xf0)
	le.PutUint16(coff[18:], 0x22)
	opt := coff[20:]
	le.PutUint16(opt, 0x20b)
	for off, v := range map[int]uint32{4: 0x200, 16: 0x1000, 20: 0x1000, 32: 0x1000, 36: 0x200, 56: 0x2000, 60: 0x1000, 68: 10, 108: 16} {
		le.PutUint32(opt[off:], v)
	}
	section := opt[0xf0:]
	copy(section, ".text")
	for off, v := range map[int]uint32{8: 0x200, 12: 0x1000, 16: 0x200, 20: 0x1000, 36: 0x60000020} {
		le.PutUint32(section[off:], v)
	}
	return b
}

// file is a partition in a file.
type file struct{ *os.File }

// rack is a machine of which everything but processor and firmware is real: the
// keeper, its state partition, slots and variables are files.
type rack struct {
	t        *testing.T
	dir      string
	k        *Keeper
	behave   map[string]slot.Cause // how a version ends, by its text
	evidence []slot.Evidence
	chain    []string
	log      []string
	running  string // version; "" in the selector
	offline  bool   // nobody writes slots
	roots    bool   // the slots have root partitions
	sticky   bool   // the firmware does not delete BootNext
	deaf     bool   // the firmware neither uses nor deletes BootNext
	torn     bool   // the selector on the ESP does not load, its spare copy does
	esp      string // what of the ESP was started: "esp", or "spare"
	refuse   error  // of kexec
	pending  []slot.Event
	hooks    Hooks
}

// Where a boot of the rack ends. In a machine the functions do not return.
type reset struct{}
type launch struct{ cmdline string }

func newRack(t *testing.T) *rack {
	r := &rack{t: t, dir: t.TempDir(), behave: map[string]slot.Cause{}}
	if err := os.Mkdir(r.at("vars"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, size := range map[string]int64{"state": state.Size, "slot-a": slotSize, "slot-b": slotSize} {
		if err := errors.Join(os.WriteFile(r.at(name), nil, 0o600), os.Truncate(r.at(name), size)); err != nil {
			t.Fatal(err)
		}
	}
	release(t, "1.0", 1)
	r.put("slot-a", images["1.0"])
	return r
}

func (r *rack) at(name string) string { return filepath.Join(r.dir, name) }

func (r *rack) put(name string, b []byte) {
	r.t.Helper()
	if err := os.WriteFile(r.at(name), b, 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rack) open(role string) (Part, int64, error) {
	f, err := os.OpenFile(r.at(role), os.O_RDWR, 0)
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	return file{f}, st.Size(), err
}

// loads opens a slot that a program is started from.
func (r *rack) loads(role string) (Part, int64, error) {
	if r.holds(role) == "" {
		return nil, 0, errors.New("no release is in it")
	}
	return r.open(role)
}

// holds is the version in a slot; "" when it does not load.
func (r *rack) holds(role string) string {
	b, err := os.ReadFile(r.at(role))
	if err != nil {
		r.t.Fatal(err)
	}
	for v, image := range images {
		if bytes.Equal(b, image) && r.behave[v] != slot.CorruptPE {
			return v
		}
	}
	return ""
}

var slotGUIDs = []string{"5275d4b3-dd6b-8423-8675-9fad8241f15c", "90468378-5792-8d56-b270-7ac112d1e559"}

func entries() (out []nvram.Entry) {
	for i, guid := range slotGUIDs {
		part := efivar.HDPartition{Number: uint32(i + 2), Start: 2048, Size: 4096, GUID: gpt.MustGUID(guid)}
		role := letters[i].Role()
		out = append(out, nvram.Entry{Role: role, Option: efivar.SlotEntry(part, `EFI\BOOT\BOOTX64.EFI`, "hello "+role, nil)})
	}
	return out
}

// espGUID is the partition of the selector and its spare copy.
const espGUID = "0d1d2c55-4a4e-8a5b-9a51-0c2f4be5a001"

// spare is the boot entry of the selector's spare copy.
func spare() []nvram.Entry {
	esp := efivar.HDPartition{Number: 1, Start: 64, Size: 1024, GUID: gpt.MustGUID(espGUID)}
	o := boot.ESPOptions(boot.AMD64, "hello", esp, nil)[0]
	return []nvram.Entry{{Role: o.Description, Option: o}}
}

func (r *rack) vars() nvram.Store { return nvram.Store{Dir: r.at("vars")} }

// options are those of a boot.
func (r *rack) options(running slot.Slot, version string) Options {
	logf := func(format string, args ...any) { r.log = append(r.log, fmt.Sprintf(format, args...)) }
	c := releases[version]
	o := Options{Running: running, Release: slot.Content{Version: c.Version, Epoch: c.Epoch}, Root: r.roots,
		State:    func() (Part, error) { p, _, err := r.open("state"); return p, err },
		Slot:     r.open,
		Firmware: Firmware{Vars: r.vars(), Entries: entries(), Extra: spare()},
		Selector: Selector{File: bootPath, Refuse: r.refuse, Open: r.loads, Extend: func(slot.Slot, slot.Digest) error { return nil },
			Exec: func(_, _ []byte, cmdline string) error { panic(launch{cmdline}) }},
		Hooks: r.hooks, Uptime: func() time.Duration { return time.Second }, Go: func(f func()) { f() },
		Logf: logf, Problem: logf, Reset: func(string) { panic(reset{}) },
	}
	if o.Hooks.Baseline == nil {
		o.Hooks.Baseline = func() (json.RawMessage, error) { return json.RawMessage("{}"), nil }
	}
	o.Hooks.Evidence = func() []slot.Evidence { return slices.Clone(r.evidence) }
	o.Hooks.EraseEvidence = func() error { r.evidence = nil; return nil }
	return o
}

// power starts the machine and goes on until a system stays up.
func (r *rack) power() {
	r.t.Helper()
	role := r.firmware()
	for range 12 {
		again, kexec := r.boot(role)
		switch {
		case kexec != "":
			role = kexec
		case again:
			role = r.firmware()
		default:
			return
		}
	}
	r.t.Fatalf("does not come to rest: %v\n%s", r.chain, strings.Join(r.log, "\n"))
}

// firmware chooses what to start by UEFI 2.10 section 3.1.1; "" is the ESP.
func (r *rack) firmware() string {
	var try []uint16
	if b, err := r.vars().Get(efivar.BootNext, efivar.Global); err == nil && !r.deaf {
		n, _ := efivar.ParseNumber(b)
		try = append(try, n)
		if !r.sticky {
			_ = os.Remove(r.at("vars/" + efivar.FileName(efivar.BootNext, efivar.Global)))
		}
	}
	if b, err := r.vars().Get(efivar.BootOrder, efivar.Global); err == nil {
		order, _ := efivar.ParseOrder(b)
		try = append(try, order...)
	}
	for _, n := range try {
		b, err := r.vars().Get(efivar.BootName(n), efivar.Global)
		if err != nil {
			continue
		}
		o, err := efivar.ParseLoadOption(b)
		p, ok := o.Path().Partition()
		if err != nil || !ok {
			continue
		}
		if i := slices.Index(slotGUIDs, p.GUID.String()); i >= 0 {
			if r.holds(letters[i].Role()) != "" {
				return letters[i].Role()
			}
			r.evidence = append(r.evidence, slot.Evidence{Cause: slot.CorruptPE})
		}
		if p.GUID.String() == espGUID {
			r.esp = "spare"
			return ""
		}
	}
	if r.esp = "esp"; r.torn {
		r.t.Fatalf("nothing starts after %v", r.chain)
	}
	return ""
}

// boot runs what is in a slot, or the selector, until it rests, resets or starts
// another slot by kexec.
func (r *rack) boot(role string) (again bool, kexec string) {
	r.running = ""
	running := slot.None
	if role != "" {
		running = slot.Slot(role[len(role)-1])
		r.running = r.holds(role)
		r.chain = append(r.chain, role[len(role)-1:]+"="+r.running)
	} else {
		r.chain = append(r.chain, cmp.Or(r.esp, "esp"))
	}
	defer func() {
		switch v := recover().(type) {
		case nil:
		case reset:
			again = true
		case launch:
			_, letter, _ := strings.Cut(v.cmdline, Argument)
			kexec = "slot-" + letter
		default:
			panic(v)
		}
	}()
	switch why := r.behave[r.running]; why {
	case slot.LostBeforeInit:
		return true, ""
	case slot.Panic:
		r.evidence = append(r.evidence, slot.Evidence{Cause: why})
		return true, ""
	}
	r.k = New(r.options(running, r.running))
	if !r.offline {
		r.k.OnFill(r.fill)
	}
	if err := r.k.Boot(); err != nil {
		r.log = append(r.log, err.Error())
	}
	r.settle()
	r.live()
	return false, ""
}

// live is a trial until it is over.
func (r *rack) live() {
	why := r.behave[r.running]
	for up := 10 * time.Second; r.k.State().Phase == slot.Trying && up < time.Hour; up += time.Minute {
		r.give(slot.Event{Kind: slot.Checked, OK: why == slot.NoCause, Cause: why, Detail: "check", Uptime: up})
	}
}

// fill is an update client that has every release.
func (r *rack) fill(a slot.Action) {
	p, _, err := r.open(a.Slot.Role())
	if err != nil {
		r.t.Fatal(err)
	}
	defer p.Close()
	w := slot.Writing{Size: slotSize, Digest: a.Release.Image}
	err = w.Write(p, bytes.NewReader(images[a.Release.Version]))
	e := slot.Event{Kind: slot.Written, OK: err == nil, Slot: a.Slot}
	if a.Do == slot.Recover {
		e.Kind = slot.Restored
	}
	if err != nil {
		e.Detail = err.Error()
	}
	r.pending = append(r.pending, e)
}

func (r *rack) settle() {
	for len(r.pending) > 0 {
		e := r.pending[0]
		r.pending = r.pending[1:]
		r.give(e)
	}
}

func (r *rack) give(e slot.Event) {
	if err := r.k.Handle(e); err != nil {
		r.log = append(r.log, err.Error())
	}
	r.settle()
}

// event gives an event to the machine that is up, and starts it again when that
// resets it.
func (r *rack) event(e slot.Event) {
	r.t.Helper()
	again := func() (again bool) {
		defer func() {
			switch v := recover().(type) {
			case nil:
			case reset:
				again = true
			default:
				panic(v)
			}
		}()
		r.give(e)
		return false
	}()
	if again {
		r.power()
	}
}

func (r *rack) now() (string, slot.State) { return r.running, r.k.State() }

// evident leaves a trace of the end of what runs.
func (r *rack) evident(c slot.Cause) { r.evidence = append(r.evidence, slot.Evidence{Cause: c}) }

func (r *rack) break_(version string, c slot.Cause) { r.behave[version] = c }

// wrote is all that the keeper may have written.
func (r *rack) wrote() string {
	var out strings.Builder
	f, err := os.Open(r.at("state"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		r.t.Fatal(err)
	}
	out.Write(h.Sum(nil))
	files, _ := filepath.Glob(r.at("vars/*"))
	for _, name := range files {
		st, err := os.Stat(name)
		if err != nil {
			r.t.Fatal(err)
		}
		out.WriteString(name + st.ModTime().String() + "\n")
	}
	return out.String()
}
