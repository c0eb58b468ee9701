package attester

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/ingot-os/ingot/internal/agent/http1"
	"github.com/ingot-os/ingot/internal/attestapi"
)

// refusal is the server's word that it does not do what was asked.
type refusal struct{ says attestapi.Error }

func (e *refusal) Error() string {
	return fmt.Sprintf("the server refuses: %s: %s", e.says.Code, e.says.Detail)
}

// makeKey makes the key of the channel and shows it in a certificate of its own
// signature. Its dates mean nothing: this machine may not know the time.
func (a *attester) makeKey() (err error) {
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return fmt.Errorf("make channel key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ingot machine"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // RFC 5280 section 4.1.2.5
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if a.cert, err = x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key); err != nil {
		return fmt.Errorf("make channel certificate: %w", err)
	}
	return nil
}

// channel is a connection to the server. It is opened again when the server has
// closed it: what is said on it is bound to the keys of both, not to it.
type channel struct {
	a      *attester
	server *url.URL
	roots  []*x509.Certificate
	mine   []byte // attestapi.KeyID of the channel's key

	conn  *tls.Conn
	http  *http1.Client
	chain []*x509.Certificate
	dated bool // the dates of the chain were checked
}

// serverID is the id of the server's own key.
func (c *channel) serverID() []byte { return attestapi.KeyID(c.chain[0].RawSubjectPublicKeyInfo) }

func (c *channel) close() {
	if c.conn != nil {
		c.conn.Close()
	}
}

// connect opens a channel to a base URL.
func (a *attester) connect(ctx context.Context, server string) (*channel, error) {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" {
		return nil, fmt.Errorf("connect to %.100q: want an address such as https://ingot.example.com", server)
	}
	c := &channel{a: a, server: u}
	for _, der := range a.m.Roots {
		root, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("read the image's server authorities: %w", err)
		}
		c.roots = append(c.roots, root)
	}
	own, err := x509.MarshalPKIXPublicKey(a.key.Public())
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", server, err)
	}
	c.mine = attestapi.KeyID(own)
	return c, c.dial(ctx)
}

func (c *channel) dial(ctx context.Context) error {
	c.close()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(c.server.Hostname(), cmp.Or(c.server.Port(), "443")))
	if err != nil {
		return fmt.Errorf("connect to %s: %w", c.server, err)
	}
	c.conn = tls.Client(raw, c.config())
	if err := c.conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return fmt.Errorf("connect to %s: %w", c.server, err)
	}
	c.http = http1.NewClient(c.conn, c.server.Host)
	return nil
}

// config leaves the certificate to verify, which knows when dates count.
func (c *channel) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ServerName: c.server.Hostname(), NextProtos: []string{"http/1.1"},
		InsecureSkipVerify: true, // VerifyConnection does it
		Certificates:       []tls.Certificate{{Certificate: [][]byte{c.a.cert}, PrivateKey: c.a.key}},
		VerifyConnection: func(cs tls.ConnectionState) error {
			c.chain = cs.PeerCertificates
			if len(c.chain) == 0 {
				return errors.New("the server shows no certificate")
			}
			if c.dated = c.a.m.TimeKnown(); c.dated {
				return c.verify(time.Now())
			}
			return c.verify(time.Time{})
		},
	}
}

// verify wants the server's certificate to have its name and to lead to one of
// the image's authorities, at a time; at none the dates do not count.
func (c *channel) verify(at time.Time) error {
	err := errors.New("the image names no server authority")
	for _, root := range c.roots {
		o := x509.VerifyOptions{DNSName: c.server.Hostname(), Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(),
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, CurrentTime: at}
		o.Roots.AddCert(root)
		for _, cert := range c.chain[1:] {
			o.Intermediates.AddCert(cert)
		}
		if at.IsZero() {
			o.CurrentTime = latestStart(append([]*x509.Certificate{root}, c.chain...))
		}
		if _, err = c.chain[0].Verify(o); err == nil {
			return nil
		}
	}
	return fmt.Errorf("the server's certificate: %w", err)
}

// latestStart is a time at which all of a chain is valid, if there is one.
func latestStart(chain []*x509.Certificate) time.Time {
	latest := chain[0].NotBefore
	for _, c := range chain[1:] {
		if c.NotBefore.After(latest) {
			latest = c.NotBefore
		}
	}
	return latest
}

// believe takes the server's time, unless it is before the floor. The dates of a
// certificate that was shown when nobody had told the time are looked at now (S16).
func (a *attester) believe(c *channel, now time.Time) error {
	if now.Before(a.m.Floor) {
		return fmt.Errorf("the server's time %s is before this image's, %s", now.UTC().Format(time.RFC3339), a.m.Floor.UTC().Format(time.RFC3339))
	}
	if !c.dated {
		if err := c.verify(now); err != nil {
			return fmt.Errorf("at the time that the server itself tells: %w", err)
		}
	}
	if err := a.m.SetTime(now); err != nil {
		return err
	}
	c.dated = true
	return nil
}

// post sends a message and reads the answer to it.
func (c *channel) post(ctx context.Context, path string, message, answer any) error {
	body, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("POST %s: %w", path, err)
	}
	if c.http.Done() {
		if err := c.dial(ctx); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	status, text, err := c.http.Post(ctx, strings.TrimSuffix(c.server.EscapedPath(), "/")+path, "application/json", body, attestapi.MaxAnswer)
	if err != nil {
		return err
	}
	if status == 200 {
		if err := json.Unmarshal(text, answer); err != nil {
			return fmt.Errorf("POST %s: read the answer: %w", path, err)
		}
		return nil
	}
	refused := &refusal{}
	if json.Unmarshal(text, &refused.says) != nil || refused.says.Code == "" {
		return fmt.Errorf("POST %s: status %d: %.200q", path, status, text)
	}
	refused.says.Detail = refused.says.Detail[:min(len(refused.says.Detail), 500)]
	return refused
}
