package serve

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/attest"
	"github.com/ingot-os/ingot/internal/attestd"
	"github.com/ingot-os/ingot/internal/bootfiles"
	"github.com/ingot-os/ingot/internal/keys"
	"github.com/ingot-os/ingot/internal/reference"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/verifier"
)

// imageSet writes what is read of an image set, with its UKI or without.
func imageSet(t *testing.T, dir, name, uki string) {
	t.Helper()
	b, err := os.ReadFile("../../attest/testdata/reference-257.json")
	if err != nil {
		t.Fatal(err)
	}
	var ref attest.Reference
	if err := json.Unmarshal(b, &ref); err != nil {
		t.Fatal(err)
	}
	ref.Name, ref.Version, ref.Phases = name, "1.0.0", []string{"services"}
	document, err := reference.Marshal(&ref)
	if err != nil {
		t.Fatal(err)
	}
	file := func(name, text string) release.File {
		sum := sha256.Sum256([]byte(text))
		return release.File{Name: name, Size: int64(len(text)), SHA256: hex.EncodeToString(sum[:])}
	}
	m := release.Manifest{Format: release.Format, Name: name, Version: "1.0.0", Arch: "amd64", SecurityEpoch: int(ref.Epoch),
		Files: []release.File{file(reference.FileName, string(document)), file(name+"-1.0.0.efi", uki)}}
	manifest, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, release.ManifestName), string(manifest))
	put(t, filepath.Join(dir, reference.FileName), string(document))
}

// serving is a server with releases, without ports.
func serving(t *testing.T, dir string) *Server {
	t.Helper()
	x := ruled(t, "format: 1\ndefault: local\n")
	x.releases = attestd.Releases{Release: []string{dir}, Insecure: true}
	var err error
	if x.files, err = bootfiles.New(bootfiles.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.files.Retain(nil) })
	s := &Server{o: Options{Log: slog.New(slog.DiscardHandler)}, c: x.c.Load(), metrics: x.metrics, site: x}
	if err := s.loadReleases(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestHalfCopied: a set whose UKI is still being copied is refused, and served when it is
// there; the manifest comes first in the order of names that rsync copies in.
func TestHalfCopied(t *testing.T) {
	dir := t.TempDir()
	set := filepath.Join(dir, "hello-1.0.0")
	imageSet(t, set, "hello", "the whole UKI")
	s := serving(t, dir)
	look := func(what string, served int) {
		t.Helper()
		s.refresh(t.Context())
		if n := len(s.site.offered.Load().list); n != served || len(s.site.catalog.Refused) != 1-served {
			t.Errorf("%s: %d are served, %+v", what, n, s.site.catalog.Refused)
		}
		if s.site.releases.Changed() {
			t.Errorf("%s: it is read again and again", what)
		}
	}
	look("no UKI", 0)
	uki := filepath.Join(set, "hello-1.0.0.efi")
	put(t, uki, "the whole")
	look("half a UKI", 0)
	put(t, uki, "the whole UKI")
	look("the UKI", 1)
	put(t, uki, "the whole XXX")
	look("another", 0)
	if err := os.Rename(uki, uki+"~"); err != nil {
		t.Fatal(err)
	}
	look("none any more", 0)
	put(t, uki+"~", "the whole UKI")
	if err := os.Rename(uki+"~", uki); err != nil {
		t.Fatal(err)
	}
	look("the UKI again", 1)
	secret := filepath.Join(t.TempDir(), "shadow")
	put(t, secret, "not the UKI !")
	if err := errors.Join(os.Remove(uki), os.Symlink(secret, uki)); err != nil {
		t.Fatal(err)
	}
	look("a link to what is no UKI", 0)
}

// TestReloadWhileOperatorsAsk: a catalog that requests are answered from does not change
// any more; what is refused for its files is known before.
func TestReloadWhileOperatorsAsk(t *testing.T) {
	dir := t.TempDir()
	imageSet(t, filepath.Join(dir, "hello-1.0.0"), "hello", "never copied")
	s := serving(t, dir)
	names := filepath.Join(t.TempDir(), "keys")
	set, err := keys.Init(t.Context(), names, keys.Options{Name: "acme", Test: true, Now: time.Now(), Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	silent := func(string, ...any) {}
	s.api = &api{Store: s.site.store, Options: attestd.Options{Releases: attestd.Releases{Keys: names}, Set: set, Names: []string{"localhost"}, State: t.TempDir(), Interval: time.Minute,
		Policy: func() (attest.Policy, error) { return attest.Policy{}, nil }, Log: s.o.Log, Warn: silent, Hint: silent}}
	if err := s.api.Assemble(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan string)
	go func() {
		h, cert, last := s.api.Verifier().Handler(), operator(t, set), ""
		for ctx.Err() == nil {
			r := httptest.NewRequest(http.MethodGet, verifier.HostsPath, nil)
			r.TLS = &tls.ConnectionState{HandshakeComplete: true, PeerCertificates: []*x509.Certificate{cert}}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			last = w.Body.String()
		}
		done <- last
	}()
	for range 30 {
		if err := s.loadReleases(t.Context()); err != nil {
			t.Error(err)
		}
	}
	stop()
	if last := <-done; !strings.Contains(last, "cannot be booted from here") {
		t.Errorf("operators are told %s", last)
	}
}

// operator is a certificate of one.
func operator(t *testing.T, set *keys.Set) *x509.Certificate {
	by, err := attestd.Authority(context.Background(), set, keys.Operator)
	if err != nil {
		t.Error(err)
		return nil
	}
	cert, err := verifier.OperatorCertificate(*by, "alice", time.Now())
	if err != nil {
		t.Error(err)
		return nil
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Error(err)
	}
	return leaf
}
