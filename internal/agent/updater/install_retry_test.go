package updater

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/agent/install"
	"github.com/ingot-os/ingot/internal/updateapi"
	"github.com/ingot-os/ingot/partition/gpt"
)

// plugged is a sysfs and a /dev to which disks come one after the other.
type plugged struct {
	s        *site
	sys, dev string
	looks    int
	late     map[int]string // name of a disk that comes at a look
}

func newPlugged(s *site, late map[int]string) *plugged {
	return &plugged{s: s, sys: s.t.TempDir(), dev: s.t.TempDir(), late: late}
}

// disks looks once.
func (p *plugged) disks() []install.Disk {
	p.looks++
	if name := p.late[p.looks]; name != "" {
		p.plug(name)
	}
	return install.Disks(p.sys, p.dev)
}

func (p *plugged) plug(name string) {
	size := p.s.layout.Size + 8*mib
	device := filepath.Join(p.sys, "devices/pci0000:00/0000:00:04.0", name)
	for file, text := range map[string]string{device + "/model": "X", "size": fmt.Sprint(size / 512), "queue/logical_block_size": "512", "serial": name} {
		if !filepath.IsAbs(file) {
			file = filepath.Join(p.sys, "block", name, file)
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			p.s.t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text+"\n"), 0o644); err != nil {
			p.s.t.Fatal(err)
		}
	}
	err := errors.Join(os.Symlink(device, filepath.Join(p.sys, "block", name, "device")), os.WriteFile(filepath.Join(p.dev, name), nil, 0o600), os.Truncate(filepath.Join(p.dev, name), size))
	if err != nil {
		p.s.t.Fatal(err)
	}
}

// installer is one that loses no time.
func (s *site) installer(disks func() []install.Disk) *installer {
	u := newLinks(s.m)
	i := newInstaller(u, s.m)
	i.disks, i.again, i.pause = disks, 0, 0
	return i
}

func (s *site) once(i *installer) updateapi.Installing {
	s.t.Helper()
	i.take(s.t.Context(), &s.ticket)
	i.u.tasks.Wait()
	return *i.status()
}

// TestInstallLateDisk: a second disk that comes while nothing is settled is seen before
// anything is written; and where there is no disk at all, it is tried again.
func TestInstallLateDisk(t *testing.T) {
	s := newSite(t)
	for name, c := range map[string]struct {
		late         map[int]string
		loaded       int // looks until all drivers are loaded
		phase, wants string
	}{
		"none":                 {nil, 0, updateapi.InstallFailed, "the machine has none"},
		"two, one late":        {map[int]string{1: "vda", 9: "vdb"}, 0, updateapi.InstallRefused, "more than one disk"},
		"two, a driver late":   {map[int]string{1: "vda", 30: "vdb"}, 30, updateapi.InstallRefused, "more than one disk"},
		"a driver never loads": {map[int]string{1: "vda"}, 1 << 30, updateapi.InstallDone, ""},
	} {
		p := newPlugged(s, c.late)
		s.m.Settled = func() bool { return p.looks >= c.loaded }
		s.m.Entries = func(gpt.Table) error { return nil }
		if st := s.once(s.installer(p.disks)); st.Phase != c.phase || !strings.Contains(st.Detail, c.wants) {
			t.Errorf("%s: %+v after %d looks", name, st, p.looks)
		}
	}
}

// TestInstallComesAndGoes: with disks that change all the time nothing is written.
func TestInstallComesAndGoes(t *testing.T) {
	s := newSite(t)
	looks := 0
	st := s.once(s.installer(func() []install.Disk {
		looks++
		return s.disks()[:looks%2]
	}))
	if st.Phase != updateapi.InstallFailed || !strings.Contains(st.Detail, "come and go") {
		t.Errorf("%+v", st)
	}
}

// TestInstallTwin: nothing is written while another disk has the GUIDs of the release.
func TestInstallTwin(t *testing.T) {
	s := newSite(t)
	if st := s.install(); st.Phase != updateapi.InstallDone {
		t.Fatalf("%+v", st)
	}
	b, err := os.ReadFile(s.disk)
	if err != nil {
		t.Fatal(err)
	}
	p := newPlugged(s, nil)
	p.plug("vda")
	p.plug("vdb")
	if err := os.WriteFile(filepath.Join(p.dev, "vdb"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	s.m.Spec.Install.To.Serial = "vda"
	if st := s.once(s.installer(p.disks)); st.Phase != updateapi.InstallRefused || !strings.Contains(st.Detail, "vdb") || !strings.Contains(st.Detail, "the disk GUID "+s.layout.Disk.String()) {
		t.Errorf("%+v", st)
	}
	f, err := os.Open(filepath.Join(p.dev, "vda"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if c, err := install.Look(f, int64(len(b))); err != nil || c != install.Blank {
		t.Errorf("the disk holds %s, %v", c, err)
	}
}

// TestInstallPanics: what goes wrong in an install does not end PID 1, and it is tried
// again.
func TestInstallPanics(t *testing.T) {
	s := newSite(t)
	i := s.installer(func() []install.Disk { panic("no such controller") })
	if st := s.once(i); st.Phase != updateapi.InstallFailed || st.Detail == "" {
		t.Errorf("%+v", st)
	}
	i.disks = s.disks
	if st := s.once(i); st.Phase != updateapi.InstallDone {
		t.Errorf("after that: %+v", st)
	}
}

// TestInstallBackoff: a server that cuts answers is not asked again at once.
func TestInstallBackoff(t *testing.T) {
	if d := newDiskless(newSite(t).m); d.disk.u.again != firstRetry {
		t.Errorf("a cut transfer goes on after %s", d.disk.u.again)
	}
}

// TestInstallEntries: a disk without boot entries is installed, and it is said what it lacks.
// While it is written the machine is told so.
func TestInstallEntries(t *testing.T) {
	s := newSite(t)
	var told []bool
	s.m.Writing = func(on bool) { told = append(told, on) }
	s.m.Entries = func(gpt.Table) error {
		if len(told) != 1 || !told[0] {
			t.Errorf("within the install the machine was told %v", told)
		}
		return errors.New("no room for variables")
	}
	st := s.install()
	if st.Phase != updateapi.InstallDone || st.Detail != "no room for variables" {
		t.Errorf("%+v", st)
	}
	if len(told) != 2 || told[1] {
		t.Errorf("at the end the machine was told %v", told)
	}
	s.check()
}

// TestInstallOnceDone: when a release is on the disk no other ticket is dealt with.
func TestInstallOnceDone(t *testing.T) {
	s := newSite(t)
	i := s.installer(s.disks)
	if st := s.once(i); st.Phase != updateapi.InstallDone {
		t.Fatalf("%+v", st)
	}
	s.ticket.ID = "install-2"
	if st := s.once(i); st.Ticket != "install-1" {
		t.Errorf("another ticket is taken: %+v", st)
	}
}

// TestInstallAgain: an install that failed begins anew when its time has come, not when
// the server's interval is over.
func TestInstallAgain(t *testing.T) {
	s := newSite(t)
	s.spoil, s.interval = true, 3600
	d := newDiskless(s.m)
	d.disk.disks, d.disk.pause, d.disk.again, d.u.again = s.disks, 0, 3*time.Second, 0
	done := make(chan struct{})
	go func() { defer close(done); d.run(t.Context()) }()
	for failed := false; !failed; time.Sleep(10 * time.Millisecond) {
		st := d.disk.status()
		failed = st != nil && st.Phase == updateapi.InstallFailed
	}
	s.mu.Lock()
	s.spoil = false
	s.mu.Unlock()
	<-s.reset // without it this waits for an hour
	<-done
	s.check()
}
