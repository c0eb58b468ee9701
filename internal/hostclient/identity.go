package hostclient

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// hostURI begins the name of a host in its certificate (package verifier).
const hostURI = "ingot:host/"

// KeyError means that the machine shows another key than the one that was named.
type KeyError struct{ Host, Want, Got string }

// Error implements error.
func (e *KeyError) Error() string {
	return fmt.Sprintf("%s shows the key %s, not %s", e.Host, e.Got, e.Want)
}

// Hint says where to look.
func (e *KeyError) Hint() string {
	return "a machine without a server makes a new key at each boot: " + whereKey
}

const whereKey = `compare it with the newest line "operators are answered with the key" on its console, or management.key of its /v1/status, and name it by --host-key`

// UnattestedError means that the machine shows no certificate of the fleet.
type UnattestedError struct {
	Host string
	Key  string // that it shows
	Err  error  // why its certificate does not do
}

// Error implements error.
func (e *UnattestedError) Error() string {
	return fmt.Sprintf("%s has no certificate of this fleet's attested hosts (%v); it shows the key %s", e.Host, e.Err, e.Key)
}

// Hint says what a person can do about it.
func (e *UnattestedError) Hint() string { return whereKey }

// NameError means that another machine of the fleet answers.
type NameError struct{ Host, Want, Got string }

// Error implements error.
func (e *NameError) Error() string {
	return fmt.Sprintf("the machine at %s is %s, not %s", e.Host, e.Got, e.Want)
}

// Hint says how to name a machine by its address.
func (e *NameError) Hint() string {
	return "if that is the one you mean: --name " + e.Got
}

// StrangerError means that the machine does not take this operator's certificate.
type StrangerError struct {
	Host string
	Err  error
}

// Error implements error.
func (e *StrangerError) Error() string {
	return fmt.Sprintf("%s does not take your certificate: %v", e.Host, e.Err)
}

// Hint says why that may be.
func (e *StrangerError) Hint() string {
	return "its image names another operator authority (trust.operator in its recipe), or this computer's clock is wrong; the machine's log says which"
}

// PlainError means that the machine lets no operator in.
type PlainError struct{ Host string }

// Error implements error.
func (e *PlainError) Error() string {
	return fmt.Sprintf("%s cannot be managed over the network: it answers in plain text only", e.Host)
}

// Hint says what its recipe lacks.
func (e *PlainError) Hint() string {
	return "an image takes updates when its recipe has update: and trust: with an operator authority (ingot keys export); this one has to be flashed, or updated from a stick; one that runs from memory follows ingot hosts HOST --assign VERSION"
}

// NoSlotsError means that the machine was not started from a slot.
type NoSlotsError struct {
	Host string
	Addr string // with the port
}

// unslotted is in what such a machine answers.
const unslotted = "not started from a slot"

// Error implements error.
func (e *NoSlotsError) Error() string {
	return e.Host + ": this machine has no slots: it runs from memory"
}

// Hint says where to look instead.
func (e *NoSlotsError) Hint() string {
	return fmt.Sprintf("http://%s/v1/status says how it is and what failed, http://%s/v1/logs has its log", e.Addr, e.Addr)
}

// config checks the machine in VerifyConnection: neither of the two ways is the
// one of web servers, where a name of the network is certified.
func (c *Client) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"}, InsecureSkipVerify: true, // VerifyConnection does it
		// Whatever authorities the machine names: this is the only certificate.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c.o.Certificate, nil },
		VerifyConnection:     func(cs tls.ConnectionState) error { return c.verify(cs.PeerCertificates, time.Now()) },
	}
}

// verify wants the key that was named, or a certificate by the authority of
// hosts with the machine's name. What that authority signs is a host, whatever
// use of it the certificate says.
func (c *Client) verify(chain []*x509.Certificate, now time.Time) error {
	if len(chain) == 0 {
		return errors.New("the machine shows no certificate")
	}
	leaf := chain[0]
	sum := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	key := hex.EncodeToString(sum[:])
	if c.o.Key != "" {
		if key != c.o.Key {
			return &KeyError{c.host, c.o.Key, key}
		}
		return nil
	}
	if c.o.Hosts == nil {
		return &UnattestedError{c.host, key, errors.New("the key set has no authority of hosts")}
	}
	o := x509.VerifyOptions{Roots: x509.NewCertPool(), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	o.Roots.AddCert(c.o.Hosts)
	if _, err := leaf.Verify(o); err != nil {
		return &UnattestedError{c.host, key, err}
	}
	return c.named(leaf)
}

// named compares the names of a host's certificate with the one that is meant.
func (c *Client) named(leaf *x509.Certificate) error {
	var names []string
	for _, u := range leaf.URIs {
		if name, ok := strings.CutPrefix(u.String(), hostURI); ok {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return &NameError{c.addr, c.want(), fmt.Sprintf("no host (%.60q)", leaf.Subject.CommonName)}
	}
	if slices.Contains(names, c.want()) {
		return nil
	}
	if label, _, _ := strings.Cut(c.want(), "."); c.o.Name == "" && net.ParseIP(c.want()) == nil && slices.Contains(names, label) {
		return nil
	}
	return &NameError{c.addr, c.want(), names[0]}
}

// want is the name that is meant.
func (c *Client) want() string {
	if c.o.Name != "" {
		return c.o.Name
	}
	return c.host
}

// explain finds the cause of a connection that did not come about.
func (c *Client) explain(err error) error {
	var remote *net.OpError
	switch {
	case errors.Is(err, http.ErrSchemeMismatch):
		return &PlainError{c.host}
	case errors.As(err, &remote) && remote.Op == "remote error": // a TLS alert
		return &StrangerError{c.host, remote.Err}
	}
	var request *url.Error
	if errors.As(err, &request) { // whose words repeat the address
		err = request.Err
	}
	return fmt.Errorf("ask %s: %w", c.host, err)
}
