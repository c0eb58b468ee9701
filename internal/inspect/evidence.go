package inspect

import (
	"bytes"
	"fmt"
	"io"

	"github.com/ingot-os/ingot/internal/dsse"
	"github.com/ingot-os/ingot/internal/sbom"
)

// readSBOM lists components, and below each the files that belong to it.
func readSBOM(n *Node, r io.ReaderAt, size int64) error {
	data, err := readAll(r, size)
	if err != nil {
		return err
	}
	v, err := sbom.Parse(data)
	if err != nil {
		return err
	}
	n.add("name", v.Name)
	n.add("version", v.Version)
	n.add("build", v.Build)
	for i := range v.Components {
		c := &v.Components[i]
		m := n.child("component", c.Ref)
		m.add("purl", c.PURL)
		m.add("source", c.Source)
		m.add("sha256", c.SHA256)
		for _, f := range c.Files {
			e := m.child("file", f.Partition+":"+f.Path)
			e.add("size", f.Size)
			e.add("sha256", f.SHA256)
		}
	}
	return nil
}

// readStatement shows a JSON document as one field for each value.
func readStatement(n *Node, r io.ReaderAt, size int64) error {
	data, err := readAll(r, size)
	if err != nil {
		return err
	}
	if err := addJSON(n, bytes.NewReader(data)); err != nil {
		return fmt.Errorf("parse statement: %w", err)
	}
	return nil
}

// readEnvelope shows who says to have signed, and what was signed. Nothing is
// verified: that is for ingot verify.
func readEnvelope(n *Node, r io.ReaderAt, size int64) error {
	data, err := readAll(r, size)
	if err != nil {
		return err
	}
	e, err := dsse.Parse(data)
	if err != nil {
		return err
	}
	n.add("type", e.Type)
	for i, s := range e.Signatures {
		c := n.child("signature", fmt.Sprint(i))
		c.add("keyid", s.KeyID)
		c.add("sig", fmt.Sprintf("%x", s.Sig))
	}
	payload, err := Reader(bytes.NewReader(e.Payload), int64(len(e.Payload)), "payload")
	if err == nil {
		n.Children = append(n.Children, payload)
	}
	return err
}
