package fat

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/diskfs/go-diskfs"
	"github.com/diskfs/go-diskfs/partition/gpt"

	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/partition/tree"
)

// TestFirmwareReads4Kn: slot bytes do not depend on the disk's sector size
// because EDK2 reads 512-byte FAT sectors on a disk of 4096-byte sectors. The
// loader is started from the volume and counts down the seconds that its
// configuration file on the volume says.
func TestFirmwareReads4Kn(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a virtual machine")
	}
	loader := oracle.ReadFile(t, "systemd-boot-efi", "/usr/lib/systemd/boot/efi/systemd-bootx64.efi")
	vars := oracle.ReadFile(t, "ovmf", "/usr/share/OVMF/OVMF_VARS_4M.fd")
	oracle.Need(t, "qemu-system-x86", "qemu-system-x86_64")
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk.img")
	makeDisk(t, disk, loader)
	if err := os.WriteFile(filepath.Join(dir, "vars.fd"), vars, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	serial := &watch{want: []byte("Boot in 77 s"), found: cancel}
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-machine", "q35,accel=tcg", "-m", "256", "-nographic", "-net", "none",
		"-drive", "if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd",
		"-drive", "if=pflash,format=raw,file="+filepath.Join(dir, "vars.fd"),
		"-drive", "id=d,if=none,format=raw,file="+disk,
		"-device", "virtio-blk-pci,drive=d,bootindex=0,logical_block_size=4096,physical_block_size=4096")
	cmd.Stdout, cmd.Stderr = serial, serial
	_ = cmd.Run() // ends by cancel
	if !errors.Is(ctx.Err(), context.Canceled) {
		t.Errorf("the firmware did not start the loader:\n%q", serial.tail())
	}
}

// makeDisk writes a GPT disk of 4096-byte sectors with one system partition.
func makeDisk(t *testing.T, name string, loader []byte) {
	t.Helper()
	const size, start, part, sector = 128 << 20, 1 << 20, 64 << 20, 4096
	d, err := diskfs.Create(name, size, diskfs.SectorSize(sector))
	if err != nil {
		t.Fatal(err)
	}
	err = d.Partition(&gpt.Table{LogicalSectorSize: sector, PhysicalSectorSize: sector, ProtectiveMBR: true,
		Partitions: []*gpt.Partition{{Index: 1, Start: start / sector, Size: part, Type: gpt.EFISystemPartition, Name: "esp"}}})
	if err := errors.Join(err, d.Close()); err != nil {
		t.Fatal(err)
	}
	var tr tree.Tree
	add(t, &tr, "EFI/BOOT/BOOTX64.EFI", tree.Bytes(loader))
	add(t, &tr, "loader/loader.conf", tree.Bytes("timeout 77\n"))
	m, err := Plan(&tr, options(part))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(m.Write(sectionWriter{f, start}), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// sectionWriter is a partition of a disk.
type sectionWriter struct {
	f   *os.File
	off int64
}

func (s sectionWriter) WriteAt(p []byte, off int64) (int, error) { return s.f.WriteAt(p, s.off+off) }

// watch waits for a text on the console.
type watch struct {
	mu    sync.Mutex
	seen  []byte
	want  []byte
	found func()
}

func (w *watch) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, p...)
	if bytes.Contains(w.seen, w.want) {
		w.found()
	}
	return len(p), nil
}

func (w *watch) tail() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen[max(0, len(w.seen)-500):]
}
