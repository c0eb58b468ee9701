package verifier

import (
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/ingot-os/ingot/internal/depot"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// whole sends a part from some byte on.
func (t *transfer) whole(p depot.Part) error {
	q := t.c.r.URL.Query()
	coding := q.Get("coding")
	if coding == "" {
		coding = updateapi.CodingIdentity
	}
	if coding != updateapi.CodingIdentity && coding != updateapi.CodingZstd {
		return refuse(http.StatusBadRequest, updateapi.Malformed, "coding %.40q: want %s or %s", coding, updateapi.CodingIdentity, updateapi.CodingZstd)
	}
	from, err := offset(q.Get("from"))
	if err != nil {
		return err
	}
	leave, err := t.place()
	if err != nil {
		return err
	}
	defer leave()
	ctx, cancel := t.patient()
	defer cancel()
	o, err := t.s.o.Depot.Open(ctx, p)
	if err != nil {
		return t.trouble(err)
	}
	defer o.Close()
	if from > o.Used {
		return refuse(http.StatusRequestedRangeNotSatisfiable, updateapi.Malformed, "from %d: the part has %d bytes before the zeros at its end", from, o.Used)
	}
	section := io.NewSectionReader(o, from, o.Used-from)
	t.w.Header().Set("Content-Type", "application/octet-stream")
	if coding == updateapi.CodingZstd {
		return t.compressed(section)
	}
	return t.identity(section, p.SHA256, from)
}

func offset(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, refuse(http.StatusBadRequest, updateapi.Malformed, "from %.40q: want a number of bytes", text)
	}
	return n, nil
}

// identity sends bytes as they are. From their beginning on HTTP's own ranges
// are answered, too: for mirrors, and clients that know nothing of ingot.
func (t *transfer) identity(section *io.SectionReader, digest string, from int64) error {
	w := t.steady(section.Size())
	if from > 0 {
		if t.c.r.Header.Get("Range") != "" {
			return refuse(http.StatusBadRequest, updateapi.Malformed, "either from, or a Range")
		}
		t.w.Header().Set("Content-Length", strconv.FormatInt(section.Size(), 10))
		if t.c.r.Method == http.MethodHead {
			return nil
		}
		if _, err := io.Copy(w, section); err != nil {
			t.cut(err)
		}
		return nil
	}
	t.w.Header().Set("Etag", `"`+digest+`"`)
	http.ServeContent(w, t.c.r, "", time.Time{}, section)
	if w.err != nil {
		t.cut(w.err)
	}
	return nil
}

// cut ends an answer that has begun: the client sees that bytes are missing.
func (t *transfer) cut(err error) {
	t.s.log.Debug("transfer cut", "host", t.who, "release", t.release.Name, "version", t.release.Version, "part", t.part, "error", err.Error())
	panic(http.ErrAbortHandler)
}

// compressed sends bytes as one zstd stream.
func (t *transfer) compressed(section *io.SectionReader) error {
	if t.c.r.Method == http.MethodHead {
		return nil
	}
	wait := time.NewTimer(t.s.o.Limits.Timeout)
	defer wait.Stop()
	select {
	case t.s.encoders <- struct{}{}:
		defer func() { <-t.s.encoders }()
	case <-wait.C:
		return t.busy("too much is being compressed")
	}
	w := t.steady(section.Size())
	e, err := depot.NewEncoder(w)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{e}, section, make([]byte, chunk))
	if cerr := e.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		t.cut(err)
	}
	return nil
}

// patch sends a patch from what another release has in this part. For hosts one
// is made only to the release that is assigned to them: making one costs some
// seconds of the processor.
func (t *transfer) patch(name string, target depot.Part) error {
	base := t.s.catalog.Load().base(t.release, name, t.c.r.URL.Query().Get("base"))
	if base == nil {
		return refuse(http.StatusNotFound, updateapi.WrongBase, "no release of %s here has the %s that the host has: take the whole part", t.release.Name, name)
	}
	if t.c.host != nil {
		a, err := t.s.o.Store.Assignment(t.c.ctx, t.c.host.Record.Name)
		if err != nil {
			return err
		}
		if a == nil || a.Release != t.release.Digest {
			return refuse(http.StatusNotFound, updateapi.WrongBase, "%s %s is not assigned to %s: take the whole part", t.release.Name, t.release.Version, t.c.host.Record.Name)
		}
	}
	ctx, cancel := t.patient()
	defer cancel()
	f, size, err := t.s.o.Depot.Patch(ctx, *base, target)
	if err != nil {
		return t.trouble(err)
	}
	defer f.Close()
	leave, err := t.place()
	if err != nil {
		return err
	}
	defer leave()
	t.w.Header().Set("Content-Type", "application/octet-stream")
	return t.identity(io.NewSectionReader(f, 0, size), base.SHA256+"-"+target.SHA256, 0)
}

func (t *transfer) extend(d time.Duration) {
	http.NewResponseController(t.w).SetWriteDeadline(time.Now().Add(d))
}

// steady writes an answer of so many bytes to a client that takes them: some
// within Limits.Stall, and all of it not slower than minSpeed. (The kernel wakes
// who writes when a third of its buffer of up to 4 MiB is free, so a slow client
// seems to take nothing for long.)
type steady struct {
	http.ResponseWriter
	t   *transfer
	end time.Time
	err error // the first
}

func (t *transfer) steady(n int64) *steady {
	return &steady{ResponseWriter: t.w, t: t, end: time.Now().Add(atLeast + time.Duration(n/minSpeed)*time.Second)}
}

// Write implements io.Writer.
func (w *steady) Write(b []byte) (int, error) {
	n := 0
	for n < len(b) {
		w.t.extend(min(w.t.s.o.Limits.Stall, time.Until(w.end)))
		m, err := w.ResponseWriter.Write(b[n:min(n+chunk, len(b))])
		if n += m; err != nil {
			w.err = err
			return n, err
		}
	}
	return n, nil
}

// ReadFrom implements io.ReaderFrom: io.Copy would take 32 KiB at a time.
func (w *steady) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, make([]byte, chunk))
	if err != nil && w.err == nil {
		w.err = err
	}
	return n, err
}
