package flash

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/partition"
)

// loop is a real block device of 40 MiB full of 0xAA.
func loop(t *testing.T, sectorSize string) string {
	t.Helper()
	losetup := oracle.Need(t, "mount", "losetup")
	if os.Geteuid() != 0 {
		t.Skip("loop devices need root")
	}
	out, err := exec.Command(losetup, "--find", "--show", "--partscan", "--sector-size", sectorSize, target(t, 40*mib)).CombinedOutput()
	if err != nil {
		t.Skipf("no loop device here: %v %s", err, out)
	}
	dev := strings.TrimSpace(string(out))
	t.Cleanup(func() { oracle.Run(t, losetup, "--detach", dev) })
	return dev
}

func TestWriteToBlockDevice(t *testing.T) {
	for _, ss := range []string{"512", "4096"} {
		t.Run(ss, func(t *testing.T) {
			dev := loop(t, ss)
			image, _ := testImage(t, 512)
			if _, err := Write(context.Background(), image, dev, Options{}); !Refused(err, NotRemovable) {
				t.Errorf("without the name confirmed: %v", err)
			}
			res, err := Write(context.Background(), image, dev, Options{Confirm: Confirm{Device: dev}})
			if err != nil {
				t.Fatal(err)
			}
			checkDisk(t, image, dev, res)
			if res.Device.Kind != Disk || !res.Direct || res.Layout.SectorSize != map[string]int{"512": 512, "4096": 4096}[ss] {
				t.Errorf("result = %+v", res)
			}
			if out := oracle.Run(t, oracle.Need(t, "gdisk", "sgdisk"), "-v", dev); !strings.Contains(out, "No problems found") {
				t.Errorf("sgdisk -v:\n%s", out)
			}
			if out := oracle.Run(t, oracle.Need(t, "fdisk", "sfdisk"), "--verify", dev); !strings.Contains(out, "No errors detected") {
				t.Errorf("sfdisk --verify:\n%s", out)
			}
		})
	}
}

func TestKilledOnBlockDevice(t *testing.T) {
	dev := loop(t, "512")
	image, _ := testImage(t, 512)
	killAtRandomPoints(t, image, dev)
}

// The kernel's own view of what is in use.
func TestBusyBlockDevice(t *testing.T) {
	dev := loop(t, "512")
	image, _ := testImage(t, 512)
	flash := func() error {
		_, err := Write(context.Background(), image, dev, Options{Confirm: Confirm{Device: dev}})
		return err
	}
	oracle.Run(t, oracle.Need(t, "e2fsprogs", "mkfs.ext4"), "-q", "-F", dev)
	dir := t.TempDir()
	if err := unix.Mount(dev, dir, "ext4", 0, ""); err != nil {
		t.Skipf("no mounts here: %v", err)
	}
	if err := flash(); !Refused(err, Mounted) || !strings.Contains(err.Error(), "mounted on "+dir) {
		t.Errorf("mounted: %v", err)
	}
	if err := unix.Unmount(dir, 0); err != nil {
		t.Fatal(err)
	}
	oracle.Run(t, oracle.Need(t, "util-linux", "mkswap"), dev)
	if out, err := exec.Command(oracle.Need(t, "mount", "swapon"), dev).CombinedOutput(); err != nil {
		t.Logf("no swap here: %v %s", err, out)
	} else {
		if err := flash(); !Refused(err, Swap) {
			t.Errorf("swap: %v", err)
		}
		oracle.Run(t, oracle.Need(t, "mount", "swapoff"), dev)
	}
	f, err := os.OpenFile(dev, os.O_RDONLY|unix.O_EXCL, 0) // as a mount in another namespace holds it
	if err != nil {
		t.Fatal(err)
	}
	if err := flash(); !Refused(err, Held) {
		t.Errorf("held exclusively: %v", err)
	}
	f.Close()
	if err := flash(); err != nil {
		t.Errorf("not in use any more: %v", err)
	}
}

// node makes a device node for a kernel name, as udev would.
func node(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("/sys/class/block/" + name + "/dev")
	if err != nil {
		t.Skipf("the kernel shows no partitions of loop devices here: %v", err)
	}
	major, minor, _ := strings.Cut(strings.TrimSpace(string(b)), ":")
	maj, err1 := strconv.ParseUint(major, 10, 32)
	min, err2 := strconv.ParseUint(minor, 10, 32)
	path := filepath.Join(t.TempDir(), name)
	if err := unix.Mknod(path, unix.S_IFBLK|0o600, int(unix.Mkdev(uint32(maj), uint32(min)))); err1 != nil || err2 != nil || err != nil {
		t.Fatal(err1, err2, err)
	}
	if f, err := os.Open(path); err != nil {
		t.Skipf("no device nodes in the temporary directory: %v", err)
	} else {
		f.Close()
	}
	return path
}

// The disk of the running system must be known as that.
func TestProbeSystemDisk(t *testing.T) {
	var st unix.Stat_t
	if err := unix.Stat("/", &st); err != nil {
		t.Fatal(err)
	}
	number := fmt.Sprintf("%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
	d, err := prober{sys: "/sys", proc: "/proc"}.block(number)
	if os.IsNotExist(errors.Unwrap(err)) {
		t.Skipf("/ is not on a block device: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := Check(d, 0, Confirm{Device: d.Name}); !Refused(err, System) || !strings.Contains(err.Error(), "holds / of") {
		t.Errorf("Check of the system disk %+v = %v", d, err)
	}
}

// A partition in use keeps the whole disk from being flashed.
func TestMountedPartition(t *testing.T) {
	dev := loop(t, "512")
	image, _ := testImage(t, 512)
	res, err := Write(context.Background(), image, dev, Options{Confirm: Confirm{Device: dev}})
	if err != nil {
		t.Fatal(err)
	}
	data, _ := res.Layout.Part(partition.Data)
	if _, err := os.Stat("/sys/class/block/" + filepath.Base(dev) + "p7"); err != nil { // a kernel that does not know GPT
		oracle.Run(t, oracle.Need(t, "util-linux", "addpart"), dev, "7", fmt.Sprint(data.Start/512), fmt.Sprint(data.Size/512))
	} else if !res.Reread {
		t.Error("the kernel shows the new partitions, but Reread is false")
	}
	part := node(t, filepath.Base(dev)+"p7")
	if _, err := Write(context.Background(), image, part, Options{Confirm: Confirm{Device: part}}); !Refused(err, NotWhole) {
		t.Errorf("partition as target: %v", err)
	}
	oracle.Run(t, oracle.Need(t, "e2fsprogs", "mkfs.ext4"), "-q", "-F", part)
	dir := t.TempDir()
	if err := unix.Mount(part, dir, "ext4", 0, ""); err != nil {
		t.Skipf("no mounts here: %v", err)
	}
	defer unix.Unmount(dir, 0)
	_, err = Write(context.Background(), image, dev, Options{Confirm: Confirm{Device: dev}})
	if !Refused(err, Mounted) || !strings.Contains(err.Error(), "p7 is mounted on "+dir) {
		t.Errorf("partition mounted: %v", err)
	}
}
