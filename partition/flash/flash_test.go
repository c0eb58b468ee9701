package flash

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/gpt"
	"github.com/ingot-os/ingot/partition/state"
	"github.com/ingot-os/ingot/partition/tree"
)

// testImage writes a sparse image with random slots, an ESP with a hole in the
// middle, and data at the very end of the data partition.
func testImage(t testing.TB, sectorSize int) (string, partition.Layout) {
	t.Helper()
	l, err := partition.Plan(partition.Spec{Name: "hello", SectorSize: sectorSize, ESP: 2 * mib, Slot: 6 * mib, Data: 4 * mib})
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.NewChaCha8([32]byte{byte(sectorSize >> 8)})
	noise := func(n int) tree.Bytes { b := make([]byte, n); rnd.Read(b); return b }
	esp, data := noise(2*mib), make(tree.Bytes, 4*mib)
	clear(esp[100_000:1_500_000])
	copy(data[4*mib-5:], "tail!")
	path := filepath.Join(t.TempDir(), "hello.img")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	slot := noise(5 * mib)
	err = errors.Join(f.Truncate(l.Size), partition.Write(f, l, map[string]partition.Content{
		partition.ESP: partition.Blob(esp), partition.SlotA: partition.Blob(slot), partition.SlotB: partition.Blob(slot), partition.Data: partition.Blob(data),
	}))
	if err != nil {
		t.Fatal(err)
	}
	return path, l
}

// target is a file full of 0xAA, in memory where there is room: most tests are
// about what is written, not about waiting for a disk to have it.
func target(t testing.TB, size int64) string {
	t.Helper()
	var st unix.Statfs_t
	const shm = "/dev/shm"
	if err := unix.Statfs(shm, &st); err != nil || int64(st.Bavail)*st.Bsize < 512*mib || unix.Access(shm, unix.W_OK) != nil {
		return targetIn(t, t.TempDir(), size)
	}
	dir, err := os.MkdirTemp(shm, "flash-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return targetIn(t, dir, size)
}

func targetIn(t testing.TB, dir string, size int64) string {
	t.Helper()
	path := filepath.Join(dir, "disk.img")
	if err := os.WriteFile(path, bytes.Repeat([]byte{0xaa}, int(size)), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// checkDisk compares the target with the image: every partition, both table
// copies, and nothing touched behind the image's data.
func checkDisk(t *testing.T, image, disk string, res Result) {
	t.Helper()
	want, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	got := readDisk(t, disk)
	size := int64(len(got)) / int64(res.Layout.SectorSize) * int64(res.Layout.SectorSize)
	table, info, err := gpt.Read(bytes.NewReader(got), int64(len(got)))
	if err != nil || info.Primary != nil || info.Backup != nil || info.BackupOffset != size-int64(res.Layout.SectorSize) {
		t.Fatalf("table on the device: %+v, %v", info, err)
	}
	l, err := partition.FromTable(table)
	if d := cmp.Diff(res.Layout, l); err != nil || d != "" {
		t.Errorf("layout on the device, %v (-result +device):\n%s", err, d)
	}
	end := int64(len(want)) - mib
	if !bytes.Equal(want[mib:end], got[mib:end]) {
		t.Error("partitions differ from the image")
	}
	data, _ := l.Part(partition.Data)
	if n := bytes.Count(got[end:data.End()], []byte{0xaa}); int64(n) != data.End()-end {
		t.Errorf("%d of %d bytes behind the image are untouched", n, data.End()-end)
	}
	for _, gap := range [][]byte{got[24<<10 : mib], got[data.End() : size-24<<10], got[size:]} {
		if n := bytes.Count(gap, []byte{0}); n != len(gap) {
			t.Errorf("%d of %d bytes beside the partition table are not zero", len(gap)-n, len(gap))
		}
	}
}

// readDisk reads a file or block device past the cache of the writer.
func readDisk(t *testing.T, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestWriteToFile(t *testing.T) {
	for _, tt := range []struct {
		name          string
		image, target int // sector sizes; target 0 = as the image
		size          int64
	}{
		{"as large as the image", 512, 0, 36 * mib},
		{"larger", 512, 0, 60 * mib},
		{"odd size", 512, 0, 60*mib + 4096 + 777},
		{"512 to 4096", 512, 4096, 60*mib + 512},
		{"4096 to 512", 4096, 512, 48*mib + 512},
		{"4096 to 4096", 4096, 0, 36 * mib},
	} {
		t.Run(tt.name, func(t *testing.T) {
			image, l := testImage(t, tt.image)
			disk := targetIn(t, t.TempDir(), tt.size)
			var done, total int64
			res, err := Write(context.Background(), image, disk, Options{SectorSize: tt.target, Progress: func(d, n int64) {
				if d <= done || d > n || total != 0 && n != total {
					t.Errorf("progress %d of %d after %d of %d", d, n, done, total)
				}
				done, total = d, n
			}})
			if err != nil {
				t.Fatal(err)
			}
			checkDisk(t, image, disk, res)
			if done != total || res.Written+res.Zeroed != total/2 || res.Verified != total/2 {
				t.Errorf("progress %d of %d, result %+v", done, total, res)
			}
			if want := tt.target; want != 0 && res.Layout.SectorSize != want || res.Layout.ID != l.ID || res.Layout.Disk != l.Disk {
				t.Errorf("layout = %+v", res.Layout)
			}
			if res.Zeroed < 16*mib {
				t.Errorf("only %d bytes were zeroed without being sent; the state partition alone has 16 MiB of zeros", res.Zeroed)
			}
		})
	}
}

func TestDataIsGrownToTheEnd(t *testing.T) {
	image, _ := testImage(t, 512)
	res, err := Write(context.Background(), image, target(t, 60*mib), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if data, _ := res.Layout.Part(partition.Data); data.End() != 59*mib {
		t.Errorf("data ends at %d, want 59 MiB", data.End())
	}
}

// Zeros must be written as zeros whether or not the image is sparse.
func TestDenseImage(t *testing.T) {
	image, _ := testImage(t, 512)
	b, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	dense := filepath.Join(t.TempDir(), "dense.img")
	if err := os.WriteFile(dense, b, 0o644); err != nil {
		t.Fatal(err)
	}
	disk := target(t, 40*mib)
	res, err := Write(context.Background(), dense, disk, Options{})
	if err != nil {
		t.Fatal(err)
	}
	checkDisk(t, image, disk, res)
}

func TestTargetStaysSparse(t *testing.T) {
	image, _ := testImage(t, 512)
	disk := targetIn(t, t.TempDir(), 36*mib)
	if _, err := Write(context.Background(), image, disk, Options{}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(disk)
	if err != nil {
		t.Fatal(err)
	}
	if used := info.Sys().(*syscall.Stat_t).Blocks * 512; used > 18*mib {
		punchable(t)
		t.Errorf("%d bytes are used for an image with 14 MiB of data", used)
	}
}

// punchable ends a test on a file system that cannot make holes.
func punchable(t *testing.T) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "hole"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, mib)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, mib); err != nil {
		t.Skipf("this file system does not punch holes: %v", err)
	}
}

func TestMachineYAML(t *testing.T) {
	image, _ := testImage(t, 512)
	disk := target(t, 40*mib)
	res, err := Write(context.Background(), image, disk, Options{MachineYAML: []byte("hostname: edge-7\n")})
	if err != nil {
		t.Fatal(err)
	}
	st, _ := res.Layout.Part(partition.State)
	b := readDisk(t, disk)
	got, seq, err := state.Load(st.Section(bytes.NewReader(b)), state.Machine)
	if err != nil || string(got) != "hostname: edge-7\n" || seq != 1 {
		t.Errorf("machine.yaml = %q, %d, %v", got, seq, err)
	}
	clear(b[st.Start:st.End()])
	plain := readDisk(t, image)
	if end := int64(len(plain)) - mib; !bytes.Equal(b[mib:end], plain[mib:end]) {
		t.Error("other partitions differ from the image")
	}
	before := readDisk(t, disk)
	_, err = Write(context.Background(), image, disk, Options{MachineYAML: make([]byte, 65537)})
	if err == nil || !strings.Contains(err.Error(), "65537 bytes are more than the 65536") || !bytes.Equal(before, readDisk(t, disk)) {
		t.Errorf("too long machine.yaml: %v", err)
	}
}

func TestRekey(t *testing.T) {
	image, l := testImage(t, 512)
	disk := target(t, 36*mib)
	if _, err := Write(context.Background(), image, disk, Options{Rekey: true}); err == nil || !strings.Contains(err.Error(), "name a host id") {
		t.Errorf("rekey without an id: %v", err)
	}
	res, err := Write(context.Background(), image, disk, Options{Rekey: true, HostID: "rack 4"})
	if err != nil {
		t.Fatal(err)
	}
	checkDisk(t, image, disk, res)
	if d := cmp.Diff(partition.Rekey(l, "rack 4"), res.Layout); d != "" || res.HostID != "rack 4" {
		t.Errorf("layout, host id %q (-want +got):\n%s", res.HostID, d)
	}
	res, err = Write(context.Background(), image, disk, Options{Rekey: true, Probe: func(path string) (Device, error) {
		d, err := Probe(path)
		d.ID = "eui.1"
		return d, err
	}})
	if err != nil || res.HostID != "eui.1" || res.Layout.Disk != partition.Rekey(l, "eui.1").Disk {
		t.Errorf("rekey by the device's id = %q, %v", res.HostID, err)
	}
}

// Nothing that is refused may be touched.
func TestRefusedIsNotTouched(t *testing.T) {
	image, _ := testImage(t, 512)
	good, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	variant := func(change func(b []byte) []byte) string {
		path := filepath.Join(t.TempDir(), "bad.img")
		if err := os.WriteFile(path, change(bytes.Clone(good)), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	facts := func(change func(*Device)) Options {
		return Options{Probe: func(path string) (Device, error) { d, err := Probe(path); change(&d); return d, err }}
	}
	tests := []struct {
		name  string
		image string
		size  int64
		o     Options
		want  Reason
	}{
		{"not an image", variant(func(b []byte) []byte { return b[mib:] }), 40 * mib, Options{}, Foreign},
		{"empty file", variant(func(b []byte) []byte { return nil }), 40 * mib, Options{}, Foreign},
		{"damaged primary table", variant(func(b []byte) []byte { b[600] ^= 1; return b }), 40 * mib, Options{}, Foreign},
		{"cut off", variant(func(b []byte) []byte { return b[:len(b)-4096] }), 40 * mib, Options{}, Foreign},
		{"cut inside data", variant(func(b []byte) []byte { return b[:len(b)-3*mib] }), 40 * mib, Options{}, Foreign},
		{"foreign layout", variant(foreign), 40 * mib, Options{}, Foreign},
		{"mounted", image, 40 * mib, facts(func(d *Device) { d.Uses = []Use{{"mount", "x1", "/mnt"}} }), Mounted},
		{"not removable", image, 40 * mib, facts(func(d *Device) { d.Kind, d.SectorSize = Disk, 512 }), NotRemovable},
		{"exchanged while it was asked", image, 40 * mib, Options{Confirm: Confirm{Seen: &Device{Kind: File, Size: 39 * mib}}}, Exchanged},
		{"read-only", image, 40 * mib, facts(func(d *Device) { d.ReadOnly = true }), ReadOnly},
		{"too small", image, 36*mib - 512, Options{}, TooSmall},
	}
	disk := target(t, 40*mib)
	for _, tt := range tests {
		if err := os.Truncate(disk, tt.size); err != nil { // the last case is smaller
			t.Fatal(err)
		}
		_, err := Write(context.Background(), tt.image, disk, tt.o)
		if !Refused(err, tt.want) {
			t.Errorf("%s: Write = %v, want %s", tt.name, err, tt.want)
		}
		if b := readDisk(t, disk); bytes.Count(b, []byte{0xaa}) != len(b) {
			t.Errorf("%s: the target was touched", tt.name)
		}
	}
	if _, err := Write(context.Background(), image, image, Options{}); !Refused(err, Held) {
		t.Errorf("image onto itself: %v", err)
	}
	if b := readDisk(t, image); !bytes.Equal(b, good) {
		t.Error("image was changed")
	}
}

// foreign renames a partition and seals the table again.
func foreign(b []byte) []byte {
	table, _, err := gpt.Read(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		panic(err)
	}
	table.Partitions[0].Name = "boot"
	if err := table.Write(memory(b)); err != nil {
		panic(err)
	}
	return b
}

// An image file that was made longer, for a virtual machine, still fits where the original did.
func TestExtendedImage(t *testing.T) {
	image, _ := testImage(t, 512)
	if err := os.Truncate(image, 50*mib); err != nil {
		t.Fatal(err)
	}
	if _, err := Write(context.Background(), image, target(t, 36*mib), Options{}); err != nil {
		t.Errorf("Write = %v", err)
	}
}
