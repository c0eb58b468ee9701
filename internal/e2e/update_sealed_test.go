package e2e

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/agent/crypt"
	"github.com/ingot-os/ingot/internal/qemu"
	"github.com/ingot-os/ingot/partition"
)

// TestUpdateSealed: a machine whose data is encrypted raises the counter of its TPM when
// both slots are at a floor and the version has soaked; then it refuses what is below,
// also when its state partition was wiped (S10).
func TestUpdateSealed(t *testing.T) {
	needs(t, "amd64")
	f := newFoundry(t, "data: {size: 64M}=data: {size: 64M, encrypt: tpm}")
	old := f.release(t, "1.0.0", "")
	b := newBox(t, f, old, func(m *qemu.Machine) {
		enforce(t, m, old)
		m.TPM = true
	})
	b.on()
	b.runs("1.0.0")
	b.update(f.release(t, "2.0.0", "arch: amd64=arch: amd64\nsecurityEpoch: 2"))
	b.blessed("2.0.0", slot.B)
	b.update(f.release(t, "2.1.0", "arch: amd64=arch: amd64\nsecurityEpoch: 2"))
	b.blessed("2.1.0", slot.A)
	if r := b.soaked(); r.Floor != 2 {
		t.Errorf("the floor is %d, want 2", r.Floor)
	}
	const below = "has security epoch 0, the floor is 2"
	b.refuses(old, below)
	if r := b.operator("why"); r.code != 0 || strings.Contains(r.out, "by the journal alone") {
		t.Errorf("ingot why: code %d: %s%s", r.code, r.out, r.stderr)
	}
	b.off()
	if got := b.counted(); got != 2 {
		t.Errorf("the TPM's floor is %d, want 2", got)
	}
	b.withDisk(func(disk *os.File) {
		p := part(t, disk, partition.State)
		if _, err := disk.WriteAt(make([]byte, p.Size), p.Start); err != nil {
			t.Fatal(err)
		}
	})
	b.on()
	b.runs("2.1.0")
	b.refuses(old, below)
}

// soaked waits until a blessed version has soaked: the machine looks each minute.
func (b *box) soaked() slot.Record {
	b.t.Helper()
	for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); time.Sleep(time.Second) {
		if r := b.journal(); r.Phase == slot.Idle {
			return r
		}
	}
	b.t.Fatalf("it does not soak: %+v", b.journal())
	return slot.Record{}
}

// off presses the power button.
func (b *box) off() {
	b.t.Helper()
	if err := b.vm.PowerDown(context.WithoutCancel(b.t.Context())); err != nil {
		b.t.Error(err)
	}
	b.cut()
}

// counted is the floor by the TPM of a machine that is off.
func (b *box) counted() (floor int) {
	b.t.Helper()
	head := filepath.Join(b.t.TempDir(), "data")
	b.withDisk(func(disk *os.File) {
		data, err := io.ReadAll(io.LimitReader(part(b.t, disk, partition.Data).Section(disk), 1<<20))
		if err == nil {
			err = os.WriteFile(head, data, 0o600)
		}
		if err != nil {
			b.t.Fatal(err)
		}
	})
	withTPM(b.t, b.m.Disk, func(socket string) (err error) {
		floor, err = crypt.Floor{}.Read(b.t.Context(), head, func(context.Context) (string, error) { return socket, nil })
		return err
	})
	return floor
}
