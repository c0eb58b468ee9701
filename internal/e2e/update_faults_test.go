package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/ingot-os/ingot/internal/initbin"
)

// faultyInit is put into ingot-init beside its own source, by go build -overlay:
// what the program under test is made of has no such switch. The word
// ingot.fault.NAME of the command line says what goes wrong.
//
//	early   it hangs before anything of it runs, and before any watchdog
//	armed   its boot stands still as soon as the watchdog is armed
//	exit    it ends
const faultyInit = `package agent

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// hang is called once the watchdog of a trial is armed.
var hang = func() {}

func init() {
	_ = os.Mkdir("/proc", 0o755)
	if unix.Mount("proc", "/proc", "proc", 0, "") != nil {
		return
	}
	b, _ := os.ReadFile("/proc/cmdline")
	_ = unix.Unmount("/proc", 0)
	switch text := string(b); {
	case strings.Contains(text, "ingot.fault.early"):
		for {
			time.Sleep(time.Hour)
		}
	case strings.Contains(text, "ingot.fault.exit"):
		os.Exit(3)
	case strings.Contains(text, "ingot.fault.armed"):
		hang = func() {
			println("\rfault: the watchdog is armed, init stands still")
			select {}
		}
	}
}
`

// faulty is an ingot whose images have that init.
var faulty = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(root, "faulty")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	module, err := filepath.Abs("../..")
	if err != nil {
		return "", err
	}
	source := filepath.Join(dir, "fault.go")
	if err := os.WriteFile(source, []byte(faultyInit), 0o644); err != nil {
		return "", err
	}
	program := filepath.Join(dir, "init")
	trial, err := stuckTrial(dir, filepath.Join(module, "internal/agent/trial.go"))
	if err != nil {
		return "", err
	}
	err = overlay(dir, program, "./cmd/"+string(initbin.Fleet), map[string]string{
		filepath.Join(module, "internal/agent/fault.go"): source,
		filepath.Join(module, "internal/agent/trial.go"): trial,
	})
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile(program)
	if err != nil {
		return "", err
	}
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		return "", err
	}
	packed := program + ".zst"
	if err := os.WriteFile(packed, enc.EncodeAll(b, nil), 0o644); err != nil {
		return "", err
	}
	exe := filepath.Join(dir, "ingot")
	return exe, overlay(dir, exe, "./cmd/ingot", map[string]string{
		filepath.Join(module, "internal/initbin/bin", string(initbin.Fleet)+"-amd64.zst"): packed,
	})
})

// stuckTrial is the source of a trial with the call of hang after the watchdog is
// armed.
func stuckTrial(dir, file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	const armed = "\tm.armWatchdog()\n"
	if strings.Count(string(b), armed) != 1 {
		return "", fmt.Errorf("%s arms the watchdog in another way now: change this test", file)
	}
	out := filepath.Join(dir, "trial.go")
	return out, os.WriteFile(out, []byte(strings.Replace(string(b), armed, armed+"\thang()\n", 1)), 0o644)
}

// overlay compiles a package of this module in which some files are others.
func overlay(dir, output, pkg string, replace map[string]string) error {
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return err
	}
	file := output + ".overlay"
	if err := os.WriteFile(file, b, 0o644); err != nil {
		return err
	}
	c := exec.Command("go", "build", "-overlay", file, "-trimpath", "-ldflags=-s -w", "-o", output, pkg)
	c.Dir = "../.."
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	return nil
}

// faulted is a release whose init goes wrong.
func (f *foundry) faulted(t *testing.T, version, fault string) recipe {
	t.Helper()
	exe, err := faulty()
	if err != nil {
		t.Fatal(err)
	}
	return recipe{version: version, edits: "cmdline: [quiet]=cmdline: [quiet, ingot.fault." + fault + "]", program: exe}
}
