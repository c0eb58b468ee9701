// Package anchor knows the server of a fleet by its certificate, which must lead
// to an authority that the image names; who answers at an address proves nothing.
//
//	s, err := anchor.Parse("https://ingot.example.com", spec.Trust.Server)
//	conn, err := s.Dial(ctx, own, func(chain []*x509.Certificate) error { return s.Verify(chain, now) })
package anchor

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"
)

// Server is a server that is to be connected to.
type Server struct {
	URL   *url.URL
	roots []*x509.Certificate
}

// Parse reads a base URL, and the certificates (DER) of the authorities that the
// server's must lead to.
func Parse(base string, roots [][]byte) (*Server, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" {
		return nil, fmt.Errorf("connect to %.100q: want an address such as https://ingot.example.com", base)
	}
	s := &Server{URL: u}
	for _, der := range roots {
		root, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("read the image's server authorities: %w", err)
		}
		s.roots = append(s.roots, root)
	}
	return s, nil
}

// Verify wants a chain, the server's certificate first, to have the server's
// name and to lead to one of the authorities, at a time; at the zero time the
// dates do not count.
func (s *Server) Verify(chain []*x509.Certificate, at time.Time) error {
	if len(chain) == 0 {
		return errors.New("the server shows no certificate")
	}
	err := errors.New("the image names no server authority")
	for _, root := range s.roots {
		o := x509.VerifyOptions{DNSName: s.URL.Hostname(), Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(),
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, CurrentTime: at}
		o.Roots.AddCert(root)
		for _, cert := range chain[1:] {
			o.Intermediates.AddCert(cert)
		}
		if at.IsZero() {
			o.CurrentTime = latestStart(append([]*x509.Certificate{root}, chain...))
		}
		if _, err = chain[0].Verify(o); err == nil {
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

// Dial opens a TLS connection, until the context ends. Show is the machine's own
// certificate; judge is asked about the server's chain.
func (s *Server) Dial(ctx context.Context, show tls.Certificate, judge func([]*x509.Certificate) error) (*tls.Conn, error) {
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(s.URL.Hostname(), cmp.Or(s.URL.Port(), "443")))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", s.URL, err)
	}
	conn := tls.Client(raw, &tls.Config{
		MinVersion: tls.VersionTLS13, ServerName: s.URL.Hostname(), NextProtos: []string{"http/1.1"},
		InsecureSkipVerify: true, // VerifyConnection does it
		Certificates:       []tls.Certificate{show},
		VerifyConnection:   func(cs tls.ConnectionState) error { return judge(cs.PeerCertificates) },
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, fmt.Errorf("connect to %s: %w", s.URL, err)
	}
	return conn, nil
}
