package main

import (
	"bytes"
	"crypto/sha256"
	"debug/pe"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-os/ingot/internal/lock"
	"github.com/ingot-os/ingot/internal/release"
)

// The readers in this file are written for the test and share nothing with the
// program: what the manifest says is computed again from the files alone.

// manifestOf reads manifest.json with nothing but encoding/json.
func manifestOf(t testing.TB, dir string) *release.Manifest {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	m := new(release.Manifest)
	if err := json.Unmarshal(data, m); err != nil {
		t.Fatal(err)
	}
	return m
}

func (p product) image(m *release.Manifest) string {
	return filepath.Join(p.set, m.Name+"-"+m.Version+".img")
}

func (p product) uki(m *release.Manifest) string {
	return filepath.Join(p.set, m.Name+"-"+m.Version+".efi")
}

// rangeDigest hashes a part of a file.
func rangeDigest(t testing.TB, path string, off, n int64) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if got, err := io.Copy(h, io.NewSectionReader(f, off, n)); err != nil || got != n {
		t.Fatalf("read %s: %d bytes of %d, %v", path, got, n, err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// TestManifestIsTrue recomputes every digest, size, offset and name of a manifest.
func TestManifestIsTrue(t *testing.T) {
	f := warm(t)
	for _, kind := range []string{"plain", "squashfs", "erofs-4Kn", "arm64"} {
		t.Run(kind, func(t *testing.T) {
			recipe, set := f.built(t, kind)
			p, m := product{recipe, set}, manifestOf(t, set)
			checkFiles(t, p, m)
			checkPartitions(t, p, m)
			checkSections(t, p, m)
			checkContents(t, p, m)
			checkLock(t, p, m)
		})
	}
}

func checkFiles(t *testing.T, p product, m *release.Manifest) {
	want := map[string]string{}
	for name, sha := range digests(t, p.set) {
		info, err := os.Stat(filepath.Join(p.set, name))
		if err != nil {
			t.Fatal(err)
		}
		if name != "manifest.json" {
			want[name] = fmt.Sprint(info.Size(), " ", sha)
		}
	}
	got := map[string]string{}
	for _, f := range m.Files {
		got[f.Name] = fmt.Sprint(f.Size, " ", f.SHA256)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("files (-there +manifest):\n%s", d)
	}
}

// checkPartitions reads the GPT by hand: UEFI 2.10, sections 5.3.2 and 5.3.3.
func checkPartitions(t *testing.T, p product, m *release.Manifest) {
	img, err := os.Open(p.image(m))
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	sector := int64(m.Disk.SectorSize)
	head := make([]byte, sector)
	if _, err := img.ReadAt(head, sector); err != nil || string(head[:8]) != "EFI PART" {
		t.Fatalf("no GPT header in the second sector: %q, %v", head[:8], err)
	}
	le := binary.LittleEndian
	entries := make([]byte, 128*int64(le.Uint32(head[80:])))
	if _, err := img.ReadAt(entries, int64(le.Uint64(head[72:]))*sector); err != nil {
		t.Fatal(err)
	}
	got := m.Disk
	want := release.Disk{Layout: got.Layout, SectorSize: got.SectorSize, GUID: guidText(head[56:])}
	if info, err := img.Stat(); err == nil {
		want.Size = info.Size()
	}
	for i := 0; i+128 <= len(entries); i += 128 {
		e := entries[i:]
		if guidText(e) == "00000000-0000-0000-0000-000000000000" {
			continue
		}
		var name []rune
		for c := e[56:128]; len(c) > 0 && c[0] != 0; c = c[2:] {
			name = append(name, rune(le.Uint16(c)))
		}
		start := int64(le.Uint64(e[32:])) * sector
		size := int64(le.Uint64(e[40:])+1)*sector - start
		want.Partitions = append(want.Partitions, release.Partition{
			Index: i/128 + 1, Role: string(name), Type: guidText(e), GUID: guidText(e[16:]), Start: start, Size: size,
			SHA256: rangeDigest(t, p.image(m), start, size),
		})
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("disk (-image +manifest):\n%s", d)
	}
}

// guidText prints a GUID, whose first three fields are little-endian.
func guidText(b []byte) string {
	le := binary.LittleEndian
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", le.Uint32(b), le.Uint16(b[4:]), le.Uint16(b[6:]), b[8:10], b[10:16])
}

// sections returns the sections of a UKI as the standard library sees them.
func sections(t testing.TB, path string) ([]release.Part, map[string][]byte) {
	t.Helper()
	f, err := pe.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var parts []release.Part
	content := map[string][]byte{}
	for _, s := range f.Sections {
		data, err := s.Data()
		if err != nil {
			t.Fatal(err)
		}
		data = data[:min(len(data), int(s.VirtualSize))]
		sum := sha256.Sum256(data)
		parts = append(parts, release.Part{Name: s.Name, Offset: int64(s.Offset), Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:])})
		content[s.Name] = data
	}
	return parts, content
}

func checkSections(t *testing.T, p product, m *release.Manifest) {
	parts, content := sections(t, p.uki(m))
	if d := cmp.Diff(parts, m.Sections); d != "" {
		t.Errorf("sections (-UKI +manifest):\n%s", d)
	}
	if got := string(content[".cmdline"]); got != m.Cmdline {
		t.Errorf("command line is %q, manifest says %q", got, m.Cmdline)
	}
	if !slices.Contains(strings.Fields(m.Cmdline), "ingot.build="+m.Build) {
		t.Errorf("command line %q does not name build %s", m.Cmdline, m.Build)
	}
	if m.Root != nil && !slices.Contains(strings.Fields(m.Cmdline), "ingot.roothash="+m.Root.RootHash) {
		t.Errorf("command line %q does not name root hash %s", m.Cmdline, m.Root.RootHash)
	}
}

func checkContents(t *testing.T, p product, m *release.Manifest) {
	_, content := sections(t, p.uki(m))
	entries, times := newc(t, content[".initrd"])
	if d := cmp.Diff(entries, m.Contents); d != "" {
		t.Errorf("initramfs (-archive +manifest):\n%s", d)
	}
	if len(times) != 1 || !times[m.Epoch] {
		t.Errorf("times in the archive are %v, the epoch is %d", times, m.Epoch)
	}
}

// newc reads a cpio archive of the format that the kernel documents in
// Documentation/driver-api/early-userspace/buffer-format.rst.
func newc(t testing.TB, b []byte) (entries []release.Entry, times map[int64]bool) {
	t.Helper()
	times = map[int64]bool{}
	for at := 0; ; {
		if len(b) < at+110 || string(b[at:at+6]) != "070701" {
			t.Fatalf("offset %d: no cpio header", at)
		}
		field := func(i int) int64 {
			n, err := strconv.ParseInt(string(b[at+6+8*i:at+14+8*i]), 16, 64)
			if err != nil {
				t.Fatalf("offset %d: field %d: %v", at, i, err)
			}
			return n
		}
		nameEnd := at + 110 + int(field(11))
		start := (nameEnd + 3) &^ 3
		end := start + int(field(6))
		name := string(bytes.TrimRight(b[at+110:nameEnd], "\x00"))
		if name == "TRAILER!!!" {
			return entries, times
		}
		e := release.Entry{Path: name, Mode: fmt.Sprintf("%06o", field(1))}
		if field(2) != 0 || field(3) != 0 {
			e.Owner = fmt.Sprintf("%d:%d", field(2), field(3))
		}
		times[field(5)] = true
		switch field(1) & 0o170000 {
		case 0o120000:
			e.Target = string(b[start:end])
		case 0o100000:
			sum := sha256.Sum256(b[start:end])
			e.Size, e.SHA256 = int64(end-start), hex.EncodeToString(sum[:])
		}
		entries = append(entries, e)
		at = (end + 3) &^ 3
	}
}

func checkLock(t *testing.T, p product, m *release.Manifest) {
	path := filepath.Join(p.recipe, "appliance.lock")
	if got := fileDigest(t, path); got != m.Build {
		t.Errorf("the lock has sha256 %s, the manifest says build %s", got, m.Build)
	}
	l, err := lock.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	var inputs []release.Input
	for _, in := range l.Inputs {
		inputs = append(inputs, release.Input{Name: in.Name, Version: in.Version, SHA256: in.SHA256})
	}
	if d := cmp.Diff(inputs, m.Inputs); d != "" {
		t.Errorf("inputs (-lock +manifest):\n%s", d)
	}
	if m.Epoch != l.Epoch || m.Name != l.Name || m.Version != l.Version || m.Arch != l.Arch || m.Tools.Init != l.Ingot.Init || m.Tools.Go != l.Go {
		t.Errorf("manifest %s %s %s %d %+v does not match its lock", m.Name, m.Version, m.Arch, m.Epoch, m.Tools)
	}
}
