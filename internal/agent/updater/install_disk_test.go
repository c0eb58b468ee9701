package updater

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/agent/install"
	"github.com/ingot-os/ingot/internal/agent/updates"
	"github.com/ingot-os/ingot/internal/appliance"
	"github.com/ingot-os/ingot/internal/depot"
	"github.com/ingot-os/ingot/internal/dsse"
	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/updateapi"
	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/gpt"
	"github.com/ingot-os/ingot/partition/state"
)

// site is a server with one release that is for a disk, and a machine without one.
type site struct {
	t        *testing.T
	layout   partition.Layout
	contents map[string][]byte // of parts
	envelope []byte
	digest   string
	m        updates.Diskless
	disk     string
	entries  []gpt.Table
	reset    chan string
	tap      tap

	mu       sync.Mutex
	cuts     int // answers that are cut in the middle
	spoil    bool
	interval float64 // seconds; 0: one
	ticket   updateapi.InstallTicket
	reports  []updateapi.BootReport
}

func newSite(t *testing.T) *site {
	t.Helper()
	l, err := partition.Plan(partition.Spec{Name: "hello", SectorSize: 512, ESP: 34 * mib, Slot: 8 * mib, Root: 2 * mib, State: state.Size, Data: 17 * mib})
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, layout: l, disk: filepath.Join(t.TempDir(), "disk"), reset: make(chan string, 1), contents: map[string][]byte{
		updateapi.PartESP: image(1, 5*mib, 34*mib), updateapi.PartSlot: image(2, 6*mib+5, 8*mib), updateapi.PartRoot: image(3, mib, 2*mib)}}
	m := &release.Manifest{Format: release.Format, Name: "hello", Version: "1.0", Arch: "amd64", Epoch: 1000, Root: &release.Root{Format: "squashfs"},
		Disk: release.Disk{Layout: l.ID, SectorSize: 512, Size: l.Size, GUID: l.Disk.String()}}
	ids := map[string]string{}
	for _, p := range l.Parts {
		name, _, _ := strings.Cut(p.Role, "-")
		data := s.contents[name]
		if data == nil {
			data = make([]byte, p.Size)
		}
		ids[p.Role] = p.GUID.String()
		m.Disk.Partitions = append(m.Disk.Partitions, release.Partition{Index: p.Index, Role: p.Role, Type: p.Type.String(), GUID: p.GUID.String(),
			Start: p.Start, Size: p.Size, SHA256: fmt.Sprintf("%x", sha256.Sum256(data))})
	}
	payload, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	signs, err := dsse.NewSigner(signer())
	if err == nil {
		s.envelope, err = dsse.Sign(dsse.TypeManifest, payload, signs)
	}
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(payload)
	s.digest = hex.EncodeToString(sum[:])
	b := newBench(t)
	f := attested(b, fresh)
	f.http.Config.Handler = s
	spec := b.machine.Spec
	spec.Install, spec.Layout = &appliance.Install{}, appliance.Layout{ID: l.ID, Disk: l.Disk.String(), Part: ids}
	s.m = updates.Diskless{Spec: spec, Server: b.machine.Server, Certificate: b.machine.Certificate, Now: time.Now, Logf: t.Logf, UEFI: true,
		Report:      func() updateapi.BootReport { return updateapi.BootReport{Uptime: 10} },
		Health:      func() (bool, string, string) { return true, "", "" },
		Reset:       func(why string) { s.reset <- why },
		Entries:     s.entriesOf,
		MachineYAML: func() []byte { return []byte("hostname: edge-1\n") },
	}
	s.ticket = updateapi.InstallTicket{ID: "install-1", Release: s.digest}
	s.blank(l.Size + 8*mib)
	return s
}

func (s *site) blank(size int64) {
	s.t.Helper()
	if err := os.WriteFile(s.disk, nil, 0o644); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Truncate(s.disk, size); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	path := strings.TrimPrefix(r.URL.Path, "/site")
	part, ok := strings.CutPrefix(path, updateapi.ReleasesPath+"/"+s.digest+"/")
	switch {
	case path == updateapi.BootPath:
		var report updateapi.BootReport
		json.NewDecoder(r.Body).Decode(&report)
		s.reports = append(s.reports, report)
		o := updateapi.BootOrder{Interval: cmp.Or(s.interval, 1), Install: &s.ticket}
		if i := report.Install; i != nil && i.Phase == updateapi.InstallDone {
			o.Install = nil
		}
		json.NewEncoder(w).Encode(o)
	case ok && part == "manifest":
		w.Write(s.envelope)
	case ok && s.contents[part] != nil:
		s.send(w, part)
	default:
		http.NotFound(w, r)
	}
}

func (s *site) send(w http.ResponseWriter, part string) {
	data := bytes.Clone(s.contents[part])
	if s.spoil {
		data[len(data)/2] ^= 1
	}
	var packed bytes.Buffer
	e, err := depot.NewEncoder(&packed)
	if err != nil {
		s.t.Error(err)
		return
	}
	e.Write(data)
	e.Close()
	if s.cuts > 0 {
		s.cuts--
		w.Write(packed.Bytes()[:packed.Len()/2])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	w.Write(packed.Bytes())
}

// install runs an installer until its ticket has ended in some way.
func (s *site) install() updateapi.Installing {
	s.t.Helper()
	u := newLinks(s.m)
	u.again = time.Millisecond
	i := newInstaller(u, s.m)
	i.again, i.pause = 0, 0
	i.disks, i.tap = s.disks, s.tap
	i.take(s.t.Context(), &s.ticket)
	u.tasks.Wait()
	return *i.status()
}

// entriesOf makes boot entries, which comes before the disk is finished.
func (s *site) entriesOf(t gpt.Table) error {
	s.entries = append(s.entries, t)
	f, err := os.Open(s.disk)
	if err != nil {
		return err
	}
	defer f.Close()
	if c, err := install.Look(f, s.disks()[0].Size); err != nil || c != install.Unfinished {
		s.t.Errorf("boot entries are made when the disk holds %s, %v", c, err)
	}
	return nil
}

func (s *site) disks() []install.Disk {
	st, err := os.Stat(s.disk)
	if err != nil {
		s.t.Fatal(err)
	}
	return []install.Disk{{Node: s.disk, Size: st.Size(), SectorSize: 512}}
}

// check wants the disk to hold the release.
func (s *site) check() {
	s.t.Helper()
	b, err := os.ReadFile(s.disk)
	if err != nil {
		s.t.Fatal(err)
	}
	r := bytes.NewReader(b)
	l, err := partition.Read(r, int64(len(b)))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, p := range l.Parts {
		got := b[p.Start:p.End()]
		name, _, _ := strings.Cut(p.Role, "-")
		switch want := s.contents[name]; {
		case want != nil && !bytes.Equal(got, want):
			s.t.Errorf("%s holds something else", p.Role)
		case p.Role == partition.State:
			yaml, _, err := state.Load(bytes.NewReader(got), state.Machine)
			if err != nil || string(yaml) != "hostname: edge-1\n" {
				s.t.Errorf("machine.yaml on the disk is %q, %v", yaml, err)
			}
		case p.Role == partition.Data && len(bytes.Trim(got[:install.DataEdge], "\x00")) != 0:
			s.t.Error("the data partition holds what was there before")
		}
	}
}

// TestInstall: onto an empty disk, in spite of cuts; what is there is what was signed, and
// the state partition has the machine.yaml of this boot.
func TestInstall(t *testing.T) {
	s := newSite(t)
	s.cuts = 3
	if st := s.install(); st.Phase != updateapi.InstallDone || st.Disk == "" {
		t.Fatalf("%+v", st)
	}
	s.check()
	if out := oracle.Run(t, oracle.Need(t, "gdisk", "sgdisk"), "-v", s.disk); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk: %s", out)
	}
	if len(s.entries) != 1 || len(s.entries[0].Partitions) != 7 {
		t.Errorf("boot entries of %+v", s.entries)
	}
	if st := s.install(); st.Phase != updateapi.InstallDone { // nothing has run from it yet
		t.Errorf("once more: %+v", st)
	}
}

// TestInstallRefuses: what is on a disk stays, unless it may go.
func TestInstallRefuses(t *testing.T) {
	s := newSite(t)
	foreign := bytes.Repeat([]byte("data of somebody\n"), int(s.layout.Size+8*mib)/17)
	write := func() {
		if err := os.WriteFile(s.disk, foreign, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(what, want string) {
		t.Helper()
		before, _ := os.ReadFile(s.disk)
		if st := s.install(); st.Phase != updateapi.InstallRefused || !strings.Contains(st.Detail, want) {
			t.Errorf("%s: %+v", what, st)
		}
		if after, _ := os.ReadFile(s.disk); !bytes.Equal(before, after) {
			t.Errorf("%s: the disk was written", what)
		}
	}
	write()
	refused("a foreign disk", "install.wipe")
	s.ticket.Force = true
	refused("a foreign disk, although forced", "install.wipe")
	s.m.Spec.Install.Wipe = true
	if st := s.install(); st.Phase != updateapi.InstallDone {
		t.Fatalf("with wipe: %+v", st)
	}
	s.check()
	s.ticket.Force, s.m.Spec.Install.Wipe = false, true
	f, err := os.OpenFile(s.disk, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, _ := s.layout.Part(partition.State)
	if err := state.Store(&wholeSection{f, st.Start}, state.Journal, []byte("it has run")); err != nil {
		t.Fatal(err)
	}
	refused("a system that has run", "the ticket does not force it")
	s.ticket.Release = "../../etc/passwd"
	refused("a name that is no digest", "no digest")
	s.ticket.Release = s.digest
	s.m.UEFI = false
	refused("a BIOS", "UEFI")
	s.m.UEFI, s.m.Spec.Trust = true, &appliance.Trust{Image: s.m.Spec.Trust.Image, Threshold: 1, Server: s.m.Spec.Trust.Server}
	s.m.Spec.SecurityEpoch = 1
	refused("a release below the image's floor", "floor")
}

// wholeSection is a partition of a disk.
type wholeSection struct {
	f    *os.File
	base int64
}

func (w *wholeSection) ReadAt(b []byte, off int64) (int, error)  { return w.f.ReadAt(b, w.base+off) }
func (w *wholeSection) WriteAt(b []byte, off int64) (int, error) { return w.f.WriteAt(b, w.base+off) }

// TestInstallSpoiled: bytes that were not signed, or not ordered, never make a disk that
// starts.
func TestInstallSpoiled(t *testing.T) {
	s := newSite(t)
	ordered := s.digest
	s.digest = strings.Repeat("5e", 32) // the server has another manifest under this name
	s.ticket.Release = s.digest
	if st := s.install(); st.Phase != updateapi.InstallFailed || !strings.Contains(st.Detail, "another manifest") {
		t.Errorf("another release than the ticket's: %+v", st)
	}
	s.digest, s.ticket.Release = ordered, ordered
	s.spoil = true
	if st := s.install(); st.Phase != updateapi.InstallFailed {
		t.Fatalf("%+v", st)
	}
	f, err := os.Open(s.disk)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if c, err := install.Look(f, s.layout.Size+8*mib); err != nil || c != install.Unfinished {
		t.Errorf("the disk holds %s, %v", c, err)
	}
	s.spoil = false
	if st := s.install(); st.Phase != updateapi.InstallDone {
		t.Fatalf("after that: %+v", st)
	}
	s.check()
}
