package e2e

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/partition"
)

// TestDataSurvives boots a counter twice from one disk that is larger than the
// image: the data partition is made and grown by the first boot and kept by
// the second, and e2fsck finds nothing to mend after either.
func TestDataSurvives(t *testing.T) {
	needs(t, "amd64")
	oracle.Need(t, "e2fsprogs", "e2fsck")
	set := image(t, variant{example: "testdata/counter"})
	disk := filepath.Join(t.TempDir(), "disk.img")
	for _, want := range []string{"boot 1", "boot 2"} {
		v := boot(t, set, "--disk", disk, "--disk-size", "2048")
		if got := v.Tests[0].Observed; got != `status 200, "`+want+`"` {
			t.Errorf("the counter says %s, want %s", got, want)
		}
		if size := v.Status.Data.Size; size < 1<<30 {
			t.Errorf("the data partition has %d bytes on a disk of 2 GiB", size)
		}
		checkData(t, disk)
	}
}

// checkData runs e2fsck on a copy of the disk's data partition.
func checkData(t *testing.T, disk string) {
	t.Helper()
	f, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	l, err := partition.Read(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	p, ok := l.Part(partition.Data)
	if !ok {
		t.Fatal("the disk has no data partition")
	}
	if p.Start+p.Size < info.Size()-(2<<20) {
		t.Errorf("the data partition ends at %d of %d bytes", p.Start+p.Size, info.Size())
	}
	name := filepath.Join(t.TempDir(), "data.img")
	out, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := io.Copy(sparseWriter{out}, p.Section(f)); err != nil {
		t.Fatal(err)
	}
	if err := out.Truncate(p.Size); err != nil {
		t.Fatal(err)
	}
	text, err := oracle.Command("e2fsck", "-f", "-n", name).CombinedOutput()
	if err != nil {
		t.Errorf("e2fsck -n: %v\n%s", err, text)
	}
}

// sparseWriter leaves a hole where a whole write is zeros.
type sparseWriter struct{ f *os.File }

func (w sparseWriter) Write(p []byte) (int, error) {
	for _, b := range p {
		if b != 0 {
			return w.f.Write(p)
		}
	}
	_, err := w.f.Seek(int64(len(p)), io.SeekCurrent)
	return len(p), err
}
