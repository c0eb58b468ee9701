package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/attestapi"
	"github.com/ingot-os/ingot/internal/simhost"
)

// attested is an imitated host with its channel to the server: a connection that
// it keeps, and the key that the channel is bound to.
type attested struct {
	host    *simhost.Host
	server  string // address
	from    net.IP // each host has its own: the server counts requests by address
	channel tls.Certificate
	key     []byte // id of the channel's key

	conn     *tls.Conn
	in       *bufio.Reader
	serverID []byte
	next     *attestapi.Challenge
}

// newAttested makes the host numbered i.
func newAttested(i int, boot *simhost.Boot, maker *simhost.Maker, server string) (*attested, error) {
	h, err := simhost.New(fmt.Sprintf("host-%d", i), boot)
	if err == nil {
		err = maker.Certify(h, time.Now())
	}
	if err != nil {
		return nil, err
	}
	a := &attested{host: h, server: server, from: net.IPv4(127, byte(1+i>>16), byte(i>>8), byte(i))}
	return a, a.makeChannel()
}

// makeChannel makes a key and signs its certificate with it, as machines do at
// each boot.
func (a *attested) makeChannel() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: a.host.Name},
		NotBefore: time.Unix(0, 0), NotAfter: time.Now().Add(24 * time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return err
	}
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	a.channel, a.key = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, attestapi.KeyID(spki)
	return err
}

// connect opens the channel. The server's certificate is not checked: its key is
// in every quote.
func (a *attested) connect(ctx context.Context) error {
	d := tls.Dialer{NetDialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: a.from}, Timeout: 30 * time.Second},
		Config: &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{a.channel}, MinVersion: tls.VersionTLS13}}
	c, err := d.DialContext(ctx, "tcp", a.server)
	if err != nil {
		return err
	}
	a.conn = c.(*tls.Conn)
	a.in = bufio.NewReaderSize(a.conn, 2048)
	a.serverID = attestapi.KeyID(a.conn.ConnectionState().PeerCertificates[0].RawSubjectPublicKeyInfo)
	return nil
}

func (a *attested) close() {
	if a.conn != nil {
		a.conn.Close()
		a.conn = nil
	}
}

// post sends one message and reads the answer; the time is that from the first
// byte out to the last byte in.
func (a *attested) post(path string, message, answer any) (time.Duration, error) {
	body, err := json.Marshal(message)
	if err != nil {
		return 0, err
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "POST %s HTTP/1.1\r\nHost: server\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", path, len(body))
	out.Write(body)
	a.conn.SetDeadline(time.Now().Add(time.Minute))
	begin := time.Now()
	if _, err := a.conn.Write(out.Bytes()); err != nil {
		return 0, err
	}
	r, err := http.ReadResponse(a.in, nil)
	if err != nil {
		return 0, err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(io.LimitReader(r.Body, attestapi.MaxAnswer))
	took := time.Since(begin)
	if err != nil {
		return took, err
	}
	if r.StatusCode != http.StatusOK {
		return took, fmt.Errorf("%s: %s: %s", path, r.Status, b)
	}
	return took, json.Unmarshal(b, answer)
}

// enrol gets the host its name, by the certificate of its TPM, and the first
// challenge.
func (a *attested) enrol() error {
	var offer attestapi.EnrolOffer
	if _, err := a.post(attestapi.EnrolPath, a.host.Request(), &offer); err != nil {
		return err
	}
	secret, err := a.host.Activate(offer.Credential.Blob, offer.Credential.Secret)
	if err != nil {
		return err
	}
	var enrolled attestapi.Enrolled
	if _, err := a.post(attestapi.ActivatePath, attestapi.ActivateRequest{Name: a.host.Name, Secret: secret}, &enrolled); err != nil {
		return err
	}
	if enrolled.State != attest.Active {
		return fmt.Errorf("%s is %s", a.host.Name, enrolled.State)
	}
	return a.ask()
}

func (a *attested) ask() error {
	a.next = new(attestapi.Challenge)
	_, err := a.post(attestapi.ChallengePath, attestapi.ChallengeRequest{Name: a.host.Name}, a.next)
	return err
}

// attest answers the challenge that is open and says how long the server took.
func (a *attested) attest() (time.Duration, error) {
	if a.next == nil {
		if err := a.ask(); err != nil {
			return 0, err
		}
	}
	c := attest.Challenge{Nonce: a.next.Nonce, ServerID: a.serverID, ChannelKey: a.key}
	e, err := a.host.Evidence(c, a.next.Bank, a.next.PCRs)
	if err != nil {
		return 0, err
	}
	a.next = nil
	var answer attestapi.Answer
	took, err := a.post(attestapi.EvidencePath, attestapi.Evidence{Name: a.host.Name, Evidence: *e}, &answer)
	if err != nil {
		return took, err
	}
	if !answer.Trusted {
		return took, fmt.Errorf("%s is refused: %v", a.host.Name, answer.Findings)
	}
	a.next = answer.Next
	return took, nil
}
