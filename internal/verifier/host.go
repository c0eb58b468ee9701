package verifier

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/updateapi"
)

// attested lets hosts through that show the certificate which they got with a
// trusted verdict.
func (s *Server) attested(fn func(*call, []byte) (any, error)) func(*call, []byte) (any, error) {
	return func(c *call, body []byte) (_ any, err error) {
		if c.host, err = s.attestedHost(c); err != nil {
			return nil, err
		}
		return fn(c, body)
	}
}

// attestedHost is the host whose certificate the client has shown. The name is
// enrolled, let in, and on no list of denied TPMs, and was not enrolled anew
// since: then the certificate may be another machine's.
func (s *Server) attestedHost(c *call) (*fleet.Host, error) {
	name, err := s.hostName(c.cert)
	if err != nil {
		s.log.Debug("host refused", "address", c.address, "path", c.r.URL.Path, "detail", err.Error())
		return nil, refuse(http.StatusForbidden, updateapi.Denied, "this needs the certificate that a host gets with a trusted verdict: %v", err)
	}
	h, err := s.speaker(c, name)
	if err != nil {
		return nil, err
	}
	if issued := c.cert.NotBefore.Add(backdated); issued.Before(h.Record.Enrolled.Truncate(time.Second)) { // certificates have whole seconds
		return nil, refuse(http.StatusForbidden, updateapi.Denied, "the certificate is from before %s was enrolled", name)
	}
	return h, nil
}

// hostName is whom a certificate of the authority of hosts names.
func (s *Server) hostName(cert *x509.Certificate) (string, error) {
	if s.o.Hosts == nil {
		return "", errors.New("the server issues none")
	}
	o := x509.VerifyOptions{Roots: x509.NewCertPool(), CurrentTime: s.now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	o.Roots.AddCert(s.o.Hosts.Certificate)
	if _, err := cert.Verify(o); err != nil {
		return "", err
	}
	if len(cert.URIs) != 1 {
		return "", fmt.Errorf("it has %d names, want one", len(cert.URIs))
	}
	name, ok := strings.CutPrefix(cert.URIs[0].Opaque, "host/")
	if !ok || !attest.ValidName(name) || *cert.URIs[0] != *HostURI(name) {
		return "", fmt.Errorf("%.80q names no host", cert.URIs[0])
	}
	return name, nil
}
