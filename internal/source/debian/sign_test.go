package debian_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// signTwice clear-signs a text with two keys, as Debian does around a release.
func signTwice(t *testing.T, text string, a, b *openpgp.Entity, when time.Time) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := clearsign.EncodeMulti(&out, []*packet.PrivateKey{a.PrivateKey, b.PrivateKey}, &packet.Config{Time: func() time.Time { return when }})
	if err == nil {
		_, err = w.Write([]byte(text))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
