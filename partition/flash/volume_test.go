package flash

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/ingot-os/ingot/partition/gpt"
)

func testVolume() Volume {
	b := make([]byte, 3*mib)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(b[:2*mib+5])
	return Volume{ReaderAt: bytes.NewReader(b), Size: 3 * mib, Name: "ingot update", Type: BasicData, Disk: gpt.GUID{1}, Part: gpt.GUID{2}}
}

// A volume becomes the only partition, whatever was on the device.
func TestWriteVolume(t *testing.T) {
	for _, sector := range []int{512, 4096} {
		path, v := target(t, 20*mib), testVolume()
		res, err := WriteVolume(context.Background(), v, path, Options{SectorSize: sector})
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		table, info, err := gpt.Read(f, 20*mib)
		if err != nil || info.Primary != nil || info.Backup != nil || table.SectorSize != sector || len(table.Partitions) != 1 {
			t.Fatalf("sectors of %d: %+v, %+v, %v", sector, table, info, err)
		}
		if p := table.Partitions[0]; p.Start != mib || p.Size != 3*mib || p.Type != BasicData || p.Name != "ingot update" {
			t.Errorf("partition %+v", p)
		}
		got, want := make([]byte, v.Size), make([]byte, v.Size)
		_, err = f.ReadAt(got, mib)
		_, werr := v.ReadAt(want, 0)
		if err := errors.Join(err, werr); err != nil || !bytes.Equal(got, want) {
			t.Errorf("content differs: %v", err)
		}
		if res.Verified < v.Size {
			t.Errorf("%d bytes read back", res.Verified)
		}
	}
}

// What Write refuses, WriteVolume refuses, and nothing is written.
func TestWriteVolumeRefuses(t *testing.T) {
	for want, change := range map[Reason]func(*Device){
		Mounted:      func(d *Device) { d.Uses = []Use{{What: "mount", Device: "sdz1", Where: "/media/x"}} },
		NotRemovable: func(d *Device) { d.Removable = false },
		System:       func(d *Device) { d.Uses = []Use{{What: "mount", Device: "sdz1", Where: "/"}} },
		ReadOnly:     func(d *Device) { d.ReadOnly = true },
		TooSmall:     func(d *Device) { d.Size = 5 * mib },
		NotWhole:     func(d *Device) { d.Kind = Partition },
	} {
		path := target(t, 8*mib)
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		d := Device{Path: path, Name: "sdz", Kind: Disk, Size: 8 * mib, SectorSize: 512, Removable: true}
		change(&d)
		_, err = WriteVolume(context.Background(), testVolume(), path, Options{Probe: func(string) (Device, error) { return d, nil }})
		if !Refused(err, want) {
			t.Errorf("%s: %v", want, err)
		}
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
			t.Errorf("%s: something was written (%v)", want, err)
		}
	}
}
