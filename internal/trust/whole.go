package trust

import (
	"crypto/x509"
	"slices"

	"github.com/ingot-os/ingot/partition/gpt"
)

// whole checks what concerns several keys.
func (r *reader) whole(a *Anchors) {
	if len(r.problems) > 0 {
		return
	}
	missing := ""
	for _, v := range []struct {
		field string
		there bool
	}{{"pk", a.PK != nil}, {"kek", a.KEK != nil}, {"db", len(a.DB) > 0}} {
		if !v.there {
			missing = v.field
		}
	}
	switch {
	case a.PK == nil && a.KEK == nil && len(a.DB) == 0:
		if len(a.Image) == 0 && a.Fleet == nil && a.Operator == nil && len(a.Server) == 0 && a.Policy == nil {
			r.add("keys", "", exportHint, "there are no public keys")
		}
	case missing != "":
		r.add(missing, "", "Secure Boot needs pk, kek and db: "+exportHint, "is missing")
	default:
		a.Owner = r.ownerOf(a.PK)
	}
	r.different("db", a.DB)
	r.operators(a)
	keys := map[string]int{}
	for i, k := range a.Image {
		if first, ok := keys[string(publicDER(k))]; ok {
			r.add(index("image", i), "", "remove it: a threshold counts keys, not files", "is the key of image[%d] again", first)
		}
		keys[string(publicDER(k))] = i
	}
	if a.Threshold > max(len(a.Image), 1) {
		r.add("threshold", "", "lower it, or add image keys", "is %d, and %d image keys are named", a.Threshold, len(a.Image))
	}
}

// operators wants an authority that issues nothing but operators: whoever leads
// to it may change what the machine runs, and hosts lead to the fleet root.
func (r *reader) operators(a *Anchors) {
	c := a.Operator
	if c == nil {
		return
	}
	const hint = "name operator.pem of ingot keys export"
	others := append([]*x509.Certificate{a.Fleet}, a.Server...)
	if slices.ContainsFunc(others, func(o *x509.Certificate) bool { return o != nil && o.Equal(c) }) {
		r.add("operator", r.files.Operator, hint, "is also named for others, who could update machines then")
	}
	clients := func(u x509.ExtKeyUsage) bool { return u == x509.ExtKeyUsageClientAuth || u == x509.ExtKeyUsageAny }
	if len(c.ExtKeyUsage) > 0 && !slices.ContainsFunc(c.ExtKeyUsage, clients) {
		r.add("operator", r.files.Operator, hint, "issues servers, not clients")
	}
}

func (r *reader) different(field string, certs []*x509.Certificate) {
	for i, c := range certs {
		for j := range i {
			if c.Equal(certs[j]) {
				r.add(index(field, i), "", "remove it", "is the certificate of %s again", index(field, j))
			}
		}
	}
}

func (r *reader) ownerOf(pk *x509.Certificate) gpt.GUID {
	if r.files.Owner != "" {
		g, err := gpt.ParseGUID(r.files.Owner)
		if err != nil {
			r.add("owner", "", "want 11223344-5566-4788-99aa-bbccddeeff00", "is %q: not a GUID", r.files.Owner)
		}
		return g
	}
	if r.owner != nil {
		return *r.owner
	}
	return Owner(pk)
}
