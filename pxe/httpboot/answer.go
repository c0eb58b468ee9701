package httpboot

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/ingot-os/ingot/pxe/netboot"
)

// call is a request that is being answered.
type call struct {
	s    *Server
	w    http.ResponseWriter
	r    *http.Request
	seen netboot.Event // what all events of it have
}

// answer answers one request.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, m netboot.Method) {
	name, ok := clean(r.URL)
	c := &call{s: s, w: w, r: r, seen: netboot.Event{Method: m, Addr: remote(r), Path: name}}
	if !ok { // what has no path at all is a handshake
		c.seen.Path = quoted(r.URL.EscapedPath())
	}
	c.deadline(0)
	c.noBody()
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		c.refuse(http.StatusMethodNotAllowed, "the method is "+quoted(r.Method))
		return
	}
	if r.ContentLength != 0 {
		c.refuse(http.StatusRequestEntityTooLarge, "the request has a body")
		return
	}
	if !ok {
		c.refuse(http.StatusNotFound, "no file can have the path "+c.seen.Path)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.limits.Open)
	content, err := s.Source.Open(ctx, netboot.Request{Method: m, Path: name, Addr: c.seen.Addr, Probe: r.Method == http.MethodHead})
	cancel()
	c.deadline(0) // by default a client waits longer for a file than it may take for an answer
	if err != nil {
		c.deny(err)
		return
	}
	defer content.Close()
	c.content(content)
}

// noBody sees to it that nothing is read after the header. net/http reads what a
// client has announced as a body, up to 256 KiB, before it lets a connection go: one
// that never comes would hold its place for ever. Without a body the time limit of
// the header ends here, or the request would be over with it.
func (c *call) noBody() {
	var until time.Time
	if c.r.ContentLength != 0 { // -1 is a body of unknown length
		c.w.Header().Set("Connection", "close")
		until = time.Unix(1, 0) // over
	}
	http.NewResponseController(c.w).SetReadDeadline(until)
}

// content answers with a file, or with a part of it.
func (c *call) content(f netboot.Content) {
	c.seen.Size = f.Size()
	h := c.w.Header()
	h.Set("Accept-Ranges", "bytes")
	h.Set("Content-Type", kind(c.seen.Path))
	tag := ""
	if d, ok := f.(Digester); ok {
		tag = `"` + d.Digest() + `"`
		h.Set("ETag", tag)
	}
	if status := c.precondition(tag); status != 0 {
		c.w.WriteHeader(status)
		return
	}
	want, ok := span{to: f.Size()}, true
	// RFC 9110 section 14.2: a range is one of GET. Section 13.1.5: with If-Range
	// only when that is the tag, compared strongly.
	if t := c.r.Header.Get("If-Range"); c.r.Method == http.MethodGet && (t == "" || tag != "" && t == tag) {
		want, ok = parseRange(c.r.Header.Get("Range"), f.Size())
	}
	if !ok {
		h.Set("Content-Range", "bytes */"+strconv.FormatInt(f.Size(), 10))
		c.refuse(http.StatusRequestedRangeNotSatisfiable, "the range "+quoted(c.r.Header.Get("Range"))+" is not in the file")
		return
	}
	if c.r.Method == http.MethodHead {
		h.Set("Content-Length", strconv.FormatInt(f.Size(), 10))
		c.w.WriteHeader(http.StatusOK)
		c.saw(netboot.Probed, 0, "")
		return
	}
	if err := f.Begin(); err != nil {
		c.deny(err)
		return
	}
	c.deadline(0) // Begin may write to a disk
	h.Set("Content-Length", strconv.FormatInt(want.to-want.from, 10))
	if want.part {
		h.Set("Content-Range", want.contentRange(f.Size()))
		c.w.WriteHeader(http.StatusPartialContent)
	}
	c.transfer(f, want)
}

// precondition is the status when a condition of RFC 9110 section 13.1 ends the
// request; otherwise 0.
func (c *call) precondition(tag string) int {
	if m := c.r.Header.Values("If-Match"); len(m) > 0 && !matches(strings.Join(m, ","), tag, false) {
		return http.StatusPreconditionFailed
	}
	if m := c.r.Header.Values("If-None-Match"); len(m) > 0 && matches(strings.Join(m, ","), tag, true) {
		return http.StatusNotModified
	}
	return 0
}

// kind is the media type. EDK2 goes by it before it looks at the name
// (HttpBootCheckImageType); UEFI 2.10 section 24.7.3 names this one.
func kind(name string) string {
	switch strings.ToLower(path.Ext(name)) {
	case ".efi":
		return "application/efi"
	case ".ipxe":
		return "text/plain; charset=utf-8"
	}
	return "application/octet-stream"
}

// Seconds until a client may ask again.
const retryAfter = "5"

// deny answers an error of the source, of which a client learns its kind only.
func (c *call) deny(err error) {
	if c.r.Context().Err() != nil { // it has gone
		c.saw(netboot.Probed, 0, "gone before the file was there")
		return
	}
	status := http.StatusServiceUnavailable
	switch {
	case errors.Is(err, netboot.ErrNotFound):
		status = http.StatusNotFound
	case errors.Is(err, netboot.ErrDenied):
		status = http.StatusForbidden
	default: // ErrBusy, and a file that cannot be served now
		c.w.Header().Set("Retry-After", retryAfter)
	}
	c.refuse(status, err.Error())
}

// texts are all that a client is told.
var texts = map[int]string{
	http.StatusNotFound:                     "no such file\n",
	http.StatusForbidden:                    "not for this client\n",
	http.StatusServiceUnavailable:           "not available now\n",
	http.StatusMethodNotAllowed:             "only GET and HEAD\n",
	http.StatusRequestEntityTooLarge:        "no body\n",
	http.StatusRequestedRangeNotSatisfiable: "no such range\n",
}

// refuse answers with a fixed text; why is for the watcher.
func (c *call) refuse(status int, why string) {
	h := c.w.Header()
	h.Del("ETag")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(texts[status])))
	c.w.WriteHeader(status)
	if c.r.Method != http.MethodHead {
		c.w.Write([]byte(texts[status]))
	}
	c.saw(netboot.Refused, 0, strconv.Itoa(status)+": "+why)
}

func (c *call) saw(stage netboot.Stage, n int64, detail string) {
	e := c.seen
	e.Stage, e.Bytes, e.Detail = stage, n, detail
	c.s.saw(e)
}

// quoted is what a client has sent, safe to show.
func quoted(s string) string { return strconv.QuoteToASCII(s[:min(len(s), 80)]) }

func remote(r *http.Request) netip.AddrPort {
	p, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}

// handshakes takes what net/http has to say, which is nowhere else to be had: of
// that, only that a client did not like our certificate, or had no suite in
// common, is of use to people.
type handshakes struct {
	s *Server
	m netboot.Method
}

// Write implements io.Writer.
func (h handshakes) Write(b []byte) (int, error) {
	rest, ok := strings.CutPrefix(strings.TrimSpace(string(b)), "http: TLS handshake error from ")
	if !ok {
		return len(b), nil
	}
	from, cause, _ := strings.Cut(rest, ": ")
	if cause == "EOF" { // somebody has looked whether the port is open
		return len(b), nil
	}
	e := netboot.Event{Stage: netboot.Refused, Method: h.m, Detail: "TLS handshake: " + quoted(cause)}
	if a, err := net.ResolveTCPAddr("tcp", from); err == nil {
		e.Addr = peer(a)
	}
	h.s.saw(e)
	return len(b), nil
}
