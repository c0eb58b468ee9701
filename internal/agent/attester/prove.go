package attester

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/tpm"
	"github.com/ingot-os/ingot/internal/agent/proof"
	"github.com/ingot-os/ingot/internal/attestapi"
)

// identity is what of the TPM does not change while the machine runs.
type identity struct {
	ak, ek      []byte // TPMT_PUBLIC
	ekName      []byte // what operators compare before they let the host in
	ekType      tpm.EKType
	certificate []byte // DER
}

// noTPM says why there is none.
type noTPM struct{ error }

// Unwrap gives the cause.
func (e *noTPM) Unwrap() error { return e.error }

// withTPM opens the TPM for f. Nothing stays in it.
func (a *attester) withTPM(ctx context.Context, f func(*tpm.TPM, *tpm.Key) error) (err error) {
	path, err := a.m.TPM(ctx)
	if err != nil {
		return &noTPM{err}
	}
	t, err := tpm.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	ak, err := t.AttestationKey()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Flush(ak)) }()
	return f(t, ak)
}

// learn asks the TPM for its keys, once, and gives the host its name.
func (a *attester) learn(ctx context.Context) error {
	if a.keys != nil {
		return nil
	}
	return a.withTPM(ctx, func(t *tpm.TPM, ak *tpm.Key) error {
		ek, err := t.EndorsementKey()
		if err != nil {
			return err
		}
		a.keys = &identity{ak: ak.Public, ek: ek.Public, ekName: ek.Name(), ekType: ek.Type, certificate: ek.Certificate}
		a.status.Name = a.hostName(ek.Name())
		return t.Flush(&ek.Key)
	})
}

// hostName is the machine's own name, or one that is made of its image's and of
// its TPM: the same at each boot, another on each machine.
func (a *attester) hostName(ekName []byte) string {
	if a.m.Hostname != "" {
		return a.m.Hostname
	}
	digest := hex.EncodeToString(ekName[min(2, len(ekName)):]) // behind the algorithm
	return a.m.Prefix[:min(len(a.m.Prefix), 50)] + "-" + digest[:min(len(digest), 12)]
}

// enrol gives the host's name and keys, and gives back the secret that only
// this TPM can read.
func (a *attester) enrol(ctx context.Context, c *channel) error {
	var offer attestapi.EnrolOffer
	request := attestapi.EnrolRequest{Name: a.status.Name, AK: a.keys.ak, EK: a.keys.ek, EKCertificate: a.keys.certificate}
	if err := c.post(ctx, attestapi.EnrolPath, request, &offer); err != nil {
		return err
	}
	var secret []byte
	err := a.activate(ctx, func(open func(attestapi.Credential) ([]byte, error)) (err error) {
		secret, err = open(offer.Credential)
		return err
	})
	if err != nil {
		return err
	}
	var enrolled attestapi.Enrolled
	err = c.post(ctx, attestapi.ActivatePath, attestapi.ActivateRequest{Name: a.status.Name, Secret: secret}, &enrolled)
	if err != nil {
		return err
	}
	a.m.Logf("attestation: enrolled as %.64q, %.32q, EK name %x", enrolled.Name, enrolled.State, a.keys.ekName)
	return nil
}

// activate loads both keys for as long as f opens credentials.
func (a *attester) activate(ctx context.Context, f func(open func(attestapi.Credential) ([]byte, error)) error) error {
	return a.withTPM(ctx, func(t *tpm.TPM, ak *tpm.Key) (err error) {
		ek, err := t.EndorsementKeyOf(a.keys.ekType)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, t.Flush(&ek.Key)) }()
		return f(func(c attestapi.Credential) ([]byte, error) {
			return t.Activate(ak, ek, tpm.Credential{Blob: c.Blob, Secret: c.Secret})
		})
	})
}

// prove answers a challenge.
func (a *attester) prove(ctx context.Context, c *channel, ch *attestapi.Challenge) (*attestapi.Answer, error) {
	extra := attest.Challenge{Nonce: ch.Nonce, ServerID: c.serverID(), ChannelKey: c.mine}.ExtraData()
	evidence, err := a.evidence(ctx, ch, extra)
	if err != nil {
		return nil, err
	}
	answer := new(attestapi.Answer)
	if err := c.post(ctx, attestapi.EvidencePath, attestapi.Evidence{Name: a.status.Name, Evidence: *evidence}, answer); err != nil {
		return nil, err
	}
	return answer, nil
}

// quoteTries bounds how often a quote is made again because init extended a
// register meanwhile.
const quoteTries = 3

// evidence quotes and adds what explains it. The log of init must be of the
// moment of the quote, so it is taken before and after.
func (a *attester) evidence(ctx context.Context, ch *attestapi.Challenge, extra []byte) (*attest.Evidence, error) {
	e := &attest.Evidence{Format: attest.Format, Nonce: ch.Nonce, AK: a.keys.ak, EK: a.keys.ek,
		EKCertificate: a.keys.certificate, Firmware: a.m.Firmware}
	var err error
	if e.EventLog, err = a.m.EventLog(); err != nil {
		return nil, fmt.Errorf("read the firmware's event log: %w", err)
	}
	err = a.withTPM(ctx, func(t *tpm.TPM, ak *tpm.Key) error {
		if e.Clock, err = t.Clock(); err != nil {
			return err
		}
		for range quoteTries {
			e.InitLog = a.m.InitLog()
			q, err := t.Quote(ak, extra, tpm.Want{Bank: ch.Bank, PCRs: ch.PCRs})
			if err != nil {
				return err
			}
			e.Quote, e.Signature, e.PCRs = q.Attest, q.Signature, q.PCRs
			if bytes.Equal(e.InitLog, a.m.InitLog()) {
				e.Floor, err = a.floor(t, ak, extra)
				return err
			}
		}
		return tpm.ErrChanging
	})
	if err != nil {
		return nil, err
	}
	return e, nil
}

// floor lets the TPM certify the counter of the version floor, of images that
// have one. That it is gone is for the server to judge.
func (a *attester) floor(t *tpm.TPM, ak *tpm.Key, extra []byte) (*attest.FloorProof, error) {
	if a.m.FloorBase == nil {
		return nil, nil
	}
	base, sealed := a.m.FloorBase()
	if !sealed {
		return nil, nil
	}
	counter, err := t.Counter(tpm.FloorIndex)
	if errors.Is(err, tpm.ErrNoCounter) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c, err := t.CertifyCounter(ak, counter, extra)
	if err != nil {
		return nil, err
	}
	p := &attest.FloorProof{Attest: c.Attest, Signature: c.Signature}
	if base != nil {
		epoch := int64(counter.Value) - *base
		p.Epoch = &epoch
	}
	return p, nil
}

// receive opens what came with a verdict and hands it on.
func (a *attester) receive(ctx context.Context, answer *attestapi.Answer) error {
	var d proof.Delivery
	if len(answer.Certificate) > 0 {
		key, err := x509.MarshalPKCS8PrivateKey(a.key)
		if err != nil {
			return fmt.Errorf("take certificate: %w", err)
		}
		d.Key = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
		for _, der := range answer.Certificate {
			d.Certificate = append(d.Certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
		}
	}
	var errs []error
	var news []attestapi.Secret
	for _, s := range answer.Secrets {
		if a.opened[s.Name] != sumOf(s) {
			news = append(news, s)
		}
	}
	if len(news) > 0 {
		errs = append(errs, a.activate(ctx, func(open func(attestapi.Credential) ([]byte, error)) error {
			for _, s := range news {
				value, err := decrypt(s, open)
				if err != nil {
					errs = append(errs, fmt.Errorf("open secret %.64q: %w", s.Name, err))
					continue
				}
				d.Secrets = append(d.Secrets, proof.Secret{Name: s.Name, Value: value})
			}
			return nil
		}))
	}
	for _, s := range news {
		if slices.ContainsFunc(d.Secrets, func(o proof.Secret) bool { return o.Name == s.Name }) {
			a.opened[s.Name] = sumOf(s)
		}
	}
	return errors.Join(append(errs, a.m.Deliver(d))...)
}

// sumOf tells a secret that was opened already: to open one, a TPM makes its
// endorsement key, which takes a discrete one with RSA keys seconds.
func sumOf(s attestapi.Secret) [sha256.Size]byte {
	h := sha256.New()
	for _, field := range [][]byte{s.Credential.Blob, s.Credential.Secret, s.Nonce, s.Ciphertext} {
		fmt.Fprintf(h, "%d:", len(field))
		h.Write(field)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// decrypt opens one secret: AES-256-GCM under the key in its credential.
func decrypt(s attestapi.Secret, open func(attestapi.Credential) ([]byte, error)) ([]byte, error) {
	key, err := open(s.Credential)
	if err != nil {
		return nil, err
	}
	if len(key) != 32 {
		return nil, fmt.Errorf("a key of %d bytes, not 32", len(key))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	if len(s.Nonce) != gcm.NonceSize() {
		return nil, fmt.Errorf("a nonce of %d bytes, not %d", len(s.Nonce), gcm.NonceSize())
	}
	return gcm.Open(nil, s.Nonce, s.Ciphertext, []byte(s.Name))
}
