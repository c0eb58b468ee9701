package reference_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/attest/predict"
	"github.com/ingot-os/ingot/internal/build"
	"github.com/ingot-os/ingot/internal/build/buildtest"
	"github.com/ingot-os/ingot/internal/measure"
	"github.com/ingot-os/ingot/internal/reference"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/fat"
)

// set builds a small image set.
func set(t *testing.T) *release.Set {
	t.Helper()
	a := buildtest.New(t, "cmdline: [quiet]\n")
	r, l, f := a.Locked()
	res, err := build.Build(context.Background(), build.Options{Recipe: r, Lock: l, Fetcher: f, Out: a.Out})
	if err != nil {
		t.Fatal(err)
	}
	return res.Set
}

func file(t *testing.T, name string) (*os.File, int64) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return f, info.Size()
}

func options(t *testing.T, s *release.Set) reference.Options {
	t.Helper()
	o := reference.Options{Name: s.Manifest.Name, Version: s.Manifest.Version, Epoch: s.Manifest.SecurityEpoch}
	o.UKI, o.UKISize = file(t, s.UKI())
	disk, size := file(t, s.Image())
	l, err := partition.Read(disk, size)
	if err != nil {
		t.Fatal(err)
	}
	esp, _ := l.Part(partition.ESP)
	v, err := fat.Open(esp.Section(disk), esp.Size)
	if err != nil {
		t.Fatal(err)
	}
	if o.ESP, err = v.Tree(); err != nil {
		t.Fatal(err)
	}
	o.Layout = &l
	return o
}

// TestPathsArePredictions: every path has the events that measure predicts for
// it, in both banks, but those of PCR 7.
func TestPathsArePredictions(t *testing.T) {
	s := set(t)
	r, err := reference.New(options(t, s))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range r.Paths {
		got = append(got, fmt.Sprint(p.Boot, " ", p.SecureBoot))
		want, err := measure.Of(s.Dir, measure.Options{Boot: predict.Boot(p.Boot), SecureBoot: p.SecureBoot, Banks: []pcr.Bank{pcr.SHA256, pcr.SHA384}})
		if err != nil {
			t.Fatal(err)
		}
		var events []attest.Expected
		for _, e := range want.Events {
			if e.PCR != 7 {
				events = append(events, attest.Expected{PCR: e.PCR, Type: e.Type, Name: e.Name, Digests: e.Digests})
			}
		}
		if diff := cmp.Diff(events, p.Events, cmp.AllowUnexported(attest.Expected{})); diff != "" {
			t.Errorf("%s (-measure +reference):\n%s", p.Boot, diff)
		}
		if (p.Layout != nil) != (p.Boot == "disk") || !slices.Equal(p.Empty, []int{12}) || p.Replaced {
			t.Errorf("%s: layout %v, empty %v", p.Boot, p.Layout, p.Empty)
		}
	}
	want := []string{"disk true", "disk false", "pxe true", "pxe false", "http true", "http false", "ipxe true", "kernel true", "kernel false"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("paths (-want +got):\n%s", diff)
	}
	for i, p := range s.Manifest.Disk.Partitions {
		l := r.Paths[0].Layout.Partitions[i]
		if l.GUID.String() != p.GUID || l.Start != uint64(p.Start) || l.Size != uint64(p.Size) {
			t.Errorf("partition %d: %+v, manifest %+v", i+1, l, p)
		}
	}
}

// TestMarshal: the same set gives the same bytes, and they read back.
func TestMarshal(t *testing.T) {
	s := set(t)
	var first []byte
	for range 3 {
		r, err := reference.New(options(t, s))
		if err != nil {
			t.Fatal(err)
		}
		b, err := reference.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = b
		}
		if string(b) != string(first) {
			t.Fatal("the same set gives two references")
		}
		var back attest.Reference
		if err := json.Unmarshal(b, &back); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r, &back); diff != "" {
			t.Errorf("(-written +read):\n%s", diff)
		}
	}
}

// TestWithoutDisk: what has no partition table cannot boot from disk.
func TestWithoutDisk(t *testing.T) {
	o := options(t, set(t))
	o.Layout = nil
	r, err := reference.New(o)
	if err != nil || r.Paths[0].Boot != "pxe" {
		t.Errorf("%+v, %v", r, err)
	}
	o.UKISize = 100
	if _, err := reference.New(o); err == nil {
		t.Error("a cut image has a reference")
	}
}
