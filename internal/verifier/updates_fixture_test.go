package verifier

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/attest/pcr"
	"github.com/ingot-os/ingot/internal/audit"
	"github.com/ingot-os/ingot/internal/depot"
	"github.com/ingot-os/ingot/internal/reference"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/updateapi"
	"github.com/ingot-os/ingot/partition"
)

// Of the image sets of tests, in bytes.
const (
	slotStart = 1 << 20
	slotSize  = 4 << 20
	slotUsed  = 1<<20 + 777
)

// made is an image set to write.
type made struct {
	name, version, arch, layout string
	epoch                       int64
	content                     byte // what is in its slot: each is another
	foreign                     bool // a slot that has nothing in common with others
	twin                        bool // not the files of the other release of this name and version
	unsigned, noImage, broken   bool
}

// slotContent does not compress; those of two releases differ in some bytes.
func (m made) slotContent() []byte {
	b := make([]byte, slotUsed)
	seed := byte(0)
	if m.foreign {
		seed = m.content
	}
	_, _ = mathrand.NewChaCha8([32]byte{seed}).Read(b)
	b[len(b)-1], b[7000] = 1, m.content
	return b
}

func (m made) slotDigest() string {
	part := make([]byte, slotSize)
	copy(part, m.slotContent())
	sum := sha256.Sum256(part)
	return hex.EncodeToString(sum[:])
}

// later is the reference of another release, of which no boot was recorded.
func later(t testing.TB, m made) attest.Reference {
	t.Helper()
	ref := recorded(t, m.epoch).references[0]
	if m.version == ref.Version && m.name == ref.Name && !m.twin {
		return ref
	}
	ref.Name, ref.Version = m.name, m.version
	for _, p := range ref.Paths {
		for _, x := range p.Events {
			if x.Name == "UKI" || x.PCR == 11 || x.PCR == 9 {
				x.Digests[pcr.SHA256] = pcr.SHA256.Sum([]byte(m.version + x.Name + m.mark()))
			}
		}
	}
	return ref
}

func (m made) mark() string {
	if m.twin {
		return m.arch
	}
	return ""
}

// write writes the set, and gives the digest of its manifest.
func (m made) write(t testing.TB, dir string, key *ecdsa.PrivateKey) string {
	t.Helper()
	ref := later(t, m)
	document, err := reference.Marshal(&ref)
	if err != nil {
		t.Fatal(err)
	}
	x := release.Manifest{Format: release.Format, Name: m.name, Version: m.version, Arch: m.arch, SecurityEpoch: int(m.epoch),
		Files: []release.File{{Name: reference.FileName, Size: int64(len(document)), SHA256: audit.Sum(document).String()}},
		Disk: release.Disk{Layout: m.layout, GUID: "disk", Size: slotStart + slotSize, Partitions: []release.Partition{ // slot b is at the same place: nobody looks there
			{Index: 2, Role: partition.SlotA, GUID: "guid-a", Start: slotStart, Size: slotSize, SHA256: m.slotDigest()},
			{Index: 3, Role: partition.SlotB, GUID: "guid-b", Start: slotStart, Size: slotSize, SHA256: m.slotDigest()}}}}
	manifest, err := x.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{release.ManifestName: string(manifest), reference.FileName: string(document)}
	if !m.noImage {
		disk := make([]byte, slotStart+slotSize)
		copy(disk[slotStart:], m.slotContent())
		if m.broken {
			disk[slotStart+9] ^= 1
		}
		files[x.Stem()+".img"] = string(disk)
	}
	if !m.unsigned {
		files[release.EnvelopeName] = signedManifest(t, manifest, key)
	}
	writeFiles(t, dir, files)
	return audit.Sum(manifest).String()
}

// The releases of most tests: what the recorded machine runs, and the next.
var (
	first = made{name: "evidence", version: "1.0.0", arch: "amd64", layout: "l1", epoch: 1, content: 1}
	next  = made{name: "evidence", version: "1.1.0", arch: "amd64", layout: "l1", epoch: 2, content: 2}
)

// shop is a server with image sets on the disk, and a host "a" that is trusted.
type shop struct {
	*served
	m       *machine
	channel *channel
	cert    tls.Certificate // that the host got
	dir     string
	patches string            // directory of the depot
	signer  *ecdsa.PrivateKey // of releases
	digests map[string]string // of manifests, by the version
}

// open makes the sets, beside those of first and next.
func open(t *testing.T, f func(*Options), more ...made) *shop {
	t.Helper()
	x := &shop{dir: t.TempDir(), patches: filepath.Join(t.TempDir(), "deltas"), digests: map[string]string{}}
	d, err := depot.New(depot.Options{Dir: x.patches})
	if err != nil {
		t.Fatal(err)
	}
	x.served, x.m, x.channel = joined(t, func(o *Options) {
		o.Depot = d
		if f != nil {
			f(o)
		}
	})
	key := newTestKey(t)
	x.signer = key
	for _, m := range append([]made{first, next}, more...) {
		x.digests[m.version] = m.write(t, filepath.Join(x.dir, m.name+"-"+m.version), key)
	}
	x.load(key)
	x.cert = x.trusted()
	return x
}

func (x *shop) load(key *ecdsa.PrivateKey) {
	x.t.Helper()
	c, err := LoadCatalog([]string{x.dir}, trustIn(key), false)
	if err == nil && len(c.Refused) > 0 {
		c, err = LoadCatalog([]string{x.dir}, trustIn(), true) // some are not signed
	}
	if err == nil {
		err = x.SetCatalog(context.Background(), c)
	}
	if err != nil || len(c.Refused) > 0 {
		x.t.Fatal(err, c.Refused)
	}
}

// trusted is a round with a trusted verdict, and the certificate that came of it.
func (x *shop) trusted() tls.Certificate {
	x.t.Helper()
	a, code := x.m.attest(x.channel, "a")
	if code != "" || len(a.Certificate) != 2 {
		x.t.Fatalf("%q, %d certificates", code, len(a.Certificate))
	}
	return tls.Certificate{Certificate: a.Certificate, PrivateKey: x.channel.cert.PrivateKey}
}

// path of a release.
func (x *shop) path(version, part string) string {
	return updateapi.ReleasesPath + "/" + x.digests[version] + "/" + part
}

func (x *shop) image(m made) string {
	return filepath.Join(x.dir, m.name+"-"+m.version, m.name+"-"+m.version+".img")
}

// get asks with a certificate; the header may be nil.
func (x *shop) get(cert *tls.Certificate, method, path string, header http.Header) (*http.Response, []byte) {
	x.t.Helper()
	r, err := http.NewRequest(method, "https://"+x.address+path, nil)
	if err != nil {
		x.t.Fatal(err)
	}
	if header != nil {
		r.Header = header
	}
	resp, err := x.client(cert).Do(r)
	if err != nil {
		x.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		b = append(b, "... "+err.Error()...)
	}
	return resp, b
}

// asked is what the host is assigned; code is that of a refusal.
func (x *shop) asked(cert *tls.Certificate) (a updateapi.Assignment, code string) {
	x.t.Helper()
	resp, b := x.get(cert, "GET", updateapi.AssignmentPath, nil)
	return a, x.understand(resp, b, &a)
}

func (x *shop) understand(resp *http.Response, b []byte, answer any) string {
	x.t.Helper()
	if resp.StatusCode == http.StatusOK {
		if err := json.Unmarshal(b, answer); err != nil {
			x.t.Fatal(err)
		}
		return ""
	}
	var e updateapi.Error
	if err := json.Unmarshal(b, &e); err != nil || e.Code == "" || e.Detail == "" {
		x.t.Fatalf("status %d: %s", resp.StatusCode, b)
	}
	return e.Code
}

// tells sends a report.
func (x *shop) tells(s updateapi.Slots) string {
	x.t.Helper()
	c := &channel{s: x.served, http: x.client(&x.cert)}
	return string(c.post(updateapi.SlotsPath, s, &struct{}{}))
}

// orders is an operator's action.
func (x *shop) orders(a Action) (*Detail, error) {
	return x.operator().Act(context.Background(), "a", a)
}

func (x *shop) assigns(version string, more ...func(*Action)) *Detail {
	x.t.Helper()
	a := Action{Action: ActionAssign, Release: version}
	for _, f := range more {
		f(&a)
	}
	d, err := x.orders(a)
	if err != nil {
		x.t.Fatal(err)
	}
	return d
}

// slots is a report of a machine that runs first in slot a.
func slots(change func(*updateapi.Slots)) updateapi.Slots {
	s := updateapi.Slots{Running: "a", Good: "a", Phase: "IDLE", Means: "firmware", Floor: 1, Journal: "read", Why: []string{"slot a runs"},
		Slots: []updateapi.Slot{{Name: "a", Version: first.version, Condition: "good", Epoch: 1, Image: first.slotDigest()}, {Name: "b", Condition: "empty"}}}
	if change != nil {
		change(&s)
	}
	return s
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}
