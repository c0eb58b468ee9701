package verifier

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ingot-os/ingot/attest"
)

// Client asks a server as an operator.
type Client struct {
	base string
	http *http.Client
}

// maxList bounds an answer in bytes: a list of 100,000 hosts has 50 MB.
const maxList = 128 << 20

// NewClient speaks to a server by its base URL ("https://ingot.example:9444"),
// which must show a certificate for its name by the server authority.
func NewClient(server string, authority *x509.Certificate, cert tls.Certificate) (*Client, error) {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" {
		return nil, fmt.Errorf("server %q: want an address such as https://ingot.example:9444", server)
	}
	roots := x509.NewCertPool()
	roots.AddCert(authority)
	t := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, Certificates: []tls.Certificate{cert}}}
	return &Client{strings.TrimSuffix(u.String(), "/"), &http.Client{Transport: t, Timeout: time.Minute}}, nil
}

// APIError is a refusal by the server.
type APIError struct {
	Status int
	Code   attest.Code
	Detail string
	Hint   string // what to do about it; often empty
}

// Error implements error.
func (e *APIError) Error() string { return fmt.Sprintf("the server refuses: %s: %s", e.Code, e.Detail) }

// List asks for all hosts.
func (c *Client) List(ctx context.Context) (*List, error) {
	out := new(List)
	return out, c.do(ctx, http.MethodGet, HostsPath, nil, out)
}

// Host asks for one.
func (c *Client) Host(ctx context.Context, name string) (*Detail, error) {
	out := new(Detail)
	return out, c.do(ctx, http.MethodGet, HostsPath+"/"+url.PathEscape(name), nil, out)
}

// Act does something about a host, and gives what it is then.
func (c *Client) Act(ctx context.Context, name string, a Action) (*Detail, error) {
	out := new(Detail)
	return out, c.do(ctx, http.MethodPost, HostsPath+"/"+url.PathEscape(name), a, out)
}

func (c *Client) do(ctx context.Context, method, path string, message, answer any) error {
	var body io.Reader
	if message != nil {
		b, err := json.Marshal(message)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return fmt.Errorf("ask server: %w", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxList))
	if err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		if err := json.Unmarshal(b, answer); err != nil {
			return fmt.Errorf("read answer: %w", err)
		}
		return nil
	}
	var e saying
	if json.Unmarshal(b, &e) != nil || e.Code == "" {
		return errors.New("ask server: status " + resp.Status + ", which is none of ingot's answers")
	}
	return &APIError{resp.StatusCode, e.Code, e.Detail, e.Hint}
}
