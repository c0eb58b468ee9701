package updater

import (
	"crypto/ed25519"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/updateapi"
	"github.com/ingot-os/ingot/partition/fat"
	"github.com/ingot-os/ingot/partition/tree"
)

// stickOf makes a FAT32 volume with these files.
func stickOf(t *testing.T, files map[string][]byte) []byte {
	t.Helper()
	tr := new(tree.Tree)
	size := int64(40 * mib)
	for name, data := range files {
		if dir := path.Dir(name); dir != "." && tr.Get(dir) == nil {
			if err := tr.Add(tree.Node{Path: dir, Mode: fs.ModeDir | 0o755}); err != nil {
				t.Fatal(err)
			}
		}
		if err := tr.Add(tree.Node{Path: name, Mode: 0o644, Content: tree.Bytes(data)}); err != nil {
			t.Fatal(err)
		}
		size += int64(len(data)+mib) / mib * mib
	}
	img, err := fat.Plan(tr, fat.Options{Size: size, Epoch: 1_700_000_000})
	if err != nil {
		t.Fatal(err)
	}
	f := filepath.Join(t.TempDir(), "volume")
	out, err := os.Create(f)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := img.WriteTo(out); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// port is a USB port of the bench.
func (b *bench) port() *sticks {
	return newSticks(b.updater, filepath.Join(b.dir, "sys"), filepath.Join(b.dir, "dev"))
}

// plug makes a medium appear.
func (b *bench) plug(s *sticks, name, bus string, data []byte) {
	b.t.Helper()
	device := filepath.Join(s.sysfs, "devices", bus, name)
	for _, dir := range []string{device, filepath.Join(s.sysfs, "class/block"), s.dev} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			b.t.Fatal(err)
		}
	}
	for file, text := range map[string][]byte{filepath.Join(device, "size"): fmt.Appendf(nil, "%d\n", len(data)/512), filepath.Join(s.dev, name): data} {
		if err := os.WriteFile(file, text, 0o644); err != nil {
			b.t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join("../../devices", bus, name), filepath.Join(s.sysfs, "class/block", name)); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) pull(s *sticks, name string) {
	b.t.Helper()
	if err := os.Remove(filepath.Join(s.sysfs, "class/block", name)); err != nil {
		b.t.Fatal(err)
	}
}

// bundleOf is a release as package stick writes it.
func (b *bench) bundleOf(r rel, key ed25519.PrivateKey) map[string][]byte {
	b.t.Helper()
	files := map[string][]byte{}
	for name, data := range map[string][]byte{"slot.zst": r.slot, "root.zst": r.root} {
		z, err := io.ReadAll(b.encode("", "zstd", used(data)))
		if err != nil {
			b.t.Fatal(err)
		}
		files["hello-"+r.version+"/"+name] = z
	}
	files["hello-"+r.version+"/"+release.EnvelopeName] = r.manifest(b.t, key)
	return files
}

func newer() rel {
	r := fresh
	r.built = 2_000
	return r
}

func TestStick(t *testing.T) {
	b := newBench(t)
	s := b.port()
	b.plug(s, "sda", "pci0/usb1/1-1", make([]byte, mib)) // the whole disk, whose first sector is a partition table
	b.plug(s, "sda1", "pci0/usb1/1-1", stickOf(t, b.bundleOf(newer(), signer())))
	if !s.changed() {
		t.Error("the stick is not noticed")
	}
	s.look()
	<-b.keeper.reset
	b.holds("slot-b", fresh.slot)
	b.holds("root-b", fresh.root)
	if st := b.keeper.State(); st.Phase != slot.Armed || s.changed() {
		t.Errorf("%v: %v", st.Phase, b.log)
	}
	if why := fmt.Sprint(b.updater.Slots().Why); !strings.Contains(why, "stick sda1: version 2.0 is written") {
		t.Errorf("nobody is told: %s", why)
	}
	b.keeper.boot(slot.A) // it did not come up: the stick alone does not try it again
	s.look()
	b.pull(s, "sda1")
	s.look()
	b.plug(s, "sdb1", "pci0/usb1/1-1", stickOf(t, b.bundleOf(newer(), signer())))
	s.look()
	if b.keeper.resets != 1 || !strings.Contains(fmt.Sprint(b.log), "its trial has failed") {
		t.Errorf("%d resets: %v", b.keeper.resets, b.log)
	}
}

// An image set that was copied to any stick does as well.
func TestStickWithImage(t *testing.T) {
	r := newer()
	var img []byte
	img = append(img, make([]byte, mib)...)
	for _, part := range [][]byte{r.slot, r.slot, r.root, r.root} {
		img = append(img, part...)
	}
	b := newBench(t)
	s := b.port()
	b.plug(s, "sda1", "usb1", stickOf(t, map[string][]byte{
		"photos/a.jpg": []byte("x"), "hello-2.0/" + release.EnvelopeName: r.manifest(t, signer()), "hello-2.0/hello-2.0.img": img, "hello-1.1/readme": []byte("x"),
	}))
	s.look()
	<-b.keeper.reset
	b.holds("slot-b", fresh.slot)
	b.holds("root-b", fresh.root)
}

func TestStickRefused(t *testing.T) {
	foreign := ed25519.NewKeyFromSeed([]byte(strings.Repeat("o", 32)))
	spoiled := newer()
	spoiled.slot = image(50, mib, 24*mib)
	low := newer()
	low.epoch = 0
	for _, tt := range []struct {
		name, bus, want string
		files           func(b *bench) map[string][]byte
		change          func(b *bench)
	}{
		{name: "signed by a stranger", want: "release.untrusted", files: func(b *bench) map[string][]byte { return b.bundleOf(newer(), foreign) }},
		{name: "not newer", want: "is not newer", files: func(b *bench) map[string][]byte { return b.bundleOf(fresh, signer()) }},
		{name: "rejected", want: "failed on this machine", files: func(b *bench) map[string][]byte { return b.bundleOf(newer(), signer()) },
			change: func(b *bench) { b.keeper.state.Rejections = []slot.Rejection{{Version: "2.0"}} }},
		{name: "below the floor", want: "below-floor", files: func(b *bench) map[string][]byte { return b.bundleOf(low, signer()) },
			change: func(b *bench) { b.keeper.state.Floor = 1 }},
		{name: "not behind USB", bus: "pci0/ata1", files: func(b *bench) map[string][]byte { return b.bundleOf(newer(), signer()) }},
		{name: "without a manifest", files: func(b *bench) map[string][]byte {
			f := b.bundleOf(newer(), signer())
			delete(f, "hello-2.0/"+release.EnvelopeName)
			return f
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			s := b.port()
			if tt.change != nil {
				tt.change(b)
			}
			if tt.bus == "" {
				tt.bus = "usb2"
			}
			b.plug(s, "sda1", tt.bus, stickOf(t, tt.files(b)))
			s.look()
			if !b.startable("slot-b") || b.keeper.State().Phase != slot.Idle {
				t.Error("the other slot was touched")
			}
			if log := fmt.Sprint(b.log); !strings.Contains(log, tt.want) {
				t.Errorf("log %q, want %q", log, tt.want)
			}
		})
	}
	b := newBench(t)
	s := b.port()
	files := b.bundleOf(newer(), signer())
	files["hello-2.0/slot.zst"] = b.bundleOf(spoiled, signer())["hello-2.0/slot.zst"]
	b.plug(s, "sda1", "usb1", stickOf(t, files))
	s.look()
	if b.startable("slot-b") || !strings.Contains(fmt.Sprint(b.log), "does not hold what was signed") || b.keeper.resets != 0 {
		t.Errorf("other bytes than those that were signed: %v", b.log)
	}
}

// A stick that came while another update was being written is read when that has
// ended, and one under the same name with another size at once.
func TestStickAgain(t *testing.T) {
	b := newBench(t)
	s := b.port()
	volume := stickOf(t, b.bundleOf(newer(), signer()))
	b.plug(s, "sda1", "usb1", make([]byte, mib))
	if s.look() || s.changed() {
		t.Error("an empty medium is looked at again")
	}
	b.pull(s, "sda1")
	b.plug(s, "sda1", "usb2", volume)
	if !s.changed() {
		t.Error("another medium under the same name is not noticed")
	}
	b.updater.writing.Lock()
	if !s.look() || !s.changed() {
		t.Errorf("it is not looked at again: %v", b.log)
	}
	b.updater.writing.Unlock()
	if s.look() {
		t.Errorf("%v", b.log)
	}
	<-b.keeper.reset
	b.holds("slot-b", fresh.slot)
	for i, want := range []bool{true, true, false} { // a disk that takes nothing
		if s.retries("sdb", refuse(updateapi.Failed, "", "x")) != want {
			t.Errorf("try %d", i)
		}
	}
}
