package updater

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ingot-os/ingot/internal/agent/anchor"
	"github.com/ingot-os/ingot/internal/agent/http1"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// Bounds of what is said between machine and server.
const (
	timeout    = 30 * time.Second // to connect, and for a short answer
	maxMessage = 64 << 10         // of an assignment or a refusal, in bytes
)

// errWaiting: there is nobody to ask yet.
var errWaiting = errors.New("the machine waits for the server's address, or for a certificate by it")

// refused is the server's no.
type refused struct {
	status int
	says   updateapi.Error
}

// Error implements error.
func (r *refused) Error() string {
	return fmt.Sprintf("the server refuses: %s: %s", r.says.Code, r.says.Detail)
}

// link is a connection to the server as the machine that it has attested.
type link struct {
	u      *Updater
	server *anchor.Server
	show   tls.Certificate
	conn   *tls.Conn
	http   *http1.Client
}

// connect opens a link.
func (u *Updater) connect(ctx context.Context) (*link, error) {
	base, _ := u.m.Server()
	certificate, key := u.m.Certificate()
	if base == "" || certificate == nil || u.m.Spec.Trust == nil {
		return nil, errWaiting
	}
	s, err := anchor.Parse(base, u.m.Spec.Trust.Server)
	if err != nil {
		return nil, err
	}
	show, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("read the machine's certificate: %w", err)
	}
	l := &link{u: u, server: s, show: show}
	return l, l.dial(ctx)
}

func (l *link) dial(ctx context.Context) error {
	l.close()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := l.server.Dial(ctx, l.show, func(chain []*x509.Certificate) error { return l.server.Verify(chain, l.u.m.Now()) })
	if err != nil {
		return err
	}
	l.conn, l.http = conn, http1.NewClient(conn, l.server.URL.Host)
	return nil
}

func (l *link) close() {
	if l.conn != nil {
		l.conn.Close()
		l.conn, l.http = nil, nil
	}
}

func (l *link) path(path string) string {
	return strings.TrimSuffix(l.server.URL.EscapedPath(), "/") + path
}

// get asks for something that is read as it comes. The answer must be closed.
func (l *link) get(ctx context.Context, path string) (*http1.Answer, error) {
	if l.http == nil || l.http.Done() {
		if err := l.dial(ctx); err != nil {
			return nil, err
		}
	}
	a, err := l.http.Get(ctx, l.path(path))
	if err != nil {
		return nil, err
	}
	if a.Status == 200 {
		return a, nil
	}
	defer a.Close()
	text, _ := io.ReadAll(io.LimitReader(a.Body, maxMessage))
	return nil, refusal(a.Status, text)
}

// refusal reads the body of an answer that is none.
func refusal(status int, text []byte) error {
	r := &refused{status: status}
	if json.Unmarshal(text, &r.says) != nil || r.says.Code == "" {
		r.says = updateapi.Error{Code: fmt.Sprintf("status %d", status), Detail: fmt.Sprintf("%.200q", text)}
	}
	r.says.Detail = r.says.Detail[:min(len(r.says.Detail), 500)]
	return r
}

// fetch reads a whole answer of at most limit bytes.
func (l *link) fetch(ctx context.Context, path string, limit int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*timeout)
	defer cancel()
	a, err := l.get(ctx, path)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	b, err := io.ReadAll(io.LimitReader(a.Body, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = http1.ErrTooLarge
	}
	return b, err
}

// assignment asks what the machine is to run.
func (l *link) assignment(ctx context.Context) (a updateapi.Assignment, err error) {
	b, err := l.fetch(ctx, updateapi.AssignmentPath, maxMessage)
	if err == nil {
		err = json.NewDecoder(bytes.NewReader(b)).Decode(&a)
	}
	if err != nil {
		return a, fmt.Errorf("ask for the assignment: %w", err)
	}
	return a, nil
}

// report tells how the slots are.
func (l *link) report(ctx context.Context, s updateapi.Slots) error {
	body, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("report the slots: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	status, text, err := l.http.Post(ctx, l.path(updateapi.SlotsPath), "application/json", body, maxMessage)
	if err == nil && status != 200 {
		err = refusal(status, text)
	}
	if err != nil {
		return fmt.Errorf("report the slots: %w", err)
	}
	return nil
}
