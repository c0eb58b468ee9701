package slots

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/partition/state"
)

// stray starts the ESP again and again, as firmware does that keeps its entries and
// uses none; it returns the resets until something rests or is launched.
func (r *rack) stray(wipe bool) (resets int, kexec string) {
	r.t.Helper()
	for range 20 {
		again, kexec := r.boot("")
		if !again {
			return resets, kexec
		}
		resets++
		if !wipe {
			continue
		}
		files, _ := filepath.Glob(r.at("vars/*"))
		for _, f := range files {
			os.Remove(f)
		}
	}
	r.t.Fatalf("%d resets", resets)
	return resets, ""
}

// TestNoResetLoopUnderSecureBoot: neither with an update client nor without, and no
// slot is called damaged.
func TestNoResetLoopUnderSecureBoot(t *testing.T) {
	for _, offline := range []bool{true, false} {
		for _, wipe := range []bool{true, false} {
			r := newRack(t)
			r.refuse = errors.New("Secure Boot is on")
			r.power()
			r.offline = offline
			for i, most := range []int{2, 2, 0} {
				if n, _ := r.stray(wipe); n > most {
					t.Errorf("offline %v, wipe %v: power on %d makes %d resets", offline, wipe, i, n)
				}
				if c := r.k.State().Slots[0].Condition; c != slot.Good {
					t.Errorf("slot a is %s", c)
				}
			}
		}
	}
}

// TestNoResetLoopOfAnOldSelector: the journal is of a newer version.
func TestNoResetLoopOfAnOldSelector(t *testing.T) {
	r := newRack(t)
	r.power()
	p, _, err := r.open("state")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := state.Store(p, state.Journal, append([]byte{'a', 9, 200}, make([]byte, 600)...)); err != nil {
		t.Fatal(err)
	}
	if n, kexec := r.stray(false); n != 0 || kexec != "slot-a" {
		t.Errorf("with right entries: %d resets, then %q", n, kexec)
	}
	os.RemoveAll(r.at("vars"))
	os.Mkdir(r.at("vars"), 0o755)
	if n, kexec := r.stray(true); n > maxResets || kexec != "slot-a" {
		t.Errorf("with entries that are forgotten: %d resets, then %q", n, kexec)
	}
}

// TestNoResetLoopWithoutJournal: the firmware loses its variables at each reset, on
// a disk that has never started, or whose journal is lost.
func TestNoResetLoopWithoutJournal(t *testing.T) {
	for _, lost := range []bool{false, true} {
		for _, refuse := range []error{nil, errors.New("Secure Boot is on")} {
			r := newRack(t)
			r.refuse = refuse
			if p, _, err := r.open("state"); err != nil {
				t.Fatal(err)
			} else if lost {
				for _, off := range state.Map()[0].Offsets {
					if _, err := p.WriteAt([]byte("INGOTST1 and rubbish"), off); err != nil {
						t.Fatal(err)
					}
				}
			}
			want := "slot-a"
			if refuse != nil {
				want = ""
			}
			if n, kexec := r.stray(true); n != maxResets || kexec != want {
				t.Errorf("lost %v, %v: %d resets, then %q, want %q", lost, refuse, n, kexec, want)
			}
			r.boot("slot-a")
			if n := r.k.resets(); n != 0 {
				t.Errorf("%d resets are kept when a slot runs", n)
			}
		}
	}
}
