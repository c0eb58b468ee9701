package debian

import (
	"bytes"
	_ "embed"
	"fmt"
	"sync"

	"github.com/ProtonMail/go-crypto/openpgp"
)

//go:embed keyring/debian.pgp
var keyringBytes []byte

var keyring = sync.OnceValues(func() (openpgp.EntityList, error) {
	keys, err := openpgp.ReadKeyRing(bytes.NewReader(keyringBytes))
	if err != nil {
		return nil, fmt.Errorf("read embedded archive keyring: %w", err)
	}
	return keys, nil
})

// Keyring returns the embedded keys of the Debian 12 and 13 archives; see
// keyring/README.md for their origin. The host's keyring is never consulted.
func Keyring() (openpgp.EntityList, error) { return keyring() }
