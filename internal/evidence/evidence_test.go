package evidence_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/eventlog"
	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/attest/tpm"
	"github.com/ingot-os/ingot/internal/evidence"
	"github.com/ingot-os/ingot/internal/evidence/evidencetest"
	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/internal/verify"
)

const recordings = "../../attest/testdata/"

var (
	now   = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	nonce = []byte("thirty-two bytes of a verifier..")
)

func booted(t *testing.T, recording string) (*evidencetest.Machine, evidence.Source) {
	t.Helper()
	oracle.Need(t, evidencetest.Package, "swtpm")
	log, err := evidencetest.Log(recordings + recording + ".json")
	if err != nil {
		t.Fatal(err)
	}
	m, err := evidencetest.Start("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Stop)
	if err := m.Extend(log); err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	put(t, root, "sys/kernel/security/tpm0/binary_bios_measurements", log)
	put(t, root, "sys/class/dmi/id/bios_vendor", []byte("EDK II\n"))
	put(t, root, "sys/class/dmi/id/bios_version", []byte("2024.02-2\n"))
	return m, evidence.Source{Device: m.Socket, Nonce: nonce, Root: root}
}

func put(t *testing.T, root, name string, b []byte) {
	t.Helper()
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func collect(t *testing.T, s evidence.Source) *attest.Evidence {
	t.Helper()
	e, err := evidence.Collect(s)
	if err != nil {
		t.Fatal(err)
	}
	b, err := evidence.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	back, err := attest.ParseEvidence(b) // as it crosses the air gap
	if err != nil {
		t.Fatal(err)
	}
	return back
}

func references(t *testing.T) []evidence.Reference {
	t.Helper()
	refs, err := evidence.References([]string{recordings + "reference-257.json"}, verify.Trust{})
	if err != nil {
		t.Fatal(err)
	}
	return refs
}

func accept(t *testing.T, e *attest.Evidence) *evidence.Enrolled {
	t.Helper()
	h, _, err := evidence.Accept(e, evidence.Acceptance{Name: "edge-042", Nonce: nonce, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestCollectAcceptVerify is the whole way without a server.
func TestCollectAcceptVerify(t *testing.T) {
	_, s := booted(t, "boot-257")
	e := collect(t, s)
	if e.Firmware != "EDK II 2024.02-2" || !bytes.Equal(e.Nonce, nonce) || len(e.PCRs[pcr.SHA256]) != len(attest.DefaultPCRs) || e.PCRs[pcr.SHA1] != nil {
		t.Errorf("firmware %q, nonce %x, registers %d, SHA-1 %d", e.Firmware, e.Nonce, len(e.PCRs[pcr.SHA256]), len(e.PCRs[pcr.SHA1]))
	}
	host := accept(t, e)
	q := evidence.Question{Evidence: e, References: references(t), Enrolled: host, Nonce: nonce, Now: now}
	v := evidence.Judge(q)
	if !v.Trusted || v.Host != "edge-042" || v.Release != "evidence" || v.Boot != "disk" {
		t.Fatalf("%+v", v)
	}
	for _, want := range []string{"who made the reference", "no credential was activated"} {
		if !slices.ContainsFunc(v.NotChecked, func(s string) bool { return strings.Contains(s, want) }) {
			t.Errorf("not among what was not checked: %s\n%q", want, v.NotChecked)
		}
	}
	if strings.Contains(strings.Join(v.NotChecked, "\n"), "freshness") {
		t.Error("a nonce was named, and freshness counts as not checked")
	}
	again := collect(t, s)
	if !bytes.Equal(again.AK, e.AK) || !bytes.Equal(again.EK, e.EK) {
		t.Error("the keys are others at the second time")
	}
	if again.Clock.Millis < e.Clock.Millis {
		t.Errorf("clock %d after %d", again.Clock.Millis, e.Clock.Millis)
	}
}

// TestCounter: the counter of a version floor is certified, and judged by the
// record of a host that has one.
func TestCounter(t *testing.T) {
	m, s := booted(t, "boot-257")
	if e := collect(t, s); e.Floor != nil {
		t.Errorf("no counter, and %+v", e.Floor)
	}
	chip, err := tpm.Open(m.Socket)
	if err != nil {
		t.Fatal(err)
	}
	c, err := chip.DefineCounter(tpm.FloorIndex)
	if err := errors.Join(err, chip.Close()); err != nil {
		t.Fatal(err)
	}
	e := collect(t, s)
	host := accept(t, e)
	q := evidence.Question{Evidence: e, References: references(t), Enrolled: host, Nonce: nonce, Now: now}
	if v := evidence.Judge(q); !v.Trusted || v.Counter != nil {
		t.Errorf("%+v", v)
	}
	host.Record.Counter = &attest.Counter{Name: c.Name, Base: int64(c.Value), Value: c.Value}
	if v := evidence.Judge(q); !v.Trusted || v.Counter == nil {
		t.Errorf("%+v", v)
	}
	host.Record.Counter.Value++
	if v := evidence.Judge(q); v.Trusted || v.Reason() != attest.FloorLost {
		t.Errorf("%+v", v)
	}
}

// TestUnknownHost: a key that nobody has accepted is refused, whatever it signs.
func TestUnknownHost(t *testing.T) {
	_, s := booted(t, "boot-257")
	e := collect(t, s)
	v := evidence.Judge(evidence.Question{Evidence: e, References: references(t), Nonce: nonce, Now: now})
	if v.Trusted || v.Reason() != attest.HostUnknown || len(v.Findings) != 1 || v.Release != "evidence" {
		t.Errorf("%+v", v)
	}
}

// TestTampered: each field of the document is signed, or refused.
func TestTampered(t *testing.T) {
	_, s := booted(t, "boot-257")
	whole := collect(t, s)
	host := accept(t, whole)
	cases := map[string]struct {
		edit func(e *attest.Evidence)
		want attest.Code
	}{
		"nonce":     {func(e *attest.Evidence) { e.Nonce[0] ^= 1 }, ""}, // that of the quote counts
		"ak":        {func(e *attest.Evidence) { e.AK[len(e.AK)-1] ^= 1 }, attest.AKMalformed},
		"ak swap":   {func(e *attest.Evidence) { e.AK = e.EK }, attest.AKAttributes},
		"ek":        {func(e *attest.Evidence) { e.EK[len(e.EK)-1] ^= 1 }, attest.EKKey},
		"quote":     {func(e *attest.Evidence) { e.Quote[len(e.Quote)-1] ^= 1 }, attest.QuoteSignature},
		"signature": {func(e *attest.Evidence) { e.Signature[len(e.Signature)-1] ^= 1 }, attest.QuoteSignature},
		"register":  {func(e *attest.Evidence) { e.PCRs[pcr.SHA256][4][0] ^= 1 }, attest.QuoteComposite},
		"bank":      {func(e *attest.Evidence) { delete(e.PCRs, pcr.SHA384) }, attest.QuoteComposite},
		"log":       {func(e *attest.Evidence) { e.EventLog[len(e.EventLog)-100] ^= 1 }, attest.LogReplay},
		"log cut":   {func(e *attest.Evidence) { e.EventLog = e.EventLog[:len(e.EventLog)-1] }, attest.LogMalformed},
		"init log":  {func(e *attest.Evidence) { e.InitLog = e.EventLog }, attest.LogMalformed},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			b, _ := json.Marshal(whole)
			e, err := attest.ParseEvidence(b)
			if err != nil {
				t.Fatal(err)
			}
			c.edit(e)
			v := evidence.Judge(evidence.Question{Evidence: e, References: references(t), Enrolled: host, Nonce: nonce, Now: now})
			if v.Reason() != c.want || v.Trusted != (c.want == "") {
				t.Errorf("got %q, want %q: %v", v.Reason(), c.want, v.Findings)
			}
		})
	}
	v := evidence.Judge(evidence.Question{Evidence: whole, References: references(t), Enrolled: host, Nonce: []byte("another one"), Now: now})
	if v.Reason() != attest.QuoteNonce {
		t.Errorf("another nonce: %q", v.Reason())
	}
}

// TestAcceptRefuses: evidence that does not hold makes no record.
func TestAcceptRefuses(t *testing.T) {
	m, s := booted(t, "boot-257")
	e := collect(t, s)
	ok := evidence.Acceptance{Name: "a", Nonce: nonce, Now: now}
	var enrol *attest.EnrolError
	var untrusted *evidence.UntrustedError
	bad := ok
	bad.Name = "A b"
	if _, _, err := evidence.Accept(e, bad); !errors.As(err, &enrol) || enrol.Code != attest.EnrolName {
		t.Errorf("name: %v", err)
	}
	bad = ok
	bad.Nonce = []byte("other")
	if _, _, err := evidence.Accept(e, bad); !errors.As(err, &untrusted) || untrusted.Verdict.Reason() != attest.QuoteNonce {
		t.Errorf("nonce: %v", err)
	}
	without := *e
	without.EK = nil
	if _, _, err := evidence.Accept(&without, ok); !errors.As(err, &enrol) || enrol.Code != attest.EKMalformed {
		t.Errorf("no EK: %v", err)
	}
	log, err := evidencetest.Log(recordings + "boot-257-pxe.json") // extended once more, as by another program
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Extend(log); err != nil {
		t.Fatal(err)
	}
	if _, _, err := evidence.Accept(collect(t, s), ok); !errors.As(err, &untrusted) || untrusted.Verdict.Reason() != attest.LogReplay {
		t.Errorf("unlogged: %v", err)
	}
}

// TestCollectErrors: what is missing is said, with what to do about it.
func TestCollectErrors(t *testing.T) {
	m, s := booted(t, "boot-257")
	cases := []struct {
		name       string
		edit       func(s *evidence.Source, root string)
		want, hint string
	}{
		{"no TPM", func(s *evidence.Source, root string) { s.Device = "" }, "knows no TPM", "modprobe"},
		{"TPM 1.2", func(s *evidence.Source, root string) {
			s.Device = ""
			put(t, root, "sys/class/tpm/tpm0/tpm_version_major", []byte("1\n"))
		}, "has a TPM 1.2", "TPM 2.0 is needed"},
		{"no socket", func(s *evidence.Source, root string) { s.Device = filepath.Join(root, "sock") }, "no such file", "swtpm"},
		{"no securityfs", func(s *evidence.Source, root string) { os.RemoveAll(filepath.Join(root, "sys/kernel/security/tpm0")) }, "securityfs is not mounted", "mount -t securityfs"},
		{"no log", func(s *evidence.Source, root string) {
			os.RemoveAll(filepath.Join(root, "sys/kernel/security/tpm0"))
			put(t, root, "sys/kernel/security/lsm", nil)
		}, "no such file", "UEFI firmware"},
		{"text log", func(s *evidence.Source, root string) {
			put(t, root, "log", []byte("hello"))
			s.EventLog = filepath.Join(root, "log")
		}, "offset 0x0", "binary log"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := s
			root := t.TempDir()
			if err := os.CopyFS(root, os.DirFS(s.Root)); err != nil {
				t.Fatal(err)
			}
			s.Root = root
			if s.Device = m.Socket; c.edit != nil {
				c.edit(&s, root)
			}
			if s.Device == "" {
				if _, err := os.Stat("/dev/tpmrm0"); err == nil {
					t.Skip("this machine has a TPM")
				}
			}
			_, err := evidence.Collect(s)
			var hinted interface{ Hint() string }
			if err == nil || !strings.Contains(err.Error(), c.want) || !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), c.hint) {
				t.Errorf("%v, hint %v", err, hinted)
			}
		})
	}
}

// TestInitLog: what ingot-init has extended is sent along.
func TestInitLog(t *testing.T) {
	m, s := booted(t, "boot-257")
	banks := []pcr.Bank{pcr.SHA1, pcr.SHA256, pcr.SHA384}
	data := attest.Statement{Slot: "a", Boot: "disk"}.Data()
	digests := map[pcr.Bank]pcr.Digest{}
	for _, b := range banks {
		digests[b] = b.Sum(data)
	}
	log, err := eventlog.AppendEvent(eventlog.AppendHeader(nil, banks...), 15, eventlog.IPL, data, banks, digests)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Extend(log); err != nil {
		t.Fatal(err)
	}
	put(t, s.Root, "run/ingot/measurements", log)
	e := collect(t, s)
	v := evidence.Judge(evidence.Question{Evidence: e, References: references(t), Enrolled: accept(t, e), Nonce: nonce, Now: now})
	if !v.Trusted || v.Slot != "a" || v.SlotBy != "init" {
		t.Errorf("%+v", v)
	}
}
