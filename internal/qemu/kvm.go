package qemu

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// probeLimit is how long the probe's guest may take to give a sign of life.
// OVMF needs about half a second under a working KVM.
const probeLimit = 3 * time.Second

// ErrNoKVM is wrapped by every answer of ProbeKVM that says no.
var ErrNoKVM = errors.New("kvm is not usable")

// anything on the console means that the firmware's code ran to its end.
var anything = regexp.MustCompile(`\S`)

// ProbeKVM says by nil that guests of arch really run under KVM here. It
// starts one: the firmware alone, with the same board and CPU model as a real
// run, until it writes to the console. A device that can be opened proves
// nothing: nested or restricted hosts have one on which QEMU aborts, or a
// guest dies at its first floating point instruction, or never moves.
//
// The answer is kept in the user's cache directory per boot of the host and
// QEMU binary, so only the first call takes time (at most about 3 s).
func ProbeKVM(ctx context.Context, arch string) error {
	if arch != runtime.GOARCH {
		return fmt.Errorf("%w: the host is not %s", ErrNoKVM, arch)
	}
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoKVM, err)
	}
	f.Close()
	path := probeCache(arch)
	if known, err := os.ReadFile(path); err == nil {
		return verdict(string(known))
	}
	answer := tryKVM(ctx, arch)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if path != "" {
		os.MkdirAll(filepath.Dir(path), 0o755) // without a cache the next call probes again
		os.WriteFile(path, []byte(answer), 0o644)
	}
	return verdict(answer)
}

const kvmWorks = "ok"

func verdict(answer string) error {
	if answer == kvmWorks {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrNoKVM, answer)
}

// probeCache names the file of the answer by host boot, QEMU and firmware; ""
// when there is no place for it.
func probeCache(arch string) string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	id := strings.TrimSpace(string(boot))
	for _, path := range probeInputs(arch) {
		info, err := os.Stat(path)
		if err != nil {
			return ""
		}
		id += fmt.Sprint("\n", path, info.Size(), info.ModTime().UnixNano())
	}
	sum := sha256.Sum256([]byte(id))
	return filepath.Join(dir, "ingot", "kvm", hex.EncodeToString(sum[:8]))
}

func probeInputs(arch string) []string {
	program, err := findProgram(arch)
	if err != nil {
		return nil
	}
	firmware, err := FindFirmware(arch)
	if err != nil {
		return []string{program}
	}
	return []string{program, firmware.Code}
}

func tryKVM(ctx context.Context, arch string) string {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	vm, err := Start(ctx, Machine{Arch: arch, Accel: AccelKVM, NoReboot: true, CPUs: 1, bare: true})
	switch {
	case ctx.Err() != nil:
		return silence
	case err != nil:
		return firstLine(err.Error())
	}
	defer vm.Close()
	if _, err := vm.WaitLine(ctx, anything); err != nil {
		return silence
	}
	return kvmWorks
}

var silence = fmt.Sprintf("no sign of life from a guest in %v", probeLimit)

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
