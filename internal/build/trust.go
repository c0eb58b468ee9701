package build

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/ingot-os/ingot/internal/source/deb"
	"github.com/ingot-os/ingot/partition/tree"
)

// caBundle is where programs on Linux, Go's crypto/x509 among them, look first.
const caBundle = "etc/ssl/certs/ca-certificates.crt"

// trustSegment holds certificate authorities and time zones out of Debian
// packages (S20). ingot-init shows them to a root payload that has none.
func (b *builder) trustSegment(ctx context.Context) (*tree.Tree, error) {
	t := new(tree.Tree)
	if b.o.Lock.Find("ca-certificates") != nil {
		if err := b.addCertificates(ctx, t); err != nil {
			return nil, err
		}
	}
	if b.o.Lock.Find("tzdata") == nil {
		return t, nil
	}
	pkg, in, err := b.fetch(ctx, "tzdata")
	if err != nil {
		return nil, err
	}
	zones, cleanup, err := deb.Tree(pkg, "usr/share/zoneinfo")
	if err != nil {
		return nil, err
	}
	b.cleanup = append(b.cleanup, cleanup)
	comesFrom(zones, in.Name)
	return t, t.Merge(zones)
}

// addCertificates joins the package's certificates, in order of their names,
// into one file: what its maintainer script does on a Debian system. A recipe
// that brings a bundle of its own keeps it.
func (b *builder) addCertificates(ctx context.Context, t *tree.Tree) error {
	for _, f := range b.o.Recipe.Files {
		if path.Clean(f.Path) == "/"+caBundle {
			return nil
		}
	}
	pkg, in, err := b.fetch(ctx, "ca-certificates")
	if err != nil {
		return err
	}
	bundle, err := b.cached(derived("ca-bundle", in.SHA256), &Step{}, func(w *os.File) error { return joinCertificates(pkg, w) })
	if err != nil {
		return err
	}
	content, err := newFileBlob(bundle)
	if err != nil {
		return err
	}
	return t.Add(tree.Node{Path: caBundle, Mode: 0o444, Content: content, Origin: in.Name})
}

func joinCertificates(pkg string, w io.Writer) error {
	certs, cleanup, err := deb.Tree(pkg, "usr/share/ca-certificates")
	if err != nil {
		return err
	}
	defer cleanup()
	n := 0
	for _, c := range certs.Nodes() {
		if !strings.HasSuffix(c.Path, ".crt") || !c.Mode.IsRegular() {
			continue
		}
		var pem bytes.Buffer
		if _, err := (blobWriter{c.Content}).WriteTo(&pem); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "%s\n", bytes.TrimSpace(pem.Bytes())); err != nil {
			return err
		}
		n++
	}
	if n == 0 {
		return fmt.Errorf("read ca-certificates: no .crt file in the package")
	}
	return nil
}
