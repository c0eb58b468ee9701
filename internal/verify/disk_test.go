package verify_test

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/boot"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/verify"
	"github.com/ingot-os/ingot/partition/fat"
	"github.com/ingot-os/ingot/partition/flash"
	"github.com/ingot-os/ingot/partition/tree"
)

// flashed writes a set to a disk file of so many bytes.
func flashed(t *testing.T, set *release.Set, size int64, o flash.Options) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	// What an earlier life of the disk left behind must not be judged.
	if _, err := io.WriteString(io.NewOffsetWriter(f, size-(3<<20)), "an old disk"); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if _, err := flash.Write(ctx, set.Image(), path, o); err != nil {
		t.Fatal(err)
	}
	return path
}

func noted(t *testing.T, r *verify.Report, what string, why verify.Why) {
	t.Helper()
	if !slices.ContainsFunc(r.NotChecked, func(n verify.Note) bool { return n.What == what && n.Why == why }) {
		t.Errorf("not checked: %v, want %s %s", r.NotChecked, what, why)
	}
}

// TestDisk: disks that flash wrote are verified whatever their size, sector
// size and GUIDs are, and damage of what is judged is refused.
func TestDisk(t *testing.T) {
	a := authority(t, ours)
	app := fixture(t, full)
	set := makeSet(t, app, a)
	m := set.Manifest
	o := verify.Options{Manifest: set.Dir, Trust: trust(t, ours), Disk: true}
	check := func(path string) *verify.Report { o := o; o.Path = path; return run(t, o) }

	disk := flashed(t, set, m.Disk.Size+64<<20+512, flash.Options{})
	r := check(disk)
	accepted(t, r, verify.Verified)
	noted(t, r, "state", verify.WhyMachine)
	if r.Kind != verify.KindDisk {
		t.Errorf("kind %s", r.Kind)
	}
	accepted(t, check(flashed(t, set, m.Disk.Size+64<<20, flash.Options{SectorSize: 4096})), verify.Verified)

	rekeyed := flashed(t, set, m.Disk.Size+8<<20, flash.Options{Rekey: true, HostID: "host-7"})
	refused(t, check(rekeyed), verify.TablePrimary, "GUID")
	host := o
	host.Path, host.HostID = rekeyed, "host-7"
	accepted(t, run(t, host), verify.Verified)

	size := m.Disk.Size + 64<<20 + 512
	for _, c := range []struct {
		off   int64
		code  verify.Code
		place string
	}{
		{m.Disk.Partitions[5].Start + 5000, "", ""}, // state
		{m.Disk.Size + 1<<20, "", ""},               // free
		{0, verify.TableMBR, "boot code"},
		{512 + 56, verify.TablePrimary, "DiskGUID"},
		{1024, verify.TablePrimary, "PartitionTypeGUID"},
		{size - 512, verify.TableBackup, "Signature"},
		{size - 512 - 16384, verify.TableBackup, "entry 1"},
		{900000, verify.DiskSlack, "before esp"},
		{m.Disk.Partitions[0].Start + 4<<20, verify.PartitionDigest, "esp"},
		{m.Disk.Partitions[1].Start + 4<<20, verify.PartitionDigest, "slot-a"},
		{m.Disk.Partitions[2].Start + 513, verify.PartitionDigest, "slot-b → FSInfo"},
		{m.Disk.Partitions[3].Start + 100, verify.PartitionDigest, "root-a → squashfs filesystem"},
		{m.Disk.Partitions[4].Start + m.Disk.Partitions[4].Size - 1, verify.PartitionDigest, "root-b"},
	} {
		undo := flipByte(t, disk, c.off)
		if r := check(disk); c.code == "" {
			accepted(t, r, verify.Verified)
		} else {
			refused(t, r, c.code, c.place)
		}
		undo()
	}

	if err := os.Truncate(disk, 60<<20); err != nil {
		t.Fatal(err)
	}
	refused(t, check(disk), verify.DiskSize, "disk")
}

// TestGrownDisk: data may have grown and hold anything; the image's own table
// is right as well on a disk that it was copied to.
func TestGrownDisk(t *testing.T) {
	app := fixture(t, "root: {directory: ./rootfs}\n")
	app.File("appliance.yaml", replaced(t, app.Dir, "{disabled: true}", "{mount: /data, size: 40M}"), 0o644)
	set := makeSet(t, app, authority(t, ours))
	m := set.Manifest
	o := verify.Options{Manifest: set.Dir, Trust: trust(t, ours), Disk: true}
	o.Path = flashed(t, set, m.Disk.Size+128<<20, flash.Options{})
	defer flipByte(t, o.Path, m.Disk.Size+20<<20)()
	r := run(t, o)
	accepted(t, r, verify.Verified)
	noted(t, r, "data", verify.WhyMachine)

	copied := filepath.Join(t.TempDir(), "copied")
	data, err := os.ReadFile(set.Image())
	if err != nil {
		t.Fatal(err)
	}
	write(t, copied, append(data, make([]byte, 8<<20)...))
	o.Path = copied
	accepted(t, run(t, o), verify.Verified)
	write(t, copied, data[:len(data)-512])
	refused(t, run(t, o), verify.TableBackup, "backup header")

	used := filepath.Join(t.TempDir(), "used.img")
	write(t, used, data)
	state := m.Disk.Partitions[len(m.Disk.Partitions)-2]
	flipByte(t, used, state.Start+100)
	o.Path, o.Disk = used, false
	refused(t, run(t, o), verify.PartitionDigest, "state")
	o.Disk = true
	accepted(t, run(t, o), verify.Verified)
}

// TestOtherRelease: a slot of a machine may hold another release, which is not
// judged by this manifest; one of them must be this one.
func TestOtherRelease(t *testing.T) {
	a := authority(t, ours)
	app := fixture(t, full)
	set := makeSet(t, app, a)
	app.File("appliance.yaml", replaced(t, app.Dir, "version: 1.0.0", "version: 2.0.0"), 0o644)
	next := makeSet(t, app, a)
	disk := flashed(t, set, set.Manifest.Disk.Size+8<<20, flash.Options{})
	o := verify.Options{Path: disk, Manifest: set.Dir, Trust: trust(t, ours), Disk: true}
	install := func(parts ...int) {
		from, err := os.ReadFile(next.Image())
		if err != nil {
			t.Fatal(err)
		}
		to, err := os.OpenFile(disk, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer to.Close()
		for _, i := range parts {
			p := next.Manifest.Disk.Partitions[i]
			if _, err := to.WriteAt(from[p.Start:p.Start+p.Size], p.Start); err != nil {
				t.Fatal(err)
			}
		}
	}
	install(2, 4) // slot-b and root-b
	r := run(t, o)
	accepted(t, r, verify.Verified)
	noted(t, r, "slot-b", verify.WhyOtherSlot)
	noted(t, r, "root-b", verify.WhyOtherSlot)
	pristine := o
	pristine.Path = set.Image()
	accepted(t, run(t, pristine), verify.Verified)

	alone := o // nothing vouches for the other release without db certificates
	alone.Trust.DB = nil
	refused(t, run(t, alone), verify.SignatureKey, "slot-b")
	alone.Unsigned = true
	accepted(t, run(t, alone), verify.Unsigned)
	alone = o // a file is a disk only when the caller says so
	alone.Disk = false
	refused(t, run(t, alone), verify.DiskSize, "disk")

	next = makeSet(t, app, authority(t, theirs)) // with Secure Boot its own firmware would not start it
	install(2)
	refused(t, run(t, o), verify.SignatureKey, "slot-b")

	install(0, 1, 3)
	refused(t, run(t, o), verify.DiskRelease, "")
	o.Manifest, o.Trust = next.Dir, trust(t, theirs)
	accepted(t, run(t, o), verify.Verified)
}

// TestHiddenProgram: where another release is, every program that firmware
// could start is judged, not only the one that names the release.
func TestHiddenProgram(t *testing.T) {
	a := authority(t, ours)
	app := fixture(t, "")
	set := makeSet(t, app, a)
	app.File("appliance.yaml", replaced(t, app.Dir, "version: 1.0.0", "version: 0.9.0"), 0o644)
	old := makeSet(t, app, a)
	signed, err := os.ReadFile(old.UKI())
	if err != nil {
		t.Fatal(err)
	}
	disk := flashed(t, set, set.Manifest.Disk.Size+8<<20, flash.Options{})
	esp := set.Manifest.Disk.Partitions[0]
	o := verify.Options{Path: disk, Manifest: set.Dir, Trust: trust(t, ours), Disk: true}
	install := func(fallback []byte) {
		files := new(tree.Tree)
		for path, data := range map[string][]byte{"EFI/A/OLD.EFI": signed, boot.FallbackPath(set.Manifest.Arch): fallback} {
			if err := files.Add(tree.Node{Path: path, Mode: 0o644, Content: tree.Bytes(data)}); err != nil {
				t.Fatal(err)
			}
		}
		volume, err := fat.Plan(files, fat.Options{Size: esp.Size, Epoch: set.Manifest.Epoch})
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(disk, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt(make([]byte, esp.Size), esp.Start); err != nil { // a volume is written onto zeros
			t.Fatal(err)
		}
		if err := volume.Write(io.NewOffsetWriter(f, esp.Start)); err != nil {
			t.Fatal(err)
		}
	}
	install(signed)
	r := run(t, o)
	accepted(t, r, verify.Verified)
	noted(t, r, "esp", verify.WhyOtherSlot)
	install(append([]byte("MZ"), signed[2:len(signed)-4096]...))
	if r := run(t, o); r.Verdict != verify.Refused || r.Refusals[0].Check != verify.CheckSecureBoot {
		t.Errorf("verdict %s\n%s", r.Verdict, text(r))
	}
}

// replaced is the recipe with one thing changed.
func replaced(t *testing.T, dir, old, with string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "appliance.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(data), old) {
		t.Fatalf("the recipe has no %q", old)
	}
	return strings.Replace(string(data), old, with, 1)
}
