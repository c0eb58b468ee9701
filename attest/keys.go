package attest

import (
	"bytes"
	"crypto/sha256"
	"slices"

	"github.com/ingot-os/ingot/attest/eventlog"
	"github.com/ingot-os/ingot/attest/pcr"
)

// Keys are the Secure Boot keys that a site has enrolled in its machines.
type Keys struct {
	// PK, KEK and DB are the SHA-256 of the variables' contents. dbx is not
	// compared: it may grow.
	PK  pcr.Digest `json:"pk"`
	KEK pcr.Digest `json:"kek"`
	DB  pcr.Digest `json:"db"`
	// Authorities are the SHA-256 of certificates (DER) that may let an image
	// in; db may have others, for option ROMs.
	Authorities []pcr.Digest `json:"authorities"`
}

// keys compares PK, KEK and db, and what let images in, with the release's
// reference or, where that is silent, with the policy.
func (w *walk) keys() {
	expected := w.expected(7)
	switch {
	case !w.path.SecureBoot:
		w.skips = append(w.skips, "Secure Boot keys: Secure Boot is off")
		return
	case len(expected) == 0 && len(w.c.Policy.Keys) == 0:
		w.skips = append(w.skips, "Secure Boot keys: neither reference nor policy names any")
		return
	case !w.quoted.Has(7):
		return
	}
	w.compared = append(w.compared, 7)
	w.skips = append(w.skips, "dbx: may be newer than expected")
	if len(expected) > 0 {
		w.keysOfRelease(expected)
		return
	}
	if w.policyKeys == nil { // the same for every release and path
		best := []Finding{}
		for i := range w.c.Policy.Keys { // of several, during a rotation, one must fit
			if f := w.keysOfPolicy(&w.c.Policy.Keys[i]); i == 0 || len(f) < len(best) {
				best = f
			}
		}
		w.policyKeys = &best
	}
	w.findings = append(w.findings, *w.policyKeys...)
}

func (w *walk) keysOfRelease(expected []*Expected) {
	for _, x := range expected {
		switch {
		case x.Type == eventlog.VariableDriver && (x.Name == "PK" || x.Name == "KEK" || x.Name == "db") && !w.logged(x):
			w.find(SecureBootKeys, nil, 7, "", "%s is not that of the release", x.Name)
		case x.Type == eventlog.VariableAuthority && !w.logged(x):
			w.find(MeasureMissing, nil, 7, "", "no image was accepted by the release's key")
		}
	}
	for _, e := range w.events[7] {
		if w.full() {
			return
		}
		if e.Type == eventlog.VariableAuthority && !slices.ContainsFunc(expected, func(x *Expected) bool { return x.is(e, w.bank) }) {
			w.find(SecureBootOther, e, 7, "", "an entry that the release is not signed by")
		}
	}
}

// keysOfPolicy reads the variables, whose data the digests cover (coverage).
func (w *walk) keysOfPolicy(k *Keys) []Finding {
	before, accepted := len(w.findings), false
	want := map[string]pcr.Digest{"PK": k.PK, "KEK": k.KEK, "db": k.DB}
	for _, e := range w.events[7] {
		if w.full() {
			break
		}
		if e.Type != eventlog.VariableDriver && e.Type != eventlog.VariableAuthority {
			continue
		}
		v, err := e.Variable()
		switch digest, known := want[v.Name]; {
		case err != nil:
		case e.Type == eventlog.VariableAuthority:
			a, ok := v.Authority()
			if accepted = true; !ok || !slices.ContainsFunc(k.Authorities, func(d pcr.Digest) bool { return same(d, a.Certificate) }) {
				w.find(SecureBootOther, e, 7, "", "an entry of %s that the policy does not know", v.Name)
			}
		case known && !same(digest, v.Data):
			w.find(SecureBootKeys, e, 7, "", "%s is not that of the policy", v.Name)
		}
	}
	if !accepted {
		w.find(MeasureMissing, nil, 7, "", "no image was accepted by any key")
	}
	out := slices.Clone(w.findings[before:])
	w.findings = w.findings[:before]
	return out
}

func same(digest pcr.Digest, data []byte) bool {
	sum := sha256.Sum256(data)
	return bytes.Equal(digest, sum[:])
}
