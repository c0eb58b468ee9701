package flash

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/partition/blockmap"
	"github.com/ingot-os/ingot/partition/blocks"
	"github.com/ingot-os/ingot/partition/frames"
)

// pack writes an image's compressed form and its block map beside it.
func pack(t testing.TB, image string) string {
	t.Helper()
	b, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	disk := blocks.Disk{R: bytes.NewReader(b), Size: int64(len(b))}
	m, err := blockmap.New(disk, nil)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(image + ".zst")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := frames.Write(f, disk, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(image+".bmap", m.Marshal(), 0o666); err != nil {
		t.Fatal(err)
	}
	return image + ".zst"
}

// A packed image gives the same disk as the raw one, over whatever was there.
func TestPackedImage(t *testing.T) {
	image, _ := testImage(t, 512)
	packed := pack(t, image)
	for _, size := range []int64{36 * mib, 60 * mib} {
		want, got := target(t, size), target(t, size)
		if _, err := Write(context.Background(), image, want, Options{}); err != nil {
			t.Fatal(err)
		}
		res, err := Write(context.Background(), packed, got, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(readDisk(t, got), readDisk(t, want)) {
			t.Errorf("%d MiB: the disk differs from that of the raw image", size/mib)
		}
		if res.Verified == 0 || res.Zeroed == 0 {
			t.Errorf("verified %d, zeroed %d", res.Verified, res.Zeroed)
		}
	}
}

// What the block map does not know is not written, and leaves no bootable disk.
func TestPackedImageIsCheckedBeforeItIsWritten(t *testing.T) {
	image, l := testImage(t, 512)
	packed := pack(t, image)
	other, _ := os.ReadFile(image)
	slot, _ := l.Part("slot-a")
	other[slot.Start+3*mib] ^= 1
	os.WriteFile(image, other, 0o666)
	good, _ := os.ReadFile(image + ".bmap")
	pack(t, image) // frames of the changed image, with the map of the first
	os.WriteFile(image+".bmap", good, 0o666)
	disk := target(t, 40*mib)
	_, err := Write(context.Background(), packed, disk, Options{})
	var unfinished *UnfinishedError
	if !errors.Is(err, blockmap.ErrMismatch) || !errors.As(err, &unfinished) {
		t.Fatalf("got %v", err)
	}
	if bootable(t, disk) {
		t.Error("the disk has a partition table")
	}
	if got := readDisk(t, disk); bytes.Equal(got[slot.Start:slot.Start+4*mib], other[slot.Start:slot.Start+4*mib]) {
		t.Error("the changed bytes were written")
	}
}

func TestPackedImageWithoutItsMap(t *testing.T) {
	image, _ := testImage(t, 512)
	packed := pack(t, image)
	disk := target(t, 40*mib)
	before := readDisk(t, disk)
	refused := func(why string) {
		t.Helper()
		if _, err := Write(context.Background(), packed, disk, Options{}); !Refused(err, NoMap) || !strings.Contains(err.Error(), why) {
			t.Errorf("got %v, want %q", err, why)
		}
	}
	m, _ := os.ReadFile(image + ".bmap")
	os.WriteFile(image+".bmap", bytes.Replace(m, []byte("> 0"), []byte("> 1"), 1), 0o666)
	refused("differs from its block map")
	first, _ := os.ReadFile(image)
	first[mib] ^= 1 // in the first frame, as the partition table is
	alien, _ := blockmap.New(blocks.Disk{R: bytes.NewReader(first), Size: int64(len(first))}, nil)
	os.WriteFile(image+".bmap", alien.Marshal(), 0o666)
	if _, err := Write(context.Background(), packed, disk, Options{}); !Refused(err, Damaged) || !strings.Contains(err.(*RefusedError).Hint(), "copy both again") {
		t.Errorf("map of another image: %v", err)
	}
	short, _ := blockmap.New(blocks.Disk{R: bytes.NewReader(make([]byte, mib)), Size: mib}, nil)
	os.WriteFile(image+".bmap", short.Marshal(), 0o666)
	refused("its block map is for 1048576")
	os.Truncate(image+".bmap", 1<<40) // what is not read does not fill the memory
	refused("more than")
	os.Remove(image + ".bmap")
	refused("no such file")
	os.WriteFile(image+".bmap", m, 0o666)
	b, _ := os.ReadFile(packed)
	broken := bytes.Clone(b)
	broken[1000] ^= 1
	os.WriteFile(packed, broken, 0o666)
	if _, err := Write(context.Background(), packed, disk, Options{}); !Refused(err, Damaged) || !strings.Contains(err.Error(), frames.ErrDamaged.Error()) {
		t.Errorf("damaged frame: %v", err)
	}
	os.WriteFile(packed, b[:len(b)-1], 0o666)
	if _, err := Write(context.Background(), packed, disk, Options{}); !Refused(err, Foreign) {
		t.Errorf("cut image: %v", err)
	}
	if !bytes.Equal(readDisk(t, disk), before) {
		t.Error("something was written")
	}
}
