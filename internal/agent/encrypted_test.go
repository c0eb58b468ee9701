package agent

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/internal/appliance"
)

func TestReadLine(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := readLine(context.Background(), int(r.Fd()), 300*time.Millisecond, time.Minute); err == nil {
		t.Errorf("nobody typed, but %q was read", got)
	}
	w.WriteString("abc")
	go func() {
		time.Sleep(300 * time.Millisecond) // longer than the wait for the first byte that is left
		w.WriteString("de\r\nrest")
	}()
	if got, err := readLine(context.Background(), int(r.Fd()), 200*time.Millisecond, time.Minute); err != nil || got != "abcde" {
		t.Errorf("got %q, %v", got, err)
	}
	w.WriteString(strings.Repeat("x", 2000))
	if _, err := readLine(context.Background(), int(r.Fd()), time.Second, time.Minute); err == nil {
		t.Error("a line without end is read on")
	}
	w.Close()
	for { // what is left, then the end
		if _, err := readLine(context.Background(), int(r.Fd()), time.Second, time.Second); err != nil {
			break
		}
	}
}

// pty is a terminal and the side that a person sits at.
func pty(t *testing.T) (person, terminal *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("this machine has no pseudo terminals: %v", err)
	}
	t.Cleanup(func() { person.Close() })
	var n int
	c, err := person.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	c.Control(func(fd uintptr) {
		if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err == nil {
			n, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminal.Close() })
	return person, terminal
}

// TestTypeOnTerminal: it is enough to have begun in time, and what is typed is
// not shown.
func TestTypeOnTerminal(t *testing.T) {
	person, terminal := pty(t)
	fd := int(terminal.Fd())
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	restore := rawTerminal(fd)
	go func() {
		for _, s := range []string{"wrong\x15ab", "x\x7fc", "d\r"} {
			person.WriteString(s)
			time.Sleep(700 * time.Millisecond)
		}
	}()
	if got, err := readLine(context.Background(), fd, 600*time.Millisecond, time.Minute); err != nil || got != "abcd" {
		t.Errorf("got %q, %v", got, err)
	}
	restore()
	if after, err := unix.IoctlGetTermios(fd, unix.TCGETS); err != nil || *after != *before {
		t.Errorf("the terminal stays changed (%v)", err)
	}
	var shown []byte
	for part := make([]byte, 4096); !strings.HasSuffix(string(shown), "\n"); {
		n, err := person.Read(part)
		if err != nil {
			t.Fatal(err)
		}
		shown = append(shown, part[:n]...)
	}
	if s := string(shown); strings.ContainsAny(s, "abcdwrong") || strings.Count(s, "*") != 10 {
		t.Errorf("the terminal shows %q", s)
	}
}

// TestStoppedConsole: a terminal that takes no more does not hold the boot.
func TestStoppedConsole(t *testing.T) {
	_, terminal := pty(t)
	ended := make(chan error, 1)
	go func() { ended <- tell(terminal, strings.Repeat("x", 1<<20), 200*time.Millisecond) }()
	select {
	case err := <-ended:
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a megabyte that nobody reads: %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("it blocks")
	}
}

func TestOwnSecureBoot(t *testing.T) {
	m := &Machine{spec: appliance.Spec{Trust: &appliance.Trust{PK: []byte("certificate")}}}
	m.status.SecureBoot = "disabled"
	if err := m.ownSecureBoot(); err == nil || !strings.Contains(err.Error(), "Secure Boot is disabled") {
		t.Errorf("off: %v", err)
	}
	m.status.SecureBoot, m.status.PlatformKey = "enabled", fmt.Sprintf("%x", sha256.Sum256([]byte("another")))
	if err := m.ownSecureBoot(); err == nil || !strings.Contains(err.Error(), "platform key") {
		t.Errorf("another owner: %v", err)
	}
	m.status.PlatformKey = fmt.Sprintf("%x", sha256.Sum256([]byte("certificate")))
	if err := m.ownSecureBoot(); err != nil {
		t.Errorf("ours: %v", err)
	}
	m.spec.Trust = nil
	if err := m.ownSecureBoot(); err == nil {
		t.Error("an image without keys owns the firmware")
	}
}
