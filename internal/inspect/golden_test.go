package inspect_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-os/ingot/initramfs"
	"github.com/ingot-os/ingot/internal/build/buildtest"
	"github.com/ingot-os/ingot/internal/golden"
	"github.com/ingot-os/ingot/internal/inspect"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/partition/tree"
)

func text(t testing.TB, n *inspect.Node) string {
	t.Helper()
	var b bytes.Buffer
	if err := n.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func path(t testing.TB, p string) *inspect.Node {
	t.Helper()
	n, err := inspect.Path(p)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestInspectGolden prints everything that a build writes. The layout's picture
// and all names, modes, places and GUIDs are in the golden files.
func TestInspectGolden(t *testing.T) {
	set := base(t)
	golden.Equal(t, "testdata/set.txt", mask(text(t, path(t, set.Dir))))

	a := appliance(t, nil)
	_, l, _ := a.Locked()
	file := filepath.Join(t.TempDir(), "appliance.lock")
	if err := l.Write(file); err != nil {
		t.Fatal(err)
	}
	golden.Equal(t, "testdata/lock.txt", mask(text(t, path(t, file))))

	erofs := make1(t, replaced("{directory: ./rootfs}", "{directory: ./rootfs, format: erofs}"), inYAML("slot: 36M", "slot: 36M, sector: 4096"))
	golden.Equal(t, "testdata/erofs.txt", mask(text(t, path(t, filepath.Join(erofs.Dir, erofs.Manifest.Stem()+".root")))))
	disk := path(t, erofs.Image())
	if got := disk.Field("sector size"); got != "4096" {
		t.Errorf("sector size of a 4Kn image: %s", got)
	}

	zstd := make1(t, nil, inYAML("data:", "compress: zstd\ndata:"))
	initrd := path(t, zstd.UKI()).Find("cpio", "initramfs")
	plain := path(t, set.UKI()).Find("cpio", "initramfs")
	if initrd == nil || initrd.Field("compression") != "zstd" {
		t.Fatalf("a compressed initramfs reads as %+v", initrd)
	}
	if d := cmp.Diff(entries(plain), entries(initrd)); d != "" {
		t.Errorf("entries of the initramfs (-plain +zstd):\n%s", d)
	}
}

func entries(n *inspect.Node) []string {
	var out []string
	for _, c := range n.Children {
		out = append(out, c.Kind+" "+c.Name+" "+c.Field("mode"))
	}
	return out
}

// TestInspectState shows the regions of a state partition.
func TestInspectState(t *testing.T) {
	set := base(t)
	img := filepath.Join(t.TempDir(), "disk.img")
	copySparse(t, set.Image(), img)
	f, err := os.OpenFile(img, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	machine(t, f, set.Manifest)
	f.Close()
	n := path(t, img).Find("state", "state")
	if n == nil || len(n.Children) != 1 || n.Children[0].Field("text") != "hostname: one" {
		t.Errorf("a state partition with a machine.yaml reads as %+v", n)
	}
}

// TestInspectJSON: the JSON has what the text has.
func TestInspectJSON(t *testing.T) {
	n := path(t, base(t).Dir)
	data, err := json.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	again := new(inspect.Node)
	if err := json.Unmarshal(data, again); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(text(t, n), text(t, again)); d != "" {
		t.Error(d)
	}
}

// TestInspectDamaged cuts and overwrites files at many places: a problem is
// told as a field or an error, and nothing panics or takes long.
func TestInspectDamaged(t *testing.T) {
	set := base(t)
	for _, suffix := range []string{".efi", ".root"} {
		whole, err := os.ReadFile(file(set, suffix))
		if err != nil {
			t.Fatal(err)
		}
		for i := range 40 {
			b := bytes.Clone(whole[:min(len(whole), 64<<10)])
			switch i % 3 {
			case 0:
				b = b[:len(b)*i/40]
			case 1:
				b[i*97%512] ^= 0xff
			case 2:
				copy(b[i*61%2048:], bytes.Repeat([]byte{0xff}, 64))
			}
			if _, err := inspect.Reader(bytes.NewReader(b), int64(len(b)), "damaged"+suffix); err != nil {
				t.Logf("damage %d to %s: %v", i, suffix, err)
			}
		}
	}
}

// TestInspectRefuses: what cannot be read is an error that names it.
func TestInspectRefuses(t *testing.T) {
	dir := t.TempDir()
	if _, err := inspect.Path(dir); err == nil || !strings.Contains(err.Error(), "manifest.json") {
		t.Errorf("a directory that is no set: %v", err)
	}
	if _, err := inspect.Path(filepath.Join(dir, "nowhere")); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("a file that is not there: %v", err)
	}
	if _, err := inspect.Compare(dir, base(t).Dir); err == nil {
		t.Error("no error for a directory that is no set")
	}
}

// FuzzReader gives everything that begins like an artifact to the readers:
// none panics, and the text can be printed.
func FuzzReader(f *testing.F) {
	f.Add(buildtest.Stub(f))
	t := new(tree.Tree)
	for name, content := range map[string]string{"etc/hosts": "127.0.0.1 localhost\n", "etc/ingot/appliance.json": `{"name":"a","services":[{"args":["b"]}]}`} {
		if err := t.Add(tree.Node{Path: name, Mode: 0o644, Content: tree.Bytes(content)}); err != nil {
			f.Fatal(err)
		}
	}
	for _, how := range []string{initramfs.None, initramfs.Zstd} {
		a, err := initramfs.Plan([]initramfs.Segment{{Name: "a", Tree: t}}, initramfs.Options{Compress: how})
		if err != nil {
			f.Fatal(err)
		}
		var b bytes.Buffer
		if _, err := a.WriteTo(&b); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Add([]byte(`{"format":1,"name":"a","disk":{"partitions":[{"index":1}]},"sections":[{"name":".text"}]}`))
	f.Add([]byte("070701"))
	f.Add([]byte("INGOTST1"))
	f.Add([]byte(`{"ingot":{},"epoch":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := inspect.Reader(bytes.NewReader(data), int64(len(data)), "fuzz")
		if err == nil {
			text(t, n)
		}
	})
}

// large is an image set with a disk of more than 4 GiB, nearly all of it holes.
func large(b *testing.B, motd string) *release.Set {
	return make1(b, nil, func(a *buildtest.Appliance) {
		a.File("rootfs/etc/motd", motd, 0o644)
		inYAML("disk: {esp: 36M, slot: 36M, root: 4M}", "disk: {esp: 128M, slot: 1G, root: 1200M}")(a)
	})
}

// BenchmarkDiff4GiB (B17) compares two sparse images of 4.5 GB that differ in
// one file of the root payload.
func BenchmarkDiff4GiB(b *testing.B) {
	one, two := large(b, "one\n"), large(b, "two\n")
	for b.Loop() {
		diffs, err := inspect.Compare(one.Image(), two.Image())
		if err != nil || len(diffs) == 0 {
			b.Fatal(diffs, err)
		}
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b.ReportMetric(float64(m.Sys)/(1<<20), "MiB-from-OS")
}
