package attester

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/ingot-os/ingot/internal/agent/anchor"
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
	server *anchor.Server
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
func (a *attester) connect(ctx context.Context, base string) (*channel, error) {
	s, err := anchor.Parse(base, a.m.Roots)
	if err != nil {
		return nil, err
	}
	own, err := x509.MarshalPKIXPublicKey(a.key.Public())
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", base, err)
	}
	c := &channel{a: a, server: s, mine: attestapi.KeyID(own)}
	return c, c.dial(ctx)
}

func (c *channel) dial(ctx context.Context) error {
	c.close()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	show := tls.Certificate{Certificate: [][]byte{c.a.cert}, PrivateKey: c.a.key}
	conn, err := c.server.Dial(ctx, show, c.judge)
	if err != nil {
		return err
	}
	c.conn, c.http = conn, http1.NewClient(conn, c.server.URL.Host)
	return nil
}

// judge looks at the server's chain, and at its dates when they count.
func (c *channel) judge(chain []*x509.Certificate) error {
	c.chain = chain
	at := time.Time{}
	if c.dated = c.a.m.TimeKnown(); c.dated {
		at = time.Now()
	}
	return c.server.Verify(chain, at)
}

// believe takes the server's time, unless it is before the floor. The dates of a
// certificate that was shown when nobody had told the time are looked at now (S16).
func (a *attester) believe(c *channel, now time.Time) error {
	if now.Before(a.m.Floor) {
		return fmt.Errorf("the server's time %s is before this image's, %s", now.UTC().Format(time.RFC3339), a.m.Floor.UTC().Format(time.RFC3339))
	}
	if !c.dated {
		if err := c.server.Verify(c.chain, now); err != nil {
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
	status, text, err := c.http.Post(ctx, strings.TrimSuffix(c.server.URL.EscapedPath(), "/")+path, "application/json", body, attestapi.MaxAnswer)
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
