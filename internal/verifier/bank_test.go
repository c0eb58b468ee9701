package verifier

import (
	"reflect"
	"testing"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/pcr"
)

// TestBank: the server chooses the bank. A quote of another one, which no
// firmware was accepted for, is refused, and the record says so again.
func TestBank(t *testing.T) {
	s, m, c := joined(t, nil)
	if _, code := m.attest(c, "a"); code != "" {
		t.Fatal(code)
	}
	ch, code := c.ask("a")
	if code != "" || ch.Bank != pcr.SHA256 {
		t.Fatal(code, ch.Bank)
	}
	ch.Bank = pcr.SHA384
	if _, code := c.answer(m.evidence(c, "a", ch)); code != attest.BankWeak {
		t.Errorf("SHA-384 instead of SHA-256: %q", code)
	}
	if v := s.detail("a").Verdict; v == nil || v.Reason() != attest.BankWeak {
		t.Errorf("the record gives %+v", v)
	}
}

// TestPreferredBank: the policy's first is asked for.
func TestPreferredBank(t *testing.T) {
	_, m, c := joined(t, func(o *Options) { o.Policy.Banks = []pcr.Bank{pcr.SHA384, pcr.SHA256} })
	if ch, code := c.ask("a"); code != "" || ch.Bank != pcr.SHA384 {
		t.Error(code, ch.Bank)
	}
	if _, code := m.attest(c, "a"); code != "" {
		t.Error(code)
	}
}

// TestSeen: values that the quote does not cover are not what an operator
// accepts.
func TestSeen(t *testing.T) {
	s, m, c := joined(t, nil)
	if _, code := m.attest(c, "a"); code != "" {
		t.Fatal(code)
	}
	want := s.detail("a").Seen
	ch, code := c.ask("a")
	if code != "" {
		t.Fatal(code)
	}
	e := m.evidence(c, "a", ch)
	e.PCRs[pcr.SHA256][0] = pcr.SHA256.Sum([]byte("mine"))
	if _, code := c.answer(e); code != attest.QuoteComposite {
		t.Errorf("a value that was not quoted: %q", code)
	}
	if got := s.detail("a").Seen; !reflect.DeepEqual(got, want) || len(want.PCRs[pcr.SHA256]) != 2 {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
