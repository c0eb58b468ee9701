// Package replaytest makes the state directory of a server for tests: verdicts
// on simulated hosts that have booted what package attest has recorded.
//
//	err := replaytest.State(dir, "../../attest/testdata/")
package replaytest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/internal/audit"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/reference"
	"github.com/ingot-os/ingot/internal/simhost"
)

// From is the time of the first verdicts; one of each host follows an hour
// after the other.
var From = time.Date(2026, 11, 23, 2, 0, 0, 0, time.UTC)

// State makes a state directory with the records of edge-1 and edge-2: three
// verdicts each, all trusted but the last of edge-2, which is secureboot.off.
// recordings is the folder of the recorded boots, with a final slash.
func State(dir, recordings string) (err error) {
	s, err := fleet.Open(dir, fleet.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	doc, err := os.ReadFile(recordings + "reference-257.json")
	if err != nil {
		return err
	}
	ref, err := reference.Parse(doc)
	if err != nil {
		return err
	}
	if err := s.Keep(context.Background(), audit.Blob{Sum: audit.Sum(doc), Data: doc}); err != nil {
		return err
	}
	boot, err := simhost.ReadBoot(recordings + "boot-257.json")
	if err != nil {
		return err
	}
	for _, name := range []string{"edge-1", "edge-2"} {
		h, err := simhost.New(name, boot)
		if err != nil {
			return err
		}
		for n := range 3 {
			err := judge(s, h, name, audit.Judged{References: []audit.Digest{audit.Sum(doc)}, Case: attest.Case{
				References: []attest.Reference{*ref}, Now: From.Add(time.Duration(n) * time.Hour), Policy: attest.Policy{SecureBoot: name == "edge-2" && n == 2},
			}})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// judge has a host prove its boot, and keeps the verdict.
func judge(s fleet.Store, h *simhost.Host, name string, j audit.Judged) (err error) {
	c := &j.Case
	c.Challenge = attest.Challenge{Nonce: []byte("a nonce of this test"), Expires: c.Now.Add(time.Minute)}
	if c.Evidence, err = h.Evidence(c.Challenge, pcr.SHA256, attest.DefaultPCRs); err != nil {
		return err
	}
	request := h.Request()
	ak, ek, err := request.Names()
	if err != nil {
		return err
	}
	c.Record = &attest.Record{Name: name, State: attest.Active, AKName: ak, EKName: ek, Enrolled: From}
	if j.Verdict = attest.Verify(*c); j.Verdict.Trusted == c.Policy.SecureBoot {
		return fmt.Errorf("verdict on %s: %v", name, j.Verdict.Findings)
	}
	r, blobs, err := audit.New(j)
	if err != nil {
		return err
	}
	return s.Update(context.Background(), name, func(change *fleet.Change) error {
		if change.Host == nil {
			change.Host = &fleet.Host{Host: attest.Host{Record: *c.Record}}
		}
		change.Record(r, blobs...)
		return nil
	})
}
