package signing

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/ingot-os/ingot/boot/authenticode"
	"github.com/ingot-os/ingot/internal/dsse"
	"github.com/ingot-os/ingot/internal/imageset"
	"github.com/ingot-os/ingot/internal/regular"
	"github.com/ingot-os/ingot/internal/release"
)

// Errors of Attach, to be tested with errors.Is. Signatures that do not verify
// wrap pkcs7.ErrSignature or dsse.ErrUntrusted.
var (
	// ErrOtherSet: a response is for another set, or the set has changed since.
	ErrOtherSet = errors.New("the response is for another image set")
	// ErrMissing: a boot file would stay without a signature.
	ErrMissing = errors.New("no response has its signature")
	// ErrNotWanted: a response signs what has a signature, or is not there.
	ErrNotWanted = errors.New("does not want a signature")
)

// Attach puts the signatures of responses into a set and makes anew all that
// depends on them. Each is verified with the key that came along; whether that
// key is one to trust is for Verify to say. The set is replaced at once, and
// stays as it is when Attach fails.
func Attach(set *release.Set, responses []*Response, now time.Time) error {
	dir, err := filepath.EvalSymlinks(set.Dir)
	if err == nil {
		dir, err = filepath.Abs(dir)
	}
	if err != nil {
		return fmt.Errorf("attach signatures: %w", err)
	}
	a, err := collect(set, responses, now)
	if err != nil {
		return fmt.Errorf("attach signatures: %w", err)
	}
	stage, err := imageset.NewStage(filepath.Dir(dir), set.Manifest.Stem())
	if err != nil {
		return err
	}
	defer stage.Remove()
	if err := a.remake(set, stage.Dir); err != nil {
		return fmt.Errorf("attach signatures: %w", err)
	}
	return stage.Publish(dir)
}

// attached is the authority of signatures that were made elsewhere.
type attached struct {
	now      time.Time
	boot     map[string]BootSignature // those not asked for yet
	policy   *PolicySignature         // until it is in use
	manifest []*ManifestSignature
	before   *dsse.Envelope // of the set as it is; nil without
}

// collect sorts the signatures of all responses.
func collect(set *release.Set, responses []*Response, now time.Time) (*attached, error) {
	a := &attached{now: now, boot: map[string]BootSignature{}}
	for _, r := range responses {
		if want := subjectOf(set.Manifest); r.Set != want {
			return nil, fmt.Errorf("%w: %v; this is %v", ErrOtherSet, r.Set, want)
		}
		for _, b := range r.Boot {
			if _, twice := a.boot[b.File]; twice {
				return nil, fmt.Errorf("two signatures of %s", b.File)
			}
			a.boot[b.File] = b
		}
		if r.Policy != nil && a.policy != nil {
			return nil, errors.New("two responses have policy signatures")
		}
		if r.Policy != nil {
			a.policy = r.Policy
		}
		if r.Manifest != nil {
			a.manifest = append(a.manifest, r.Manifest)
		}
	}
	if len(a.boot) == 0 && a.policy == nil && len(a.manifest) == 0 {
		return nil, errors.New("the responses hold no signature")
	}
	var err error
	a.before, err = envelopeOf(set)
	return a, err
}

// envelopeOf reads the signed manifest of a set, nil when there is none.
func envelopeOf(set *release.Set) (*dsse.Envelope, error) {
	data, err := regular.Read(filepath.Join(set.Dir, release.EnvelopeName), dsse.MaxEnvelope)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	e, err := dsse.Parse(data)
	if err == nil && e.Type != dsse.TypeManifest {
		err = fmt.Errorf("payload type %.80q, want %s", e.Type, dsse.TypeManifest)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", release.EnvelopeName, err)
	}
	return e, nil
}

// remake writes the set with the signatures into dir.
func (a *attached) remake(set *release.Set, dir string) error {
	d, done, err := imageset.Load(set, dir)
	if err != nil {
		return err
	}
	defer done()
	if err := d.Sign(a); err != nil {
		return err
	}
	if err := d.WritePolicies(a); err != nil {
		return err
	}
	if a.policy != nil {
		return fmt.Errorf("%s%s %w", set.Manifest.Stem(), release.PolicySuffix, ErrNotWanted)
	}
	for name := range a.boot {
		return fmt.Errorf("%s %w", name, ErrNotWanted)
	}
	if _, err := d.WriteImage(); err != nil {
		return err
	}
	if err := d.WriteFormats(0); err != nil {
		return err
	}
	if err := d.WriteReference(); err != nil {
		return err
	}
	return d.WriteDocuments(a)
}

// Boot implements imageset.Authority.
func (a *attached) Boot(file string, req authenticode.Request) ([]byte, error) {
	b, ok := a.boot[file]
	if !ok {
		return nil, ErrMissing
	}
	delete(a.boot, file)
	if b.Authenticode != req.Digest.String() {
		return nil, fmt.Errorf("%w: it signs digest %s, the file has %v", ErrOtherSet, b.Authenticode, req.Digest)
	}
	cert, err := x509.ParseCertificate(b.Certificate)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	if err := checkBoot(cert, a.now); err != nil {
		return nil, err
	}
	return authenticode.Assemble(req.Digest, cert, b.Signature)
}

// Manifest implements imageset.Authority. Signatures that the manifest has
// already stay, if it is the same manifest.
func (a *attached) Manifest(payload []byte) ([]byte, error) {
	e := &dsse.Envelope{Type: dsse.TypeManifest, Payload: payload}
	if a.before != nil && bytes.Equal(a.before.Payload, payload) {
		e.Signatures = slices.Clone(a.before.Signatures)
	}
	for _, m := range a.manifest {
		if sum := sha256.Sum256(e.Message()); m.SHA256 != hex.EncodeToString(sum[:]) {
			return nil, fmt.Errorf("%w, or it was changed since: the signature is over %s, this manifest wants %x", ErrOtherSet, m.SHA256, sum)
		}
		key, err := x509.ParsePKIXPublicKey(m.PublicKey)
		if err != nil {
			return nil, fmt.Errorf("read public key: %w", err)
		}
		if err := e.Attach(key, m.Signature); err != nil {
			return nil, err
		}
	}
	if len(e.Signatures) == 0 {
		return nil, nil
	}
	return e.Marshal()
}

// Signed tells whether a set has a signed manifest; who signed it is for Verify.
func Signed(set *release.Set) (bool, error) {
	e, err := envelopeOf(set)
	return e != nil, err
}
