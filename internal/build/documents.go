package build

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/ingot-os/ingot/internal/imageset"
	"github.com/ingot-os/ingot/internal/provenance"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/sbom"
	"github.com/ingot-os/ingot/partition"
	"github.com/ingot-os/ingot/partition/tree"
)

// head is what the manifest says before anything is built.
func (b *builder) head() release.Manifest {
	l := b.o.Lock
	m := release.Manifest{Format: release.Format, Name: l.Name, Version: l.Version, Arch: l.Arch, Epoch: l.Epoch, Build: b.key}
	m.SecurityEpoch = b.o.Recipe.SecurityEpoch
	m.DataSchema, m.DataAccepts = b.o.Recipe.Data.Schema, b.o.Recipe.Data.Accepts
	m.Tools = release.Tools{Ingot: b.o.Version, Init: l.Ingot.Init, Go: l.Go}
	for _, in := range l.Inputs {
		m.Inputs = append(m.Inputs, release.Input{Name: in.Name, Version: in.Version, SHA256: in.SHA256})
	}
	return m
}

// writeReference writes what a boot of the set will measure.
func (b *builder) writeReference(_ context.Context, st *Step) error {
	if err := b.draft.WriteReference(); err != nil {
		return err
	}
	files := b.draft.Manifest.Files
	st.made(files[len(files)-1].SHA256)
	return nil
}

// writeDocuments writes SBOM, provenance, manifest and its signature.
func (b *builder) writeDocuments(_ context.Context, st *Step) error {
	d := &b.draft
	d.SPDX = b.o.SPDX
	d.Inventory = b.inventory
	d.Statement = func(outputs []release.File) (*provenance.Statement, error) {
		return provenance.New(provenance.Input{Manifest: &d.Manifest, Lock: b.o.Lock, Outputs: outputs}), nil
	}
	if err := d.WriteDocuments(b.o.Authority); err != nil {
		return err
	}
	manifest, err := os.ReadFile(filepath.Join(d.Dir, release.ManifestName))
	st.made(digest(manifest))
	return err
}

// inventory lists every file of the set with its origin.
func (b *builder) inventory(boot []sbom.Content) (*sbom.Inventory, error) {
	files, err := imageset.Contents(sbom.Initramfs, b.rootfs)
	if err != nil {
		return nil, err
	}
	sections, err := b.sections()
	if err != nil {
		return nil, err
	}
	files = append(append(files, sections...), boot...)
	programs, err := programsIn(b.rootfs)
	if err != nil {
		return nil, err
	}
	if b.root != nil {
		for _, role := range []string{partition.RootA, partition.RootB} {
			for _, f := range b.root.files {
				f.Partition = role
				files = append(files, f)
			}
		}
		for sha, info := range b.root.programs {
			programs[sha] = info
		}
	}
	return sbom.Collect(sbom.Input{Manifest: &b.draft.Manifest, Lock: b.o.Lock, Contents: files, Programs: programs})
}

// sections lists what the UKI is made of. Sections that ingot did not put
// there are the stub's own.
func (b *builder) sections() ([]sbom.Content, error) {
	f, err := os.Open(b.staged(".efi"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	origins := map[string]string{".linux": "kernel"}
	for _, name := range []string{".osrel", ".cmdline", ".uname", ".initrd"} {
		origins[name] = sbom.OriginGenerated
	}
	t := new(tree.Tree)
	for _, s := range b.draft.Manifest.Sections {
		origin := origins[s.Name]
		if origin == "" {
			origin = "stub"
		}
		content := tree.Section{R: io.NewSectionReader(f, s.Offset, s.Size), N: s.Size}
		if err := t.Add(tree.Node{Path: s.Name, Mode: 0o644, Content: content, Origin: origin}); err != nil {
			return nil, fmt.Errorf("list sections of the UKI: %w", err)
		}
	}
	return imageset.Contents("uki", t)
}

// programsIn reads the build information of all Go programs of a tree, by the
// SHA-256 of the file.
func programsIn(t *tree.Tree) (map[string]*buildinfo.BuildInfo, error) {
	found := map[string]*buildinfo.BuildInfo{}
	for _, n := range t.Nodes() {
		if !n.Mode.IsRegular() || n.Content == nil || n.Mode&0o111 == 0 {
			continue
		}
		info, err := programIn(n.Content)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", n.Path, err)
		}
		if info == nil {
			continue
		}
		sum, err := blobDigest(n.Content)
		if err != nil {
			return nil, err
		}
		found[sum] = info
	}
	return found, nil
}

// programIn is the build information of one file; nil for what is no Go program.
func programIn(b tree.Blob) (*buildinfo.BuildInfo, error) {
	r, err := readerAt(b)
	if err != nil {
		return nil, err
	}
	info, _ := sbom.ReadProgram(r)
	return info, nil
}

// readerAt gives random access to a file. What is neither in memory nor a part
// of an open file is read, unless its first bytes say that it is no program.
func readerAt(b tree.Blob) (io.ReaderAt, error) {
	switch b := b.(type) {
	case tree.Bytes:
		return bytes.NewReader(b), nil
	case tree.Section:
		return io.NewSectionReader(b.R, b.Off, b.N), nil
	}
	r, err := b.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var file bytes.Buffer
	if _, err := io.CopyN(&file, r, 4); err != nil || file.String() != "\x7fELF" {
		return bytes.NewReader(nil), nil
	}
	_, err = io.Copy(&file, r)
	return bytes.NewReader(file.Bytes()), err
}
