package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/internal/agent/listener"
	"github.com/ingot-os/ingot/internal/agent/volume"
)

// openEncrypted opens the encrypted data partition, or makes it, and gives the
// device node and the size of what is in it. It runs before PCR 11 says that
// services are next: later the TPM gives the key to nobody.
func (m *Machine) openEncrypted(d *listener.Data, size int64) (volume.Volume, error) {
	d.Encrypted = true
	if m.options.Crypt == nil {
		return volume.Volume{}, errors.New("open encrypted partition: this init cannot; the image has the wrong variant of it")
	}
	for _, name := range []string{"dm_crypt", "xts"} {
		_ = m.devices.Load(name) // built in, or the next step says what is missing
	}
	r := volume.Request{Name: m.spec.Name, Node: d.Device, Size: size, Slot: m.bootedNode(), Epoch: m.spec.SecurityEpoch,
		TPM: m.findTPM, OwnSecureBoot: m.ownSecureBoot, Escrow: showRecoveryKey, Ask: askRecoveryKey, Logf: m.log.Printf}
	if t := m.spec.Trust; t != nil {
		r.Policy = t.Policy
	}
	v, err := m.options.Crypt.Open(m.ctx, r)
	var coded *volume.Error
	if errors.As(err, &coded) {
		d.Cause = coded.Code
	}
	if err != nil {
		return v, fmt.Errorf("open encrypted partition: %w", err)
	}
	d.UnlockedBy, d.Floor, m.volume = v.UnlockedBy, v.Floor, v
	if v.Created {
		m.log.Printf("encrypted volume made on %s", d.Device)
	}
	if v.Warning != nil {
		m.problem("data: the volume is open, but its sealed key was not renewed: %v", v.Warning)
	}
	return v, nil
}

// closeEncrypted takes the volume, and its key with it, from the kernel.
func (m *Machine) closeEncrypted() {
	if m.volume.Close == nil {
		return
	}
	if err := m.volume.Close(); err != nil {
		m.log.Printf("data: close the encrypted volume: %v", err)
	}
	m.volume.Close = nil
}

// bootedNode is the partition that the running image was read from.
func (m *Machine) bootedNode() string {
	m.mu.Lock()
	guid, booted := m.status.Boot.Partition, m.status.Boot.Slot
	m.mu.Unlock()
	switch {
	case m.disk == nil:
		return ""
	case booted != "": // also of a slot that another program has started
		return m.disk.NodeOf("slot-" + booted)
	}
	return m.disk.NodeOf(m.disk.Role(guid))
}

// ownSecureBoot is nil when the firmware checks what it starts by the keys of
// this image.
func (m *Machine) ownSecureBoot() error {
	m.mu.Lock()
	state, owner := m.status.SecureBoot, m.status.PlatformKey
	m.mu.Unlock()
	if state != "enabled" {
		return fmt.Errorf("the data partition is encrypted only under Secure Boot with own keys: Secure Boot is %s", state)
	}
	var want [sha256.Size]byte
	if t := m.spec.Trust; t != nil {
		want = sha256.Sum256(t.PK)
	}
	if owner != hex.EncodeToString(want[:]) {
		return fmt.Errorf("the data partition is encrypted only under Secure Boot with own keys: the platform key of the firmware begins with %.16s, that of the image with %x", owner, want[:8])
	}
	return nil
}

const recoveryText = `
  The data partition of this machine is being encrypted. Its recovery key is

      %s

  Write it down now: it is shown this once and kept nowhere. It opens the
  partition when the TPM does not, here on the console or by cryptsetup.

`

// showRecoveryKey writes the key to the consoles, and not to the log, which
// the network can read.
func showRecoveryKey(key string) error {
	var last error = errors.New("there is no console")
	shown := false
	for _, w := range consoles() {
		err := tell(w, fmt.Sprintf(recoveryText, key), tellWait)
		if err != nil {
			last = err
		}
		shown = shown || err == nil
		if c, ok := w.(io.Closer); ok {
			c.Close()
		}
	}
	if !shown {
		return fmt.Errorf("show the recovery key: %w", last)
	}
	return nil
}

// tellWait is how long a console may take to accept a text. One that was
// stopped (ctrl-S, a serial line without its partner) takes it never.
const tellWait = 5 * time.Second

// tell writes a text to a console, and blocks no longer than limit.
func tell(w io.Writer, text string, limit time.Duration) error {
	if d, ok := w.(interface{ SetWriteDeadline(time.Time) error }); ok {
		_ = d.SetWriteDeadline(time.Now().Add(limit)) // what has none does not block
	}
	_, err := io.WriteString(w, strings.ReplaceAll(text, "\n", "\r\n"))
	return err
}

// How long a boot waits for somebody at the console: to begin typing, and to
// end.
const (
	askWait  = 30 * time.Second
	typeWait = 5 * time.Minute
)

// askRecoveryKey reads one line from the console.
func askRecoveryKey(ctx context.Context, cause error) (string, error) {
	f, err := os.OpenFile("/dev/console", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	c, err := f.SyscallConn() // f.Fd would take the deadlines away
	if err != nil {
		return "", err
	}
	var fd int
	if err := c.Control(func(n uintptr) { fd = int(n) }); err != nil {
		return "", err
	}
	defer rawTerminal(fd)()
	err = tell(f, fmt.Sprintf("\n  The data partition is locked: %v\n  Type its recovery key, or wait %d s to go on without it: ", cause, int(askWait.Seconds())), tellWait)
	if err != nil {
		return "", err // who types must know what for
	}
	return readLine(ctx, fd, askWait, typeWait)
}

// rawTerminal makes a terminal give each byte as it is typed, and show none: the
// line would end in the logs of whoever records the console. The result takes it
// back. What is no terminal stays as it is.
func rawTerminal(fd int) (restore func()) {
	_ = unix.SetNonblock(fd, true) // for the stars
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return func() {}
	}
	raw := *old
	raw.Lflag &^= unix.ICANON | unix.ECHO
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	_ = unix.IoctlSetTermios(fd, unix.TCSETS, &raw)
	return func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, old) }
}

// readLine reads up to a line break. The first byte has to come within first,
// the line within all; nothing blocks longer than that.
func readLine(ctx context.Context, fd int, first, all time.Duration) (string, error) {
	const step = 200 * time.Millisecond
	var line typing
	for left, began := first, false; left > 0 && ctx.Err() == nil; left -= step {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(poll, int(step.Milliseconds())); n == 0 || errors.Is(err, unix.EINTR) {
			continue
		} else if err != nil {
			return "", err
		}
		b := make([]byte, 256)
		n, err := unix.Read(fd, b)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return "", err
		}
		if n == 0 {
			return "", io.EOF
		}
		if !began {
			left, began = all, true
		}
		echo, done := line.take(b[:n])
		_, _ = unix.Write(fd, echo) // nobody may look, or the line is stopped
		if done {
			return string(line), nil
		}
		if len(line) > 1024 {
			return "", errors.New("the line is too long")
		}
	}
	return "", errors.New("nobody typed a recovery key")
}

// typing is a line as it is typed.
type typing []byte

// take adds what came and says what to show of it, and whether the line is at
// its end.
func (t *typing) take(b []byte) (echo []byte, done bool) {
	const erase, backspace, kill = 0x7f, '\b', 0x15 // what terminals send for these keys
	for _, c := range b {
		switch {
		case c == '\r' || c == '\n':
			return append(echo, "\r\n"...), true
		case c == kill:
			echo = append(echo, bytes.Repeat([]byte("\b \b"), len(*t))...)
			*t = (*t)[:0]
		case c == erase || c == backspace:
			if n := len(*t); n > 0 {
				*t, echo = (*t)[:n-1], append(echo, "\b \b"...)
			}
		default:
			*t, echo = append(*t, c), append(echo, '*')
		}
	}
	return echo, false
}
