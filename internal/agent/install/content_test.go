package install

import (
	"testing"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/gpt"
	"github.com/ingot-os/ingot/partition/state"
)

// shelf makes disks of the size of a release.
type shelf struct{ t *testing.T }

func (s shelf) zeros() *disk { return &disk{b: make([]byte, manifest(s.t).Disk.Size), left: -1} }

// spoilt is empty but for one byte.
func (s shelf) spoilt(at int64) *disk {
	d := s.zeros()
	d.b[(at+int64(len(d.b)))%int64(len(d.b))] = 0x53
	return d
}

// flashed holds the release, which has not run.
func (s shelf) flashed() *disk {
	s.t.Helper()
	d := s.zeros()
	p, err := NewPlan(manifest(s.t), Disk{Size: int64(len(d.b)), SectorSize: 512})
	if err == nil {
		err = p.Begin(d)
	}
	if err == nil {
		err = p.Finish(d)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

func (s shelf) start(role string) int64 {
	for _, p := range manifest(s.t).Disk.Partitions {
		if p.Role == role {
			return p.Start
		}
	}
	s.t.Fatalf("no partition %s", role)
	return 0
}

// with has a record in the state partition.
func (s shelf) with(r state.Region, b []byte) *disk {
	s.t.Helper()
	d := s.flashed()
	if err := state.Store(section{d, s.start(partition.State)}, r, b); err != nil {
		s.t.Fatal(err)
	}
	return d
}

// run has a journal.
func (s shelf) run() *disk {
	s.t.Helper()
	b, err := slot.Record{Good: slot.A, Slots: [2]slot.Content{{Version: "1.0", Condition: slot.Good}}}.AppendBinary(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.with(state.Journal, b)
}

func (s shelf) damaged() *disk {
	d, at := s.run(), s.start(partition.State)
	d.b[at+70] ^= 1
	d.b[at+70+mib] ^= 1
	return d
}

func (s shelf) tableLost() *disk {
	d := s.run()
	clear(d.b[512:4096])
	return d
}

// kept has a byte in its data, at the place where ext4 and LUKS write.
func (s shelf) kept(at int64) *disk {
	d := s.flashed()
	d.b[s.start(partition.Data)+at] = 0x53
	return d
}

func (s shelf) anotherTable() *disk {
	d := s.zeros()
	gpt.Table{SectorSize: 512, Size: int64(len(d.b)), Disk: gpt.GUID{1}, Partitions: []gpt.Partition{{Index: 1, Name: "root", Type: gpt.TypeESP, GUID: gpt.GUID{2}, Start: mib, Size: mib}}}.Write(d)
	return d
}

// TestContent tells apart what is on a disk, and who may let it go.
func TestContent(t *testing.T) {
	s := shelf{t}
	for _, c := range []struct {
		name string
		disk *disk
		want Content
		// without anything, with wipe, with force
		plain, wipe, force bool
	}{
		{"zeros", s.zeros(), Blank, true, true, true},
		{"never ran", s.flashed(), Unused, true, true, true},
		{"never ran, with a machine.yaml", s.with(state.Machine, []byte("hostname: edge-1\n")), Unused, true, true, true},
		{"has run", s.run(), Installed, false, false, true},
		{"damaged journal", s.damaged(), Installed, false, false, true},
		{"no journal, but a clock", s.with(state.Clock, []byte("1000")), Installed, false, false, true},
		{"no journal, but evidence", s.with(state.Evidence, []byte("hang")), Installed, false, false, true},
		{"no journal, but ext4 in data", s.kept(1024 + 0x38), Installed, false, false, true},
		{"no journal, but LUKS in data", s.kept(0), Installed, false, false, true},
		{"no journal, but a file system that begins late", s.kept(DataEdge - 1), Installed, false, false, true},
		{"primary table lost", s.tableLost(), Installed, false, false, true},
		{"something at the start", s.spoilt(1024 + 0x38), Foreign, false, true, false},
		{"something at the end", s.spoilt(-4096), Foreign, false, true, false},
		{"another table", s.anotherTable(), Foreign, false, true, false},
	} {
		got := c.disk.look(t)
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		for _, p := range []struct {
			policy Policy
			want   bool
		}{{Policy{}, c.plain}, {Policy{Wipe: true}, c.wipe}, {Policy{Force: true}, c.force}} {
			if err := Allow(got, p.policy); (err == nil) != p.want {
				t.Errorf("%s with %+v: %v", c.name, p.policy, err)
			}
		}
	}
}

// TestNames: package partition, which init does not link, has the same.
func TestNames(t *testing.T) {
	if typeState != partition.TypeState || stateName != partition.State || dataName != partition.Data {
		t.Error("the type or name of the state or data partition is another one in package partition")
	}
}

// section is a part of a disk.
type section struct {
	d    *disk
	base int64
}

func (s section) ReadAt(b []byte, off int64) (int, error)  { return s.d.ReadAt(b, s.base+off) }
func (s section) WriteAt(b []byte, off int64) (int, error) { return s.d.WriteAt(b, s.base+off) }
func (s section) Sync() error                              { return nil }
