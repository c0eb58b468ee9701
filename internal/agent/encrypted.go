package agent

import (
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
	v, err := m.options.Crypt(m.ctx, r)
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
	guid := m.status.Boot.Partition
	m.mu.Unlock()
	if m.disk == nil {
		return ""
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
		_, err := fmt.Fprint(w, strings.ReplaceAll(fmt.Sprintf(recoveryText, key), "\n", "\r\n"))
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
	fmt.Fprintf(f, "\r\n  The data partition is locked: %v\r\n  Type its recovery key, or wait %d s to go on without it: ", cause, int(askWait.Seconds()))
	return readLine(ctx, int(f.Fd()), askWait, typeWait)
}

// readLine reads up to a line break. The first byte has to come within first,
// the line within all; nothing blocks longer than that.
func readLine(ctx context.Context, fd int, first, all time.Duration) (string, error) {
	const step = 200 * time.Millisecond
	var line []byte
	for left := first; left > 0 && ctx.Err() == nil; left -= step {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(poll, int(step.Milliseconds())); n == 0 || errors.Is(err, unix.EINTR) {
			continue
		} else if err != nil {
			return "", err
		}
		b := make([]byte, 256)
		n, err := unix.Read(fd, b)
		if err != nil {
			return "", err
		}
		if n == 0 {
			return "", io.EOF
		}
		if len(line) == 0 {
			left = all
		}
		if line = append(line, b[:n]...); len(line) > 1024 {
			return "", errors.New("the line is too long")
		}
		if i := strings.IndexAny(string(line), "\r\n"); i >= 0 {
			return string(line[:i]), nil
		}
	}
	return "", errors.New("nobody typed a recovery key")
}
