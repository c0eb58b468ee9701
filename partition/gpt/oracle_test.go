package gpt

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/partition/gpt"

	"github.com/ingot-os/ingot/internal/oracle"
)

// noisyDisk is a sparse file whose first and last MiB hold random bytes, so
// that a byte the writer forgets shows; the boot code area is left zero.
func noisyDisk(t *testing.T, size int64) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.img"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	noise := make([]byte, mib)
	rand.NewChaCha8([32]byte{1}).Read(noise)
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for _, off := range []int64{446, size - mib} {
		if _, err := f.WriteAt(noise, off); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func TestSgdiskAndSfdisk(t *testing.T) {
	sgdisk, sfdisk := oracle.Need(t, "gdisk", "sgdisk"), oracle.Need(t, "fdisk", "sfdisk")
	for _, size := range []int64{24 * mib, 1<<30 + 512, 3 << 40} {
		disk := noisyDisk(t, size)
		if err := testTable(512, size).Write(disk); err != nil {
			t.Fatal(err)
		}
		checkOracles(t, sgdisk, sfdisk, disk.Name())
	}
}

// A loop device gives the tools 4096-byte sectors; it needs root.
func TestSgdiskAndSfdisk4096(t *testing.T) {
	sgdisk, sfdisk, losetup := oracle.Need(t, "gdisk", "sgdisk"), oracle.Need(t, "fdisk", "sfdisk"), oracle.Need(t, "mount", "losetup")
	const size = 24 * mib
	disk := noisyDisk(t, size)
	if err := testTable(4096, size).Write(disk); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(losetup, "--find", "--show", "--sector-size", "4096", disk.Name()).Output()
	if err != nil {
		t.Skipf("no loop device with 4096-byte sectors here (needs root): %v", err)
	}
	loop := strings.TrimSpace(string(out))
	defer oracle.Run(t, losetup, "--detach", loop)
	checkOracles(t, sgdisk, sfdisk, loop)
}

func checkOracles(t *testing.T, sgdisk, sfdisk, path string) {
	t.Helper()
	if out := oracle.Run(t, sgdisk, "-v", path); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk -v:\n%s", out)
	}
	if out := oracle.Run(t, sfdisk, "--verify", path); !strings.Contains(out, "No errors detected") {
		t.Errorf("sfdisk --verify:\n%s", out)
	}
	dump := oracle.Run(t, sfdisk, "-d", path)
	for _, p := range testTable(512, 24*mib).Partitions {
		line := regexp.MustCompile(`(?m)^.*(loop\d+p|img)` + string(rune('0'+p.Index)) + ` : .*$`).FindString(dump)
		for _, want := range []string{strings.ToUpper(p.GUID.String()), strings.ToUpper(p.Type.String()), `name="` + sfdiskName(p.Name) + `"`} {
			if !strings.Contains(line, want) {
				t.Errorf("sfdisk -d, partition %d: %q lacks %q in\n%s", p.Index, line, want, dump)
			}
		}
	}
	if !strings.Contains(dump, "label-id: "+strings.ToUpper(testGUID(0xd0).String())) || !strings.Contains(dump, `attrs="GUID:59,60"`) {
		t.Errorf("sfdisk -d lacks the disk guid or the attributes:\n%s", dump)
	}
}

// sfdiskName writes a name as sfdisk -d does: bytes beyond ASCII in hexadecimal.
func sfdiskName(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c < 0x80 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, `\x%x`, c)
		}
	}
	return b.String()
}

func TestGoDiskfsReadsBack(t *testing.T) {
	for _, ss := range []int{512, 4096} {
		want := testTable(ss, 24*mib)
		disk := noisyDisk(t, want.Size)
		if err := want.Write(disk); err != nil {
			t.Fatal(err)
		}
		got, err := gpt.Read(file.New(disk, true), ss, ss)
		// At 4096 go-diskfs looks for the MBR signature in the sector's last two
		// bytes; UEFI table 5.1 has it at byte 510 of any sector size.
		if err != nil || got.RecoveredFromBackup || got.ProtectiveMBR != (ss == 512) || len(got.Partitions) != len(want.Partitions) {
			t.Fatalf("at %d: %+v, %v", ss, got, err)
		}
		for i, p := range got.Partitions {
			w := want.Partitions[i]
			if p.GetStart() != w.Start || p.GetSize() != w.Size || p.Name != w.Name || !strings.EqualFold(p.GUID, w.GUID.String()) {
				t.Errorf("at %d, partition %d = %+v, want %+v", ss, p.Index, p, w)
			}
		}
	}
}
