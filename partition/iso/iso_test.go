package iso

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-os/ingot/internal/disktest"
	"github.com/ingot-os/ingot/internal/oracle"
)

const epoch = 1_700_000_000 // 2023-11-14 22:13:20 UTC

// volume is a boot image held in disktest.Memory.
type volume []byte

func (v volume) Size() int64 { return int64(len(v)) }

func (v volume) Write(w io.WriterAt) error {
	_, err := w.WriteAt(bytes.TrimRight(v, "\x00"), 0)
	return err
}

func bootImage() []byte {
	b := bytes.Repeat([]byte("boot"), 50_000)
	return append(b, make([]byte, 40<<20-len(b))...) // more than 65535 sectors of 512 bytes
}

func written(t testing.TB) disktest.Memory {
	t.Helper()
	var m disktest.Memory
	n, err := Write(&m, Options{Label: "hello-1.0", Epoch: epoch, Boot: volume(bootImage()), Disk: 0x12345678})
	if err != nil || n != int64(len(m)) {
		t.Fatalf("%d of %d bytes, %v", n, len(m), err)
	}
	return m
}

func TestOpenReadsWhatWriteWrites(t *testing.T) {
	m := written(t)
	got, err := Open(bytes.NewReader(m), int64(len(m)))
	if err != nil {
		t.Fatal(err)
	}
	want := &CD{
		Label: "HELLO_1_0", Created: "2023111422132000", Size: 41 << 20,
		Files: []File{{"BOOT.CAT", catalogAt * Sector, Sector}, {"EFI.IMG", 1 << 20, 40 << 20}},
		Boot:  []Boot{{0xef, 1 << 20, 40 << 20}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if !Is(m) || !bytes.Equal(m, written(t)) {
		t.Error("not a CD, or not the same bytes twice")
	}
}

func wants(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("no %q in\n%s", w, text)
		}
	}
}

func TestToolsReadTheCD(t *testing.T) {
	oracle.Need(t, "xorriso", "xorriso")
	oracle.Need(t, "genisoimage", "isoinfo")
	oracle.Need(t, "fdisk", "sfdisk")
	dir := t.TempDir()
	name := filepath.Join(dir, "cd.iso")
	os.WriteFile(name, written(t), 0o666)

	out := oracle.Run(t, "xorriso", "-indev", name, "-toc", "-report_el_torito", "plain", "-report_system_area", "plain", "-pvd_info")
	wants(t, out, "Volume Id    : HELLO_1_0", "El Torito boot img :   1  UEFI  y   none", "El Torito img path :   1  /EFI.IMG",
		"Creation Time: 2023111422132000", "MBR partition      :   1   0x00  0xef         2048        81920")
	for _, bad := range []string{"WARNING", "FAILURE", "SORRY"} {
		if strings.Contains(out, bad) {
			t.Errorf("xorriso complains:\n%s", out)
		}
	}
	wants(t, oracle.Run(t, "isoinfo", "-d", "-i", name), "El Torito VD version 1 found, boot catalog is in sector 22", "Arch 239", "Bootid 88 (bootable)", "Bootoff 200 512")
	wants(t, oracle.Run(t, "isoinfo", "-l", "-i", name), "BOOT.CAT;1", "EFI.IMG;1", "Nov 14 2023")
	got, err := exec.Command("isoinfo", "-i", name, "-x", "/EFI.IMG;1").Output()
	if err != nil || !bytes.Equal(got, bootImage()) {
		t.Errorf("isoinfo gives other bytes: %d, %v", len(got), err)
	}
	wants(t, oracle.Run(t, "sfdisk", "-d", name), "label-id: 0x12345678", "start=        2048, size=       81920, type=ef")
}

func TestBadInput(t *testing.T) {
	for _, n := range []int{0, 2047, 512} {
		if _, err := Write(nil, Options{Boot: volume(make([]byte, n))}); err == nil {
			t.Errorf("a boot image of %d bytes is taken", n)
		}
	}
	good := written(t)[:(imageAt+1)*Sector]
	for name, at := range map[string]int{"descriptor": primaryAt * Sector, "size": primaryAt*Sector + 83, "block size": primaryAt*Sector + 128, "root": primaryAt*Sector + 160,
		"catalog": bootAt*Sector + 73, "checksum": catalogAt*Sector + 4} {
		b := bytes.Clone(written(t))
		b[at] ^= 0x7f
		if _, err := Open(bytes.NewReader(b), int64(len(b))); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := Open(bytes.NewReader(good), int64(len(good))); err == nil {
		t.Error("a CD that was cut is taken")
	}
}

func FuzzOpen(f *testing.F) {
	b := written(f)
	f.Add([]byte(b[:(catalogAt+1)*Sector]))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, size := range []int64{int64(len(b)), 41 << 20} {
			c, err := Open(bytes.NewReader(b), size)
			if err == nil && len(c.Files) > maxRoot {
				t.Error("too many files")
			}
		}
	})
}
