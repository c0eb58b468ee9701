package inspect

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"github.com/ingot-os/ingot/boot/authenticode"
	"github.com/ingot-os/ingot/boot/esl"
	"github.com/ingot-os/ingot/internal/keys"
	"github.com/ingot-os/ingot/internal/signing"
	"github.com/ingot-os/ingot/internal/testmark"
)

// Nothing is verified here, only shown: ingot verify judges.

// addSignatures shows who says to have signed an EFI program.
func addSignatures(n *Node, r io.ReaderAt, size int64) {
	list, err := authenticode.Signatures(r, size)
	if err != nil {
		n.add("problem", err)
	}
	for i, s := range list {
		c := n.child("authenticode", fmt.Sprint(i))
		c.add("digest", s.Digest)
		if s.Signer != nil {
			addCertificate(c, s.Signer)
		}
	}
}

func addCertificate(n *Node, c *x509.Certificate) {
	n.add("subject", c.Subject)
	n.add("issuer", c.Issuer)
	n.add("serial", fmt.Sprintf("%x", c.SerialNumber))
	n.add("valid from", c.NotBefore.UTC().Format(time.DateOnly))
	n.add("valid until", c.NotAfter.UTC().Format(time.DateOnly))
	addKey(n, c.PublicKey)
}

// addKey names a public key as key sets and envelopes do.
func addKey(n *Node, pub any) {
	n.add("type", fmt.Sprintf("%T", pub)[1:])
	if print, err := keys.Fingerprint(pub); err == nil {
		n.add("fingerprint", print)
	}
}

func readRequest(n *Node, r io.ReaderAt, size int64) error {
	data, err := readAll(r, size)
	if err != nil {
		return err
	}
	req, err := signing.ParseRequest(data)
	if err != nil {
		return err
	}
	n.add("set", req.Set)
	for _, l := range req.Lines() {
		n.child("wanted", l[0]+" "+l[1]).add("digest", l[2])
	}
	return nil
}

func readResponse(n *Node, r io.ReaderAt, size int64) error {
	data, err := readAll(r, size)
	if err != nil {
		return err
	}
	resp, err := signing.ParseResponse(data)
	if err != nil {
		return err
	}
	n.add("set", resp.Set)
	for _, b := range resp.Boot {
		c := n.child("signature", b.File)
		c.add("authenticode", b.Authenticode)
		cert, err := x509.ParseCertificate(b.Certificate)
		if err != nil {
			return err
		}
		addCertificate(c, cert)
		c.add("sig", fmt.Sprintf("%x", b.Signature))
	}
	if m := resp.Manifest; m != nil {
		c := n.child("signature", "manifest.json")
		c.add("sha256", m.SHA256)
		pub, err := x509.ParsePKIXPublicKey(m.PublicKey)
		if err != nil {
			return err
		}
		addKey(c, pub)
		c.add("sig", fmt.Sprintf("%x", m.Signature))
	}
	return nil
}

// readSignatureList shows a value of PK, KEK, db or dbx.
func readSignatureList(n *Node, r io.ReaderAt, size int64) error {
	data, err := readAll(r, size)
	if err != nil {
		return err
	}
	return addLists(n, data)
}

func addLists(n *Node, data []byte) error {
	lists, err := esl.Parse(data)
	if err != nil {
		return err
	}
	for _, l := range lists {
		for _, s := range l.Signatures {
			c := n.child("entry", fmt.Sprint(len(n.Children)))
			c.add("owner", s.Owner)
			if l.Type != esl.TypeX509 {
				c.add("list", l.Type)
				c.add("data", fmt.Sprintf("%x", s.Data))
				continue
			}
			cert, err := x509.ParseCertificate(s.Data)
			if err != nil {
				return err
			}
			addCertificate(c, cert)
		}
	}
	return nil
}

// readUpdate shows a signed update of such a variable, an .auth file.
func readUpdate(n *Node, r io.ReaderAt, size int64) error {
	data, err := readAll(r, size)
	if err != nil {
		return err
	}
	a, err := esl.ParseAuth(data)
	if err != nil {
		return err
	}
	n.add("time", a.Time.UTC().Format(time.RFC3339))
	return addLists(n, a.Data)
}

// isPEM looks for the first block, which begins the file or stands behind one line of
// text, as in public TEST keys.
func isPEM(head []byte) bool {
	begin := []byte("-----BEGIN ")
	line, rest, _ := bytes.Cut(head, []byte("\n"))
	return bytes.HasPrefix(line, begin) || len(line) < 100 && utf8.Valid(line) && bytes.HasPrefix(rest, begin)
}

// readPEM shows a certificate or a public key. Of a private key it says no more
// than that it is one.
func readPEM(n *Node, r io.ReaderAt, size int64) error {
	data, err := readAll(r, size)
	if err != nil {
		return err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return errors.New("not PEM")
	}
	n.add("pem", block.Type)
	if testmark.Any(data) {
		n.add("marked", testmark.Word)
	}
	switch block.Type {
	case "CERTIFICATE":
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return err
		}
		addCertificate(n, cert)
	case "PUBLIC KEY":
		pub, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return err
		}
		addKey(n, pub)
	}
	return nil
}

// isList looks for the type of the first EFI_SIGNATURE_LIST (UEFI 2.10 section 32.4.1).
func isList(head []byte) bool {
	return bytes.HasPrefix(head, esl.TypeX509[:]) || bytes.HasPrefix(head, esl.TypeSHA256[:])
}

// isUpdate looks for WIN_CERTIFICATE's revision 2.0 and type
// WIN_CERT_TYPE_EFI_GUID behind the EFI_TIME (section 8.2.2).
func isUpdate(head []byte) bool {
	return len(head) > 24 && bytes.Equal(head[20:24], []byte{0x00, 0x02, 0xf1, 0x0e})
}

// isDER reads a certificate of at most 8 KiB; all that ingot makes are shorter.
func isDER(head []byte) bool {
	if !bytes.HasPrefix(head, []byte{0x30, 0x82}) {
		return false
	}
	_, err := x509.ParseCertificate(head)
	return err == nil
}

func readDER(n *Node, r io.ReaderAt, size int64) error {
	data, err := readAll(r, size)
	if err != nil {
		return err
	}
	cert, err := x509.ParseCertificate(data)
	if err != nil {
		return err
	}
	addCertificate(n, cert)
	return nil
}
