package verifier

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ingot-os/ingot/internal/assign"
	"github.com/ingot-os/ingot/internal/depot"
	"github.com/ingot-os/ingot/internal/dsse"
	"github.com/ingot-os/ingot/internal/regular"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// Of transfers.
const (
	manifestPart = "manifest"
	deltaSuffix  = ".delta"
	chunk        = 256 << 10        // of a part, in bytes
	minSpeed     = 32 << 10         // bytes in a second: below it a transfer ends, and is taken up again
	atLeast      = time.Minute      // that every transfer may take
	depotWait    = 45 * time.Second // that a request waits for a part to be checked, or a patch to be made
	retryAfter   = "15"             // seconds
)

// send answers GET /v1/releases/DIGEST/PART to attested hosts and operators.
func (s *Server) send(w http.ResponseWriter, r *http.Request) {
	t, err := s.transfer(w, r)
	if err == nil {
		// The server's deadline for requests would cancel the context of an answer
		// that takes longer. Only now: it bounds those who are nobody.
		http.NewResponseController(w).SetReadDeadline(time.Time{})
		err = t.run()
	}
	if err != nil && !errors.Is(err, errGone) {
		s.decline(w, r, err)
	}
}

// transfer is one part that is being sent.
type transfer struct {
	s       *Server
	c       *call
	w       http.ResponseWriter
	release *Release
	part    string
	who     string // host or operator
}

// errGone: the answer has begun, and cannot be another one any more.
var errGone = errors.New("the client is gone, or the file has changed")

func (s *Server) transfer(w http.ResponseWriter, r *http.Request) (*transfer, error) {
	if r.ContentLength != 0 { // one that never comes would be waited for at the end of the answer, without a deadline
		return nil, refuse(http.StatusRequestEntityTooLarge, updateapi.Malformed, "a body is not accepted")
	}
	c, err := caller(r)
	if err != nil {
		return nil, err
	}
	t := &transfer{s: s, c: c, w: w, part: r.PathValue("part")}
	if s.isOperator(c) == nil {
		t.who = "operator " + c.cert.Subject.CommonName
	} else if c.host, err = s.attestedHost(c); err != nil {
		return nil, err
	} else {
		t.who = c.host.Record.Name
	}
	if t.release = s.catalog.Load().release(r.PathValue("digest")); t.release == nil {
		return nil, refuse(http.StatusNotFound, assign.Missing, "the server has no release %.80q", r.PathValue("digest"))
	}
	return t, t.mine()
}

// mine refuses a host what is not for it: a release of another appliance, or for
// another processor, that is not assigned to it.
func (t *transfer) mine() error {
	if t.c.host == nil {
		return nil
	}
	if l := t.c.host.Last; l != nil && l.Release == t.release.Name && (l.Arch == "" || l.Arch == t.release.Arch) {
		return nil
	}
	a, err := t.s.o.Store.Assignment(t.c.ctx, t.c.host.Record.Name)
	if err != nil {
		return err
	}
	if a == nil || a.Release != t.release.Digest {
		return refuse(http.StatusForbidden, updateapi.Denied, "%s %s is not what %s runs, and is not assigned to it", t.release.Name, t.release.Version, t.c.host.Record.Name)
	}
	return nil
}

func (t *transfer) run() error {
	if t.part == manifestPart {
		return t.manifest()
	}
	name, patch := strings.CutSuffix(t.part, deltaSuffix)
	p, ok := t.release.parts[name]
	if !ok || t.s.o.Depot == nil {
		return refuse(http.StatusNotFound, RequestUnknown, "%s %s has no part %.40q here", t.release.Name, t.release.Version, t.part)
	}
	if patch {
		return t.patch(name, p)
	}
	return t.whole(p)
}

// place takes a place among the transfers.
func (t *transfer) place() (leave func(), err error) {
	if !t.s.transfers.take(t.who) {
		return nil, t.busy("too much is being sent")
	}
	return func() { t.s.transfers.give(t.who) }, nil
}

func (t *transfer) busy(what string) error {
	t.w.Header().Set("Retry-After", retryAfter)
	return refuse(http.StatusTooManyRequests, RequestBusy, "%s: try later", what)
}

// manifest sends the envelope. Signatures may have been added since it was read;
// the manifest in it is still the one.
func (t *transfer) manifest() error {
	path := filepath.Join(t.release.Dir, release.EnvelopeName)
	f, info, err := regular.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return refuse(http.StatusNotFound, updateapi.Untrusted, "%s %s is not signed", t.release.Name, t.release.Version)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if info.Size() > dsse.MaxEnvelope {
		return fmt.Errorf("%s: %d bytes", path, info.Size())
	}
	if !t.s.bodies.take(t.c.address, info.Size()) {
		return t.busy("too much is being sent")
	}
	defer t.s.bodies.give(t.c.address, info.Size())
	b := make([]byte, info.Size())
	if _, err := io.ReadFull(f, b); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	e, err := dsse.Parse(b)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if sum := sha256.Sum256(e.Payload); hex.EncodeToString(sum[:]) != t.release.Digest {
		return t.changed(fmt.Errorf("%s: %w", path, depot.ErrDiffers))
	}
	h := t.w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(b)))
	t.steady(int64(len(b))).Write(b)
	return nil
}

// patient is the time that a request waits for the depot: a part that is given
// out for the first time is read as a whole before, and a patch is made.
func (t *transfer) patient() (context.Context, context.CancelFunc) {
	t.extend(depotWait + atLeast)
	return context.WithTimeout(t.c.ctx, depotWait)
}

// trouble is what the client hears of an error of the depot.
func (t *transfer) trouble(err error) error {
	switch {
	case errors.Is(err, depot.ErrNoPatch):
		return refuse(http.StatusNotFound, updateapi.WrongBase, "the patch would be hardly smaller than the part: take the whole part")
	case errors.Is(err, depot.ErrMaking):
		return t.busy("the patch is being made")
	case errors.Is(err, context.DeadlineExceeded):
		return t.busy("the part is being checked")
	case errors.Is(err, depot.ErrDiffers), errors.Is(err, depot.ErrChanged), errors.Is(err, fs.ErrNotExist):
		return t.changed(err)
	}
	return err
}

// changed says that a file is not the release's any more.
func (t *transfer) changed(err error) error {
	t.s.log.Error("release not sent", "release", t.release.Name, "version", t.release.Version, "part", t.part, "error", err.Error())
	return refuse(http.StatusServiceUnavailable, updateapi.Failed, "the files of %s %s are not those that its manifest names: the server's log says more", t.release.Name, t.release.Version)
}
