package keys

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// programLimit is the longest that a signing program may take: someone may
// have to find a token and touch it.
const programLimit = 2 * time.Minute

// outputLimit bounds what a program may print, in bytes.
const outputLimit = 64 << 10

// program reaches a key through another program.
type program interface {
	// public returns the command that prints the public key in DER or PEM.
	public() call
	// sign returns the command that signs input from its stdin.
	sign(algorithm string, input []byte) (call, error)
}

// call is one run of a program.
type call struct {
	path  string
	args  []string
	env   []string // added to ours
	stdin []byte
}

// remote is a crypto.Signer whose key is elsewhere.
type remote struct {
	ctx     context.Context
	uri     string
	program program
	key     crypto.PublicKey
}

// reach returns the signer of a pkcs11: or exec: URI. With no public key given
// it asks for it.
func reach(ctx context.Context, uri string, pub crypto.PublicKey) (crypto.Signer, error) {
	scheme, rest, _ := strings.Cut(uri, ":")
	r := &remote{ctx: ctx, uri: uri, key: pub}
	var err error
	switch scheme {
	case "pkcs11":
		r.program, err = parsePKCS11(rest)
	case "exec":
		r.program, err = parseExec(rest)
	default:
		err = errors.New("want the scheme file, pkcs11 or exec")
	}
	if err == nil && pub == nil {
		r.key, err = r.fetch()
	}
	if err != nil {
		if before, _, secret := strings.Cut(uri, "pin-value="); secret {
			uri = before + "pin-value=..." // it would go on into logs
		}
		return nil, fmt.Errorf("key %s: %w", uri, err)
	}
	return r, nil
}

func (r *remote) fetch() (crypto.PublicKey, error) {
	out, err := r.program.public().run(r.ctx)
	if err != nil {
		return nil, err
	}
	pub, _, err := parsePublic(out)
	if err != nil {
		return nil, fmt.Errorf("read public key: %w", err)
	}
	return pub, nil
}

// Public implements crypto.Signer.
func (r *remote) Public() crypto.PublicKey { return r.key }

// Sign implements crypto.Signer. The signature is checked against the public
// key before it is returned. The source of randomness is not used.
func (r *remote) Sign(_ io.Reader, input []byte, opts crypto.SignerOpts) ([]byte, error) {
	algorithm, verify, err := r.scheme(opts)
	if err != nil {
		return nil, fmt.Errorf("sign with %s: %w", r.uri, err)
	}
	c, err := r.program.sign(algorithm, input)
	if err != nil {
		return nil, fmt.Errorf("sign with %s: %w", r.uri, err)
	}
	sig, err := c.run(r.ctx)
	if err != nil {
		return nil, fmt.Errorf("sign with %s: %w", r.uri, err)
	}
	if !verify(input, sig) {
		return nil, fmt.Errorf("sign with %s: %s returned %d bytes that are no signature by this key", r.uri, c.path, len(sig))
	}
	return sig, nil
}

// scheme names the algorithm of the protocol and gives its verifier.
func (r *remote) scheme(opts crypto.SignerOpts) (string, func(input, sig []byte) bool, error) {
	if _, pss := opts.(*rsa.PSSOptions); pss {
		return "", nil, errors.New("RSA-PSS is not supported")
	}
	switch key := r.key.(type) {
	case *rsa.PublicKey:
		if opts.HashFunc() == crypto.SHA256 {
			return "rsa-pkcs1-sha256", func(d, s []byte) bool { return rsa.VerifyPKCS1v15(key, crypto.SHA256, d, s) == nil }, nil
		}
	case *ecdsa.PublicKey:
		if opts.HashFunc() == crypto.SHA256 {
			return "ecdsa-sha256", func(d, s []byte) bool { return ecdsa.VerifyASN1(key, d, s) }, nil
		}
	case ed25519.PublicKey:
		if opts.HashFunc() == 0 {
			return "ed25519", func(m, s []byte) bool { return ed25519.Verify(key, m, s) }, nil
		}
	}
	return "", nil, fmt.Errorf("hash %v with a %T is not supported", opts.HashFunc(), r.key)
}

// run starts the program and returns what it prints.
func (c call) run(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, programLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.path, c.args...)
	cmd.Env = append(os.Environ(), c.env...)
	cmd.Stdin = bytes.NewReader(c.stdin)
	cmd.WaitDelay = time.Second // for children that keep the pipes
	var stdout, stderr limited
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("run %s: %w", c.path, ctx.Err())
	case errors.Is(err, exec.ErrNotFound):
		return nil, &missingError{c.path, err}
	case err != nil:
		return nil, fmt.Errorf("run %s: %w%s", c.path, err, reason(stderr.kept.String()))
	case stdout.over:
		return nil, fmt.Errorf("run %s: it printed more than %d bytes", c.path, outputLimit)
	}
	return stdout.kept.Bytes(), nil
}

// missingError says that the program for tokens is not installed. (Those of
// exec: URIs have an absolute path.)
type missingError struct {
	path string
	err  error
}

func (e *missingError) Error() string { return "run " + e.path + ": " + e.err.Error() }

func (e *missingError) Unwrap() error { return e.err }

// Hint says how to get it.
func (e *missingError) Hint() string { return "install OpenSC, on Debian: apt install opensc" }

// reason is the last two lines that a program said on stderr, if any: OpenSC's
// last one is only "Aborting.".
func reason(stderr string) string {
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	if last := strings.Join(lines[max(0, len(lines)-2):], "; "); last != "" {
		return ": " + last
	}
	return ""
}

// limited keeps the first outputLimit bytes. The buffer is not embedded: its
// ReadFrom would go round Write.
type limited struct {
	kept bytes.Buffer
	over bool
}

// Write implements io.Writer; it takes everything and drops what is too much.
func (l *limited) Write(p []byte) (int, error) {
	keep := p[:min(len(p), outputLimit-l.kept.Len())]
	l.over = l.over || len(keep) < len(p)
	l.kept.Write(keep)
	return len(p), nil
}

// execKey is a key behind the protocol of the package comment.
type execKey struct{ path, key string }

func parseExec(rest string) (program, error) {
	path, query, _ := strings.Cut(rest, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, err
	}
	key := values.Get("key")
	if !filepath.IsAbs(path) || key == "" || len(values) != 1 {
		return nil, errors.New("want exec:/absolute/path?key=NAME")
	}
	return execKey{path, key}, nil
}

func (e execKey) public() call { return call{path: e.path, args: []string{"public", e.key}} }

func (e execKey) sign(algorithm string, input []byte) (call, error) {
	return call{path: e.path, args: []string{"sign", e.key, algorithm}, stdin: input}, nil
}
