package verifier

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/attest/tpm"
	"github.com/ingot-os/ingot/internal/attestapi"
	"github.com/ingot-os/ingot/internal/fleet"
	"github.com/ingot-os/ingot/internal/regular"
)

// Authority issues certificates.
type Authority struct {
	Certificate *x509.Certificate
	Key         crypto.Signer
}

// minLifetime is the least lifetime of a host's certificate.
const minLifetime = 5 * time.Minute

// Bounds of secrets in bytes: of each, and of all of a host, which go into one
// answer.
const (
	MaxSecret  = 64 << 10
	MaxSecrets = 512 << 10
)

// maxCached bounds the hosts whose grants are remembered. What was granted is
// given again as it was, so a machine sees that nothing is new, and neither
// side computes.
const maxCached = 20_000

// grants is what an attested host gets.
type grants struct {
	authority *Authority
	secrets   string // directory
	log       *slog.Logger
	lifetime  time.Duration

	mu     sync.Mutex
	cached map[string]*granted // by name
}

type granted struct {
	channel     []byte // that the certificate is for
	certificate [][]byte
	until       time.Time
	akName      []byte // that the secrets are for
	ekName      []byte
	secrets     map[string]secret
}

type secret struct {
	sum  [sha256.Size]byte
	sent attestapi.Secret
}

// give adds certificate and secrets to an answer. The host is trusted.
func (g *grants) give(a *attestapi.Answer, c *call, h *fleet.Host, now time.Time) error {
	old := g.get(h.Record.Name)
	out := &granted{channel: c.key, akName: h.Record.AKName, ekName: h.Record.EKName, secrets: map[string]secret{}}
	if bytes.Equal(old.channel, c.key) && old.until.Sub(now) > g.lifetime/2 {
		out.certificate, out.until = old.certificate, old.until
	} else if err := g.issue(out, c.cert.PublicKey, h.Record.Name, now); err != nil {
		return err
	}
	if !bytes.Equal(old.akName, out.akName) || !bytes.Equal(old.ekName, out.ekName) {
		old.secrets = nil
	}
	if err := g.seal(out, old, h); err != nil {
		return err
	}
	g.put(h.Record.Name, out)
	a.Certificate = out.certificate
	for _, s := range out.secrets {
		a.Secrets = append(a.Secrets, s.sent)
	}
	slices.SortFunc(a.Secrets, func(x, y attestapi.Secret) int { return strings.Compare(x.Name, y.Name) })
	return nil
}

func (g *grants) get(name string) granted {
	g.mu.Lock()
	defer g.mu.Unlock()
	if x := g.cached[name]; x != nil {
		return *x
	}
	return granted{}
}

func (g *grants) put(name string, x *granted) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cached == nil || len(g.cached) >= maxCached {
		g.cached = map[string]*granted{}
	}
	g.cached[name] = x
}

// HostURI is the name of a host in certificates.
func HostURI(name string) *url.URL { return &url.URL{Scheme: "ingot", Opaque: "host/" + name} }

// issue makes a client certificate for the channel's key.
func (g *grants) issue(out *granted, key crypto.PublicKey, name string, now time.Time) error {
	if g.authority == nil {
		return nil
	}
	out.until = now.Add(g.lifetime)
	t := &x509.Certificate{Subject: pkix.Name{CommonName: name}, URIs: []*url.URL{HostURI(name)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	cert, err := issue(*g.authority, key, t, now, g.lifetime)
	if err != nil {
		return fmt.Errorf("issue certificate for %s: %w", name, err)
	}
	out.certificate = [][]byte{cert.Raw, g.authority.Certificate.Raw}
	return nil
}

// seal encrypts the secrets of a host to its TPM.
func (g *grants) seal(out *granted, old granted, h *fleet.Host) error {
	files, err := g.files(h.Record.Name)
	if err != nil {
		return fmt.Errorf("read secrets of %s: %w", h.Record.Name, err)
	}
	left := MaxSecrets
	for _, name := range slices.Sorted(maps.Keys(files)) {
		value, err := regular.Read(files[name], MaxSecret)
		if err == nil && len(value) > left {
			err = fmt.Errorf("with it the secrets of the host have more than %d bytes", MaxSecrets)
		}
		if err != nil { // the others go on
			g.log.Error("secret left out", "host", h.Record.Name, "secret", name, "error", err)
			continue
		}
		left -= len(value)
		sum := sha256.Sum256(value)
		if s, ok := old.secrets[name]; ok && s.sum == sum {
			out.secrets[name] = s
			continue
		}
		sent, err := encrypt(name, value, h)
		if err != nil {
			return fmt.Errorf("encrypt secret %s for %s: %w", name, h.Record.Name, err)
		}
		out.secrets[name] = secret{sum, sent}
	}
	return nil
}

// files finds the secrets of a host by name: DIR/NAME is for all hosts,
// DIR/HOST/NAME for one, which comes first.
func (g *grants) files(host string) (map[string]string, error) {
	out := map[string]string{}
	if g.secrets == "" {
		return out, nil
	}
	for _, dir := range []string{g.secrets, filepath.Join(g.secrets, host)} {
		list, err := os.ReadDir(dir)
		if (errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR)) && dir != g.secrets {
			continue // nothing of its own, or its name is that of a secret
		}
		if err != nil {
			return nil, err
		}
		for _, e := range list {
			path := filepath.Join(dir, e.Name())
			info, err := os.Stat(path) // links are followed: other programs mount secrets so
			if err == nil && info.Mode().IsRegular() && secretName(e.Name()) {
				out[e.Name()] = path
			}
		}
	}
	return out, nil
}

// secretName lets files of editors and of version control alone.
func secretName(s string) bool {
	if s == "" || len(s) > 64 || s[0] == '.' {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.')
	})
}

// encrypt gives a text that only the host's TPM can open, with its attestation
// key in it.
func encrypt(name string, value []byte, h *fleet.Host) (attestapi.Secret, error) {
	key := random()
	credential, err := tpm.MakeCredential(rand.Reader, h.EK, h.Record.AKName, key)
	if err != nil {
		return attestapi.Secret{}, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return attestapi.Secret{}, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return attestapi.Secret{}, err
	}
	nonce := random()[:gcm.NonceSize()]
	return attestapi.Secret{Name: name, Credential: attestapi.Credential(credential), Nonce: nonce, Ciphertext: gcm.Seal(nil, nonce, value, []byte(name))}, nil
}
