package measure

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/attest/eventlog"
	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/attest/tpm"
	"github.com/ingot-os/ingot/internal/evidence/evidencetest"
	"github.com/ingot-os/ingot/internal/oracle"
)

// TestEvent lets an emulator measure, and reads its registers by the other
// program of this repository that speaks to TPMs.
func TestEvent(t *testing.T) {
	oracle.Need(t, evidencetest.Package, "swtpm")
	vm, err := evidencetest.Start("")
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Stop()
	dev, err := net.Dial("unix", vm.Socket)
	if err != nil {
		t.Fatal(err)
	}
	log := &Log{}
	if log.Bytes() != nil {
		t.Error("an empty log has bytes")
	}
	for _, e := range []struct {
		register int
		data     string
	}{{15, "statement"}, {11, "services"}, {15, ""}, {15, strings.Repeat("x", MaxData)}} {
		digests, err := Event(dev, e.register, []byte(e.data))
		if err != nil {
			t.Fatal(err)
		}
		if err := log.Append(e.register, []byte(e.data), digests); err != nil {
			t.Fatal(err)
		}
	}
	var refused Error
	if _, err := Event(dev, 99, nil); !errors.As(err, &refused) || !strings.Contains(err.Error(), "measure into PCR 99: the TPM answers 0x") {
		t.Errorf("PCR 99: %v", err)
	}
	if _, err := Event(dev, 15, make([]byte, MaxData+1)); err == nil {
		t.Error("more data than an event can have was measured")
	}
	dev.Close()
	l, err := eventlog.Parse(log.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	out, err := tpm.Open(vm.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	banks, err := out.Banks()
	if err != nil || len(banks) < 2 || len(banks) != len(l.Banks) {
		t.Fatalf("banks %v of the TPM, %v of the log: %v", banks, l.Banks, err)
	}
	for _, bank := range banks {
		values, err := out.PCRs(bank, 11, 15)
		if err != nil {
			t.Fatal(err)
		}
		s, err := l.Replay(bank)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range values {
			if s.Compare(i, v) != pcr.Match {
				t.Errorf("%s PCR %d: the log is %s", bank, i, s.Compare(i, v))
			}
		}
		if got := l.Events[1].Digest(bank); !bytes.Equal(got, bank.Sum([]byte("statement"))) {
			t.Errorf("%s: the digest is not of the data", bank)
		}
	}
}

// answer is what a TPM says to TPM2_PCR_Event.
func answer(rc uint32, digests ...Digest) []byte {
	b := binary.BigEndian.AppendUint16(nil, tagSessions)
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint32(b, rc)
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(len(digests)))
	for _, d := range digests {
		b = append(binary.BigEndian.AppendUint16(b, uint16(d.Bank)), d.Value...)
	}
	b = append(b, 0, 0, 1, 0, 0)
	binary.BigEndian.PutUint32(b[2:], uint32(len(b)))
	return b
}

func TestParseRefuses(t *testing.T) {
	sm3 := Digest{0x12, make([]byte, 32)}
	sha := Digest{pcr.SHA256, bytes.Repeat([]byte{1}, 32)}
	good := answer(0, sm3, sha)
	got, err := parse(good)
	if err != nil || len(got) != 2 || !bytes.Equal(got[1].Value, sha.Value) {
		t.Fatalf("%v %v", got, err)
	}
	log := &Log{}
	if err := log.Append(15, nil, got[:1]); err == nil {
		t.Error("logged a bank that nobody can replay")
	}
	for n := range len(good) {
		if _, err := parse(good[:n]); err == nil {
			t.Errorf("accepted the first %d bytes", n)
		}
	}
	for name, b := range map[string][]byte{
		"unknown algorithm": answer(0, Digest{0x99, make([]byte, 32)}),
		"too many":          answer(0, make([]Digest, 17)...),
		"refused":           answer(0x101),
		"trailing":          append(answer(0, sha), 0),
	} {
		if _, err := parse(b); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(answer(0, Digest{pcr.SHA256, make([]byte, 32)}))
	f.Add(answer(0x100))
	f.Fuzz(func(t *testing.T, b []byte) {
		digests, err := parse(b)
		if err == nil && len(digests) > maxDigests {
			t.Errorf("%d digests", len(digests))
		}
	})
}

// TestPolluted: boots that were recorded, and the same with what another
// program would have left in their log.
func TestPolluted(t *testing.T) {
	for name, want := range map[string]string{"boot-257": "", "boot-252": "", "boot-257-pxe": "", "boot-257-secureboot": ""} {
		if got := Polluted(recorded(t, name, nil)); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	isImage := func(e *eventlog.Event) bool {
		image, err := e.Image()
		if err != nil || e.Type != eventlog.BootServicesApp {
			return false
		}
		_, ok := image.Path.Partition()
		return ok
	}
	if got := Polluted(recorded(t, "boot-257", isImage)); !strings.Contains(got, " ran before ") || !strings.Contains(got, "partition 2") {
		t.Errorf("two applications: %q", got)
	}
	isLinux := func(e *eventlog.Event) bool {
		return e.PCR == stub && bytes.Equal(e.Digest(pcr.SHA256), pcr.SHA256.Sum([]byte(".linux\x00")))
	}
	if got := Polluted(recorded(t, "boot-257", isLinux)); !strings.Contains(got, "measured twice") {
		t.Errorf("a second stub: %q", got)
	}
}

// recorded is a recorded boot; events that twice says are there twice.
func recorded(t *testing.T, name string, twice func(*eventlog.Event) bool) *eventlog.Log {
	t.Helper()
	raw, err := evidencetest.Log("../../../attest/testdata/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	l, err := eventlog.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	n := len(l.Events)
	for i := range n {
		if twice != nil && twice(&l.Events[i]) {
			l.Events = append(l.Events, l.Events[i])
		}
	}
	if twice != nil && len(l.Events) == n {
		t.Fatal("no event of this kind")
	}
	return l
}
