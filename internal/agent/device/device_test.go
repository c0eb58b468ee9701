package device

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseUevent(t *testing.T) {
	ev, err := ParseUevent([]byte("add@/devices/pci0/virtio1\x00ACTION=add\x00MODALIAS=virtio:d00000002v00001AF4\x00SEQNUM=1\x00"))
	if err != nil || ev.Action != "add" || ev.Path != "/devices/pci0/virtio1" || ev.Env["MODALIAS"] != "virtio:d00000002v00001AF4" {
		t.Errorf("ParseUevent = %+v, %v", ev, err)
	}
	if _, err := ParseUevent([]byte("libudev\x00\xfe\xed")); err == nil {
		t.Error("a message without @ is accepted")
	}
}

func FuzzParseUevent(f *testing.F) {
	f.Add([]byte("add@/devices/x\x00A=b\x00"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		ev, err := ParseUevent(b)
		if err == nil && strings.Contains(ev.Action, "@") {
			t.Errorf("action %q", ev.Action)
		}
	})
}

const aliases = `# Aliases extracted from modules themselves.
alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci
alias virtio:d00000002v* virtio_blk
alias virtio:d00000001v* virtio_net
alias acpi*:PNP0C0C:* button
alias acpi*:LNXPWRBN:* button
alias cpu:type:x86,ven*fam*mod*:feature:*0099* aesni_intel
alias fs-ext4 ext4
broken line
`

func TestAliases(t *testing.T) {
	a, err := ReadAliases(strings.NewReader(aliases))
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string][]string{
		"virtio:d00000002v00001AF4":                             {"virtio_blk"},
		"pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00": {"virtio_pci"},
		"acpi:LNXPWRBN:":                                        {"button"},
		"acpi:PNP0C0C:X:":                                       {"button"},
		"fs-ext4":                                               {"ext4"},
		"virtio:d00000009":                                      nil,
		"":                                                      nil,
		"cpu:type:x86,ven0000fam0006mod001A:feature:,0002,0099,009A": {"aesni_intel"},
	} {
		if got := a.Match(in); !slices.Equal(got, want) {
			t.Errorf("Match(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzReadAliases(f *testing.F) {
	f.Add(aliases, "virtio:d00000002v00001AF4")
	f.Add("alias [ x\nalias a[b:c y", "a")
	f.Fuzz(func(t *testing.T, file, modalias string) {
		a, err := ReadAliases(strings.NewReader(file))
		if err == nil {
			a.Match(modalias)
		}
	})
}

// machine makes a sysfs with devices and a modules directory whose modules
// cannot load, so that what was tried shows in the errors.
func machine(t *testing.T, devices map[string]string) (*Manager, *[]string) {
	t.Helper()
	dir := t.TempDir()
	mods := filepath.Join(dir, "lib/modules/1.0")
	write(t, filepath.Join(mods, "modules.alias"), aliases)
	write(t, filepath.Join(mods, "modules.dep"), "kernel/virtio_blk.ko: kernel/virtio.ko\nkernel/virtio.ko:\nkernel/virtio_net.ko:\nkernel/button.ko:\n")
	for name, alias := range devices {
		write(t, filepath.Join(dir, "sys/bus", name, "modalias"), alias+"\n")
	}
	tried := &[]string{}
	lock := make(chan struct{}, 1)
	m, err := New(Options{Release: "1.0", Root: dir, Sysfs: filepath.Join(dir, "sys"), Errorf: func(_ string, a ...any) {
		lock <- struct{}{}
		*tried = append(*tried, a[0].(string))
		<-lock
	}})
	if err != nil {
		t.Fatal(err)
	}
	return m, tried
}

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestColdplugTriesEachAliasOnce(t *testing.T) {
	m, tried := machine(t, map[string]string{
		"virtio/devices/virtio0": "virtio:d00000002v00001AF4", "virtio/devices/virtio1": "virtio:d00000002v00001AF4",
		"acpi/devices/LNXPWRBN:00": "acpi:LNXPWRBN:", "usb/devices/1-1": "usb:unknown",
	})
	m.coldplug()
	m.coldplug()
	slices.Sort(*tried)
	if want := []string{"button", "virtio_blk"}; !slices.Equal(*tried, want) {
		t.Errorf("tried %q, want %q", *tried, want)
	}
}

func TestWaitEndsWithTheEvent(t *testing.T) {
	m, _ := machine(t, nil)
	ready := make(chan struct{})
	asked := 0
	go func() {
		<-ready
		for range 3 {
			m.event(Uevent{Action: "add", Path: "/devices/x"})
			time.Sleep(time.Millisecond)
		}
	}()
	start := time.Now()
	ok := m.Wait(context.Background(), time.Minute, func() bool {
		asked++
		if asked == 1 {
			close(ready)
		}
		return asked == 3
	})
	if !ok || time.Since(start) > 30*time.Second {
		t.Errorf("Wait = %v after %s and %d questions", ok, time.Since(start), asked)
	}
	if m.Wait(context.Background(), time.Millisecond, func() bool { return false }) {
		t.Error("Wait for what never comes is true")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if m.Wait(ctx, time.Hour, func() bool { return false }) {
		t.Error("Wait with an ended context is true")
	}
}

func TestMachineWithoutModules(t *testing.T) {
	m, err := New(Options{Release: "none", Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Load("ext4"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load = %v, want not exist", err)
	}
}
