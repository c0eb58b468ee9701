package qemu

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// A QEMU that hangs, aborts or stops its guest must all count as no KVM, soon.
func TestProbeSurvivesBrokenKVM(t *testing.T) {
	code := filepath.Join(t.TempDir(), "code")
	if err := os.WriteFile(code, make([]byte, 4096), 0o644); err != nil {
		t.Fatal(err)
	}
	for script, want := range map[string]string{
		"exec /bin/sleep 60": "no sign of life",
		"echo 'failed to set MSR 0x10a' >&2; kill -ABRT $$": "failed to set MSR 0x10a",
		"exit 0": "qemu ended",
	} {
		programs(t, map[string]string{"qemu-system-x86_64": script})
		firmware(t, Firmware{Code: code, Vars: code})
		begin := time.Now()
		got := tryKVM(t.Context(), AMD64)
		if !strings.Contains(got, want) || time.Since(begin) > probeLimit+2*time.Second {
			t.Errorf("%s: got %q after %v", script, got, time.Since(begin))
		}
	}
}

func TestProbeAnswerIsKept(t *testing.T) {
	if _, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0); err != nil {
		t.Skip("this host has no /dev/kvm to probe")
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	count := filepath.Join(t.TempDir(), "count")
	program := map[string]string{"amd64": "qemu-system-x86_64", "arm64": "qemu-system-aarch64"}[runtime.GOARCH]
	programs(t, map[string]string{program: "echo run >>" + count + "; exit 1"})
	code := filepath.Join(t.TempDir(), "code")
	firmware(t, Firmware{Code: code, Vars: code})
	if err := os.WriteFile(code, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := ProbeKVM(t.Context(), runtime.GOARCH); !errors.Is(err, ErrNoKVM) {
			t.Errorf("got %v", err)
		}
	}
	if b, _ := os.ReadFile(count); string(b) != "run\n" {
		t.Errorf("probe ran for %q", b)
	}
}

func TestProbeOfAForeignArchitecture(t *testing.T) {
	if err := ProbeKVM(t.Context(), "riscv64"); !errors.Is(err, ErrNoKVM) {
		t.Errorf("got %v", err)
	}
}
