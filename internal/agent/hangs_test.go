package agent

import (
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/appliance"
)

// sysctlDir is a kernel with two of the three watches, of which one was turned on
// by the command line.
func sysctlDir(t *testing.T) (dir string, values func() map[string]string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "kernel"), 0o755); err != nil {
		t.Fatal(err)
	}
	first := map[string]string{"kernel/hung_task_panic": "0\n", "kernel/softlockup_panic": "1\n"}
	for name, v := range first {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(v), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir, func() map[string]string {
		out := map[string]string{}
		for name := range first {
			b, _ := os.ReadFile(filepath.Join(dir, name))
			out[filepath.Base(name)] = string(b)
		}
		return out
	}
}

// TestKernelWatch: what the recipe's command line has set is as before after the
// bless, and nothing is written without a trial.
func TestKernelWatch(t *testing.T) {
	for name, c := range map[string]struct {
		phase slot.Phase
		want  map[string]string // once the boot is judged
	}{
		"the good slot": {slot.Idle, map[string]string{"hung_task_panic": "0", "softlockup_panic": "1"}},
		"a trial":       {slot.Trying, map[string]string{"hung_task_panic": "1", "softlockup_panic": "1"}},
	} {
		t.Run(name, func(t *testing.T) {
			m := testMachine(t)
			dir, values := sysctlDir(t)
			m.hangs.dir = dir
			m.dog.once.Do(func() {}) // this host's watchdog is not for tests
			m.endJudging()
			if v := values(); v["hung_task_panic"] != "0\n" {
				t.Errorf("an image without update: %v", v)
			}
			m.spec.Update = &appliance.Update{}
			m.beginJudging()
			if v := values(); v["hung_task_panic"] != "1" || v["softlockup_panic"] != "1" {
				t.Errorf("until the boot is judged: %v", v)
			}
			if c.phase == slot.Trying {
				if err := m.startTrial(); err != nil {
					t.Fatal(err)
				}
			}
			m.endJudging()
			if v := values(); !maps.Equal(v, c.want) {
				t.Errorf("judged: %v, want %v", v, c.want)
			}
			if err := m.endTrial(); err != nil {
				t.Fatal(err)
			}
			if v := values(); v["hung_task_panic"] != "0" || v["softlockup_panic"] != "1" {
				t.Errorf("after the bless: %v", v)
			}
		})
	}
}
