// Package attester proves to a server what this machine has booted, again and
// again, and takes what the server gives for it: a certificate and secrets
// (package attestapi has the messages, docs/attestation.md the protocol).
//
// The server is not known by its address but by its certificate, which must
// lead to an authority that the image names. While nobody has told the time,
// dates of certificates are not looked at until the server has told it (S16).
// Keys of the TPM are made for each use and flushed after it; the channel's key
// lives as long as the program.
//
// Whatever goes wrong is reported and tried again: after one second, then twice
// that, up to the interval, but at least once in five minutes.
//
// It runs in PID 1 of an image that attests, and outside of it in tests: all
// that it touches comes by proof.Machine.
package attester

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/agent/listener"
	"github.com/ingot-os/ingot/internal/agent/proof"
	"github.com/ingot-os/ingot/internal/attestapi"
)

// Rhythm of tries.
const (
	firstWait = time.Second
	longest   = 5 * time.Minute
	noServer  = 2 * time.Second  // until somebody is asked again for the server
	timeout   = 30 * time.Second // of one request, and of the connection
)

// Bounds of an interval that a server may ask for.
const (
	minInterval = time.Second
	maxInterval = 24 * time.Hour
)

// attester is the state of Run.
type attester struct {
	m        proof.Machine
	key      *ecdsa.PrivateKey // of the channel
	cert     []byte            // DER, signed by key itself
	keys     *identity         // of the TPM; nil until it was asked
	interval time.Duration
	status   listener.Attestation
	opened   map[string][sha256.Size]byte // secrets that were delivered, by name, as they came
	progress bool                         // the present session has come to an answer
	missed   int                          // connections in a row that did not come about
}

// Run proves until the context ends.
func Run(ctx context.Context, m proof.Machine) {
	a := &attester{m: m, interval: bound(m.Interval), opened: map[string][sha256.Size]byte{}}
	if err := a.makeKey(); err != nil {
		a.report("failed", func(s *listener.Attestation) { s.Error = err.Error() })
		return // no randomness, no channel: nothing that time would heal
	}
	for wait := firstWait; ctx.Err() == nil; {
		err := a.session(ctx)
		if ctx.Err() != nil {
			return
		}
		if a.progress { // the connection has become stale, or the server was started anew
			wait = firstWait
			continue
		}
		d := wait
		if errors.Is(err, errNoServer) {
			d = noServer
			a.report("waiting", func(s *listener.Attestation) { s.Error = err.Error() })
		} else {
			a.fail(err)
			wait = min(2*wait, max(firstWait, min(a.interval, longest)))
		}
		sleep(ctx, jitter(d))
	}
}

var errNoServer = errors.New("no server is known: neither machine.yaml nor DHCP nor the recipe names one")

// fail reports why a session ended. A refusal by the server is its answer, not
// a failure.
func (a *attester) fail(err error) {
	var refused *refusal
	if errors.As(err, &refused) {
		a.report("refused", func(s *listener.Attestation) {
			s.Error = ""
			s.Findings = []listener.Finding{{Code: string(refused.says.Code), Detail: refused.says.Detail}}
		})
		return
	}
	var none *noTPM
	state := "failed"
	if errors.As(err, &none) {
		state = "absent"
	}
	a.report(state, func(s *listener.Attestation) { s.Error = err.Error() })
}

// report changes the status and logs a change of state.
func (a *attester) report(state string, change func(*listener.Attestation)) {
	before := a.status
	a.status.State = state
	change(&a.status)
	if a.status.State != before.State || a.status.Error != before.Error || !slices.Equal(a.status.Findings, before.Findings) {
		a.m.Logf("attestation: %s", describe(a.status))
	}
	a.m.Report(a.status)
}

func describe(s listener.Attestation) string {
	text := s.State
	if s.Name != "" {
		text += ", as " + s.Name
	}
	if s.Server != "" {
		text += ", by " + s.Server
	}
	for _, f := range s.Findings {
		text += fmt.Sprintf("; %s: %s", f.Code, f.Detail)
	}
	if s.Error != "" {
		text += ": " + s.Error
	}
	return text
}

// session connects and proves until something fails.
func (a *attester) session(ctx context.Context) error {
	a.progress = false
	server, source := a.server()
	if server == "" {
		return errNoServer
	}
	a.status.Server, a.status.Source = server, source
	if err := a.learn(ctx); err != nil {
		return err
	}
	c, err := a.connect(ctx, server)
	if err != nil {
		a.missed++
		return err
	}
	defer c.close()
	var next *attestapi.Challenge
	var since time.Time
	for ctx.Err() == nil {
		if next != nil && time.Since(since) > next.Expires.Sub(next.Time)-expirySlack {
			next = nil
		}
		wait, given, err := a.round(ctx, c, next)
		if err != nil {
			return err
		}
		next, since, a.progress = given, time.Now(), true
		sleep(ctx, wait)
	}
	return ctx.Err()
}

// connectTries is how often the server that was named is tried before the
// fallback is, and the fallback before the named one again.
const connectTries = 4

// server is the one to try now. One that has answered is kept.
func (a *attester) server() (url, source string) {
	if a.missed/connectTries%2 == 1 && a.m.Fallback != nil {
		if url, source := a.m.Fallback(); url != "" {
			return url, source
		}
	}
	return a.m.Server()
}

// expirySlack is left of a challenge's lifetime when it is used.
const expirySlack = 10 * time.Second

// pendingWait bounds the time until a host asks whether it was approved: an
// operator waits for that.
const pendingWait = 10 * time.Second

// round is one proof: a challenge, unless the last answer brought one, and the
// evidence. It returns when the next is due.
func (a *attester) round(ctx context.Context, c *channel, next *attestapi.Challenge) (time.Duration, *attestapi.Challenge, error) {
	if next == nil {
		got, err := a.challenge(ctx, c)
		var refused *refusal
		if errors.As(err, &refused) && refused.says.Code == attest.HostPending {
			a.report("pending", func(s *listener.Attestation) { s.Error, s.Findings = "", nil })
			return jitter(min(a.interval, pendingWait)), nil, nil
		}
		if err != nil {
			return 0, nil, err
		}
		if err := a.believe(c, got.Time); err != nil {
			return 0, nil, err
		}
		next = got
	}
	answer, err := a.prove(ctx, c, next)
	if err != nil {
		return 0, nil, err
	}
	wait, given, err := a.take(ctx, answer)
	if err == nil && given != nil {
		err = a.believe(c, given.Time)
	}
	return wait, given, err
}

// challenge asks for one, and enrols first when the server does not know the
// host.
func (a *attester) challenge(ctx context.Context, c *channel) (*attestapi.Challenge, error) {
	var out attestapi.Challenge
	ask := func() error {
		return c.post(ctx, attestapi.ChallengePath, attestapi.ChallengeRequest{Name: a.status.Name}, &out)
	}
	err := ask()
	var refused *refusal
	if errors.As(err, &refused) && refused.says.Code == attest.HostUnknown {
		a.report("enrolling", func(s *listener.Attestation) { s.Error, s.Findings = "", nil })
		if err = a.enrol(ctx, c); err == nil {
			err = ask()
		}
	}
	if err != nil {
		return nil, err
	}
	return &out, nil
}

// take acts on a verdict.
func (a *attester) take(ctx context.Context, answer *attestapi.Answer) (time.Duration, *attestapi.Challenge, error) {
	if answer.Interval > 0 {
		a.interval = bound(time.Duration(min(answer.Interval, maxInterval.Seconds()) * float64(time.Second)))
	}
	state, problem := "refused", ""
	if answer.Trusted {
		state = "trusted"
		if err := a.receive(ctx, answer); err != nil {
			problem = err.Error()
		}
	}
	a.report(state, func(s *listener.Attestation) {
		s.Last, s.Findings, s.Error = time.Now().UTC().Format(time.RFC3339), findings(answer.Findings), problem
	})
	return jitter(a.interval), answer.Next, nil
}

// maxFindings bounds what of a refusal is shown.
const maxFindings = 20

func findings(list []attest.Finding) []listener.Finding {
	var out []listener.Finding
	for _, f := range list[:min(len(list), maxFindings)] {
		detail := f.Detail
		if f.Section != "" {
			detail = "section " + f.Section + ": " + detail
		}
		if f.PCR >= 0 {
			detail = fmt.Sprintf("PCR %d: %s", f.PCR, detail)
		}
		out = append(out, listener.Finding{Code: string(f.Code), Detail: detail})
	}
	return out
}

func bound(d time.Duration) time.Duration { return min(max(d, minInterval), maxInterval) }

// jitter takes up to a tenth off, so that machines that were turned on together
// do not ask together for ever.
func jitter(d time.Duration) time.Duration { return d - rand.N(d/10+1) }

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
