package flash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/gpt"
)

// bootable reports whether firmware would find a partition table.
func bootable(t *testing.T, disk string) bool {
	t.Helper()
	b := readDisk(t, disk)
	_, _, err := gpt.Read(bytes.NewReader(b), int64(len(b)))
	if err != nil && !errors.Is(err, gpt.ErrNoTable) {
		t.Errorf("half a partition table is left behind: %v", err)
	}
	return err == nil
}

// A flash that is cancelled at any point leaves nothing that looks bootable,
// also where a bootable disk was before, and running it again is right.
func TestCancelled(t *testing.T) {
	image, _ := testImage(t, 512)
	disk := target(t, 40*mib)
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 3 {
		res, err := Write(context.Background(), image, disk, Options{})
		if err != nil {
			t.Fatal(err)
		}
		checkDisk2(t, image, disk)
		at := rnd.Int64N(res.Verified * 2 * 9 / 10) // before the table is written
		ctx, cancel := context.WithCancel(context.Background())
		_, err = Write(ctx, image, disk, Options{Progress: func(done, _ int64) {
			if done >= at {
				cancel()
			}
		}})
		cancel()
		var unfinished *UnfinishedError
		if !errors.Is(err, context.Canceled) || !errors.As(err, &unfinished) || unfinished.Device != disk {
			t.Fatalf("cancelled at %d: %v", at, err)
		}
		if bootable(t, disk) {
			t.Errorf("cancelled at %d: the device has a partition table", at)
		}
	}
}

// Who gives up before the first byte keeps the disk that was there.
func TestCancelledBefore(t *testing.T) {
	image, _ := testImage(t, 512)
	disk := target(t, 40*mib)
	if _, err := Write(context.Background(), image, disk, Options{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := Write(ctx, image, disk, Options{})
	var unfinished *UnfinishedError
	if !errors.Is(err, context.Canceled) || errors.As(err, &unfinished) || !bootable(t, disk) {
		t.Errorf("Write = %v", err)
	}
}

// checkDisk2 is checkDisk without a Result: what must be the same after any
// number of attempts.
func checkDisk2(t *testing.T, image, disk string) {
	t.Helper()
	want, got := readDisk(t, image), readDisk(t, disk)
	if end := len(want) - mib; !bytes.Equal(want[mib:end], got[mib:end]) || !bootable(t, disk) {
		t.Error("the device does not hold the image")
	}
}

// TestMain lets the test binary be the process that is killed.
func TestMain(m *testing.M) {
	if args := os.Getenv("INGOT_FLASH_CHILD"); args != "" {
		child(strings.Fields(args))
	}
	os.Exit(m.Run())
}

// child flashes, and kills itself at the progress it was given in permille.
func child(args []string) {
	permille, err := strconv.ParseInt(args[2], 10, 64)
	if err == nil {
		_, err = Write(context.Background(), args[0], args[1], Options{
			Confirm: Confirm{Device: args[1]},
			Progress: func(done, total int64) {
				if done*1000/total >= permille {
					_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				}
			},
		})
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Kill -9 at ten random points, then once to the end.
func TestKilled(t *testing.T) {
	image, _ := testImage(t, 512)
	killAtRandomPoints(t, image, target(t, 40*mib))
}

func killAtRandomPoints(t *testing.T, image, disk string) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 10 {
		permille := rnd.IntN(1000)
		if err := runChild(image, disk, permille); err == nil || err.Error() != "signal: killed" {
			t.Fatalf("killed at %d permille: %v", permille, err)
		}
		// The table comes behind all partitions, once they are read back: two
		// MiB of 36, written twice as it were.
		if permille < 940 && bootable(t, disk) {
			t.Errorf("killed at %d permille: the device has a partition table", permille)
		}
		if bootable(t, disk) {
			checkDisk2(t, image, disk)
		}
	}
	if err := runChild(image, disk, 2000); err != nil {
		t.Fatal(err)
	}
	checkDisk2(t, image, disk)
}

func runChild(image, disk string, permille int) error {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("INGOT_FLASH_CHILD=%s %s %d", image, disk, permille))
	out, err := cmd.Output()
	if len(out) > 0 {
		return fmt.Errorf("%w: %s", err, out)
	}
	return err
}

// A medium that returns other bytes than it was given is named with its first
// wrong byte, and gets no partition table.
func TestMismatch(t *testing.T) {
	image, l := testImage(t, 512)
	find := func(role string) int64 { p, _ := l.Part(role); return p.Start }
	tests := []struct {
		flip []int64 // bytes of the device that go wrong after they were written
		want MismatchError
	}{
		{[]int64{find(partition.SlotB) + 1234567}, MismatchError{Partition: "slot-b", PartOff: 1234567}},
		{[]int64{find(partition.SlotA), find(partition.ESP) + 2*mib - 1}, MismatchError{Partition: "esp", PartOff: 2*mib - 1}},
		{[]int64{find(partition.State) + 5*mib + 3}, MismatchError{Partition: "state", PartOff: 5*mib + 3}},
		{[]int64{find(partition.ESP) + 500_000}, MismatchError{Partition: "esp", PartOff: 500_000}}, // a hole
		{[]int64{find(partition.Data) + 4*mib - 1}, MismatchError{Partition: "data", PartOff: 4*mib - 1}},
	}
	for _, tt := range tests {
		disk := target(t, 40*mib)
		body := l.Size - 2*mib
		_, err := Write(context.Background(), image, disk, Options{Progress: func(done, _ int64) {
			if done == body { // everything but the table is written, nothing is read back
				flip(t, disk, tt.flip)
			}
		}})
		var got *MismatchError
		if !errors.As(err, &got) || got.Partition != tt.want.Partition || got.PartOff != tt.want.PartOff || got.Got^got.Want != 0x40 {
			t.Errorf("Write = %v, want a mismatch in %s at %d", err, tt.want.Partition, tt.want.PartOff)
		}
		if got != nil && got.Off != find(got.Partition)+got.PartOff {
			t.Errorf("offset on the device %d does not fit %d in %s", got.Off, got.PartOff, got.Partition)
		}
		if bootable(t, disk) {
			t.Error("the medium got a partition table")
		}
	}
}

func flip(t *testing.T, path string, offs []int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, off := range offs {
		var b [1]byte
		_, err1 := f.ReadAt(b[:], off)
		b[0] ^= 0x40
		if _, err2 := f.WriteAt(b[:], off); err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
	}
}

// The table itself is read back too.
func TestMismatchInTable(t *testing.T) {
	image, l := testImage(t, 512)
	disk := target(t, 36*mib)
	_, err := Write(context.Background(), image, disk, Options{Progress: func(done, total int64) {
		if done == 2*(l.Size-2*mib)+2*mib { // both copies are written
			flip(t, disk, []int64{1024 + 128})
		}
	}})
	var got *MismatchError
	if !errors.As(err, &got) || got.Partition != "partition table" || got.Off != 1152 {
		t.Errorf("Write = %v, want a mismatch in the partition table at 1152", err)
	}
}

// An image that is built anew while it is read gives a mixture of two. Here
// only bytes change that are not written yet, so reading back finds nothing.
func TestImageChangesWhileFlashing(t *testing.T) {
	for name, change := range map[string]func(image string){
		"cut":       func(image string) { _ = os.Truncate(image, 32*mib) },
		"rewritten": func(image string) { flip(t, image, []int64{32 * mib}) },
	} {
		image, l := testImage(t, 512)
		disk, once := target(t, 36*mib), false
		_, err := Write(context.Background(), image, disk, Options{Progress: func(done, _ int64) {
			if !once && done > l.Size/4 {
				once = true
				change(image)
			}
		}})
		if err == nil || !strings.Contains(err.Error(), "changed while it was written") || bootable(t, disk) {
			t.Errorf("%s: Write = %v", name, err)
		}
	}
}

// A file system that is full gives an error and no table.
func TestFullFileSystem(t *testing.T) {
	image, _ := testImage(t, 512)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Skipf("no mounts here: %v", err)
	}
	defer unix.Unmount(dir, 0)
	disk := dir + "/disk.img"
	err := os.WriteFile(disk, nil, 0o600)
	if err == nil {
		err = os.Truncate(disk, 40*mib)
	}
	if err != nil {
		t.Fatal(err)
	}
	_, err = Write(context.Background(), image, disk, Options{})
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "write device at offset") || bootable(t, disk) {
		t.Errorf("Write = %v", err)
	}
}

// BenchmarkWrite writes and reads back an image of which 12 of 34 MiB are data.
func BenchmarkWrite(b *testing.B) {
	image, _ := testImage(b, 512)
	disk := target(b, 40*mib)
	b.SetBytes(34 * mib)
	for b.Loop() {
		if _, err := Write(context.Background(), image, disk, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
