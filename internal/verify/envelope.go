package verify

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/ingot-os/ingot/internal/dsse"
	"github.com/ingot-os/ingot/internal/keys"
	"github.com/ingot-os/ingot/internal/regular"
	"github.com/ingot-os/ingot/internal/release"
)

// maxManifest bounds manifest.json as the envelope bounds its payload, in bytes.
const maxManifest = dsse.MaxEnvelope

// checkEnvelope reads the manifest and checks who signed it. Nothing of it is
// looked at when it is refused: false is returned.
func (v *verifier) checkEnvelope() (bool, error) {
	c := v.begin(CheckSignature)
	place := at(filepath.Base(v.manifest))
	var err error
	v.raw, err = regular.Read(v.manifest, maxManifest)
	switch {
	case errors.Is(err, os.ErrNotExist):
		c.refuse(ManifestMissing, place, "", "")
		return false, nil
	case errors.Is(err, regular.ErrSize):
		c.malformed(ManifestMalformed, place, err)
		return false, nil
	case err != nil:
		return false, err
	}
	path := v.o.Envelope
	if path == "" {
		path = filepath.Join(filepath.Dir(v.manifest), release.EnvelopeName)
	}
	env, err := regular.Read(path, dsse.MaxEnvelope)
	switch {
	case errors.Is(err, os.ErrNotExist):
		v.withoutEnvelope(c, filepath.Base(path))
	case errors.Is(err, regular.ErrSize):
		c.malformed(EnvelopeMalformed, at(filepath.Base(path)), err)
	case err != nil:
		return false, err
	default:
		if err := v.judgeEnvelope(c, filepath.Base(path), env); err != nil {
			return false, err
		}
	}
	return c.State != Failed, nil
}

func (v *verifier) withoutEnvelope(c *Check, name string) {
	if v.o.Unsigned {
		c.skip(WhyUnsigned)
		return
	}
	c.refuse(EnvelopeMissing, at(name), "", "")
}

// judgeEnvelope also demands the one encoding that ingot writes: a signature
// does not cover line breaks and key ids, so that another one would be a byte
// of the set that nobody vouches for.
func (v *verifier) judgeEnvelope(c *Check, name string, data []byte) error {
	e, err := dsse.Parse(data)
	if err != nil {
		c.malformed(EnvelopeMalformed, at(name), err)
		return nil
	}
	canonical, err := e.Marshal()
	if err != nil {
		return err
	}
	if off := firstDifference(canonical, data); off >= 0 {
		c.refuse(EnvelopeMalformed, at(name).byte(off), "the encoding that ingot writes", "another one")
		return nil
	}
	if e.Type != dsse.TypeManifest {
		c.refuse(EnvelopeType, at(name, "payloadType"), dsse.TypeManifest, e.Type)
		return nil
	}
	if !v.o.Unsigned {
		if err := v.judgeSignatures(c, name, e, data); err != nil {
			return err
		}
	} else {
		c.skip(WhyNoKeys)
	}
	if off := firstDifference(e.Payload, v.raw); off >= 0 && c.State != Failed {
		c.refuse(EnvelopePayload, at(filepath.Base(v.manifest)).byte(off), "the payload of "+name, "other bytes")
	}
	return nil
}

func (v *verifier) judgeSignatures(c *Check, name string, e *dsse.Envelope, data []byte) error {
	known := map[string]crypto.PublicKey{}
	for _, k := range v.o.Trust.Image {
		id, err := dsse.KeyID(k)
		if err != nil {
			return err
		}
		known[id] = k
	}
	for i, s := range e.Signatures {
		if err := v.judgeOne(c, at(name, fmt.Sprintf("signatures[%d]", i)), e, s, known); err != nil {
			return err
		}
	}
	if c.State == Failed {
		return nil
	}
	policy := dsse.Policy{Keys: v.o.Trust.Image, Threshold: max(v.o.Threshold, 1), Types: []string{dsse.TypeManifest}}
	got, err := dsse.Verify(data, policy)
	switch {
	case errors.Is(err, dsse.ErrUntrusted):
		var ids []string
		for _, s := range e.Signatures {
			ids = append(ids, short(s.KeyID))
		}
		c.refuse(EnvelopeUntrusted, at(name, "signatures"), fmt.Sprintf("%d of %d trusted keys", policy.Threshold, len(known)), "key "+strings.Join(ids, ", "))
		return nil
	case err != nil:
		return err
	}
	v.report.Signers, c.Count = got.Signers, len(got.Signers)
	v.judgeTestKeys(c, at(name, "signatures"), policy.Threshold)
	return nil
}

// judgeTestKeys marks TEST keys, which anybody may have, and demands enough
// others where the image is for more than a desk.
func (v *verifier) judgeTestKeys(c *Check, p Place, threshold int) {
	for _, id := range v.report.Signers {
		if v.o.Trust.Test[id] {
			v.report.TestSigners = append(v.report.TestSigners, id)
		}
	}
	others := len(v.report.Signers) - len(v.report.TestSigners)
	if v.o.Environment == "" || keys.TestMaySign(v.o.Environment) || others >= threshold {
		return
	}
	var test []string
	for _, id := range v.report.TestSigners {
		test = append(test, short(id))
	}
	c.refuse(EnvelopeTestKey, p, fmt.Sprintf("%d of the keys that may sign for %s", threshold, v.o.Environment), "TEST key "+strings.Join(test, ", "))
}

// judgeOne looks at one signature alone: its key id must say whose it is, and
// one that names a known key must be by it.
func (v *verifier) judgeOne(c *Check, p Place, e *dsse.Envelope, s dsse.Signature, known map[string]crypto.PublicKey) error {
	alone := dsse.Envelope{Type: e.Type, Payload: e.Payload, Signatures: []dsse.Signature{s}}
	data, err := alone.Marshal()
	if err != nil {
		return err
	}
	for _, id := range sorted(known) {
		k := known[id]
		_, err := dsse.Verify(data, dsse.Policy{Keys: []crypto.PublicKey{k}, Threshold: 1, Types: []string{e.Type}})
		switch {
		case err == nil && s.KeyID != id:
			p.Path = append(p.Path, "keyid")
			c.refuse(EnvelopeSignature, p, id, s.KeyID)
		case err != nil && s.KeyID == id:
			p.Path = append(p.Path, "sig")
			c.refuse(EnvelopeSignature, p, "a signature by key "+short(id), "none")
		}
	}
	if known[s.KeyID] == nil && c.State != Failed {
		c.note(s.KeyID, WhyOtherKey, "")
	}
	return nil
}

func short(id string) string { return id[:min(12, len(id))] }

// firstDifference is the offset of the first byte that is not the same in
// both, -1 when there is none.
func firstDifference(a, b []byte) int64 {
	if bytes.Equal(a, b) {
		return -1
	}
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return int64(i)
		}
	}
	return int64(n)
}
