package verifier

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/audit"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/tpmtest"
)

// TestActionAbout: an operator approves the TPM, and accepts the firmware, that
// was shown: what has come in its place since is refused.
func TestActionAbout(t *testing.T) {
	s, m := serve(t, nil), boot(t, tpmtest.Blank(t))
	c := s.channel()
	if state, code := m.enrol(c, "a"); state != attest.Pending || code != "" {
		t.Fatalf("%s, %s", state, code)
	}
	conflict := func(a Action, want attest.Code) {
		t.Helper()
		var e *APIError
		if _, err := s.operator().Act(context.Background(), "a", a); !errors.As(err, &e) || e.Status != http.StatusConflict || e.Code != want {
			t.Errorf("%+v: %v, want %s", a, err, want)
		}
	}
	conflict(Action{Action: ActionReenrol}, attest.HostPending)
	conflict(Action{Action: ActionApprove}, attest.EKKey)
	conflict(Action{Action: ActionApprove, EKName: "000b00"}, attest.EKKey)
	err := s.store.Update(context.Background(), "a", func(x *fleet.Change) error { // by an earlier server
		x.Host.Reenrol = true
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	shown := Action{Action: ActionApprove}
	shown.About(s.detail("a"))
	other := boot(t, tpmtest.Blank(t))
	if state, code := other.enrol(s.channel(), "a"); state != attest.Pending || code != "" {
		t.Fatalf("another TPM: %s, %s", state, code)
	}
	conflict(shown, attest.EKKey)
	if d := s.act("a", ActionApprove); d.State != attest.Active {
		t.Errorf("%+v", d)
	}
}

// TestApproveTakesName: an approved host can attest, and its name is taken.
func TestApproveTakesName(t *testing.T) {
	s, m := serve(t, nil), boot(t, tpmtest.Blank(t))
	c := s.channel()
	if _, code := m.enrol(c, "a"); code != "" {
		t.Fatal(code)
	}
	err := s.store.Update(context.Background(), "a", func(x *fleet.Change) error {
		x.Host.Reenrol = true
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if d := s.act("a", ActionApprove); d.Reenrol {
		t.Error("the name is open still")
	}
	if _, code := m.attest(c, "a"); code != "" {
		t.Errorf("approved: %s", code)
	}
	d := s.detail("a")
	for _, seen := range []audit.Digest{{}, audit.Sum(nil)} {
		var e *APIError
		_, err := s.operator().Act(context.Background(), "a", Action{Action: ActionFirmware, Seen: seen})
		if !errors.As(err, &e) || e.Code != attest.FirmwareChanged {
			t.Errorf("%s, seen was %s: %v", seen, d.SeenSum, err)
		}
	}
	s.act("a", ActionFirmware)
}
