package boot_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/boot"
	"github.com/ingot-os/ingot/boot/efivar"
	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/partition/gpt"
)

// part is one FAT partition of a test disk.
type part struct {
	typ   string // sgdisk type code or GUID
	guid  string
	files map[string][]byte
}

// slotType is any GUID that firmware does not know.
const slotType = "7d3c1a6e-2f7b-4c55-9a1e-0d6a5b4c3f21"

const mib = 1 << 20

// partSize is the size of each test partition; FAT16 is enough for firmware.
const partSize = 16 * mib

// makeDisk writes a GPT disk with mtools and sgdisk and returns its partitions
// as a boot entry names them.
func makeDisk(t *testing.T, path string, parts []part) []efivar.HDPartition {
	t.Helper()
	sgdisk, mformat := oracle.Need(t, "gdisk", "sgdisk"), oracle.Need(t, "mtools", "mformat")
	mmd, mcopy := oracle.Need(t, "mtools", "mmd"), oracle.Need(t, "mtools", "mcopy")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, int64(len(parts)*partSize+2*mib)); err != nil {
		t.Fatal(err)
	}
	args := []string{"-a", "2048"}
	var out []efivar.HDPartition
	for i, p := range parts {
		start := mib + i*partSize
		args = append(args, "-n", fmt.Sprintf("%d:%d:+%d", i+1, start/512, partSize/512-1), "-t", fmt.Sprintf("%d:%s", i+1, p.typ), "-u", fmt.Sprintf("%d:%s", i+1, p.guid))
		out = append(out, efivar.HDPartition{Number: uint32(i + 1), Start: uint64(start / 512), Size: partSize / 512, GUID: gpt.MustGUID(p.guid)})
	}
	oracle.Run(t, sgdisk, append(args, path)...)
	for i, p := range parts {
		at := fmt.Sprintf("%s@@%d", path, mib+i*partSize)
		oracle.Run(t, mformat, "-i", at, "-T", fmt.Sprint(partSize/512), "-h", "16", "-s", "32", "-v", "T", "::")
		for name, content := range p.files {
			local := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(local, content, 0o644); err != nil {
				t.Fatal(err)
			}
			for dir := filepath.Dir(name); dir != "."; dir = filepath.Dir(dir) {
				exec.Command(mmd, "-D", "s", "-i", at, "::"+filepath.Dir(dir)).Run() // it may exist
				exec.Command(mmd, "-D", "s", "-i", at, "::"+dir).Run()
			}
			oracle.Run(t, mcopy, "-i", at, local, "::"+name)
		}
	}
	return out
}

// firmware says how to start a machine of an architecture.
type firmware struct {
	qemu, qemuPackage string
	args              []string
	code, vars, pkg   string
}

var firmwares = map[string]firmware{
	boot.AMD64: {"qemu-system-x86_64", "qemu-system-x86", []string{"-machine", "q35"}, "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd", "ovmf"},
	boot.ARM64: {"qemu-system-aarch64", "qemu-system-arm", []string{"-machine", "virt", "-cpu", "cortex-a57"}, "/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd", "qemu-efi-aarch64"},
}

// runVM boots a disk until the guest powers off or the text is on the console,
// and returns the console.
func runVM(t *testing.T, arch, vars, disk, until string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("boots a machine")
	}
	f := firmwares[arch]
	qemu := oracle.Need(t, f.qemuPackage, f.qemu)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	args := append(append([]string{}, f.args...), "-accel", "tcg", "-m", "256", "-display", "none", "-monitor", "none", "-serial", "stdio", "-net", "none",
		"-drive", "if=pflash,format=raw,unit=0,readonly=on,file="+oracle.Need(t, f.pkg, f.code),
		"-drive", "if=pflash,format=raw,unit=1,file="+vars,
		"-drive", "if=none,id=d,format=raw,file="+disk, "-device", "virtio-blk-pci,drive=d")
	cmd := exec.CommandContext(ctx, qemu, args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var console bytes.Buffer
	for buf := make([]byte, 4096); ; {
		n, err := out.Read(buf)
		console.Write(buf[:n])
		if until != "" && strings.Contains(console.String(), until) {
			cancel()
		}
		if err != nil {
			break
		}
	}
	err = cmd.Wait()
	if ctx.Err() == context.DeadlineExceeded {
		t.Fatalf("machine did not power off: %v\n%s\n%s", err, stderr.String(), console.String())
	}
	return console.String()
}

// appsIn lists the test applications in the order in which they spoke.
func appsIn(console string) (out []string) {
	for _, line := range strings.Split(console, "APP<")[1:] {
		name, _, _ := strings.Cut(line, ">")
		out = append(out, name)
	}
	return out
}

func app(arch, name string, reset byte) []byte {
	return efiApp(arch, "\r\nAPP<"+name+">\r\n", reset)
}
