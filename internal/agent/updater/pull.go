package updater

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/accept"
	"github.com/ingot-os/ingot/internal/dsse"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// puller follows the assignments of the server.
type puller struct {
	u *Updater
	r *accept.Release // the last one that was accepted, without its manifest
}

// pull asks for the assignment again and again, until the context ends.
func (u *Updater) pull(ctx context.Context) {
	p := &puller{u: u}
	r := &rhythm{interval: u.m.Spec.Update.Interval.Or(interval)}
	for first := true; ctx.Err() == nil; {
		if r.name = u.name(); r.name == "" {
			sleep(ctx, unknown)
			continue
		}
		if first {
			first = false
			sleep(ctx, r.first())
		}
		a, err := p.round(ctx)
		switch {
		case err == nil:
			r.ask(a.Interval)
			sleep(ctx, r.next())
		case ctx.Err() == nil:
			p.u.say("%v", err)
			sleep(ctx, r.retry())
		}
	}
}

// name is what the attestation server calls this machine; empty until it has
// given a certificate.
func (u *Updater) name() string {
	certificate, _ := u.m.Certificate()
	if base, _ := u.m.Server(); base == "" {
		return ""
	}
	if block, _ := pem.Decode(certificate); block != nil {
		if c, err := x509.ParseCertificate(block.Bytes); err == nil && c.Subject.CommonName != "" {
			return c.Subject.CommonName
		}
	}
	return string(certificate)
}

// round asks once, and does what is said.
func (p *puller) round(ctx context.Context) (a updateapi.Assignment, err error) {
	l, err := p.u.connect(ctx)
	if err != nil {
		return a, err
	}
	defer func() { l.close() }()
	if a, err = l.assignment(ctx); err != nil {
		return a, err
	}
	if a.Withheld != nil {
		p.u.say("the server withholds a release: %s: %s", a.Withheld.Code, a.Withheld.Detail)
	}
	if a.Release == "" {
		p.u.remember(false, func(slot.Content) bool { return true })
		return a, nil
	}
	return a, p.follow(ctx, l, a)
}

// follow brings the machine to an assigned release.
func (p *puller) follow(ctx context.Context, l *link, a updateapi.Assignment) error {
	if err := p.manifest(ctx, l, a); err != nil {
		return err
	}
	progress, err := p.u.offer(p.r, updateapi.Offer{Override: a.Override})
	var no *updateapi.Error
	if errors.As(err, &no) && no.Code != updateapi.Failed { // the machine's answer, not an error: it stays until things change
		p.u.say("version %s: %s", a.Version, no.Detail)
		return nil
	}
	if err != nil {
		return err
	}
	if len(progress.Wants) > 0 {
		p.u.say("version %s is fetched from %s", p.r.Version, l.server.URL)
	}
	t := &transfer{link: l, release: a.Release, busy: tooBusy}
	for len(progress.Wants) > 0 {
		if progress, err = t.part(ctx, progress); err != nil {
			return err
		}
	}
	p.approve(a)
	return nil
}

// manifest fetches the manifest of the assigned release, unless it is the one of
// the last round.
func (p *puller) manifest(ctx context.Context, l *link, a updateapi.Assignment) error {
	if p.r != nil && hex.EncodeToString(p.r.Digest[:]) == a.Release && p.r.Content.Epoch >= p.u.m.Keeper.State().Floor {
		return nil
	}
	if b, err := hex.DecodeString(a.Release); err != nil || len(b) != len(slot.Digest{}) {
		return fmt.Errorf("the server assigns %.80q, which is no digest", a.Release)
	}
	envelope, err := l.fetch(ctx, updateapi.ReleasesPath+"/"+a.Release+"/manifest", dsse.MaxEnvelope)
	if err != nil {
		return fmt.Errorf("fetch the manifest of version %.64q: %w", a.Version, err)
	}
	r, err := p.u.accept.Accept(envelope, p.u.m.Now(), p.u.m.Keeper.State().Floor)
	if err != nil {
		return fmt.Errorf("version %.64q: %w", a.Version, err)
	}
	if hex.EncodeToString(r.Digest[:]) != a.Release {
		return fmt.Errorf("version %.64q: the server sends another manifest than it assigns", a.Version)
	}
	r.Manifest = nil // up to some 10 MB, and not needed any more
	p.r = r
	return nil
}

// approve tries what was assigned, when the server allows it now. After a trial
// that failed it is rearm that tries again.
func (p *puller) approve(a updateapi.Assignment) {
	s := p.u.m.Keeper.State()
	c := s.Of(s.Candidate)
	if s.Candidate == slot.None || !same(c, p.r.Content) {
		return
	}
	p.u.remember(a.Approved, func(x slot.Content) bool { return same(x, c) })
	switch {
	case !a.Approved && s.Phase == slot.Staged:
		p.u.say("version %s waits for its approval", c.Version)
	case a.Approved && s.Phase == slot.Staged:
		if _, err := p.u.approve(c, byServer); err != nil {
			p.u.say("try version %s: %v", c.Version, err)
		}
	}
}

// transfer fetches the parts of a release.
type transfer struct {
	link    *link
	release string
	whole   bool // no patch any more
	plain   bool // not compressed
	cuts    int  // in a row, without progress
	wrong   int  // digests
	busy    time.Duration
}

// Bounds of a transfer before the next round begins anew.
const (
	maxCuts  = 8
	maxWrong = 3
	tooBusy  = 15 * time.Second
)

// part fetches what is wanted first, and returns how far things are then.
func (t *transfer) part(ctx context.Context, p updateapi.Progress) (updateapi.Progress, error) {
	u, want := t.link.u, p.Wants[0]
	path, coding := t.request(want)
	next, err := t.fetch(ctx, want, path, coding)
	if err == nil {
		t.cuts, t.whole, t.plain = 0, false, false
		return next, nil
	}
	if ctx.Err() != nil {
		return p, ctx.Err()
	}
	now := u.answer()
	if len(now.Wants) == 0 || now.Wants[0].Part != want.Part {
		return p, err // the update is not the one that it was
	}
	if now.Wants[0].From > want.From {
		t.cuts = 0
	}
	wait, err := t.judge(err, coding)
	if err != nil {
		return p, err
	}
	sleep(ctx, wait)
	return u.answer(), ctx.Err()
}

// request says how to ask for what is wanted.
func (t *transfer) request(w updateapi.Want) (path, coding string) {
	path = updateapi.ReleasesPath + "/" + t.release + "/" + w.Part
	if w.Base != "" && w.From == 0 && !t.whole {
		return path + ".delta?base=" + url.QueryEscape(w.Base), updateapi.CodingDelta
	}
	coding = updateapi.CodingZstd
	if t.plain {
		coding = updateapi.CodingIdentity
	}
	return path + "?from=" + strconv.FormatInt(w.From, 10) + "&coding=" + coding, coding
}

// fetch asks, and writes what comes.
func (t *transfer) fetch(ctx context.Context, w updateapi.Want, path, coding string) (updateapi.Progress, error) {
	a, err := t.link.get(ctx, path)
	var no *refused
	if errors.As(err, &no) && no.status == 416 && w.From > 0 { // nothing but zeros is left
		return t.link.u.Write(w.Part, w.From, updateapi.CodingIdentity, strings.NewReader(""))
	}
	if err != nil {
		return updateapi.Progress{}, err
	}
	defer a.Close()
	return t.link.u.Write(w.Part, w.From, coding, a.Body)
}

// judge says how to go on after an error: when, or not at all.
func (t *transfer) judge(err error, coding string) (time.Duration, error) {
	var no *refused
	var own *updateapi.Error
	switch {
	case errors.As(err, &no) && no.status == 429:
		if t.cuts++; coding == updateapi.CodingDelta && t.cuts >= maxCuts/2 { // it is being made for too long
			t.whole = true
		}
		return t.busy, t.bounded(err)
	case coding == updateapi.CodingDelta: // whatever it was: the whole part is taken
		t.whole = true
		return 0, nil
	case errors.As(err, &no) && no.status == 400 && !t.plain:
		t.plain = true
		return 0, nil
	case errors.As(err, &no):
		return 0, err
	case errors.As(err, &own) && own.Code == updateapi.WrongBytes:
		t.wrong++
		if t.whole = true; t.wrong >= maxWrong {
			return 0, err
		}
		return 0, nil
	case errors.As(err, &own) && own.Code != updateapi.Failed:
		return 0, err
	}
	t.cuts++
	return t.link.u.again << min(t.cuts, 5), t.bounded(err)
}

func (t *transfer) bounded(err error) error {
	if t.cuts > maxCuts {
		return err
	}
	return nil
}
