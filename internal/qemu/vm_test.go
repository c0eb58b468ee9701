package qemu

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// bare is a machine on an empty disk: its firmware ends in the UEFI shell.
func bare(t *testing.T) Machine {
	t.Helper()
	needMachine(t, AMD64)
	return Machine{Arch: AMD64, Image: sparse(t, 1<<20), Accel: AccelTCG, WorkDir: t.TempDir(), Memory: 256, CPUs: 1}
}

func startVM(t *testing.T, m Machine) *VM {
	t.Helper()
	vm, err := Start(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { vm.Close() })
	return vm
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

// gone waits until a process that is being killed has ended.
func gone(t *testing.T, pids ...int) {
	t.Helper()
	for _, pid := range pids {
		for end := time.Now().Add(5 * time.Second); alive(pid); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("process %d is still there", pid)
			}
		}
	}
}

func empty(t *testing.T, dir string) {
	t.Helper()
	if names, err := os.ReadDir(dir); err != nil || len(names) != 0 {
		t.Errorf("left in %s: %v, %v", dir, names, err)
	}
}

// The firmware's shell is a guest that every rig has: it writes to the
// console, reads from it, and can power off.
func TestShellPowersOff(t *testing.T) {
	m := bare(t)
	keys, typed := io.Pipe()
	m.Input, m.TPM = keys, true
	before, err := os.ReadFile(m.Image)
	if err != nil {
		t.Fatal(err)
	}
	vm := startVM(t, m)
	pids := []int{vm.qemu.cmd.Process.Pid, vm.tpm.cmd.Process.Pid}
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	if _, err := vm.WaitLine(ctx, regexp.MustCompile("Mapping table")); err != nil {
		t.Fatal(err)
	}
	if s, err := vm.Status(ctx); err != nil || s != "running" {
		t.Errorf("status %q, %v", s, err)
	}
	soon, stop := context.WithTimeout(ctx, 50*time.Millisecond)
	defer stop()
	_, err = vm.WaitLine(soon, regexp.MustCompile("never written"))
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "| UEFI Interactive Shell") {
		t.Errorf("a wait in vain says %v", err)
	}
	fmt.Fprint(typed, "\x1b")
	time.Sleep(500 * time.Millisecond)
	fmt.Fprint(typed, "reset -s\r")
	e, err := vm.Wait(ctx)
	if err != nil || e.Reason != "guest-shutdown" || !e.Guest {
		t.Errorf("got %+v, %v; %s", e, err, vm.console.last(5))
	}
	if err := vm.PowerDown(ctx); err != nil {
		t.Errorf("power down of a machine that is off: %v", err)
	}
	if _, err := vm.WaitLine(ctx, regexp.MustCompile("never written")); err == nil || !strings.Contains(err.Error(), "machine ended (guest-shutdown)") {
		t.Errorf("a wait for a machine that is off says %v", err)
	}
	if err := vm.Close(); err != nil {
		t.Error(err)
	}
	gone(t, pids...)
	empty(t, m.WorkDir)
	if after, err := os.ReadFile(m.Image); err != nil || string(after) != string(before) {
		t.Errorf("the image has changed, %v", err)
	}
}

func TestCancelLeavesNothing(t *testing.T) {
	m := bare(t)
	m.TPM = true
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	vm, err := Start(ctx, m)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	gone(t, vm.qemu.cmd.Process.Pid, vm.tpm.cmd.Process.Pid)
	vm.Close() // returns when the clean-up that cancel began is done
	empty(t, m.WorkDir)
	if _, err := Start(ctx, m); !errors.Is(err, context.Canceled) {
		t.Errorf("start with a context that is over: %v", err)
	}
	empty(t, m.WorkDir)
}

// childEnv makes this test program a parent of a machine, to be killed.
const childEnv = "INGOT_TEST_PARENT"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		parent(dir)
	}
	os.Exit(m.Run())
}

func parent(dir string) {
	vm, err := Start(context.Background(), Machine{Arch: AMD64, Image: filepath.Join(dir, "x.img"), Accel: AccelTCG, TPM: true, WorkDir: dir})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(vm.qemu.cmd.Process.Pid, vm.tpm.cmd.Process.Pid)
	select {}
}

func TestKilledParentTakesItsMachineAlong(t *testing.T) {
	m := bare(t)
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), childEnv+"="+filepath.Dir(m.Image))
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	var qemu, tpm int
	line, err := bufio.NewReader(out).ReadString('\n')
	if n, _ := fmt.Sscan(line, &qemu, &tpm); n != 2 || !alive(qemu) || !alive(tpm) {
		t.Fatalf("child says %q, %v", line, err)
	}
	c.Process.Kill()
	c.Wait()
	gone(t, qemu, tpm)
}

func TestQEMUsOwnWordsAreInTheError(t *testing.T) {
	m := bare(t)
	m.ExtraArgs = []string{"-device", "no-such-card"}
	_, err := Start(t.Context(), m)
	if err == nil || !strings.Contains(err.Error(), "'no-such-card' is not a valid device model name") {
		t.Errorf("got %v", err)
	}
	empty(t, m.WorkDir)
}

func TestPortInUse(t *testing.T) {
	m := bare(t)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	m.Forwards = []Forward{{Host: l.Addr().(*net.TCPAddr).Port, Guest: 80}}
	_, err = Start(t.Context(), m)
	var hint interface{ Hint() string }
	if err == nil || !errors.As(err, &hint) || !strings.Contains(err.Error(), strconv.Itoa(m.Forwards[0].Host)) {
		t.Errorf("got %v", err)
	}
	empty(t, m.WorkDir)
}

func TestForwards(t *testing.T) {
	m := bare(t)
	m.Forwards = []Forward{{Guest: 80}, {Guest: 9443}}
	vm := startVM(t, m)
	a, b := vm.Forward(80), vm.Forward(9443)
	if a == b || !strings.HasPrefix(a, "127.0.0.1:") || !strings.HasPrefix(b, "127.0.0.1:") || vm.Forward(81) != "" {
		t.Errorf("got %q, %q, %q", a, b, vm.Forward(81))
	}
	c, err := net.DialTimeout("tcp4", a, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestResetEndsAMachineWithoutReboot(t *testing.T) {
	m := bare(t)
	m.NoReboot = true
	vm := startVM(t, m)
	if err := vm.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	e, err := vm.Wait(t.Context())
	if err != nil || e.Guest || e.Reason != "host-qmp-system-reset" {
		t.Errorf("got %+v, %v", e, err)
	}
	if _, err := vm.WaitEvent(t.Context(), EventPanicked); err == nil || !strings.Contains(err.Error(), "machine ended") {
		t.Errorf("waiting for an event of a machine that is off: %v", err)
	}
}

// Every way to attach the disk must be one that QEMU takes.
func TestDiskBuses(t *testing.T) {
	for _, arch := range []string{AMD64, ARM64} {
		for _, bus := range []string{BusVirtio, BusNVMe, BusSATA, BusSCSI, BusUSB} {
			for _, sector := range []int{512, 4096} {
				m := bare(t)
				needMachine(t, arch)
				m.Arch, m.DiskBus, m.SectorSize = arch, bus, sector
				vm, err := Start(t.Context(), m)
				if bus == BusSATA && sector == 4096 {
					if err == nil || !strings.Contains(err.Error(), "sata") {
						t.Errorf("4096 on sata: got %v", err)
					}
					continue
				}
				if err != nil {
					t.Errorf("%s %s %d: %v", arch, bus, sector, err)
					continue
				}
				tree, err := vm.qmp.human(t.Context(), "info qtree")
				if err != nil || !strings.Contains(tree, fmt.Sprintf("logical_block_size = %d (", sector)) {
					t.Errorf("%s %s %d: no such disk in the device tree, %v", arch, bus, sector, err)
				}
				vm.Close()
			}
		}
	}
}

func TestTPMFaults(t *testing.T) {
	m := bare(t)
	m.TPM = true
	programs(t, nil, "qemu-system-x86_64")
	var missing *MissingError
	if _, err := Start(t.Context(), m); !errors.As(err, &missing) || missing.Hint() != "apt-get install swtpm" {
		t.Errorf("swtpm missing: got %v", err)
	}
	empty(t, m.WorkDir)
	programs(t, map[string]string{"swtpm": "echo no space for a TPM >&2; exit 1"}, "qemu-system-x86_64")
	if _, err := Start(t.Context(), m); err == nil || !strings.Contains(err.Error(), "no space for a TPM") {
		t.Errorf("swtpm fails: got %v", err)
	}
	empty(t, m.WorkDir)
}

func TestTPMThatDiesEndsTheMachine(t *testing.T) {
	m := bare(t)
	m.TPM = true
	vm := startVM(t, m)
	vm.tpm.cmd.Process.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := vm.Wait(ctx); err == nil || !strings.Contains(err.Error(), "swtpm") {
		t.Errorf("got %v", err)
	}
}

func TestPersistentMachineKeepsItsParts(t *testing.T) {
	m := bare(t)
	dir := t.TempDir()
	m.Disk, m.TPM = filepath.Join(dir, "d.img"), true
	made := 0
	m.Vars = func(b []byte) ([]byte, error) { made++; return b, nil }
	for range 2 {
		startVM(t, m).Close()
	}
	if made != 1 {
		t.Errorf("variables were made %d times", made)
	}
	for _, name := range []string{"d.img", "d.img.machine/vars.fd", "d.img.machine/erst", "d.img.machine/tpm"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	empty(t, m.WorkDir)
}

func TestBadMachines(t *testing.T) {
	for want, m := range map[string]Machine{
		`architecture "mips"`: {Arch: "mips", Image: "x"},
		"no image":            {Arch: AMD64},
		"sector size 520":     {Arch: AMD64, Image: "x", SectorSize: 520},
		`disk bus "floppy"`:   {Arch: AMD64, Image: "x", DiskBus: "floppy"},
		"forward 0:70000":     {Arch: AMD64, Image: "x", Forwards: []Forward{{0, 70000}}},
	} {
		if _, err := Start(t.Context(), m); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	m := bare(t)
	m.Accel = "hax"
	if _, err := Start(t.Context(), m); err == nil || !strings.Contains(err.Error(), `accelerator "hax"`) {
		t.Errorf("got %v", err)
	}
	m.Accel, m.Vars = AccelTCG, func([]byte) ([]byte, error) { return nil, errors.New("no room") }
	if _, err := Start(t.Context(), m); err == nil || err.Error() != "prepare firmware variables: no room" {
		t.Errorf("got %v", err)
	}
	empty(t, m.WorkDir)
}
