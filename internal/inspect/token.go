package inspect

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
)

// isToken knows a JWT by how its header begins: {" in base64url.
func isToken(head []byte) bool {
	return bytes.HasPrefix(head, []byte("eyJ")) && bytes.Count(head[:min(len(head), 1<<10)], []byte(".")) > 0
}

// readToken shows a JWT in compact form (RFC 7515 section 7.1): header, claims
// and signature.
func readToken(n *Node, r io.ReaderAt, size int64) error {
	data, err := readAll(r, size)
	if err != nil {
		return err
	}
	parts := bytes.SplitN(bytes.TrimSpace(data), []byte("."), 4)
	if len(parts) != 3 {
		return errors.New("parse token: want three parts with dots between them")
	}
	var plain [3][]byte
	for i, name := range []string{"header", "claims", "signature"} {
		if plain[i], err = base64.RawURLEncoding.AppendDecode(nil, parts[i]); err != nil {
			return fmt.Errorf("parse token: %s: %w", name, err)
		}
	}
	for i, name := range []string{"header", "claims"} {
		if err := addJSON(n.child(name, name), bytes.NewReader(plain[i])); err != nil {
			return fmt.Errorf("parse token: %s: %w", name, err)
		}
	}
	n.child("signature", "0").add("sig", fmt.Sprintf("%x", plain[2]))
	return nil
}
