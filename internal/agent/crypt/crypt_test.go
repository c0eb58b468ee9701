package crypt

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/attest/phase"
	"github.com/ingot-os/ingot/attest/policy"
	"github.com/ingot-os/ingot/attest/tpm"
	"github.com/ingot-os/ingot/internal/agent/volume"
	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/partition/fat"
	"github.com/ingot-os/ingot/partition/luks"
	"github.com/ingot-os/ingot/partition/tree"
)

// box is a machine: a virtual TPM that survives power cycles, a data
// partition, firmware with some keys.
type box struct {
	t       *testing.T
	dir     string
	cmd     *exec.Cmd
	disk    *partition
	shown   []string // recovery keys
	noBoot  error    // what OwnSecureBoot says
	noShow  error
	typed   []string // answers to Ask
	sigFile []byte
}

// partition is a file that fails after some writes.
type partition struct {
	*os.File
	left int // -1 = never
}

var errCut = errors.New("power cut")

func (p *partition) WriteAt(b []byte, off int64) (int, error) {
	if p.left == 0 {
		n, _ := p.File.WriteAt(b[:len(b)/2/512*512], off)
		return n, errCut
	}
	p.left--
	return p.File.WriteAt(b, off)
}

const diskSize = MinSize + 1<<20

func newBox(t *testing.T) *box {
	t.Helper()
	oracle.Need(t, "swtpm", "swtpm")
	dir, err := os.MkdirTemp("", "box") // short: it holds a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	b := &box{t: t, dir: dir}
	f, err := os.Create(filepath.Join(dir, "data"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	b.disk = &partition{f, -1}
	b.wipe()
	t.Cleanup(b.off)
	return b
}

func (b *box) wipe() {
	b.t.Helper()
	if err := errors.Join(b.disk.Truncate(0), b.disk.Truncate(diskSize)); err != nil {
		b.t.Fatal(err)
	}
}

func (b *box) socket() string { return filepath.Join(b.dir, "sock") }

func (b *box) off() {
	if b.cmd != nil {
		b.cmd.Process.Kill()
		b.cmd.Wait()
		b.cmd = nil
	}
}

// release is what is booted: its PCR 11, its epoch and whose signatures lie
// beside it.
type release struct {
	program string
	epoch   int
}

// boot is a power cycle: firmware with these keys starts a release.
func (b *box) boot(keys string, r release) {
	b.t.Helper()
	b.off()
	os.Remove(b.socket())
	b.cmd = exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+b.dir, "--server", "type=unixio,path="+b.socket(),
		"--ctrl", "type=unixio,path="+b.socket()+".ctrl", "--flags", "not-need-init,startup-clear")
	if err := b.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	for range 300 {
		if c, err := tpm.Open(b.socket()); err == nil {
			c.Close()
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	b.extend(7, keys)
	b.extend(11, r.program)
	b.sigFile = signatures(b.t, policyRSA(), r)
}

func (b *box) chip() *tpm.TPM {
	b.t.Helper()
	c, err := tpm.Open(b.socket())
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

func (b *box) extend(register int, text string) {
	b.t.Helper()
	c := b.chip()
	defer c.Close()
	if err := c.Extend(register, map[pcr.Bank]pcr.Digest{pcr.SHA256: pcr.SHA256.Sum([]byte(text))}); err != nil {
		b.t.Fatal(err)
	}
}

var policyRSA = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

func spki(t *testing.T, k *rsa.PrivateKey) []byte {
	t.Helper()
	b, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// signatures is the file of a release, made from its program alone.
func signatures(t *testing.T, k *rsa.PrivateKey, r release) []byte {
	t.Helper()
	s := pcr.Start(pcr.SHA256, 0)
	if err := s.Extend(11, pcr.SHA256.Sum([]byte(r.program))); err != nil {
		t.Fatal(err)
	}
	d := policy.Digest{}.PCR(policy.Values{11: [32]byte(s.Value(11))})
	f, err := policy.Sign(nil, k, r.epoch, d)
	if err != nil {
		t.Fatal(err)
	}
	b, err := f.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *box) tpmNode(context.Context) (string, error) { return b.socket(), nil }

// unlock is what Open does before it asks the kernel.
func (b *box) unlock(epoch int) (unlocked, error) {
	b.t.Helper()
	return unlock(context.Background(), b.request(epoch), b.disk)
}

func (b *box) request(epoch int) volume.Request {
	b.t.Helper()
	r := volume.Request{Name: "hello", Node: "/dev/vda7", Size: diskSize, Policy: spki(b.t, policyRSA()), Epoch: epoch, TPM: b.tpmNode,
		Signatures: func() ([]byte, error) {
			if b.sigFile == nil {
				return nil, os.ErrNotExist
			}
			return b.sigFile, nil
		},
		OwnSecureBoot: func() error { return b.noBoot },
		Escrow:        func(key string) error { b.shown = append(b.shown, key); return b.noShow },
		Logf:          b.t.Logf,
	}
	if b.typed != nil {
		r.Ask = func(context.Context, error) (string, error) {
			if len(b.typed) == 0 {
				return "", errors.New("nobody there")
			}
			var next string
			next, b.typed = b.typed[0], b.typed[1:]
			return next, nil
		}
	}
	return r
}

// opens sees that the volume opens by the TPM, with the key that it has.
func (b *box) opens(what string, epoch int, key []byte) unlocked {
	b.t.Helper()
	u, err := b.unlock(epoch)
	if err != nil {
		b.t.Fatalf("%s: %v", what, err)
	}
	if u.by != volume.ByTPM || key != nil && !bytes.Equal(u.key, key) {
		b.t.Fatalf("%s: by %s, the same key: %v", what, u.by, bytes.Equal(u.key, key))
	}
	if u.warning != nil {
		b.t.Errorf("%s: %v", what, u.warning)
	}
	if base := u.base(); base == nil || *base != b.token().Base {
		b.t.Errorf("%s: the counter counts from %v", what, base)
	}
	return u
}

// refused sees that the volume stays closed for this reason and unchanged.
func (b *box) refused(what, code string, epoch int) {
	b.t.Helper()
	before := b.content()
	_, err := b.unlock(epoch)
	var e *volume.Error
	if !errors.As(err, &e) || e.Code != code {
		b.t.Errorf("%s: %v, want %s", what, err, code)
	}
	if !bytes.Equal(b.content(), before) {
		b.t.Errorf("%s: the partition was changed", what)
	}
}

func (b *box) content() []byte {
	b.t.Helper()
	out := make([]byte, diskSize)
	if _, err := b.disk.ReadAt(out, 0); err != nil {
		b.t.Fatal(err)
	}
	return out
}

func (b *box) raise(epoch int) {
	b.t.Helper()
	if floor, err := (Floor{}).Raise(context.Background(), b.disk.Name(), b.tpmNode, epoch); err != nil || floor != epoch {
		b.t.Fatalf("raise to %d: %d, %v", epoch, floor, err)
	}
}

const ours = "own keys"

var (
	v1 = release{"release 1", 0}
	v2 = release{"release 2", 2}
	v3 = release{"release 3", 2}
)

// TestLife is the life of a machine: made, started again, updated, the floor
// raised, and what is older than the floor refused.
func TestLife(t *testing.T) {
	b := newBox(t)
	b.boot(ours, v1)
	u := b.opens("first boot", 0, nil)
	if !u.created || len(b.shown) != 1 {
		t.Fatalf("created %v, %d recovery keys", u.created, len(b.shown))
	}
	b.boot(ours, v1)
	if u := b.opens("second boot", 0, u.key); u.created || len(b.shown) != 1 {
		t.Errorf("made again, or the recovery key shown again")
	}
	b.extend(11, phase.Services)
	b.refused("after the services have started", volume.Changed, 0)
	before := b.content()

	b.boot(ours, v2)
	b.opens("a new release", 2, u.key)
	b.boot(ours, v2)
	b.opens("a new release again", 2, u.key)
	b.boot(ours, v1)
	b.opens("back to the old release, before the new one is blessed", 0, u.key)
	b.boot(ours, v2)
	b.opens("the new release", 2, u.key)
	b.extend(11, phase.Services)
	b.raise(2)
	b.raise(2)
	b.boot(ours, v1)
	b.refused("the old release below the floor", volume.BelowFloor, 0)
	b.refused("the old release that calls itself new", volume.BelowFloor, 2)
	b.typed = []string{b.shown[0]}
	if got, err := b.unlock(0); err != nil || got.by != volume.ByRecovery || got.warning == nil {
		t.Fatalf("the old release with the recovery key: %v, %+v", err, got)
	}
	b.typed = nil
	b.refused("the old release after it", volume.BelowFloor, 0)
	b.boot(ours, v2)
	if got := b.opens("the new release above the floor", 2, u.key); got.floor != 2 {
		t.Errorf("floor %d", got.floor)
	}
	b.boot(ours, v3)
	b.opens("another release of the same epoch", 2, u.key)
	if _, err := b.disk.WriteAt(before, 0); err != nil {
		t.Fatal(err)
	}
	for _, r := range []release{v1, v2} {
		b.boot(ours, r)
		b.refused("a copy of the partition from before", volume.FloorLost, r.epoch)
	}
}

func TestChangedRelease(t *testing.T) {
	b := newBox(t)
	b.boot(ours, v1)
	b.opens("first boot", 0, nil)
	b.boot(ours, release{"changed", 0})
	b.sigFile = signatures(t, policyRSA(), v1)
	b.refused("a changed program beside the old signatures", volume.Changed, 0)
	b.sigFile = nil
	b.refused("without signatures", volume.Unsigned, 0)
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	b.sigFile = signatures(t, other, release{"changed", 0})
	b.refused("signatures by another key", volume.Unsigned, 0)
	b.sigFile = []byte("{}")
	b.refused("no signatures in the file", volume.Unsigned, 0)
}

// TestForeignSystem is S3: PCR 11 is replayed by a system that was started by
// other keys, or without Secure Boot.
func TestForeignSystem(t *testing.T) {
	b := newBox(t)
	b.boot(ours, v1)
	b.opens("first boot", 0, nil)
	b.boot("keys of somebody else", v1)
	b.refused("other keys", volume.Firmware, 0)
	b.noBoot = errors.New("Secure Boot is off")
	b.refused("Secure Boot off", volume.SecureBoot, 0)
}

// TestCounter57 is S10.
func TestCounter57(t *testing.T) {
	b := newBox(t)
	b.boot(ours, v1)
	c := b.chip()
	n, err := c.DefineCounter(tpm.FloorIndex)
	for err == nil && n.Value < 57 {
		n, err = c.Increment(tpm.FloorIndex)
	}
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	u := b.opens("first boot with a counter of 57", 0, nil)
	c = b.chip()
	if err := c.DeleteCounter(tpm.FloorIndex); err != nil {
		t.Fatal(err)
	}
	c.Close()
	b.boot(ours, v1)
	b.refused("the counter is deleted", volume.FloorLost, 0)
	c = b.chip()
	if n, err = c.DefineCounter(tpm.FloorIndex); err != nil || n.Value <= 57 {
		t.Fatalf("%+v, %v", n, err)
	}
	c.Close()
	b.refused("the counter is made anew", volume.FloorLost, 0)
	b.typed = []string{"no key", strings.ToUpper(b.shown[0])}
	before := b.content()
	if got, err := b.unlock(0); err != nil || got.warning == nil || got.base() != nil || !bytes.Equal(b.content(), before) {
		t.Fatalf("with a counter that counts from elsewhere: %v, %v", err, got.warning)
	}
	c = b.chip()
	if err := c.DeleteCounter(tpm.FloorIndex); err != nil {
		t.Fatal(err)
	}
	c.Close()
	b.typed = []string{b.shown[0]}
	got, err := b.unlock(0)
	if err != nil || got.by != volume.ByRecovery || got.warning != nil || !bytes.Equal(got.key, u.key) {
		t.Fatalf("by the recovery key: %v, %v", err, got.warning)
	}
	if base := got.base(); base == nil || *base != int64(n.Value)+1 {
		t.Errorf("sealed anew, counting from %v; the counter stood at %d", base, n.Value)
	}
	b.typed = nil
	b.boot(ours, v1)
	b.opens("after the recovery", 0, u.key)
}

// TestOldHeader: an old release beside a header from before the floor was
// raised, changed or not. The recovery key opens it for one boot.
func TestOldHeader(t *testing.T) {
	b := newBox(t)
	b.boot(ours, v1)
	u := b.opens("first boot", 0, nil)
	old := b.content()
	b.boot(ours, v2)
	b.opens("a new release", 2, u.key)
	b.raise(2)
	for what, change := range map[string]func(*token){
		"as it was":       func(*token) {},
		"another TPM":     func(k *token) { k.Storage = "00" },
		"other base":      func(k *token) { k.Base += 2; k.Blobs[0].Limit += 2 },
		"both":            func(k *token) { k.Storage = "00"; k.Base += 2; k.Blobs[0].Limit += 2 },
		"other firmware":  func(k *token) { k.PCR7 = strings.Repeat("00", 32); k.Base += 2; k.Blobs[0].Limit += 2 },
		"no token of our": func(k *token) { k.Type = "x" },
	} {
		if _, err := b.disk.WriteAt(old, 0); err != nil {
			t.Fatal(err)
		}
		h := b.header()
		k := b.token()
		change(&k)
		if err := errors.Join(k.put(h), h.Store(b.disk)); err != nil {
			t.Fatal(err)
		}
		b.boot(ours, v1)
		before := b.content()
		b.typed = []string{b.shown[0]}
		got, err := b.unlock(0)
		if err != nil || got.warning == nil || got.base() != nil || !bytes.Equal(b.content(), before) {
			t.Errorf("%s: %v, %v", what, err, got.warning)
		}
		b.typed = nil
	}
}

// TestFirmwareChanged: after a change of PCR 7 the recovery key seals anew, the
// counter stays.
func TestFirmwareChanged(t *testing.T) {
	b := newBox(t)
	b.boot(ours, v1)
	u := b.opens("first boot", 0, nil)
	b.boot("own keys, new dbx", v1)
	b.refused("a new dbx", volume.Firmware, 0)
	b.typed = []string{"", "", b.shown[0]}
	if got, err := b.unlock(0); err != nil || got.warning != nil {
		t.Fatalf("by the recovery key: %v, %v", err, got.warning)
	}
	b.typed = nil
	b.boot("own keys, new dbx", v1)
	b.opens("after it", 0, u.key)
}

// TestAskEnds: lines without end do not hold the boot.
func TestAskEnds(t *testing.T) {
	b := newBox(t)
	b.boot(ours, v1)
	b.opens("first boot", 0, nil)
	b.boot("keys of somebody else", v1)
	b.typed = make([]string, 1000)
	b.refused("a thousand empty lines", volume.Firmware, 0)
	if asked := 1000 - len(b.typed); asked != maxTries {
		t.Errorf("asked %d times", asked)
	}
}

// TestSquatted: somebody has put another index in the counter's place.
func TestSquatted(t *testing.T) {
	b := newBox(t)
	b.boot(ours, v1)
	c, err := net.Dial("unix", b.socket())
	if err != nil {
		t.Fatal(err)
	}
	// TPM2_NV_DefineSpace: the owner with an empty password, no authorization
	// value, then TPMS_NV_PUBLIC with OWNERWRITE, OWNERREAD and AUTHREAD.
	command := "8002 0000002d 0000012a 40000001 00000009 40000009 0000 00 0000 0000 000e 01801907 000b 00060002 0000 0008"
	raw, err := hex.DecodeString(strings.ReplaceAll(command, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 100)
	if _, err = c.Write(raw); err == nil {
		_, err = c.Read(answer)
	}
	c.Close()
	if err != nil || !bytes.Equal(answer[6:10], make([]byte, 4)) {
		t.Fatalf("make an index: %v, % x", err, answer[:10])
	}
	b.opens("first boot", 0, nil)
	b.boot(ours, v1)
	b.opens("second boot", 0, nil)
}

// TestPlanted: a blob of the release's floor that does not open is no
// preparation.
func TestPlanted(t *testing.T) {
	b := newBox(t)
	b.boot(ours, v1)
	u := b.opens("first boot", 0, nil)
	h, k := b.header(), b.token()
	planted := k.Blobs[0]
	planted.Floor, planted.Limit = 2, k.limit(2)
	k.Blobs = append([]blob{planted}, k.Blobs...)
	if err := errors.Join(k.put(h), h.Store(b.disk)); err != nil {
		t.Fatal(err)
	}
	b.boot(ours, v2)
	b.opens("a new release", 2, u.key)
	b.raise(2)
	b.boot(ours, v2)
	b.opens("above the floor", 2, u.key)
}

func TestOtherMachine(t *testing.T) {
	b, other := newBox(t), newBox(t)
	b.boot(ours, v1)
	u := b.opens("first boot", 0, nil)
	other.boot(ours, v1)
	if _, err := other.disk.WriteAt(b.content(), 0); err != nil {
		t.Fatal(err)
	}
	other.refused("the disk in another machine", volume.OtherTPM, 0)
	other.typed = []string{}
	other.refused("with nobody to ask", volume.OtherTPM, 0)
	other.typed = []string{b.shown[0]}
	if got, err := other.unlock(0); err != nil || !bytes.Equal(got.key, u.key) {
		t.Fatalf("by the recovery key: %v", err)
	}
	other.typed = nil
	other.boot(ours, v1)
	other.opens("sealed to the other machine", 0, u.key)
}

// TestRecoveryWithoutSecureBoot: the key opens, but nothing is sealed to a
// firmware that starts anything.
func TestRecoveryWithoutSecureBoot(t *testing.T) {
	b := newBox(t)
	b.boot(ours, v1)
	b.opens("first boot", 0, nil)
	b.boot("Secure Boot off", v1)
	b.noBoot, b.typed = errors.New("Secure Boot is off"), []string{b.shown[0]}
	before := b.content()
	got, err := b.unlock(0)
	var e *volume.Error
	if err != nil || !errors.As(got.warning, &e) || e.Code != volume.SecureBoot || got.base() != nil {
		t.Fatalf("%v, %+v", err, got)
	}
	if !bytes.Equal(b.content(), before) {
		t.Error("something was written")
	}
}

// TestSubstituted: another system on the same machine makes a volume whose
// passphrase it knows and seals it as we would, to read what will be written.
func TestSubstituted(t *testing.T) {
	b := newBox(t)
	b.boot(ours, v1)
	u := b.opens("first boot", 0, nil)
	whole, genuine := b.content(), b.token()
	forge := func(keys string, r release) (token, []byte) {
		b.boot(keys, r)
		m, err := openMachine(context.Background(), b.request(r.epoch))
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		pcr7, err := hex.DecodeString(genuine.PCR7)
		if err != nil {
			t.Fatal(err)
		}
		m.values[7] = [32]byte(pcr7) // the policy is no secret
		known := bytes.Repeat([]byte{1}, 32)
		forged := genuine
		made, err := m.seal(known, genuine.Blobs[0].Approved, genuine.Blobs[0].Limit)
		if err != nil {
			t.Fatal(err)
		}
		made.PCR11 = genuine.Blobs[0].PCR11
		forged.Blobs = []blob{made}
		return forged, known
	}
	for what, other := range map[string]release{"the same program": v1, "another program": {"evil", 0}} {
		forged, known := forge("keys of somebody else", other)
		raw, err := json.Marshal(forged)
		if err != nil {
			t.Fatal(err)
		}
		b.wipe()
		if _, err := luks.Format(b.disk, rand.Reader, luks.Volume{UUID: "u", Size: diskSize, SectorSize: 4096, Slots: []luks.Slot{{Passphrase: known}},
			Tokens: map[string]json.RawMessage{"0": raw}}); err != nil {
			t.Fatal(err)
		}
		b.boot(ours, v1)
		b.refused("a volume made by "+what+" under other keys", volume.Substituted, 0)
	}
	if _, err := b.disk.WriteAt(whole, 0); err != nil {
		t.Fatal(err)
	}
	b.opens("ours again", 0, u.key)
}

func (b *box) token() token {
	b.t.Helper()
	t, err := readToken(b.header())
	if err != nil {
		b.t.Fatal(err)
	}
	return t
}

func TestProvisionRefuses(t *testing.T) {
	b := newBox(t)
	b.boot(ours, v1)
	b.noBoot = errors.New("Secure Boot is off")
	b.refused("Secure Boot off", volume.SecureBoot, 0)
	b.noBoot, b.sigFile = nil, nil
	b.refused("no signatures", volume.Unsigned, 0)
	b.boot(ours, v1)
	b.refused("signatures for a lower epoch", volume.Unsigned, 1)
	b.noShow = errors.New("no console")
	b.refused("nowhere to tell the recovery key", volume.Failed, 0)
	b.noShow = nil
	b.off()
	b.refused("no TPM", volume.NoTPM, 0)
}

func TestLeavesOthersAlone(t *testing.T) {
	b := newBox(t)
	b.boot(ours, v1)
	if _, err := b.disk.WriteAt([]byte{0x53, 0xef}, 1080); err != nil {
		t.Fatal(err)
	}
	b.refused("an ext4", volume.Foreign, 0)
	b.wipe()
	if _, err := luks.Format(b.disk, rand.Reader, luks.Volume{UUID: "u", Size: diskSize, SectorSize: 512, Slots: []luks.Slot{{Passphrase: []byte("x")}}}); err != nil {
		t.Fatal(err)
	}
	b.refused("somebody else's volume", volume.Damaged, 0)
	b.wipe()
	b.opens("first boot", 0, nil)
	if _, err := b.disk.WriteAt(make([]byte, 8192), 4096); err != nil {
		t.Fatal(err)
	}
	b.opens("one header damaged", 0, nil)
	if _, err := b.disk.WriteAt(make([]byte, 8192), 16384+4096); err != nil {
		t.Fatal(err)
	}
	b.opens("the other one, after the first was repaired", 0, nil)
	if _, err := b.disk.WriteAt(make([]byte, 8192), 4096); err != nil {
		t.Fatal(err)
	}
	if _, err := b.disk.WriteAt(make([]byte, 8192), 16384+4096); err != nil {
		t.Fatal(err)
	}
	b.refused("both headers damaged", volume.Damaged, 0)
}

// TestCuts: a power cut at any write of the first boot leaves a blank partition
// or a volume that opens; one at any write of a new release's first boot leaves
// a volume that both releases open.
func TestCuts(t *testing.T) {
	b := newBox(t)
	for n := 0; ; n++ {
		b.wipe()
		b.boot(ours, v1)
		b.disk.left = n
		_, err := b.unlock(0)
		b.disk.left = -1
		if err == nil {
			if n < 6 {
				t.Fatalf("only %d writes", n)
			}
			break
		}
		if !errors.Is(err, errCut) {
			t.Fatalf("cut at write %d: %v", n, err)
		}
		b.boot(ours, v1)
		u := b.opens("after the cut", 0, nil)
		if _, err := b.header().Unlock(b.disk, slotRecovery, []byte(b.shown[len(b.shown)-1])); err != nil {
			t.Errorf("cut at write %d: the last key that was told: %v (made again: %v)", n, err, u.created)
		}
	}
	whole, last := b.content(), false
	for n := 0; !last; n++ {
		if _, err := b.disk.WriteAt(whole, 0); err != nil {
			t.Fatal(err)
		}
		b.boot(ours, v2)
		b.disk.left = n
		u, err := b.unlock(2)
		b.disk.left = -1
		if err != nil {
			t.Fatalf("cut at write %d: %v: the volume was open before anything was written", n, err)
		}
		if last = u.warning == nil; last && n < 4 {
			t.Fatalf("only %d writes", n)
		}
		b.boot(ours, v1)
		b.opens("the old release after the cut", 0, u.key)
		b.boot(ours, v2)
		b.opens("the new release after the cut", 2, u.key)
	}
}

func (b *box) header() *luks.Header {
	b.t.Helper()
	h, err := luks.Read(b.disk)
	if err != nil {
		b.t.Fatal(err)
	}
	return h
}

// TestCutRaise: between two increments the new release opens, the old does not,
// and raising goes on.
func TestCutRaise(t *testing.T) {
	b := newBox(t)
	b.boot(ours, v1)
	u := b.opens("first boot", 0, nil)
	if _, err := (Floor{}).Raise(context.Background(), b.disk.Name(), b.tpmNode, 2); err == nil {
		t.Error("raised to a floor that nothing is sealed for")
	}
	b.boot(ours, v2)
	b.opens("a new release", 2, u.key)
	c := b.chip()
	if _, err := c.Increment(tpm.FloorIndex); err != nil {
		t.Fatal(err)
	}
	c.Close()
	b.boot(ours, v1)
	b.refused("the old release", volume.BelowFloor, 0)
	b.boot(ours, v2)
	b.opens("the new release", 2, u.key)
	b.raise(2)
}

// TestTwoRaises: two releases in a row raise the epoch. The floor follows one step
// behind, to the epoch of the fallback, and both open all along.
func TestTwoRaises(t *testing.T) {
	b := newBox(t)
	five, seven, nine := release{"release 5", 5}, release{"release 7", 7}, release{"release 9", 9}
	b.boot(ours, v1)
	u := b.opens("first boot", 0, nil)
	b.boot(ours, five)
	b.opens("epoch 5", 5, u.key)
	b.boot(ours, seven)
	b.opens("epoch 7", 7, u.key)
	b.boot(ours, five)
	b.opens("back on epoch 5", 5, u.key)
	b.boot(ours, seven)
	b.opens("epoch 7 again", 7, u.key)
	b.raise(5)
	b.boot(ours, v1)
	b.refused("epoch 0 below the floor", volume.BelowFloor, 0)
	b.boot(ours, five)
	b.opens("the fallback at the floor", 5, u.key)
	b.boot(ours, nine)
	b.opens("epoch 9", 9, u.key)
	b.raise(7)
	b.boot(ours, five)
	b.refused("epoch 5 below the floor", volume.BelowFloor, 5)
	b.boot(ours, seven)
	b.opens("the fallback at the floor, again", 7, u.key)
	b.raise(7)
}

// TestNeeded: which blobs stay beside that of a release.
func TestNeeded(t *testing.T) {
	for _, c := range []struct {
		have  []int
		epoch int
		want  []int
	}{
		{nil, 5, nil}, {[]int{0}, 5, []int{0}}, {[]int{5, 0}, 7, []int{5, 0}}, {[]int{7, 5, 0}, 9, []int{7, 0}},
		{[]int{7, 5, 0}, 6, []int{5, 0}}, {[]int{0, 7}, 5, []int{7, 0}}, {[]int{9, 7, 0}, 5, []int{7, 0}},
	} {
		var have []blob
		for _, f := range c.have {
			have = append(have, blob{Floor: f})
		}
		var got []int
		for _, b := range needed(have, c.epoch) {
			got = append(got, b.Floor)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("beside %d of %v: %v, want %v", c.epoch, c.have, got, c.want)
		}
	}
}

func TestKeys(t *testing.T) {
	k, err := NewKey(bytes.NewReader(bytes.Repeat([]byte{0x0f, 0xa5, 0x31}, 10)))
	if err != nil {
		t.Fatal(err)
	}
	if len(k) != 47 || strings.Count(k, "-") != 7 || strings.ContainsAny(k, "ilou") {
		t.Errorf("%q", k)
	}
	for _, typed := range []string{k, strings.ToUpper(k), strings.ReplaceAll(k, "-", " "), " " + strings.ReplaceAll(k, "-", "") + "\n",
		strings.ReplaceAll(strings.ReplaceAll(k, "0", "O"), "1", "l")} {
		if got, err := ParseKey(typed); err != nil || got != k {
			t.Errorf("ParseKey(%q) = %q, %v", typed, got, err)
		}
	}
	for _, typed := range []string{"", k[1:], k + "0", "!" + k[1:], "u" + k[1:]} {
		if got, err := ParseKey(typed); err == nil {
			t.Errorf("ParseKey(%q) = %q", typed, got)
		}
	}
	if _, err := NewKey(strings.NewReader("short")); err == nil {
		t.Error("a key without randomness")
	}
}

// TestReadSignatures finds the file beside the boot file, wherever that is.
func TestReadSignatures(t *testing.T) {
	volumeOf := func(files map[string]string) string {
		t.Helper()
		var tr tree.Tree
		for _, name := range slices.Sorted(maps.Keys(files)) {
			if err := tr.Add(tree.Node{Path: name, Mode: 0o644, Content: tree.Bytes(files[name])}); err != nil {
				t.Fatal(err)
			}
		}
		img, err := fat.Plan(&tr, fat.Options{Size: 64 << 20, Serial: 1, Epoch: 1700000000})
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(filepath.Join(t.TempDir(), "slot"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := errors.Join(img.Write(f), f.Truncate(64<<20)); err != nil {
			t.Fatal(err)
		}
		return f.Name()
	}
	with := volumeOf(map[string]string{"EFI/BOOT/BOOTX64.EFI": "uki", "EFI/BOOT/hello-1.0.0.pcrsig": "signatures"})
	if b, err := readSignatures(with); err != nil || string(b) != "signatures" {
		t.Errorf("%q, %v", b, err)
	}
	without := volumeOf(map[string]string{"EFI/BOOT/BOOTX64.EFI": "uki"})
	if _, err := readSignatures(without); err == nil || !strings.Contains(err.Error(), "without a policy key") {
		t.Errorf("a slot without: %v", err)
	}
	large := volumeOf(map[string]string{"x.pcrsig": strings.Repeat("x", maxSignatures+1)})
	if _, err := readSignatures(large); err == nil {
		t.Error("more than a megabyte is read")
	}
	for _, node := range []string{"", "/nowhere", os.DevNull} {
		if _, err := readSignatures(node); err == nil {
			t.Errorf("%q has signatures", node)
		}
	}
}
