package disk

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/gpt"
)

// rack is a machine's sysfs and dev with image files for disks.
type rack struct {
	t        *testing.T
	sys, dev string
}

func newRack(t *testing.T) *rack {
	return &rack{t, t.TempDir(), t.TempDir()}
}

func (r *rack) finder() *Finder { return &Finder{Sysfs: r.sys, Dev: r.dev} }

func layout(t *testing.T, name string) partition.Layout {
	t.Helper()
	l, err := partition.Plan(partition.Spec{Name: name, ESP: 64 << 20, Slot: 64 << 20, Data: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func specLayout(l partition.Layout) appliance.Layout {
	out := appliance.Layout{ID: l.ID, Disk: l.Disk.String(), Part: map[string]string{}}
	for _, p := range l.Parts {
		out.Part[p.Role] = strings.ToUpper(p.GUID.String())
	}
	return out
}

// plug attaches a disk of size bytes.
func (r *rack) plug(name string, l partition.Layout, size int64) string {
	r.t.Helper()
	file := filepath.Join(r.dev, name)
	f, err := os.Create(file)
	if err != nil {
		r.t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(l.Size); err != nil {
		r.t.Fatal(err)
	}
	if err := partition.Write(f, l, nil); err != nil {
		r.t.Fatal(err)
	}
	if err := f.Truncate(size); err != nil {
		r.t.Fatal(err)
	}
	r.sysfs(name, fmt.Sprint(size/512))
	for _, p := range l.Parts {
		r.file(fmt.Sprintf("class/block/%s/%sp%d/partition", name, name, p.Index), fmt.Sprint(p.Index))
	}
	return file
}

func (r *rack) sysfs(name, sectors string) { r.file("class/block/"+name+"/size", sectors) }

func (r *rack) file(path, content string) {
	r.t.Helper()
	file := filepath.Join(r.sys, path)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content+"\n"), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

func slotA(l partition.Layout) string {
	p, _ := l.Part(partition.SlotA)
	return strings.ToUpper(p.GUID.String()) // the stub writes upper case
}

func TestFindByPartition(t *testing.T) {
	r := newRack(t)
	ours, other := layout(t, "hello"), layout(t, "other")
	r.plug("sda", other, other.Size)
	r.plug("vda", ours, ours.Size)
	r.plug("loop0", ours, ours.Size) // an image of ours, mounted from a file, is no disk
	r.file("class/block/vda1/partition", "1")
	r.sysfs("sr0", "100")
	d, err := r.finder().Find(slotA(ours), specLayout(ours))
	if err != nil {
		t.Fatal(err)
	}
	if d.Node != filepath.Join(r.dev, "vda") || d.Role(slotA(ours)) != partition.SlotA {
		t.Errorf("found %s with role %q", d.Node, d.Role(slotA(ours)))
	}
	if got := d.NodeOf(partition.State); got != filepath.Join(r.dev, "vdap6") {
		t.Errorf("NodeOf(state) = %q", got)
	}
	if got := d.NodeOf(partition.RootA); got != "" {
		t.Errorf("NodeOf(root-a) = %q, want none", got)
	}
}

func TestFindKnowsRekeyedDisks(t *testing.T) {
	r := newRack(t)
	ours := layout(t, "hello")
	host := partition.Rekey(ours, "serial-1")
	r.plug("vda", host, host.Size)
	d, err := r.finder().Find(slotA(host), specLayout(ours))
	if err != nil {
		t.Fatal(err)
	}
	if d.Role(slotA(host)) != partition.SlotA {
		t.Errorf("role = %q, want slot-a by its name", d.Role(slotA(host)))
	}
}

func TestFindRefusesTwins(t *testing.T) {
	r := newRack(t)
	ours := layout(t, "hello")
	r.plug("vda", ours, ours.Size)
	r.plug("vdb", ours, ours.Size)
	_, err := r.finder().Find(slotA(ours), specLayout(ours))
	var twins *AmbiguousError
	if !errors.As(err, &twins) || len(twins.Nodes) != 2 {
		t.Errorf("Find() = %v, want two ambiguous disks", err)
	}
}

func TestFindLooksAgainAtUnreadyDisks(t *testing.T) {
	r := newRack(t)
	ours := layout(t, "hello")
	r.sysfs("vda", "0") // sysfs shows it before its size is known
	f := r.finder()
	if _, err := f.Find(slotA(ours), specLayout(ours)); !errors.Is(err, ErrNotFound) {
		t.Fatalf("Find() = %v, want not found", err)
	}
	r.sysfs("vda", "2048") // and before it can be opened
	if _, err := f.Find(slotA(ours), specLayout(ours)); !errors.Is(err, ErrNotFound) {
		t.Fatalf("Find() = %v, want not found", err)
	}
	r.plug("vda", ours, ours.Size)
	if _, err := f.Find(slotA(ours), specLayout(ours)); err != nil {
		t.Error(err)
	}
}

func TestFindRefusesNonsense(t *testing.T) {
	if _, err := newRack(t).finder().Find("not-a-guid", appliance.Layout{}); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("Find() = %v, want a parse error", err)
	}
}

// TestGrowSurvivesCuts grows a disk by every prefix of its steps and from there
// again, as boots after a power cut do.
func TestGrowSurvivesCuts(t *testing.T) {
	sgdisk := tool(t, "sgdisk", "gdisk")
	ours := layout(t, "hello")
	size := ours.Size + 200<<20
	for cut := range 7 {
		r := newRack(t)
		file := r.plug("vda", ours, size)
		d, err := r.finder().Find(slotA(ours), specLayout(ours))
		if err != nil {
			t.Fatal(err)
		}
		next, worth, err := PlanGrow(d.Table, d.Size)
		if err != nil || !worth {
			t.Fatalf("PlanGrow() = %v, %v", worth, err)
		}
		steps, err := gpt.Replace(d.Table, d.Info, next)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(file, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		done := cut >= len(steps)
		if err := gpt.Apply(f, steps[:min(cut, len(steps))]); err != nil {
			t.Fatal(err)
		}
		again, err := r.finder().Find(slotA(ours), specLayout(ours))
		if err != nil {
			t.Fatalf("cut %d: %v", cut, err)
		}
		next, worth, err = PlanGrow(again.Table, again.Size)
		if err != nil || worth && done {
			t.Fatalf("cut %d: PlanGrow() = %v, %v", cut, worth, err)
		}
		if worth {
			if steps, err = gpt.Replace(again.Table, again.Info, next); err != nil {
				t.Fatal(err)
			}
			if err := gpt.Apply(f, steps); err != nil {
				t.Fatal(err)
			}
		}
		if got := sizeOf(t, f, size); got < 250<<20 {
			t.Errorf("cut %d: data has %d MiB", cut, got>>20)
		}
		if out, err := exec.Command(sgdisk, "-v", file).CombinedOutput(); err != nil || done && !strings.Contains(string(out), "No problems found") {
			t.Errorf("cut %d: sgdisk: %v\n%s", cut, err, out)
		}
	}
}

// A copy of the table that is damaged is written again: the primary one as soon
// as the disk is found, because Linux has no partitions without it, the backup
// with the step that grows the table.
func TestDamagedCopyIsWrittenAgain(t *testing.T) {
	sgdisk := tool(t, "sgdisk", "gdisk")
	ours := layout(t, "hello")
	for name, at := range map[string]int64{"primary header": 512 + 60, "primary array": 1024 + 32, "backup header": ours.Size - 512 + 60, "backup array": ours.Size - 512 - 16<<10 + 32} {
		t.Run(name, func(t *testing.T) {
			r := newRack(t)
			file := r.plug("vda", ours, ours.Size)
			f, err := os.OpenFile(file, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteAt([]byte{0xaa}, at); err != nil {
				t.Fatal(err)
			}
			d, err := r.finder().Find(slotA(ours), specLayout(ours))
			if err != nil {
				t.Fatal(err)
			}
			mended, err := d.Mend()
			if err != nil || mended != strings.HasPrefix(name, "primary") {
				t.Errorf("Mend() = %v, %v", mended, err)
			}
			if _, info, err := gpt.Read(f, ours.Size); err != nil || info.FromBackup {
				t.Errorf("after Mend: %+v, %v", info, err)
			}
			if grown, err := d.Grow(); grown || err != nil {
				t.Errorf("Grow() = %v, %v", grown, err)
			}
			if out, err := exec.Command(sgdisk, "-v", file).CombinedOutput(); err != nil || !strings.Contains(string(out), "No problems found") {
				t.Errorf("sgdisk: %v\n%s", err, out)
			}
		})
	}
}

func sizeOf(t *testing.T, f *os.File, size int64) int64 {
	t.Helper()
	table, _, err := gpt.Read(f, size)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(table.Partitions, func(p gpt.Partition) bool { return p.Name == partition.Data })
	return table.Partitions[i].Size
}

func TestGrowOnlyWhenWorthIt(t *testing.T) {
	ours := layout(t, "hello")
	for _, extra := range []int64{0, 1 << 20} {
		if _, worth, err := PlanGrow(ours.Table(), ours.Size+extra); worth || err != nil {
			t.Errorf("PlanGrow() by %d = %v, %v; want nothing to do", extra, worth, err)
		}
	}
}

func TestVerityTable(t *testing.T) {
	veritysetup := tool(t, "veritysetup", "cryptsetup-bin")
	f := partitionFile(t, 3<<20, true)
	const hashAt = 2 << 20
	out, err := exec.Command(veritysetup, "format", fmt.Sprintf("--hash-offset=%d", hashAt), "--data-blocks=512", "--salt=0102ff", f.Name(), f.Name()).CombinedOutput()
	if err != nil {
		t.Fatalf("veritysetup: %v\n%s", err, out)
	}
	hash := strings.Repeat("Ab", 32)
	v := Verity{Name: "x", Device: f.Name(), DataBlocks: 512, HashStart: hashAt, RootHash: hash}
	got, err := v.table()
	want := fmt.Sprintf("1 %s %s 4096 4096 512 513 sha256 %s 0102ff", f.Name(), f.Name(), strings.ToLower(hash))
	if err != nil || got != want {
		t.Errorf("table() = %q, %v; want %q", got, err, want)
	}
	for _, bad := range []Verity{{Device: f.Name(), RootHash: "zz"}, {Device: f.Name(), RootHash: hash, DataBlocks: 511, HashStart: hashAt}, {Device: f.Name(), RootHash: hash, DataBlocks: 512}} {
		if _, err := bad.Open(); err == nil {
			t.Errorf("Open() of %+v succeeds", bad)
		}
	}
}
