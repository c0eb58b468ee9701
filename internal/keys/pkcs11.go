package keys

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// pkcs11Tool is OpenSC's program (Debian package opensc).
const pkcs11Tool = "pkcs11-tool"

// pinVariable carries the PIN to it: arguments are for all to see in /proc.
const pinVariable = "INGOT_PKCS11_PIN"

// token is a key on a PKCS #11 token, as an RFC 7512 URI names it.
type token struct {
	module, label string
	object        string // CKA_LABEL; may be empty
	id            string // CKA_ID in hex
	pin           string
}

// parsePKCS11 reads what follows "pkcs11:". The id is required: pkcs11-tool
// 0.23 ignores a label when it signs and takes the first key. A PIN in the URI itself is refused:
// URIs are in an index that is not secret. Without pin-source the PIN is the
// environment's INGOT_PKCS11_PIN.
func parsePKCS11(rest string) (program, error) {
	path, query, _ := strings.Cut(rest, "?")
	attrs, err := attributes(path, ";")
	if err != nil {
		return nil, err
	}
	options, err := attributes(query, "&")
	if err != nil {
		return nil, err
	}
	t := token{module: options["module-path"], label: attrs["token"], object: attrs["object"], id: hex.EncodeToString([]byte(attrs["id"]))}
	switch {
	case options["pin-value"] != "":
		return nil, errors.New("pin-value puts a secret into the index: use pin-source or " + pinVariable)
	case t.label == "" || t.id == "":
		return nil, errors.New("want token= and id=, as pkcs11-tool -O shows them")
	case !filepath.IsAbs(t.module):
		return nil, errors.New("want module-path= with the absolute path of the token's library")
	}
	for name := range attrs {
		if !slices.Contains([]string{"token", "object", "id", "type"}, name) {
			return nil, fmt.Errorf("attribute %s is not supported", name)
		}
	}
	for name := range options { // a misspelt pin-source would leave the PIN to the environment
		if !slices.Contains([]string{"module-path", "pin-source"}, name) {
			return nil, fmt.Errorf("option %s is not supported, only module-path and pin-source are", name)
		}
	}
	t.pin, err = readPIN(options["pin-source"])
	return t, err
}

// attributes splits name=value pairs with percent-encoded values.
func attributes(s, separator string) (map[string]string, error) {
	out := map[string]string{}
	for _, pair := range strings.Split(s, separator) {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		decoded, err := url.PathUnescape(value)
		if err != nil {
			return nil, err
		}
		if _, twice := out[name]; twice || decoded == "" {
			return nil, fmt.Errorf("attribute %q is empty or there twice", name)
		}
		out[name] = decoded
	}
	return out, nil
}

// readPIN reads the file that pin-source names, a path or a file: URI.
func readPIN(source string) (string, error) {
	if source == "" {
		return os.Getenv(pinVariable), nil
	}
	b, err := readFile(strings.TrimPrefix(strings.TrimPrefix(source, "file:"), "//"))
	if err != nil {
		return "", fmt.Errorf("read PIN: %w", err)
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}

// arguments select the token and the object.
func (t token) arguments(more ...string) []string {
	args := []string{"--module", t.module, "--token-label", t.label, "--id", t.id}
	if t.object != "" {
		args = append(args, "--label", t.object)
	}
	return append(args, more...)
}

func (t token) public() call {
	return call{path: pkcs11Tool, args: t.arguments("--read-object", "--type", "pubkey")}
}

// sha256Info is the DER of a DigestInfo up to the digest (RFC 8017 section
// 9.2, note 1): tokens sign RSA-PKCS over what they are given.
var sha256Info = []byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}

func (t token) sign(algorithm string, input []byte) (call, error) {
	c := call{path: pkcs11Tool, stdin: input}
	var mechanism []string
	switch algorithm {
	case "rsa-pkcs1-sha256":
		mechanism = []string{"--mechanism", "RSA-PKCS"}
		c.stdin = append(sha256Info[:len(sha256Info):len(sha256Info)], input...)
	case "ecdsa-sha256":
		mechanism = []string{"--mechanism", "ECDSA", "--signature-format", "openssl"}
	default:
		return c, fmt.Errorf("%s keys on a token are not supported, only RSA and P-256", algorithm)
	}
	if t.pin == "" {
		return c, errors.New("no PIN: give pin-source in the URI or " + pinVariable + " in the environment")
	}
	c.env = []string{pinVariable + "=" + t.pin}
	c.args = t.arguments(append([]string{"--login", "--pin", "env:" + pinVariable, "--sign"}, mechanism...)...)
	return c, nil
}
