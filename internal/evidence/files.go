package evidence

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/ingot-os/ingot/internal/jsondoc"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/dsse"
	"github.com/ingot-os/ingot/internal/reference"
	"github.com/ingot-os/ingot/internal/regular"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/verify"
)

// Read reads an evidence document.
func Read(path string) (*attest.Evidence, error) {
	b, err := regular.Read(path, attest.MaxEvidence)
	if err != nil {
		return nil, err
	}
	e, err := attest.ParseEvidence(b)
	if err != nil {
		return nil, hinted("ingot attest collect writes evidence", "%s: %w", path, err)
	}
	return e, nil
}

// Reference is what a release measures, with what is known of who says so.
type Reference struct {
	attest.Reference
	Path string
	// Signers are the keys of the caller that have signed the manifest which
	// names the document; none when that was not checked.
	Signers []string
	// Manifest is that of an image set, Digest the SHA-256 of its bytes in hex.
	Manifest *release.Manifest
	Digest   string
}

// RefusedError says that a reference is not what somebody has signed.
type RefusedError struct{ Err error }

// Error implements error.
func (e *RefusedError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *RefusedError) Unwrap() error { return e.Err }

// References reads reference.json files and image sets. Of a set the document
// must be the one that the manifest names, and the manifest signed by one of
// the caller's keys, when there are any; else the error wraps a *RefusedError.
// Nobody signs a lone file.
func References(paths []string, trust verify.Trust) ([]Reference, error) {
	var out []Reference
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		r := Reference{Path: path}
		file := path
		if info.IsDir() {
			file = filepath.Join(path, reference.FileName)
		}
		b, err := regular.Read(file, reference.MaxSize)
		switch {
		case info.IsDir() && errors.Is(err, fs.ErrNotExist):
			return nil, hinted("name an image set (OUT/NAME-VERSION as ingot build prints it); one of an older ingot has no reference: build it again", "%w", err)
		case err != nil:
			return nil, err
		}
		if info.IsDir() {
			if err = r.vouched(path, b, trust); err != nil {
				return nil, err
			}
		}
		doc, err := reference.Parse(b)
		if err != nil {
			return nil, hinted("name a reference.json or the image set that it is in", "%s: %w", file, err)
		}
		r.Reference = *doc
		out = append(out, r)
	}
	return out, nil
}

// vouched asks whether the manifest of a set names these bytes, and who signed it.
func (r *Reference) vouched(dir string, data []byte, trust verify.Trust) error {
	manifest, err := regular.Read(filepath.Join(dir, release.ManifestName), dsse.MaxEnvelope)
	if err != nil {
		return fmt.Errorf("open image set: %w", err)
	}
	if r.Manifest, err = release.Parse(manifest); err != nil {
		return fmt.Errorf("open image set %s: %w", dir, err)
	}
	digest := sha256.Sum256(manifest)
	r.Digest = hex.EncodeToString(digest[:])
	refuse := func(format string, args ...any) error {
		return &RefusedError{fmt.Errorf(dir+": "+format, args...)}
	}
	sum := sha256.Sum256(data)
	named := func(f release.File) bool {
		return f.Name == reference.FileName && f.SHA256 == hex.EncodeToString(sum[:])
	}
	if !slices.ContainsFunc(r.Manifest.Files, named) {
		return refuse("%s is not the one that the manifest names", reference.FileName)
	}
	if len(trust.Image) == 0 {
		return nil
	}
	envelope, err := regular.Read(filepath.Join(dir, release.EnvelopeName), dsse.MaxEnvelope)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return refuse("the manifest is not signed (no %s)", release.EnvelopeName)
	case err != nil:
		return err
	}
	v, err := dsse.Verify(envelope, dsse.Policy{Keys: trust.Image, Threshold: 1, Types: []string{dsse.TypeManifest}})
	if err != nil {
		return refuse("%s: %w", release.EnvelopeName, err)
	}
	if !bytes.Equal(manifest, v.Payload) {
		return refuse("%s is not what was signed", release.ManifestName)
	}
	r.Signers = v.Signers
	return nil
}

// EnrolledFormat is what an enrolment record on its own calls itself.
const EnrolledFormat = "ingot-enrolled/1"

// Enrolled is the record of a host as a file.
type Enrolled struct {
	Format string `json:"format"` // EnrolledFormat
	// Activated says that the TPM has proven by a credential that both keys
	// are in it, as it does to a server; else an operator's word stands for it.
	Activated bool             `json:"activated"`
	Record    attest.Record    `json:"record"`
	LastSeen  *attest.LastSeen `json:"lastSeen,omitempty"`
}

// maxEnrolled bounds a record in bytes.
const maxEnrolled = 64 << 10

// ReadEnrolled reads the record of a host.
func ReadEnrolled(path string) (*Enrolled, error) {
	b, err := regular.Read(path, maxEnrolled)
	if err != nil {
		return nil, err
	}
	var e Enrolled
	if err := jsondoc.Unmarshal(b, &e); err != nil {
		return nil, hinted("ingot attest accept writes records", "%s: %w", path, err)
	}
	if e.Format != EnrolledFormat {
		return nil, hinted("ingot attest accept writes records", "%s: format %.40q is not %q", path, e.Format, EnrolledFormat)
	}
	return &e, nil
}

// Write writes the record as a file that replaces the one of that name whole.
func (e *Enrolled) Write(path string) error {
	b, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return fmt.Errorf("encode record: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".record-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone after the renaming
	_, err = f.Write(append(b, '\n'))
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	return os.Rename(f.Name(), path)
}
