// Package debiantest serves small Debian archives to tests: a signed InRelease
// per pocket, Packages indexes and packages made in memory, over HTTP on
// loopback. A test may then change any file, or how requests are answered, to
// see what a client makes of it.
//
//	a := debiantest.New(t)
//	a.Add(debiantest.Package{Name: "hello", Version: "1.0-1"})
//	a.Publish()
//	f, err := source.New(source.Options{Store: s, Mirror: a.Main, Security: a.Security, Keys: a.Keys()})
package debiantest

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/ulikunitz/xz"
)

// Package is one binary package to serve.
type Package struct {
	Name, Version string
	Arch          string            // default amd64
	Depends       string            // raw field
	Pocket        string            // default main
	Component     string            // default main
	Files         map[string]string // content of data.tar, path -> content
}

// Archive is a running server. Its fields may be changed until Publish, its
// files at any time through Edit.
type Archive struct {
	Main, Security string // roots to give to a client
	Suite          string // trixie
	Arch           string // amd64
	Date           time.Time
	Until          time.Time // Valid-Until of all pockets; zero = none
	Key            *openpgp.Entity
	Compress       string // of the indexes: xz (default), gz, or "none"

	tb       testing.TB
	packages []Package

	mu      sync.Mutex
	files   map[string][]byte // request path -> body
	hits    []string
	intrude func(w http.ResponseWriter, r *http.Request) bool
}

// New starts a server with the main, updates and security pockets of trixie,
// signed by a new key; it stops with the test.
func New(tb testing.TB) *Archive {
	tb.Helper()
	a := &Archive{Suite: "trixie", Arch: "amd64", Date: time.Date(2026, 9, 12, 7, 55, 41, 0, time.UTC), tb: tb, Key: NewKey(tb), Compress: "xz"}
	s := httptest.NewServer(http.HandlerFunc(a.serve))
	tb.Cleanup(s.Close)
	a.Main, a.Security = s.URL+"/debian", s.URL+"/debian-security"
	return a
}

// NewKey makes a signing key that is valid from 2026 on.
func NewKey(tb testing.TB) *openpgp.Entity {
	tb.Helper()
	made := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	e, err := openpgp.NewEntity("Test archive", "", "archive@example.org", &packet.Config{
		Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return made },
	})
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

// Keys is the keyring that trusts this archive.
func (a *Archive) Keys() openpgp.EntityList { return openpgp.EntityList{a.Key} }

// Now is a time at which the archive is fresh, for clients with a clock of their own.
func (a *Archive) Now() time.Time { return a.Date.Add(time.Hour) }

func (a *Archive) serve(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.hits = append(a.hits, r.URL.Path)
	body, ok := a.files[r.URL.Path]
	intrude := a.intrude
	a.mu.Unlock()
	switch {
	case intrude != nil && intrude(w, r):
	case !ok:
		http.NotFound(w, r)
	default:
		w.Write(body)
	}
}

// Hits lists the paths asked for since the last call.
func (a *Archive) Hits() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	hits := a.hits
	a.hits = nil
	return hits
}

// Intrude lets fn answer requests; it returns false to let the archive answer.
func (a *Archive) Intrude(fn func(w http.ResponseWriter, r *http.Request) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.intrude = fn
}

// Edit changes every file whose path contains part; nil from fn removes it.
func (a *Archive) Edit(part string, fn func([]byte) []byte) {
	a.tb.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for _, p := range slices.Collect(maps.Keys(a.files)) {
		if !strings.Contains(p, part) {
			continue
		}
		n++
		if b := fn(bytes.Clone(a.files[p])); b != nil {
			a.files[p] = b
		} else {
			delete(a.files, p)
		}
	}
	if n == 0 {
		a.tb.Fatalf("the test archive has no file %q", part)
	}
}

// Add adds a package; Publish makes it visible.
func (a *Archive) Add(p Package) {
	p.Arch, p.Pocket, p.Component = or(p.Arch, a.Arch), or(p.Pocket, "main"), or(p.Component, "main")
	a.packages = append(a.packages, p)
}

func or(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

// Publish writes and signs all indexes, replacing what was published before;
// packages of earlier states stay in the pool only when they were added.
func (a *Archive) Publish() {
	a.tb.Helper()
	files := map[string][]byte{}
	for _, pocket := range []string{"main", "updates", "security"} {
		a.publish(pocket, files)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.files = files
}

// Reset forgets all packages, for a state of the archive that has dropped them.
func (a *Archive) Reset() { a.packages = nil }

func (a *Archive) publish(pocket string, files map[string][]byte) {
	root, suite := "/debian/", a.Suite
	if pocket != "main" {
		suite += "-" + pocket
	}
	if pocket == "security" {
		root = "/debian-security/"
	}
	dists := root + "dists/" + suite + "/"
	var sums strings.Builder
	for _, component := range []string{"main", "non-free-firmware"} {
		index := a.index(pocket, component, root, files)
		name, packed := a.compress(component+"/binary-"+a.Arch+"/Packages", index)
		sum := Sum(packed)
		fmt.Fprintf(&sums, " %s %d %s\n", sum, len(packed), name)
		files[dists+name] = packed
		files[dists+component+"/binary-"+a.Arch+"/by-hash/SHA256/"+sum] = packed
	}
	text := fmt.Sprintf("Origin: Test\nSuite: stable%s\nCodename: %s\nDate: %s\n", strings.TrimPrefix(suite, a.Suite), suite, stamp(a.Date))
	if !a.Until.IsZero() {
		text += "Valid-Until: " + stamp(a.Until) + "\n"
	}
	text += "Acquire-By-Hash: yes\nSHA256:\n" + sums.String()
	files[dists+"InRelease"] = a.Sign(text)
}

func stamp(t time.Time) string { return t.UTC().Format("Mon, 02 Jan 2006 15:04:05 UTC") }

// index writes the Packages of a component and puts its packages into the pool.
func (a *Archive) index(pocket, component, root string, files map[string][]byte) []byte {
	var out bytes.Buffer
	for _, p := range a.packages {
		if p.Pocket != pocket || p.Component != component {
			continue
		}
		b := Deb(a.tb, p)
		pool := p.Path()
		files[root+pool] = b
		fmt.Fprintf(&out, "Package: %s\nVersion: %s\nArchitecture: %s\n", p.Name, p.Version, p.Arch)
		if p.Depends != "" {
			fmt.Fprintf(&out, "Depends: %s\n", p.Depends)
		}
		fmt.Fprintf(&out, "Description: a package\n of a test\nFilename: %s\nSize: %d\nSHA256: %s\n\n", pool, len(b), Sum(b))
	}
	return out.Bytes()
}

// Path is where the pool has the package.
func (p Package) Path() string {
	return fmt.Sprintf("pool/%s/%s/%s/%s_%s_%s.deb", p.Component, p.Name[:1], p.Name, p.Name, p.Version, p.Arch)
}

func (a *Archive) compress(name string, b []byte) (string, []byte) {
	var out bytes.Buffer
	switch a.Compress {
	case "none":
		return name, b
	case "gz":
		z := gzip.NewWriter(&out)
		z.Write(b)
		z.Close()
		return name + ".gz", out.Bytes()
	}
	z, err := xz.NewWriter(&out)
	if err == nil {
		_, err = z.Write(b)
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		a.tb.Fatal(err)
	}
	return name + ".xz", out.Bytes()
}

// Sign clear-signs a text with the archive's key.
func (a *Archive) Sign(text string) []byte {
	a.tb.Helper()
	var out bytes.Buffer
	w, err := clearsign.Encode(&out, a.Key.PrivateKey, &packet.Config{Time: func() time.Time { return a.Date }})
	if err == nil {
		_, err = w.Write([]byte(text))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		a.tb.Fatal(err)
	}
	return append(out.Bytes(), '\n')
}

// Sum is the SHA-256 in hex.
func Sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}
