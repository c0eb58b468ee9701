package signing

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/ingot-os/ingot/boot/authenticode"
	"github.com/ingot-os/ingot/internal/dsse"
	"github.com/ingot-os/ingot/internal/imageset"
	"github.com/ingot-os/ingot/internal/jsondoc"
	"github.com/ingot-os/ingot/internal/regular"
	"github.com/ingot-os/ingot/internal/release"
)

// Types of the two documents that travel; a reader stops at any other.
const (
	RequestType  = "application/vnd.ingot-os.signing-request.v1+json"
	ResponseType = "application/vnd.ingot-os.signing-response.v1+json"
)

// MaxDocument is the largest request or response that is read, in bytes: one
// with a manifest inside is two times as large as the envelope.
const MaxDocument = 2 * dsse.MaxEnvelope

// Subject names the image set that signatures are for.
type Subject struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Arch    string `json:"arch"`
	Build   string `json:"build"` // digest of its lock
}

// String is how a person would name the set.
func (s Subject) String() string {
	return fmt.Sprintf("%s %s (%s), build %.12s", s.Name, s.Version, s.Arch, s.Build)
}

func subjectOf(m *release.Manifest) Subject { return Subject{m.Name, m.Version, m.Arch, m.Build} }

// Request asks for the signatures that a set lacks: those of boot files and of
// policies first, that of the manifest, which names the signed files, when there
// are none.
type Request struct {
	Type     string        `json:"type"` // RequestType
	Set      Subject       `json:"set"`
	Boot     []BootItem    `json:"boot,omitempty"`
	Policy   *PolicyItem   `json:"policy,omitempty"`
	Manifest *ManifestItem `json:"manifest,omitempty"`
}

// BootItem is a boot file that wants a signature.
type BootItem struct {
	File         string `json:"file"`         // name in the set, or path on the ESP
	Authenticode string `json:"authenticode"` // digest of the image, in hex
	SHA256       string `json:"sha256"`       // of the signed attributes, in hex: what RSA PKCS #1 v1.5 signs
}

// ManifestItem is a manifest that wants a signature.
type ManifestItem struct {
	PayloadType string `json:"payloadType"`       // of the DSSE envelope
	SHA256      string `json:"sha256"`            // of PAE(payloadType, manifest), in hex: what ECDSA and RSA sign
	Message     []byte `json:"message,omitempty"` // PAE itself, for Ed25519 and RSA
}

// NewRequest finds out what a set lacks, after comparing it with its manifest.
// With message, a request for the manifest includes it, for Ed25519 and RSA keys and
// for signers who want to see what they sign; else it has digests only.
func NewRequest(set *release.Set, message bool) (*Request, error) {
	dir, err := os.MkdirTemp("", "ingot-request-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	d, done, err := imageset.Load(set, dir)
	if err != nil {
		return nil, err
	}
	defer done()
	list, err := d.BootFiles()
	if err != nil {
		return nil, fmt.Errorf("request signatures: %w", err)
	}
	r := &Request{Type: RequestType, Set: subjectOf(set.Manifest)}
	for _, u := range list {
		r.Boot = append(r.Boot, bootItem(u))
	}
	u, err := d.Unapproved()
	if err != nil {
		return nil, fmt.Errorf("request signatures: %w", err)
	}
	if r.Policy = policyItem(u); len(r.Boot) > 0 || r.Policy != nil {
		return r, nil
	}
	r.Manifest, err = manifestItem(set, message)
	return r, err
}

func bootItem(u imageset.Unsigned) BootItem {
	sum := sha256.Sum256(u.Request.Message)
	return BootItem{File: u.Name, Authenticode: u.Request.Digest.String(), SHA256: hex.EncodeToString(sum[:])}
}

func manifestItem(set *release.Set, message bool) (*ManifestItem, error) {
	payload, err := regular.Read(filepath.Join(set.Dir, release.ManifestName), dsse.MaxEnvelope)
	if err != nil {
		return nil, err
	}
	pae := dsse.PAE(dsse.TypeManifest, payload)
	sum := sha256.Sum256(pae)
	m := &ManifestItem{PayloadType: dsse.TypeManifest, SHA256: hex.EncodeToString(sum[:])}
	if message {
		m.Message = pae
	}
	return m, nil
}

// ParseRequest reads a request and checks that what is to be signed follows
// from what it says: attributes from the digest of the image, the digest of a
// manifest from the manifest when it is there.
func ParseRequest(data []byte) (*Request, error) {
	r := new(Request)
	if err := decode(data, RequestType, r); err != nil {
		return nil, fmt.Errorf("parse signing request: %w", err)
	}
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("parse signing request: %w", err)
	}
	return r, nil
}

func (r *Request) check() error {
	if (len(r.Boot) > 0 || r.Policy != nil) == (r.Manifest != nil) {
		return errors.New("want boot files and policies, or a manifest, one of them")
	}
	if r.Policy != nil {
		if err := r.Policy.check(); err != nil {
			return err
		}
	}
	if unprintable(r.Set.Name + r.Set.Version + r.Set.Arch + r.Set.Build) {
		return fmt.Errorf("set: %q has characters that cannot be printed", r.Set)
	}
	for i, b := range r.Boot {
		d, err := b.digest()
		if err == nil && unprintable(b.File) {
			err = fmt.Errorf("file: %q has characters that cannot be printed", b.File)
		}
		if err != nil {
			return fmt.Errorf("boot[%d]: %w", i, err)
		}
		if sum := sha256.Sum256(authenticode.SignedAttributes(d)); b.SHA256 != hex.EncodeToString(sum[:]) {
			return fmt.Errorf("boot[%d].sha256: %s does not follow from the digest of the image: got %x", i, b.SHA256, sum)
		}
	}
	if r.Manifest == nil {
		return nil
	}
	return r.Manifest.check(r.Set)
}

// unprintable finds what could mislead the person who reads what is to be signed.
func unprintable(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

func (b *BootItem) digest() (authenticode.Digest, error) { return parseDigest(b.Authenticode) }

func (m *ManifestItem) check(set Subject) error {
	if m.PayloadType != dsse.TypeManifest {
		return fmt.Errorf("manifest.payloadType: %.80q, want %s", m.PayloadType, dsse.TypeManifest)
	}
	if _, err := parseDigest(m.SHA256); err != nil {
		return fmt.Errorf("manifest.sha256: %w", err)
	}
	if m.Message == nil {
		return nil
	}
	if sum := sha256.Sum256(m.Message); m.SHA256 != hex.EncodeToString(sum[:]) {
		return fmt.Errorf("manifest.sha256: %s is not that of the message: got %x", m.SHA256, sum)
	}
	payload, err := m.payload()
	if err != nil {
		return fmt.Errorf("manifest.message: %w", err)
	}
	manifest, err := release.Parse(payload)
	if err != nil {
		return fmt.Errorf("manifest.message: %w", err)
	}
	if again, err := manifest.Marshal(); err != nil || !bytes.Equal(again, payload) {
		return errors.New("manifest.message: the manifest is not in the encoding that ingot writes") // two readers could read two things
	}
	if got := subjectOf(manifest); got != set {
		return fmt.Errorf("manifest.message: it is of %v, the request of %v", got, set)
	}
	return nil
}

// payload takes the manifest out of its pre-authentication encoding.
func (m *ManifestItem) payload() ([]byte, error) {
	_, payload, ok := bytes.Cut(m.Message, []byte(" {"))
	if payload = append([]byte("{"), payload...); !ok || !bytes.Equal(dsse.PAE(m.PayloadType, payload), m.Message) {
		return nil, errors.New("not a manifest in DSSE's pre-authentication encoding")
	}
	return payload, nil
}

// Lines tell a person what is to be signed: each with a name and the digest to
// compare with the builder's.
func (r *Request) Lines() [][]string {
	var rows [][]string
	for _, b := range r.Boot {
		rows = append(rows, []string{b.File, "authenticode", b.Authenticode})
	}
	if p := r.Policy; p != nil {
		rows = append(rows, []string{r.Set.Name + "-" + r.Set.Version + release.PolicySuffix, "pcr 11", p.PCR11})
		rows = append(rows, []string{"", "floors", fmt.Sprintf("0 to %d", p.Epoch)})
	}
	if m := r.Manifest; m != nil {
		rows = append(rows, []string{release.ManifestName, "dsse", m.SHA256})
		if payload, err := m.payload(); err == nil {
			sum := sha256.Sum256(payload)
			rows = append(rows, []string{release.ManifestName, "sha256", hex.EncodeToString(sum[:])})
		}
	}
	return rows
}

// Marshal gives the document's only encoding: indented JSON with a final newline.
func (r *Request) Marshal() ([]byte, error) { return encode(r) }

func encode(v any) ([]byte, error) {
	b, err := jsondoc.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode signing document: %w", err)
	}
	return b, nil
}

// decode reads a document of one type, strictly.
func decode(data []byte, want string, v any) error {
	if len(data) > MaxDocument {
		return fmt.Errorf("more than %d bytes", MaxDocument)
	}
	var probe struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(data, &probe); err != nil {
		return err
	}
	if probe.Type != want {
		return fmt.Errorf("type %.80q, want %s", probe.Type, want)
	}
	return jsondoc.Unmarshal(data, v)
}

func parseDigest(s string) (d authenticode.Digest, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(d) {
		return d, fmt.Errorf("%.80q is no SHA-256 in hex", s)
	}
	return authenticode.Digest(b), nil
}
