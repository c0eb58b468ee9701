package updater

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ingot-os/ingot/internal/agent/updates"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// lookAgain is the time between two looks at the machine's health.
const lookAgain = time.Second

// diskless reports for a machine that keeps nothing, and does what it is told.
type diskless struct {
	u     *Updater
	m     updates.Diskless
	boot  string
	well  time.Time // since when everything has been well; zero: it is not
	cause string
	why   string
	now   func() time.Time // of the clock that never jumps
	disk  *installer
	ended time.Time // the install was done and the server does not know it yet
}

// RunDiskless tells the server how a boot from the network goes, until the context
// ends: once in the interval that the server names, and at once when the machine
// becomes healthy or stops to be. A reset that the server orders does not return.
func RunDiskless(ctx context.Context, m updates.Diskless) {
	newDiskless(m).run(ctx)
}

func newDiskless(m updates.Diskless) *diskless {
	d := &diskless{m: m, u: newLinks(m), now: time.Now}
	d.disk = newInstaller(d.u, m)
	return d
}

func (d *diskless) run(ctx context.Context) {
	defer d.u.tasks.Wait()
	var id [16]byte
	rand.Read(id[:]) // never fails (Go 1.24)
	d.boot = hex.EncodeToString(id[:])
	r := &rhythm{interval: interval}
	for ctx.Err() == nil {
		if r.name = d.u.name(); r.name == "" {
			d.look()
			sleep(ctx, lookAgain)
			continue
		}
		busy := d.disk.isBusy() // what the server says now is not taken
		order, err := d.round(ctx)
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, errWaiting):
			sleep(ctx, lookAgain)
		case d.isInstalled(err == nil):
			d.m.Reset("the release is on the disk: starting from there")
			return
		case err != nil:
			d.u.say("%v", err)
			sleep(ctx, r.retry())
		case order.Reset && d.phase() != updateapi.InstallWriting:
			d.m.Reset("the server wants another release here: " + order.Why)
			return
		default:
			d.disk.take(ctx, order.Install)
			r.ask(order.Interval)
			d.wait(ctx, r.next(), busy)
		}
	}
}

// newLinks is an Updater that has connections and nothing to write.
func newLinks(m updates.Diskless) *Updater {
	return &Updater{broken: errors.New("this machine runs from memory"), again: firstRetry,
		m: updates.Machine{Spec: m.Spec, Server: m.Server, Certificate: m.Certificate, Now: m.Now, Logf: m.Logf, Problem: m.Logf}}
}

// tellInstalled is how long a machine tries to tell that it is installed before it starts
// from the disk: the server learns it then, too.
const tellInstalled = time.Minute

// isInstalled says that nothing is left to do here.
func (d *diskless) isInstalled(told bool) bool {
	if d.phase() != updateapi.InstallDone {
		return false
	}
	if d.ended.IsZero() { // what was told just now may have been from before
		d.ended = d.now()
		return false
	}
	return told || d.now().Sub(d.ended) > tellInstalled
}

func (d *diskless) phase() string {
	if s := d.disk.status(); s != nil {
		return s.Phase
	}
	return ""
}

// wait ends when the time is over, or when the health or an install has changed: also when
// one that failed may begin anew, for which the server must be asked whether it still is
// to be.
func (d *diskless) wait(ctx context.Context, t time.Duration, busy bool) {
	if d.phase() == updateapi.InstallDone {
		return
	}
	before, phase := d.well.IsZero(), d.phase()
	for end := d.now().Add(t); ctx.Err() == nil && d.now().Before(end); {
		sleep(ctx, min(lookAgain, end.Sub(d.now())))
		if d.look(); d.well.IsZero() != before || d.phase() != phase || busy && !d.disk.isBusy() {
			return
		}
	}
}

// look notes how the machine is.
func (d *diskless) look() {
	ok, cause, detail := d.m.Health()
	switch {
	case !ok:
		d.well, d.cause, d.why = time.Time{}, cause, detail
	case d.well.IsZero():
		d.well, d.cause, d.why = d.now(), "", ""
	}
}

// round reports once, and gives the server's order.
func (d *diskless) round(ctx context.Context) (o updateapi.BootOrder, err error) {
	d.look()
	r := d.m.Report()
	r.Boot, r.Cause, r.Detail = d.boot, d.cause, cutText(d.why)
	if !d.well.IsZero() {
		r.Healthy = min(max(d.now().Sub(d.well).Seconds(), 0.001), r.Uptime)
	}
	r.Install, r.Installs = d.disk.status(), d.m.Spec.Install != nil
	for i := range r.Evidence {
		r.Evidence[i].Detail = cutText(r.Evidence[i].Detail)
	}
	l, err := d.u.connect(ctx)
	if err != nil {
		return o, err
	}
	defer l.close()
	if err := l.post(ctx, updateapi.BootPath, r, &o); err != nil {
		return o, fmt.Errorf("report the boot: %w", err)
	}
	return o, nil
}

// cutText bounds a text as servers do.
func cutText(s string) string { return s[:min(len(s), 500)] }

// post sends a message and reads the answer.
func (l *link) post(ctx context.Context, path string, message, answer any) error {
	body, err := json.Marshal(message)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	status, text, err := l.http.Post(ctx, l.path(path), "application/json", body, maxMessage)
	if err != nil {
		return err
	}
	if status != 200 {
		return refusal(status, text)
	}
	return json.NewDecoder(bytes.NewReader(text)).Decode(answer)
}
