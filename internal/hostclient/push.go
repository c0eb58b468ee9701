package hostclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/ingot-os/ingot/boot/slot"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// PushOptions configure Push.
type PushOptions struct {
	Override bool // although the machine has rejected the version
	Approve  bool // try it as soon as it is written
	// Sending is told what is sent: how many of the bytes of a part, of which total
	// are to be sent, and in which coding. It may be nil.
	Sending func(part, coding string, done, total int64)
	// Retry is told why a transfer goes on from where it was cut, or, when the machine
	// has not answered yet, why it is asked again. It may be nil.
	Retry func(answered bool, why error)
}

// Tries of a transfer. What brings the machine further begins them anew.
const (
	maxTries  = 8
	deafTries = 2 // where nobody listens, and nothing was ever answered
	firstWait = time.Second
	maxWait   = 15 * time.Second
)

// pushing is the state of Push.
type pushing struct {
	c     *Client
	r     *Release
	o     PushOptions
	wait  time.Duration   // the first between two tries
	heard bool            // the machine has answered an offer
	whole map[string]bool // parts for which no patch was taken
	wrong map[string]int  // how often a part did not arrive as it was signed
	sent  Sent
}

// Sent is what a transfer has taken.
type Sent struct {
	Bytes   int64    `json:"bytes"`             // on the way
	Codings []string `json:"codings,omitempty"` // of each body
	Retries int      `json:"retries,omitempty"`
}

// Push offers a release and sends what the machine wants of it. A connection
// that is lost is made again, and the transfer goes on where it was cut. With
// Approve the machine resets into the trial soon after.
func (c *Client) Push(ctx context.Context, r *Release, o PushOptions) (*updateapi.Progress, Sent, error) {
	p := &pushing{c: c, r: r, o: o, wait: firstWait, whole: map[string]bool{}, wrong: map[string]int{}}
	progress, err := p.run(ctx)
	return progress, p.sent, err
}

func (p *pushing) run(ctx context.Context) (*updateapi.Progress, error) {
	var last updateapi.Want
	for tries := 0; ; {
		progress, err := p.once(ctx, &last, &tries)
		if err == nil {
			return progress, nil
		}
		if tries++; tries >= p.limit(err) || !p.again(err) {
			return nil, err
		}
		p.sent.Retries++
		if p.o.Retry != nil {
			p.o.Retry(p.heard, err)
		}
		select {
		case <-time.After(min(p.wait<<(tries-1), maxWait)):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// limit is how often is tried what ended with err. A host that never answered may
// be a wrong name or port: whoever typed it is told soon.
func (p *pushing) limit(err error) int {
	var name *net.DNSError
	switch {
	case p.heard:
		return maxTries
	case errors.As(err, &name) && name.IsNotFound:
		return 1
	case name != nil, errors.Is(err, syscall.ECONNREFUSED):
		return deafTries
	}
	return maxTries
}

// once offers the release and sends what is wanted, until nothing is or
// something goes wrong.
func (p *pushing) once(ctx context.Context, last *updateapi.Want, tries *int) (*updateapi.Progress, error) {
	progress, err := p.c.Offer(ctx, updateapi.Offer{Manifest: p.r.Envelope, Override: p.o.Override, Approve: p.o.Approve})
	if p.heard = p.heard || err == nil || is[*updateapi.Error](err); err != nil {
		return p.begun(ctx, err)
	}
	for len(progress.Wants) > 0 {
		w := progress.Wants[0]
		if w.Part != last.Part || w.From > last.From {
			*tries = 0
		}
		*last = w
		if progress, err = p.send(ctx, w); err != nil {
			return nil, fmt.Errorf("send %s: %w", w.Part, err)
		}
	}
	return progress, nil
}

// begun is for an offer that is refused because the machine tries this release
// already: the answer to the last bytes was lost on the way.
func (p *pushing) begun(ctx context.Context, refused error) (*updateapi.Progress, error) {
	var e *updateapi.Error
	if p.sent.Bytes == 0 || !errors.As(refused, &e) || e.Code != updateapi.Busy {
		return nil, refused
	}
	s, err := p.c.Slots(ctx)
	if err != nil || s.Phase != slot.Armed.String() && s.Phase != slot.Trying.String() || content(s, s.Candidate).Image != p.r.Image() {
		return nil, refused
	}
	return &updateapi.Progress{Version: p.r.Version, Slot: s.Candidate, Phase: s.Phase}, nil
}

// content is what a slot holds by the journal.
func content(s *updateapi.Slots, name string) updateapi.Slot {
	for _, x := range s.Slots {
		if x.Name == name {
			return x
		}
	}
	return updateapi.Slot{}
}

// again says whether an error may pass, and remembers what not to do again.
func (p *pushing) again(err error) bool {
	var e *updateapi.Error
	if !errors.As(err, &e) {
		return lost(err)
	}
	var s *sendError
	errors.As(err, &s)
	switch e.Code {
	case updateapi.WrongBase:
		ok := s != nil && !p.whole[s.part]
		if ok {
			p.whole[s.part] = true
		}
		return ok
	case updateapi.WrongBytes:
		if s == nil {
			return false
		}
		p.whole[s.part] = true
		p.wrong[s.part]++
		return p.wrong[s.part] == 1
	case updateapi.Busy: // our own lost connection, which the machine still waits for
		return p.sent.Bytes > 0
	case updateapi.Failed: // cut on the way, as the machine saw it
		return s != nil
	}
	return false
}

// lost says whether an error is one of the network, and not of who answers.
func lost(err error) bool {
	switch {
	case is[*KeyError](err), is[*UnattestedError](err), is[*NameError](err), is[*StrangerError](err), is[*PlainError](err), is[*localError](err):
		return false
	}
	return !errors.Is(err, context.Canceled)
}

func is[T error](err error) bool {
	var t T
	return errors.As(err, &t)
}

// localError is an error of the release on this side.
type localError struct{ error }

// Unwrap gives the cause.
func (e *localError) Unwrap() error { return e.error }

// sendError says with which part something went wrong.
type sendError struct {
	part string
	error
}

// Unwrap gives the cause.
func (e *sendError) Unwrap() error { return e.error }

// send sends one body.
func (p *pushing) send(ctx context.Context, w updateapi.Want) (*updateapi.Progress, error) {
	b, err := p.body(ctx, w)
	if err != nil {
		return nil, &localError{err}
	}
	defer b.close()
	from := w.From
	if b.coding == updateapi.CodingDelta {
		from = 0
	}
	url := fmt.Sprintf("https://%s%s/%s?from=%d&coding=%s", p.c.addr, updateapi.UpdatePath, w.Part, from, b.coding)
	wire := &counted{r: b.body}
	if b.coding == updateapi.CodingDelta {
		wire.tell = p.telling(w.Part, b.coding, b.size)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, url, wire)
	if err != nil {
		return nil, err
	}
	r.ContentLength = b.size
	r.Header.Set("Expect", "100-continue")
	p.sent.Codings = append(p.sent.Codings, b.coding)
	progress := new(updateapi.Progress)
	err = p.c.do(p.c.operator, r, progress)
	p.sent.Bytes += wire.at.Load()
	if err != nil {
		return nil, &sendError{w.Part, err}
	}
	return progress, nil
}

// body is a patch where there is one, else the rest of the part.
func (p *pushing) body(ctx context.Context, w updateapi.Want) (*sending, error) {
	if p.r.fits(w) && !p.whole[w.Part] {
		p.telling(w.Part, updateapi.CodingDelta, 0)(0) // making it takes a while
		if b := p.r.patch(ctx, w); b != nil {
			return b, nil
		}
	}
	return p.r.whole(ctx, w, p.telling(w.Part, updateapi.CodingZstd, p.r.used(ctx, w.Part)))
}

func (p *pushing) telling(part, coding string, total int64) func(int64) {
	return func(done int64) {
		if p.o.Sending != nil {
			p.o.Sending(part, coding, done, total)
		}
	}
}
