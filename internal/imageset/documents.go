package imageset

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ingot-os/ingot/internal/provenance"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/sbom"
)

// ErrUnknownFile is wrapped by the error about a file of a loaded set that would
// be lost.
var ErrUnknownFile = errors.New("the manifest lists a file that this ingot does not make")

// WriteDocuments writes what describes the finished files: SBOM, provenance
// (which names the SBOM), manifest (which names both) and, with an authority,
// the manifest's DSSE envelope.
func (d *Draft) WriteDocuments(a Authority) error {
	if err := d.writeSBOM(); err != nil {
		return err
	}
	if err := d.writeProvenance(); err != nil {
		return err
	}
	slices.SortFunc(d.Manifest.Files, func(a, b release.File) int { return strings.Compare(a.Name, b.Name) })
	if err := d.complete(); err != nil {
		return err
	}
	manifest, err := d.Manifest.Marshal()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(d.Dir, release.ManifestName), manifest, 0o666); err != nil {
		return err
	}
	if a == nil {
		return nil
	}
	envelope, err := a.Manifest(manifest)
	if err != nil {
		return fmt.Errorf("sign %s: %w", release.ManifestName, err)
	}
	if envelope == nil {
		return nil
	}
	return os.WriteFile(filepath.Join(d.Dir, release.EnvelopeName), envelope, 0o666)
}

// complete refuses a manifest with a file that was not made: a set that another
// ingot has written may have one that this ingot knows nothing of, and it would
// be lost here.
func (d *Draft) complete() error {
	for _, f := range d.Manifest.Files {
		info, err := os.Lstat(filepath.Join(d.Dir, f.Name))
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%s: %w", f.Name, ErrUnknownFile)
		} else if err == nil && info.Size() != f.Size {
			err = fmt.Errorf("%s: it has %d bytes, the manifest says %d", f.Name, info.Size(), f.Size)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *Draft) writeSBOM() error {
	boot, err := d.boot()
	if err != nil {
		return err
	}
	inventory, err := d.Inventory(boot)
	if err != nil {
		return err
	}
	data, err := inventory.CycloneDX()
	if err == nil {
		err = d.writeFile(sbom.CycloneDXName, data)
	}
	if err != nil || !d.SPDX {
		return err
	}
	if data, err = inventory.SPDX(); err != nil {
		return err
	}
	return d.writeFile(sbom.SPDXName, data)
}

// writeProvenance names every output so far.
func (d *Draft) writeProvenance() error {
	outputs := slices.DeleteFunc(slices.Clone(d.Manifest.Files), func(f release.File) bool { return f.Name == provenance.FileName })
	s, err := d.Statement(outputs)
	if err != nil {
		return err
	}
	data, err := s.Marshal()
	if err != nil {
		return err
	}
	return d.writeFile(provenance.FileName, data)
}

// writeFile writes a small file of the set and lists it.
func (d *Draft) writeFile(name string, data []byte) error {
	if err := os.WriteFile(filepath.Join(d.Dir, name), data, 0o666); err != nil {
		return err
	}
	sum := sha256.Sum256(data)
	d.addFile(release.File{Name: name, Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:])})
	return nil
}
