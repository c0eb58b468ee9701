package manage

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/ingot-os/ingot/internal/agent/http1"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// maxPart bounds the bytes of a part, in bytes: no partition of a layout is
// larger than the disks that there are; the update client knows the real size.
const maxPart = 1 << 40

// maxBody is how large a request's body may be.
func maxBody(r http1.Request) int64 {
	switch {
	case r.Method == "PUT" && strings.HasPrefix(r.Path, updateapi.UpdatePath+"/"):
		return maxPart
	case r.Method == "POST" && r.Path == updateapi.UpdatePath:
		return updateapi.MaxRequest
	case r.Method == "POST":
		return 64 << 10
	}
	return 0
}

// plain answers those who are no operators.
func (s *server) plain(r http1.Request) http1.Response {
	switch {
	case r.Method != "GET" && r.Method != "HEAD":
		return http1.Text(405, "only GET and HEAD are answered without a certificate")
	case r.Path == updateapi.SlotsPath:
		return answer(200, s.c.Slots())
	}
	return s.m.Plain(r)
}

// operator is a connection of one.
type operator struct {
	s    *server
	name string
	from net.Addr
}

// who is the operator by the common name of the certificate.
func (o operator) who() string { return fmt.Sprintf("operator %.64q", o.name) }

// handle answers an operator.
func (o operator) handle(r http1.Request) http1.Response {
	if r.Method == "GET" || r.Method == "HEAD" {
		return o.s.plain(r)
	}
	do := o.route(r)
	if do == nil {
		return http1.Text(404, "not found: "+r.Method+" "+r.Path)
	}
	if !o.s.changing.TryLock() {
		return refusal(&updateapi.Error{Code: updateapi.Busy, Detail: "another operator's request is under way", Hint: "try again when it has ended"})
	}
	defer o.s.changing.Unlock()
	progress, err := do()
	if err != nil {
		o.s.m.Logf("management: %s %s by %.64q from %v: %.300v", r.Method, r.Path, o.name, o.from, err)
		return refusal(err)
	}
	o.s.m.Logf("management: %s %s by %.64q from %v: %s", r.Method, r.Path, o.name, o.from, progress.Phase)
	return answer(200, progress)
}

// route is what a request does; nil when there is no such.
func (o operator) route(r http1.Request) func() (updateapi.Progress, error) {
	c := o.s.c
	if r.Method == "PUT" {
		if part, ok := strings.CutPrefix(r.Path, updateapi.UpdatePath+"/"); ok {
			return func() (updateapi.Progress, error) { return o.write(part, r) }
		}
		return nil
	}
	switch r.Path {
	case updateapi.UpdatePath:
		return message(r, func(m updateapi.Offer) (updateapi.Progress, error) {
			m.By = o.who()
			return c.Offer(m)
		})
	case updateapi.OverridePath:
		return message(r, c.Override)
	case updateapi.ApprovePath:
		return func() (updateapi.Progress, error) { return c.Approve(o.who()) }
	case updateapi.RollbackPath:
		return c.Rollback
	case updateapi.AdoptPath:
		return c.Adopt
	}
	return nil
}

// message reads the body of a request.
func message[T any](r http1.Request, do func(T) (updateapi.Progress, error)) func() (updateapi.Progress, error) {
	return func() (updateapi.Progress, error) {
		var m T
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			return updateapi.Progress{}, malformed("read the request: %.200v", err)
		}
		return do(m)
	}
}

func (o operator) write(part string, r http1.Request) (updateapi.Progress, error) {
	if part != updateapi.PartSlot && part != updateapi.PartRoot {
		return updateapi.Progress{}, malformed("no release has a part %.20q", part)
	}
	from, coding := int64(0), r.Query.Get("coding")
	if v := r.Query.Get("from"); v != "" {
		n, err := strconv.ParseUint(v, 10, 63)
		if err != nil {
			return updateapi.Progress{}, malformed("from=%.40q: want a number", v)
		}
		from = int64(n)
	}
	switch coding {
	case "":
		coding = updateapi.CodingIdentity
	case updateapi.CodingIdentity, updateapi.CodingZstd, updateapi.CodingDelta:
	default:
		return updateapi.Progress{}, malformed("coding=%.20q: want identity, zstd or delta", coding)
	}
	return o.s.c.Write(part, from, coding, r.Body)
}

func malformed(format string, args ...any) error {
	return &updateapi.Error{Code: updateapi.Malformed, Detail: fmt.Sprintf(format, args...)}
}

// statuses are those of refusals; the code in the body says more.
var statuses = map[string]int{
	updateapi.Malformed: 400, updateapi.Denied: 403,
	updateapi.Untrusted: 422, updateapi.Mismatched: 422, updateapi.WrongBytes: 422,
	updateapi.BelowFloor: 409, updateapi.IsRejected: 409, updateapi.Busy: 409, updateapi.WrongBase: 409, updateapi.NotAllowed: 409,
	updateapi.Unavailable: 503,
}

// refusal answers with an error.
func refusal(err error) http1.Response {
	e := &updateapi.Error{Code: updateapi.Failed, Detail: err.Error()}
	errors.As(err, &e)
	if status, ok := statuses[e.Code]; ok {
		return answer(status, e)
	}
	return answer(500, e)
}

func answer(status int, v any) http1.Response {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return http1.Text(500, err.Error())
	}
	return http1.Response{Status: status, Type: "application/json", Body: append(b, '\n')}
}
