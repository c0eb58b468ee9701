package inspect_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/eventlog"
	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/internal/golden"
	"github.com/ingot-os/ingot/internal/inspect"
	"github.com/ingot-os/ingot/internal/simhost"
)

// boot is a recorded one; edit changes its log.
func boot(t *testing.T, edit func(log []byte) []byte) *simhost.Boot {
	t.Helper()
	b, err := simhost.ReadBoot("../../attest/testdata/boot-257.json")
	if err != nil {
		t.Fatal(err)
	}
	if edit != nil {
		b.Log = edit(b.Log)
	}
	return b
}

func evidenceOf(t *testing.T, b *simhost.Boot) string {
	t.Helper()
	h, err := simhost.New("host-1", b)
	if err != nil {
		t.Fatal(err)
	}
	e, err := h.Evidence(attest.Challenge{Nonce: []byte("a nonce")}, pcr.SHA256, attest.DefaultPCRs)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, "evidence.json", marshal(t, e))
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, name string, b []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, b, 0o666); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestLog prints a log as firmware left it, and the same log in evidence.
func TestLog(t *testing.T) {
	b := boot(t, nil)
	log := path(t, write(t, "binary_bios_measurements", b.Log))
	golden.Equal(t, "testdata/log.txt", text(t, log))
	e := path(t, evidenceOf(t, b))
	inner := e.Find("log", "firmware")
	if e.Kind != "evidence" || inner == nil || len(inner.Children) != len(log.Children) {
		t.Fatalf("kind %s, log %+v", e.Kind, inner)
	}
	for _, want := range []string{"nonce", "PCR 11", "extra data", "registers of sha256", "attributes", "fingerprint"} {
		if !strings.Contains(text(t, e), want) {
			t.Errorf("evidence does not show %s", want)
		}
	}
	if strings.Contains(text(t, e), "problem") {
		t.Error(text(t, e))
	}
}

// inserted is a log with one program more behind the first event of PCR 4.
func inserted(t *testing.T, log []byte) []byte {
	t.Helper()
	l, err := eventlog.Parse(log)
	if err != nil {
		t.Fatal(err)
	}
	digests := map[pcr.Bank]pcr.Digest{}
	for _, b := range l.Banks {
		digests[b] = b.Sum([]byte("another program"))
	}
	var extra []byte
	if extra, err = eventlog.AppendEvent(nil, 4, eventlog.EFIAction, []byte("another program"), l.Banks, digests); err != nil {
		t.Fatal(err)
	}
	for i := range l.Events {
		if e := &l.Events[i]; e.PCR == 4 {
			return bytes.Join([][]byte{log[:e.Off], extra, log[e.Off:]}, nil)
		}
	}
	t.Fatal("no event of PCR 4")
	return nil
}

// TestDiffLogs: the event that is one more is the only difference; what stands
// behind it has moved, which is none.
func TestDiffLogs(t *testing.T) {
	log := boot(t, nil).Log
	diffs, err := inspect.Compare(write(t, "a", log), write(t, "b", inserted(t, log)))
	if err != nil {
		t.Fatal(err)
	}
	if len(diffs) == 0 || !strings.Contains(diffs[0].Where, "PCR 4 EV_EFI_ACTION another program") || diffs[0].A != "" {
		t.Fatalf("%v", diffs)
	}
	for _, d := range diffs[1:] {
		if !d.Follows() {
			t.Errorf("one more: %v", d)
		}
	}
	changed := bytes.Clone(log)
	at := bytes.LastIndex(changed, utf16("\\EFI\\BOOT")) - 96 // where firmware had loaded the image: no digest covers it
	changed[at] ^= 1
	if diffs, err = inspect.Compare(write(t, "a", log), write(t, "b", changed)); err != nil || len(diffs) != 1 {
		t.Errorf("a byte of an event: %v, %v", diffs, err)
	}
}

func utf16(s string) (b []byte) {
	for i := range len(s) {
		b = append(b, s[i], 0)
	}
	return b
}

// TestDiffEvidence names the event before the registers and the quote, which
// differ because of it.
func TestDiffEvidence(t *testing.T) {
	a := evidenceOf(t, boot(t, nil))
	b := evidenceOf(t, boot(t, func(log []byte) []byte { return inserted(t, log) }))
	diffs, err := inspect.Compare(a, b)
	if err != nil {
		t.Fatal(err)
	}
	if len(diffs) < 2 || !strings.Contains(diffs[0].Where, "another program") || diffs[0].Follows() {
		t.Fatalf("%v", diffs)
	}
	for _, d := range diffs {
		if strings.HasPrefix(d.Where, "bank") && !d.Follows() || strings.Contains(d.Where, "quote") && !d.Follows() {
			t.Errorf("%v is a cause", d)
		}
	}
}

// TestHostileLogs end in a problem.
func TestHostileLogs(t *testing.T) {
	log := boot(t, nil).Log
	n := path(t, write(t, "cut", log[:len(log)-1]))
	if n.Kind != "log" || n.Field("problem") == "" {
		t.Errorf("%s, %q", n.Kind, n.Field("problem"))
	}
	n = path(t, write(t, "e.json", []byte(`{"format":"ingot-evidence/1","ak":"AAAA","quote":"AAAA","eventLog":"AAAA","ek":"AAAA"}`)))
	if n.Kind != "evidence" || strings.Count(text(t, n), "problem") != 4 {
		t.Error(text(t, n))
	}
}

// TestFloor shows what a TPM says of the version floor's counter.
func TestFloor(t *testing.T) {
	b := []byte{0xff, 'T', 'C', 'G', 0x80, 0x14, 0, 0, 0, 0} // no signer, no extra data
	b = append(b, make([]byte, 17+8)...)                     // clock, firmware
	b = append(b, 0, 1, 0xab, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 57)
	floor := int64(3)
	for name, c := range map[string]struct {
		proof attest.FloorProof
		want  []string
	}{
		"whole": {attest.FloorProof{Attest: b, Signature: []byte{0xcd}, Epoch: &floor}, []string{"version floor", "counter    57", "floor      3", "signature"}},
		"cut":   {attest.FloorProof{Attest: b[:20]}, []string{"version floor", "problem"}},
	} {
		e := attest.Evidence{Format: attest.Format, Floor: &c.proof}
		n := path(t, write(t, "e.json", marshal(t, e))).Find("version floor", "TPMS_ATTEST")
		if n == nil {
			t.Fatalf("%s: not shown", name)
		}
		for _, want := range c.want {
			if got := text(t, n); !strings.Contains(got, want) {
				t.Errorf("%s: no %q in %s", name, want, got)
			}
		}
	}
}
