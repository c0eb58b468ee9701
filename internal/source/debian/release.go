package debian

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// Release is the verified content of an InRelease file: which index files the
// archive vouches for.
type Release struct {
	Suite    string    // "stable", "stable-security"
	Codename string    // "trixie", "trixie-security"
	Date     time.Time // when the archive wrote it
	Until    time.Time // Valid-Until; zero when the archive sets none
	ByHash   bool      // Acquire-By-Hash: index files can be had by digest
	Signer   string    // fingerprint of the key that vouched for it, upper-case hex
	Index    map[string]Index
}

// Index is one line of the SHA256 section.
type Index struct {
	SHA256 string // hex
	Size   int64  // bytes
}

// The reasons for which an InRelease is refused. Callers test with errors.Is.
var (
	ErrUnsigned   = errors.New("not a signed message")
	ErrSignature  = errors.New("signature refused")
	ErrExpired    = errors.New("expired")
	ErrWrongSuite = errors.New("another suite than asked for")
)

// ParseRelease verifies an InRelease file (a message in OpenPGP's cleartext
// signature framework, RFC 9580 section 7) and parses what was signed.
//
// One good signature by any key of keys is enough; Debian signs with the keys
// of two releases at once. now decides whether keys and Valid-Until have
// expired. The suite must be the file's Codename or Suite.
//
// The main suite of a Debian release carries no Valid-Until: an old but once
// valid file of it cannot be told from a current one.
func ParseRelease(file []byte, suite string, keys openpgp.EntityList, now time.Time) (*Release, error) {
	text, signer, err := verify(file, keys, now)
	if err != nil {
		return nil, fmt.Errorf("verify InRelease of %s: %w", suite, err)
	}
	r, err := parseRelease(text)
	if err != nil {
		return nil, fmt.Errorf("parse InRelease of %s: %w", suite, err)
	}
	r.Signer = signer
	if r.Codename != suite && r.Suite != suite {
		return nil, fmt.Errorf("check InRelease of %s: %w: it is for suite %q, codename %q", suite, ErrWrongSuite, r.Suite, r.Codename)
	}
	if !r.Until.IsZero() && now.After(r.Until) {
		return nil, fmt.Errorf("check InRelease of %s: %w: valid until %s, now it is %s", suite, ErrExpired, stampText(r.Until), stampText(now))
	}
	return r, nil
}

func stampText(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// verify returns the signed text only: whatever stands around the signed
// message in the file is refused, so that it can never be taken for signed.
func verify(file []byte, keys openpgp.EntityList, now time.Time) (text []byte, signer string, err error) {
	if !bytes.HasPrefix(file, []byte("-----BEGIN PGP SIGNED MESSAGE-----")) {
		return nil, "", ErrUnsigned
	}
	block, rest := clearsign.Decode(file)
	if block == nil || block.ArmoredSignature == nil {
		return nil, "", fmt.Errorf("%w: malformed clear-signed message", ErrUnsigned)
	}
	if len(bytes.TrimSpace(rest)) != 0 {
		return nil, "", fmt.Errorf("%w: %d bytes after the signed message", ErrSignature, len(rest))
	}
	sig, err := io.ReadAll(block.ArmoredSignature.Body)
	if err != nil {
		return nil, "", fmt.Errorf("%w: %v", ErrSignature, err)
	}
	signer, err = anySigner(keys, block.Bytes, sig, now)
	if err != nil {
		return nil, "", err
	}
	return block.Plaintext, signer, nil
}

// anySigner tries one key at a time, because the library stops at the first
// signature whose key it knows, even when that key has expired and a second
// signature is good.
func anySigner(keys openpgp.EntityList, text, sig []byte, now time.Time) (string, error) {
	config := &packet.Config{Time: func() time.Time { return now }}
	refused := fmt.Errorf("%w: made by none of the %d trusted keys", ErrSignature, len(keys))
	for _, k := range keys {
		_, err := openpgp.CheckDetachedSignature(openpgp.EntityList{k}, bytes.NewReader(text), bytes.NewReader(sig), config)
		switch {
		case err == nil:
			return fmt.Sprintf("%X", k.PrimaryKey.Fingerprint), nil
		case !errors.Is(err, pgperrors.ErrUnknownIssuer):
			refused = fmt.Errorf("%w: key %X: %v", ErrSignature, k.PrimaryKey.Fingerprint, err)
		}
	}
	return "", refused
}

// maxIndexes bounds the SHA256 section; trixie has about 3000 lines.
const maxIndexes = 100_000

func parseRelease(text []byte) (*Release, error) {
	r := &Release{Index: map[string]Index{}}
	section := ""
	in := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; in.Scan(); n++ {
		line := in.Text()
		var err error
		if strings.HasPrefix(line, " ") {
			if section == "SHA256" {
				err = r.addIndex(line)
			}
		} else if key, value, ok := strings.Cut(line, ":"); ok {
			section = key
			err = r.setField(key, strings.TrimSpace(value))
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	if err := in.Err(); err != nil {
		return nil, err
	}
	if r.Date.IsZero() {
		return nil, errors.New("field Date is missing")
	}
	return r, nil
}

func (r *Release) setField(key, value string) (err error) {
	switch key {
	case "Suite":
		r.Suite = value
	case "Codename":
		r.Codename = value
	case "Date":
		r.Date, err = parseDate(value)
	case "Valid-Until":
		r.Until, err = parseDate(value)
	case "Acquire-By-Hash":
		r.ByHash = value == "yes"
	}
	if err != nil {
		return fmt.Errorf("field %s: %w", key, err)
	}
	return nil
}

// parseDate reads the form of RFC 5322 that apt's archives write.
func parseDate(s string) (time.Time, error) {
	t, err := time.Parse("Mon, _2 Jan 2006 15:04:05 MST", s)
	if err == nil && t.Location() != time.UTC && t.Location().String() != "GMT" {
		return time.Time{}, fmt.Errorf("%q is not in UTC", s)
	}
	return t.UTC(), err
}

func (r *Release) addIndex(line string) error {
	f := strings.Fields(line)
	if len(f) != 3 || !isSHA256(f[0]) {
		return fmt.Errorf("field SHA256: %q is not \"digest size name\"", line)
	}
	size, err := strconv.ParseInt(f[1], 10, 64)
	if err != nil || size < 0 {
		return fmt.Errorf("field SHA256: size %q", f[1])
	}
	if len(r.Index) >= maxIndexes {
		return fmt.Errorf("field SHA256: more than %d files", maxIndexes)
	}
	r.Index[f[2]] = Index{SHA256: f[0], Size: size}
	return nil
}

func isSHA256(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}
