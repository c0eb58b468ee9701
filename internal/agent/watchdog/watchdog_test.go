package watchdog

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fake is a timer that bites like a real one.
type fake struct {
	mu       sync.Mutex
	seconds  int
	refuse   bool
	fed      time.Time
	bitten   bool
	disarmed bool
}

func (f *fake) set(seconds int) (int, error) {
	if f.refuse {
		return 0, errors.New("refused")
	}
	f.seconds = seconds
	return seconds, nil
}

func (f *fake) feed() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.look()
	f.fed = time.Now()
	return nil
}

// look lets the timer bite if it was not fed in time.
func (f *fake) look() {
	if !f.fed.IsZero() && time.Since(f.fed) > time.Duration(f.seconds)*time.Second {
		f.bitten = true
	}
}

func (f *fake) disarm() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.look()
	f.disarmed = true
	return nil
}

func (f *fake) hasBitten() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.look()
	return f.bitten
}

func TestFeeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		dog, err := arm(Device{Name: "watchdog0"}, f, Options{Timeout: 1500 * time.Millisecond, Alive: func() string { return "" }})
		if err != nil {
			t.Fatal(err)
		}
		if dog.Timeout != 2*time.Second {
			t.Errorf("timeout %s, want it rounded up to 2 s", dog.Timeout)
		}
		time.Sleep(time.Hour)
		if f.hasBitten() {
			t.Error("a machine that is alive was reset")
		}
		if err := errors.Join(dog.Stop(), dog.Stop()); err != nil || !f.disarmed {
			t.Errorf("stop: %v, disarmed %t", err, f.disarmed)
		}
	})
}

// TestBites: init that says it is stuck, and init that says nothing any more.
func TestBites(t *testing.T) {
	dead := make(chan struct{})
	for name, alive := range map[string]func(since time.Duration) string{
		"stuck": func(since time.Duration) string {
			if since > time.Minute {
				return "the supervisor does not answer"
			}
			return ""
		},
		"silent": func(since time.Duration) string {
			if since > time.Minute {
				<-dead
			}
			return ""
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dead = make(chan struct{}) // of this bubble
				f, start := &fake{}, time.Now()
				var said []string
				dog, err := arm(Device{}, f, Options{Timeout: 20 * time.Second, Hungry: func(why string) { said = append(said, why) },
					Alive: func() string { return alive(time.Since(start)) }})
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				if f.hasBitten() {
					t.Fatal("bitten while alive")
				}
				time.Sleep(30 * time.Second)
				if !f.hasBitten() {
					t.Error("init was dead for 30 s and the machine was not reset")
				}
				close(dead)
				dog.Stop()
				if len(said) != 1 {
					t.Errorf("told %q, want it once", said)
				}
			})
		})
	}
}

// TestLateAnswer: one slow answer on a busy machine resets nothing.
func TestLateAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, n := &fake{}, 0
		dog, err := arm(Device{}, f, Options{Timeout: 20 * time.Second, Alive: func() string {
			if n++; n%3 == 0 {
				time.Sleep(12 * time.Second)
			}
			return ""
		}})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if f.hasBitten() {
			t.Error("reset although every answer came in time")
		}
		dog.Stop()
	})
}

func TestRefused(t *testing.T) {
	f := &fake{refuse: true}
	if dog, err := arm(Device{Name: "watchdog0"}, f, Options{}); err == nil || dog != nil || !f.disarmed {
		t.Errorf("got %v, %v, disarmed %t; want an error and a closed device", dog, err, f.disarmed)
	}
	if _, err := Arm(Device{node: filepath.Join(t.TempDir(), "none")}, Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no device: %v", err)
	}
}

func TestList(t *testing.T) {
	sysfs := t.TempDir()
	for name, attributes := range map[string]map[string]string{
		"watchdog0":  {"identity": "Software Watchdog\n", "bootstatus": "0\n"},
		"watchdog10": {"identity": "iTCO_wdt\n", "bootstatus": "0\n"},
		"watchdog2":  {"identity": "i6300ESB timer\n", "bootstatus": "32\n"},
		"watchdog3":  {}, // a kernel without CONFIG_WATCHDOG_SYSFS
	} {
		dir := filepath.Join(sysfs, "class/watchdog", name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for a, v := range attributes {
			if err := os.WriteFile(filepath.Join(dir, a), []byte(v), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	got := List(sysfs)
	want := []Device{{Name: "watchdog2", Identity: "i6300ESB timer", CardReset: true}, {Name: "watchdog3"},
		{Name: "watchdog10", Identity: "iTCO_wdt"}, {Name: "watchdog0", Identity: "Software Watchdog", Software: true}}
	if !slices.Equal(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got := List(t.TempDir()); got != nil {
		t.Errorf("no class: %v", got)
	}
	bmc := t.TempDir()
	if err := os.MkdirAll(filepath.Join(bmc, "class/misc/watchdog"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got := BMC(bmc); len(got) != 1 || got[0].Name != "watchdog" || BMC(sysfs) != nil || List(bmc) != nil {
		t.Errorf("a BMC's: %v", got)
	}
}
