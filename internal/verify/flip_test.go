package verify_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/verify"
	"github.com/ingot-os/ingot/partition/fat"
	"github.com/ingot-os/ingot/partition/gpt"
	"github.com/ingot-os/ingot/partition/tree"
)

// flip is one byte of a set, and what the refusal must name.
type flip struct {
	file  string
	off   int64
	code  verify.Code
	place string // must be in the place
	exact bool   // the refusal must name the very offset
}

// flips lists the boundaries of every structure, and positions inside.
func flips(t *testing.T, set *release.Set) []flip {
	t.Helper()
	m := set.Manifest
	img := m.Stem() + ".img"
	var list []flip
	add := func(file string, code verify.Code, place string, exact bool, offs ...int64) {
		for _, off := range offs {
			list = append(list, flip{file, off, code, place, exact})
		}
	}
	disk := m.Disk
	last := disk.Partitions[len(disk.Partitions)-1]
	end := last.Start + last.Size
	add(img, verify.TableMBR, "protective mbr → boot code", true, 0, 1, 445)
	add(img, verify.TableMBR, "protective mbr → PartitionRecord[0]", true, 446, 450, 461)
	add(img, verify.TableMBR, "protective mbr → PartitionRecord[3]", true, 509)
	add(img, verify.TableMBR, "protective mbr → Signature", true, 510, 511)
	for _, c := range []struct {
		off   int64
		field string
	}{
		{0, "Signature"}, {8, "Revision"}, {12, "HeaderSize"}, {16, "HeaderCRC32"}, {20, "Reserved"}, {24, "MyLBA"}, {32, "AlternateLBA"}, {40, "FirstUsableLBA"},
		{48, "LastUsableLBA"}, {56, "DiskGUID"}, {71, "DiskGUID"}, {72, "PartitionEntryLBA"}, {80, "NumberOfPartitionEntries"}, {84, "SizeOfPartitionEntry"}, {91, "PartitionEntryArrayCRC32"},
	} {
		add(img, verify.TablePrimary, "primary header → "+c.field, true, 512+c.off)
		add(img, verify.TableBackup, "backup header → "+c.field, true, disk.Size-512+c.off)
	}
	entry := func(n int64) (int64, int64) {
		return 1024 + (n-1)*128, disk.Size - 512 - gpt.MaxEntries*128 + (n-1)*128
	}
	for _, c := range []struct {
		n, off int64
		name   string
	}{
		{1, 0, "entry 1 (esp) PartitionTypeGUID"}, {1, 16, "entry 1 (esp) UniquePartitionGUID"}, {2, 32, "entry 2 (slot-a) StartingLBA"}, {3, 40, "entry 3 (slot-b) EndingLBA"},
		{6, 48, "entry 6 (state) Attributes"}, {6, 127, "entry 6 (state) PartitionName"}, {7, 0, "entry 7"}, {128, 127, "entry 128"},
	} {
		a, b := entry(c.n)
		add(img, verify.TablePrimary, "primary array → "+c.name, true, a+c.off)
		add(img, verify.TableBackup, "backup array → "+c.name, true, b+c.off)
	}
	add(img, verify.DiskSlack, "slack → before esp", true, 1024+gpt.MaxEntries*128, 100000, disk.Partitions[0].Start-1)
	add(img, verify.DiskSlack, "slack → behind "+last.Role, true, end, disk.Size-512-gpt.MaxEntries*128-1)
	for _, p := range disk.Partitions {
		add(img, verify.PartitionDigest, p.Role, true, p.Start, p.Start+1, p.Start+511, p.Start+512, p.Start+p.Size/2, p.Start+p.Size-4096, p.Start+p.Size-1)
	}
	list = append(list, volumeFlips(t, set, img)...)
	list = append(list, documentFlips(t, set)...)
	return list
}

// volumeFlips looks into ESP and slots: FATs, directories, files and the slack
// behind them, sections of the boot file.
func volumeFlips(t *testing.T, set *release.Set, img string) []flip {
	t.Helper()
	m := set.Manifest
	f, err := os.Open(set.Image())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var list []flip
	add := func(off int64, place string) {
		list = append(list, flip{img, off, verify.PartitionDigest, place, true})
	}
	for _, p := range m.Disk.Partitions[:3] {
		section := sectionOf(f, p)
		v, err := fat.Open(section, p.Size)
		if err != nil {
			t.Fatal(err)
		}
		i := v.Info()
		reserved, table := int64(i.ReservedSectors)*512, int64(i.FATSectors)*512
		add(p.Start+10, p.Role+" → boot sector")
		add(p.Start+512+490, p.Role+" → FSInfo")
		add(p.Start+6*512, p.Role+" → backup boot sector")
		add(p.Start+reserved, p.Role+" → first FAT")
		add(p.Start+reserved+table-1, p.Role+" → first FAT")
		add(p.Start+reserved+table, p.Role+" → second FAT")
		add(p.Start+reserved+2*table-1, p.Role+" → second FAT")
		add(p.Start+reserved+2*table, p.Role+" → directories")
		files, err := v.Tree()
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range files.Nodes() {
			s, ok := n.Content.(tree.Section)
			if !ok {
				continue
			}
			at := p.Start + s.Off
			if strings.HasSuffix(n.Path, "tool.efi") {
				list = append(list, flip{img, at + 700, verify.PartitionDigest, p.Role + " → " + n.Path, false})
				continue
			}
			add(at, p.Role+" → "+n.Path+" → headers")
			add(at+s.N-1, p.Role+" → "+n.Path)
			if cluster := int64(i.ClusterSize); s.N%cluster != 0 {
				add(at+s.N, p.Role+" → "+n.Path+" → slack behind the file")
			}
			for _, x := range m.Sections {
				add(at+x.Offset, p.Role+" → "+n.Path+" → section "+x.Name)
				add(at+x.Offset+x.Size-1, p.Role+" → "+n.Path+" → section "+x.Name)
			}
		}
	}
	return list
}

// documentFlips changes the other files of the set; the envelope at each of
// its boundaries.
func documentFlips(t *testing.T, set *release.Set) []flip {
	t.Helper()
	m := set.Manifest
	var list []flip
	for _, f := range m.Files {
		if strings.HasSuffix(f.Name, ".img") {
			continue
		}
		exact := strings.HasSuffix(f.Name, ".efi") || strings.HasSuffix(f.Name, ".root")
		for _, off := range []int64{0, f.Size / 3, f.Size / 2, f.Size - 1} {
			list = append(list, flip{f.Name, off, verify.FileDigest, f.Name, exact})
		}
	}
	for _, s := range m.Sections {
		list = append(list, flip{m.Stem() + ".efi", s.Offset, verify.FileDigest, ".efi → section " + s.Name, true})
	}
	manifest, err := os.ReadFile(filepath.Join(set.Dir, release.ManifestName))
	if err != nil {
		t.Fatal(err)
	}
	for _, off := range []int{0, 1, 20, len(manifest) / 2, len(manifest) - 2, len(manifest) - 1} {
		list = append(list, flip{release.ManifestName, int64(off), verify.EnvelopePayload, release.ManifestName, true})
	}
	env, err := os.ReadFile(filepath.Join(set.Dir, release.EnvelopeName))
	if err != nil {
		t.Fatal(err)
	}
	for off := range env {
		if inside(env, off) && off%997 != 0 {
			continue
		}
		list = append(list, flip{release.EnvelopeName, int64(off), "", release.EnvelopeName, false})
	}
	return list
}

// inside tells whether a byte of an envelope is in the long run of its payload.
func inside(env []byte, off int) bool {
	var e struct{ Payload string }
	if json.Unmarshal(env, &e) != nil {
		return false
	}
	at := strings.Index(string(env), e.Payload)
	return off > at+1 && off < at+len(e.Payload)-2
}

// TestEveryFlip changes one byte of a signed set at a time and demands that
// each is refused at its place. The original byte goes back after each. Short
// tests try every eighth position.
func TestEveryFlip(t *testing.T) {
	set := makeSet(t, fixture(t, full), authority(t, ours))
	o := verify.Options{Path: set.Dir, Trust: trust(t, ours)}
	list := flips(t, set)
	if len(list) < 300 {
		t.Errorf("only %d positions", len(list))
	}
	image := o
	image.Path = set.Image()
	for i, f := range list {
		if testing.Short() && i%8 != 0 {
			continue
		}
		o := o
		if f.file == filepath.Base(set.Image()) && i%10 != 0 { // without the digest of the whole, which takes as long as the rest
			o = image
		}
		undo := flipByte(t, filepath.Join(set.Dir, f.file), f.off)
		checkFlip(t, run(t, o), f)
		undo()
	}
	accepted(t, run(t, o), verify.Verified)
	t.Logf("%d positions", len(list))
}

func checkFlip(t *testing.T, r *verify.Report, f flip) {
	t.Helper()
	if r.Verdict != verify.Refused {
		t.Errorf("%s byte %d: %s", f.file, f.off, r.Verdict)
		return
	}
	got := r.Refusals[0]
	place := strings.Join(append([]string{got.Place.File}, got.Place.Path...), " → ")
	if f.code != "" && got.Code != f.code || !strings.Contains(place, f.place) || got.Place.File != f.file {
		t.Errorf("%s byte %d: want first %s at %q, got\n%s", f.file, f.off, f.code, f.place, text(r))
	}
	if f.exact && (got.Place.Offset == nil || *got.Place.Offset != f.off) {
		t.Errorf("%s byte %d: the offset is not named:\n%s", f.file, f.off, text(r))
	}
}

// flipByte changes a byte and returns what changes it back.
func flipByte(t testing.TB, path string, off int64) func() {
	t.Helper()
	change := func() {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		b := make([]byte, 1)
		if _, err := f.ReadAt(b, off); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 1
		if _, err := f.WriteAt(b, off); err != nil {
			t.Fatal(err)
		}
	}
	change()
	return change
}
