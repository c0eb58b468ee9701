// Package hostclient is the operator's side of a machine's management listener:
// it looks at the slots of a machine, sends it a release, waits for the verdict,
// rolls back (package updateapi has the messages).
//
//	c, err := hostclient.New(hostclient.Options{Host: "lamp-7", Certificate: mine, Hosts: set.Certificate(keys.Hosts)})
//	slots, err := c.Slots(ctx)
//	r, err := hostclient.OpenRelease("out/lamp-2", hostclient.ReleaseOptions{})
//	p, err := c.Push(ctx, r, hostclient.PushOptions{Approve: true})
//	outcome, err := c.Wait(ctx, r, hostclient.WaitOptions{})
//
// Both sides show certificates (TLS 1.3). A machine that was attested shows one
// by the authority of hosts, with its name. One without a server shows a key of
// its present boot, which an operator reads from its console and names.
package hostclient

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/internal/updateapi"
)

// DefaultPort is where machines listen unless their recipe says otherwise.
const DefaultPort = "9443"

// Times of a connection. A machine that is gone is noticed within a minute and a
// half; how long it takes to answer is up to its disk.
const (
	dialTime   = 10 * time.Second
	unanswered = 90 * time.Second
)

// maxAnswer bounds an answer in bytes: 500 rejected versions and all boot
// variables are less.
const maxAnswer = 1 << 20

// Options say whom to speak to, and as whom.
type Options struct {
	Host        string // NAME, ADDRESS, NAME:PORT, [ADDRESS]:PORT
	Certificate tls.Certificate
	// Hosts is the authority of attested machines; nil: only Key counts.
	Hosts *x509.Certificate
	// Name is the machine's in its certificate; empty: Host, or its first label.
	Name string
	// Key is the SHA-256 of the key that the machine shows, in hex (management.key
	// of its status). It counts instead of a certificate.
	Key string
}

// Client asks one machine as an operator.
type Client struct {
	o        Options
	addr     string // host:port
	host     string
	operator *http.Client
	plain    *http.Client
}

// New checks the options; it connects to nothing yet.
func New(o Options) (*Client, error) {
	c := &Client{o: o}
	var err error
	if c.addr, c.host, err = address(o.Host); err != nil {
		return nil, err
	}
	if c.o.Key = strings.ToLower(strings.ReplaceAll(o.Key, ":", "")); c.o.Key != "" && !isDigest(c.o.Key) {
		return nil, &DigestError{o.Key}
	}
	dialer := &net.Dialer{Timeout: dialTime, ControlContext: giveUp}
	transport := func(t *tls.Config) http.RoundTripper {
		return &http.Transport{TLSClientConfig: t, DialContext: dialer.DialContext, DisableKeepAlives: true,
			TLSHandshakeTimeout: dialTime, ExpectContinueTimeout: unanswered}
	}
	c.operator = &http.Client{Transport: transport(c.config()), CheckRedirect: stay}
	c.plain = &http.Client{Transport: transport(nil), CheckRedirect: stay, Timeout: 30 * time.Second}
	return c, nil
}

// DigestError says that a key of a host was not named by a whole SHA-256.
type DigestError struct{ Key string }

// Error implements error.
func (e *DigestError) Error() string {
	return fmt.Sprintf("key %.80q of the host: want a SHA-256 of 64 hexadecimal digits", e.Key)
}

// Hint says where it is read.
func (e *DigestError) Hint() string {
	return `all 64 digits count: they are in the newest line "operators are answered with the key" on the machine's console, and management.key of its /v1/status`
}

func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// giveUp lets the kernel end a connection whose peer does not take what is sent
// (RFC 5482); else it would try for a quarter of an hour.
func giveUp(_ context.Context, network, _ string, conn syscall.RawConn) error {
	var err error
	if cerr := conn.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unanswered.Milliseconds()))
	}); cerr != nil {
		return cerr
	}
	return err
}

// address splits what a person types.
func address(text string) (addr, host string, err error) {
	host, port := strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"), DefaultPort
	if h, p, err := net.SplitHostPort(text); err == nil {
		host, port = h, p
	} else if strings.Count(text, ":") == 1 || net.ParseIP(host) == nil && strings.Contains(text, ":") {
		return "", "", fmt.Errorf("host %.100q: want HOST or HOST:PORT", text)
	}
	if _, err := net.LookupPort("tcp", port); err != nil || host == "" || port == "" || strings.ContainsAny(host, "/?#@ \t\r\n") {
		return "", "", fmt.Errorf("host %.100q: want HOST or HOST:PORT", text)
	}
	return net.JoinHostPort(host, port), host, nil
}

func isDigest(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

// Addr is the address and port of the machine.
func (c *Client) Addr() string { return c.addr }

// ByKey reports whether the machine is known by a key of its present boot only.
func (c *Client) ByKey() bool { return c.o.Key != "" }

// Slots asks how the machine's slots are.
func (c *Client) Slots(ctx context.Context) (*updateapi.Slots, error) {
	out := new(updateapi.Slots)
	return out, c.ask(ctx, http.MethodGet, updateapi.SlotsPath, nil, out)
}

// Told asks the same without TLS: what the machine, or somebody in its place,
// tells everybody.
func (c *Client) Told(ctx context.Context) (*updateapi.Slots, error) {
	out := new(updateapi.Slots)
	return out, c.tell(ctx, updateapi.SlotsPath, out)
}

// FailedLog asks for the log of the machine's last boot that failed.
func (c *Client) FailedLog(ctx context.Context) (log string, err error) {
	return log, c.ask(ctx, http.MethodGet, failedLogPath, nil, &log)
}

// ToldLog asks the same without TLS.
func (c *Client) ToldLog(ctx context.Context) (log string, err error) {
	return log, c.tell(ctx, failedLogPath, &log)
}

// failedLogPath is answered in plain text; earlier releases answer with what they have
// logged since their start, in JSON.
const failedLogPath = "/v1/logs?boot=failed"

// NoLogError is a machine's answer that no boot that failed has left a log.
type NoLogError struct{ Host string }

// Error implements error.
func (e *NoLogError) Error() string { return e.Host + " keeps no log of a boot that failed" }

// Approve lets the machine try what is staged.
func (c *Client) Approve(ctx context.Context) (*updateapi.Progress, error) {
	return c.order(ctx, updateapi.ApprovePath, nil)
}

// Rollback lets the machine go back to its other slot.
func (c *Client) Rollback(ctx context.Context) (*updateapi.Progress, error) {
	return c.order(ctx, updateapi.RollbackPath, nil)
}

// Override takes a version off the list of rejected ones.
func (c *Client) Override(ctx context.Context, version string) (*updateapi.Progress, error) {
	return c.order(ctx, updateapi.OverridePath, updateapi.Override{Version: version})
}

// Adopt vouches for the slot that runs, after the journal was lost.
func (c *Client) Adopt(ctx context.Context) (*updateapi.Progress, error) {
	return c.order(ctx, updateapi.AdoptPath, nil)
}

// Offer asks the machine to take a release.
func (c *Client) Offer(ctx context.Context, o updateapi.Offer) (*updateapi.Progress, error) {
	return c.order(ctx, updateapi.UpdatePath, o)
}

func (c *Client) order(ctx context.Context, path string, message any) (*updateapi.Progress, error) {
	var body io.Reader
	if message != nil {
		b, err := json.Marshal(message)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	out := new(updateapi.Progress)
	return out, c.ask(ctx, http.MethodPost, path, body, out)
}

func (c *Client) ask(ctx context.Context, method, path string, body io.Reader, answer any) error {
	r, err := http.NewRequestWithContext(ctx, method, "https://"+c.addr+path, body)
	if err != nil {
		return err
	}
	if body != nil { // a refusal comes before the body is sent
		r.Header.Set("Expect", "100-continue")
	}
	return c.do(c.operator, r, answer)
}

func (c *Client) tell(ctx context.Context, path string, answer any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.addr+path, nil)
	if err != nil {
		return err
	}
	return c.do(c.plain, r, answer)
}

func (c *Client) do(h *http.Client, r *http.Request, answer any) error {
	resp, err := h.Do(r)
	if err != nil {
		return c.explain(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read answer of %s: %w", c.addr, err)
	}
	text, isText := answer.(*string)
	switch {
	case isText && resp.StatusCode == http.StatusNotFound:
		return &NoLogError{c.host}
	case resp.StatusCode != http.StatusOK:
	case isText && !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain"):
		return fmt.Errorf("ask %s: its release keeps no log of boots that failed", c.addr)
	case isText:
		*text = string(b)
		return nil
	default:
		if err := json.Unmarshal(b, answer); err != nil {
			return fmt.Errorf("read answer of %s: %w", c.addr, err)
		}
		return nil
	}
	if resp.StatusCode == http.StatusNotFound && r.URL.Path == updateapi.SlotsPath && strings.Contains(string(b), unslotted) {
		return &NoSlotsError{Host: c.host, Addr: c.addr}
	}
	e := new(updateapi.Error)
	if json.Unmarshal(b, e) != nil || e.Code == "" {
		return fmt.Errorf("ask %s: status %s: %.200q", c.addr, resp.Status, strings.TrimSpace(string(b)))
	}
	return fmt.Errorf("%s refuses: %w", c.host, e)
}
