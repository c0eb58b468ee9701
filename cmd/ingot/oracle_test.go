package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/internal/release"
)

// extract copies a range of a file into one of its own.
func extract(t testing.TB, from string, off, n int64, to string) string {
	t.Helper()
	r, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	w, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.Truncate(n); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1<<16)
	for at := int64(0); at < n; at += int64(len(buf)) {
		b := buf[:min(n-at, int64(len(buf)))]
		if _, err := r.ReadAt(b, off+at); err != nil {
			t.Fatal(err)
		}
		if len(bytes.Trim(b, "\x00")) == 0 {
			continue
		}
		if _, err := w.WriteAt(b, at); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// TestOracles lets the tools of other parties judge finished images.
func TestOracles(t *testing.T) {
	f := warm(t)
	for _, kind := range []string{"plain", "zstd", "squashfs", "erofs-4Kn", "arm64"} {
		t.Run(kind, func(t *testing.T) {
			recipe, set := f.built(t, kind)
			p, m := product{recipe, set}, manifestOf(t, set)
			t.Run("partition table", func(t *testing.T) { judgeTable(t, p, m) })
			t.Run("fat", func(t *testing.T) { judgeFAT(t, p, m) })
			if m.Arch == "amd64" { // objdump reads programs of the host's architecture
				t.Run("uki", func(t *testing.T) { judgeUKI(t, p, m) })
			}
			t.Run("initramfs", func(t *testing.T) { judgeInitramfs(t, p, m) })
			if m.Root != nil {
				t.Run("root", func(t *testing.T) { judgeRoot(t, p, m) })
			}
		})
	}
}

func judgeTable(t *testing.T, p product, m *release.Manifest) {
	oracle.Need(t, "fdisk", "sfdisk")
	oracle.Need(t, "gdisk", "sgdisk")
	image := p.image(m)
	if m.Disk.SectorSize != 512 {
		image = loop(t, image, strconv.Itoa(m.Disk.SectorSize))
	}
	if out := oracle.Run(t, "sfdisk", "--verify", image); !strings.Contains(out, "No errors detected.") {
		t.Errorf("sfdisk --verify: %s", out)
	}
	if out := oracle.Run(t, "sgdisk", "-v", image); !strings.Contains(out, "No problems found.") {
		t.Errorf("sgdisk -v: %s", out)
	}
	for _, part := range m.Disk.Partitions {
		out := strings.ToLower(oracle.Run(t, "sgdisk", "-i", strconv.Itoa(part.Index), image))
		first := fmt.Sprintf("first sector: %d ", part.Start/int64(m.Disk.SectorSize))
		for _, want := range []string{part.GUID, part.Type, "partition name: '" + part.Role + "'", first} {
			if !strings.Contains(out, want) {
				t.Errorf("sgdisk says of partition %d, without %q:\n%s", part.Index, want, out)
			}
		}
	}
}

// loop attaches an image to a loop device with another sector size, which only
// the kernel can pretend to a tool.
func loop(t *testing.T, image, sector string) string {
	t.Helper()
	needRoot(t)
	out, err := exec.Command("losetup", "-b", sector, "-r", "-f", "--show", image).CombinedOutput()
	if err != nil {
		t.Skipf("no loop device with sectors of %s bytes here: %v: %s", sector, err, out)
	}
	device := strings.TrimSpace(string(out))
	t.Cleanup(func() { exec.Command("losetup", "-d", device).Run() })
	return device
}

func judgeFAT(t *testing.T, p product, m *release.Manifest) {
	oracle.Need(t, "dosfstools", "fsck.fat")
	oracle.Need(t, "mtools", "mcopy")
	uki, err := os.ReadFile(p.uki(m))
	if err != nil {
		t.Fatal(err)
	}
	loader := map[string]string{"amd64": "BOOTX64.EFI", "arm64": "BOOTAA64.EFI"}[m.Arch]
	boot, spare := "::/EFI/BOOT/"+loader, "::/EFI/INGOT/"+loader
	for role, files := range map[string][]string{"esp": {boot, spare}, "slot-a": {boot}, "slot-b": {boot}} {
		i := slices.IndexFunc(m.Disk.Partitions, func(p release.Partition) bool { return p.Role == role })
		part := m.Disk.Partitions[i]
		vol := extract(t, p.image(m), part.Start, part.Size, filepath.Join(t.TempDir(), role))
		if out := oracle.Run(t, "fsck.fat", "-n", "-v", vol); strings.Contains(out, "Dirty bit") || strings.Contains(out, "differences") {
			t.Errorf("%s: fsck.fat: %s", role, out)
		}
		if got := fatFiles(oracle.Run(t, "mdir", "-/", "-b", "-a", "-i", vol, "::/")); !slices.Equal(got, slices.Sorted(slices.Values(files))) {
			t.Errorf("%s: mdir lists %v, want %v", role, got, files)
		}
		for _, file := range files {
			copied := filepath.Join(t.TempDir(), path.Base(file))
			oracle.Run(t, "mcopy", "-i", vol, file, copied)
			if got, err := os.ReadFile(copied); err != nil || !bytes.Equal(got, uki) {
				t.Errorf("%s: %s is not the UKI (%d bytes, %v)", role, file, len(got), err)
			}
		}
	}
}

// fatFiles takes the files out of what mdir -b prints; directories end in a slash.
func fatFiles(out string) []string {
	var files []string
	for _, l := range strings.Fields(out) {
		if !strings.HasSuffix(l, "/") {
			files = append(files, l)
		}
	}
	slices.Sort(files)
	return files
}

var objdumpLine = regexp.MustCompile(`(?m)^\s*\d+ (\.\S+)\s+([0-9a-f]{8})`)

func judgeUKI(t *testing.T, p product, m *release.Manifest) {
	oracle.Need(t, "binutils", "objdump")
	var got, want []string
	for _, l := range objdumpLine.FindAllStringSubmatch(oracle.Run(t, "objdump", "-h", "-w", p.uki(m)), -1) {
		n, err := strconv.ParseInt(l[2], 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(l[1], " ", n))
	}
	for _, s := range m.Sections {
		want = append(want, fmt.Sprint(s.Name, " ", s.Size))
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("sections (-manifest +objdump):\n%s", d)
	}
}

func judgeInitramfs(t *testing.T, p product, m *release.Manifest) {
	oracle.Need(t, "cpio", "cpio")
	_, content := sections(t, p.uki(m))
	archive := content[".initrd"]
	if bytes.HasPrefix(archive, []byte("\x28\xb5\x2f\xfd")) {
		oracle.Need(t, "zstd", "zstd")
		archive = unzstd(t, archive)
	}
	var got []string
	// A compressed initramfs is several archives, one after another.
	for len(archive) > 0 {
		end := bytes.Index(archive, []byte("TRAILER!!!"))
		if end < 0 {
			t.Fatalf("%d bytes without a trailer", len(archive))
		}
		end = min(len(archive), (end+11+3)&^3)
		got = append(got, strings.Split(strings.TrimSpace(oracle.Pipe(t, archive[:end], "cpio", "-t", "--quiet")), "\n")...)
		archive = bytes.TrimLeft(archive[end:], "\x00")
	}
	var want []string
	for _, e := range m.Contents {
		want = append(want, e.Path)
	}
	slices.Sort(got)
	slices.Sort(want)
	if d := cmp.Diff(want, slices.Compact(got)); d != "" {
		t.Errorf("initramfs (-manifest +cpio -t):\n%s", d)
	}
}

// unzstd unpacks frames that are padded with zeros to 4 bytes each. The tool
// takes several frames, but no padding between them.
func unzstd(t *testing.T, b []byte) []byte {
	t.Helper()
	magic := []byte("\x28\xb5\x2f\xfd")
	var out []byte
	for len(b) > 0 {
		end := len(b)
		if next := bytes.Index(b[4:], magic); next >= 0 {
			end = next + 4
		}
		var plain []byte
		var err error
		for pad := range 4 {
			if len(bytes.Trim(b[end-pad:end], "\x00")) > 0 {
				break
			}
			cmd := exec.Command("zstd", "-dcq")
			cmd.Stdin = bytes.NewReader(b[:end-pad])
			if plain, err = cmd.Output(); err == nil {
				break
			}
		}
		if err != nil {
			t.Fatalf("zstd -d of %d bytes: %v", end, err)
		}
		out, b = append(out, plain...), b[end:]
	}
	return out
}

// judgeRoot takes the payload out of both root partitions: they hold it and
// zeros behind it.
func judgeRoot(t *testing.T, p product, m *release.Manifest) {
	oracle.Need(t, "cryptsetup-bin", "veritysetup")
	payload := filepath.Join(p.set, m.Name+"-"+m.Version+".root")
	for _, part := range m.Disk.Partitions {
		if !strings.HasPrefix(part.Role, "root-") {
			continue
		}
		vol := extract(t, p.image(m), part.Start, part.Size, filepath.Join(t.TempDir(), part.Role))
		if info, err := os.Stat(payload); err != nil || rangeDigest(t, vol, 0, info.Size()) != fileDigest(t, payload) {
			t.Errorf("%s does not begin with the payload: %v", part.Role, err)
		}
		hash := cmdlineWord(m.Cmdline, "ingot.roothash")
		oracle.Run(t, "veritysetup", "verify", "--hash-offset", strconv.FormatInt(m.Root.HashStart, 10), vol, vol, hash)
		data := extract(t, vol, 0, m.Root.DataSize, filepath.Join(t.TempDir(), "data"))
		switch m.Root.Format {
		case "squashfs":
			oracle.Need(t, "squashfs-tools", "unsquashfs")
			to := filepath.Join(t.TempDir(), "unpacked")
			oracle.Run(t, "unsquashfs", "-no-progress", "-strict-errors", "-d", to, data)
			sameTree(t, filepath.Join(p.recipe, "rootfs"), to)
		case "erofs":
			oracle.Need(t, "erofs-utils", "fsck.erofs")
			to := filepath.Join(t.TempDir(), "unpacked")
			oracle.Run(t, "fsck.erofs", "--extract="+to, data)
			sameTree(t, filepath.Join(p.recipe, "rootfs"), to)
		}
	}
}

func cmdlineWord(line, key string) string {
	for _, w := range strings.Fields(line) {
		if k, v, ok := strings.Cut(w, "="); ok && k == key {
			return v
		}
	}
	return ""
}

// sameTree compares the files, links and modes of two directories.
func sameTree(t *testing.T, want, got string) {
	t.Helper()
	if d := cmp.Diff(listing(t, want), listing(t, got)); d != "" {
		t.Errorf("unpacked root (-directory +image):\n%s", d)
	}
}

func listing(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case d.Type()&os.ModeSymlink != 0:
			out[rel], err = os.Readlink(path)
		case d.IsDir():
			out[rel] = "directory"
		default:
			out[rel] = fmt.Sprint(info.Mode()&0o100 != 0, " ", fileDigest(t, path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
