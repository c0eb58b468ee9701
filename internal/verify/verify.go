// Package verify checks a finished image set, a raw image or the disk of a
// machine against its signed manifest, down to every byte that the manifest
// speaks of, and reports what it checked, what it did not, and what it refuses.
//
// It trusts in this order, and looks at nothing whose container was refused:
// the keys of the caller, the DSSE envelope (dsse.Policy), manifest.json byte
// for byte, then files, partition table and partitions by the digests in it,
// then what is in them: the boot file and its signature, initramfs, dm-verity
// root, SBOM, provenance, reference. The contents are read again from the partitions, so
// that a manifest that contradicts itself is found as well.
//
// A Report has codes, places and values but no sentences; those are package
// ui's. An error means that something could not be read, never that it was
// refused.
//
//	trust, err := verify.LoadTrust("keys")
//	report, err := verify.Run(ctx, verify.Options{Path: "out/hello-1.0.0", Trust: trust, Threshold: 1})
//	if report.Verdict == verify.Refused { ... report.Refusals[0].Code ... }
//
// Limits: a manifest has at most 64 MiB, an initramfs unpacks to at most
// initramfs.MaxUnpacked; everything else is read in pieces. An ISO and a block
// map are compared by digest only.
package verify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/partition"
)

// Options say what is verified, and against what.
type Options struct {
	// Path is an image set directory, a raw image, or a disk: a block device or
	// the disk file of a virtual machine.
	Path string
	// Manifest and Envelope are the files that describe Path; empty means those
	// of an image set directory, or beside the image.
	Manifest, Envelope string
	// Trust are the keys that count. Without image keys the signature of the
	// manifest is not checked: that must be wanted by Unsigned.
	Trust Trust
	// Threshold is the number of different image keys that must have signed;
	// 0 means 1.
	Threshold int
	// Environment is what the image is for; where TEST keys may not sign
	// (keys.TestMaySign) they do not count. Empty means any.
	Environment string
	Unsigned    bool
	// Disk says that the file at Path is the disk of a machine, as a block device
	// always is: it may have another size than the image, state and data may hold
	// anything, a slot another release.
	Disk bool
	// HostID is what flash --rekey derived the GUIDs of this disk from; it implies Disk.
	HostID string

	image *image // what is at Path, in tests
}

// ErrNoKeys is returned when there is no image key and Unsigned is not set.
var ErrNoKeys = errors.New("no keys to verify with")

// verifier is one run.
type verifier struct {
	ctx    context.Context
	o      Options
	report *Report

	dir      string // where manifest and files are
	manifest string // path of manifest.json
	raw      []byte // its bytes
	m        *release.Manifest
	layout   partition.Layout // by the manifest

	image *image
	parts []*partFacts        // of the image, in order
	files map[string]*setFile // of the manifest, by name

	// results of earlier checks that later ones build on
	uki   *ukiFacts
	found contents
}

// Run verifies. The error wraps ErrNoKeys, or says what could not be read; a
// refusal is in the report.
func Run(ctx context.Context, o Options) (*Report, error) {
	if len(o.Trust.Image) == 0 && !o.Unsigned {
		return nil, ErrNoKeys
	}
	v := &verifier{ctx: ctx, o: o, report: &Report{Path: o.Path}, files: map[string]*setFile{}, found: contents{}}
	defer v.close()
	if err := v.run(); err != nil {
		return nil, fmt.Errorf("verify %s: %w", o.Path, err)
	}
	v.report.finish()
	return v.report, nil
}

func (v *verifier) run() error {
	if err := v.locate(); err != nil {
		return err
	}
	trusted, err := v.checkEnvelope()
	if err != nil || !trusted {
		return err
	}
	if !v.checkManifest() {
		return nil
	}
	switch err := v.open(); {
	case errors.Is(err, errStopped):
		return nil
	case err != nil:
		return err
	}
	files, table, parts := v.begin(CheckFiles), v.begin(CheckTable), v.begin(CheckPartitions)
	if err := v.checkBytes(files, table, parts); err != nil {
		return err
	}
	if err := v.checkContents(); err != nil {
		return err
	}
	if err := v.explainFiles(files); err != nil {
		return err
	}
	return v.explainPartitions(parts)
}

// locate finds out what Path is, and where its manifest is.
func (v *verifier) locate() error {
	info, err := os.Stat(v.o.Path)
	if err != nil {
		return err
	}
	v.report.Kind = KindImage
	v.dir = filepath.Dir(v.o.Path)
	switch {
	case info.IsDir():
		v.report.Kind, v.dir = KindSet, v.o.Path
	case info.Mode()&fs.ModeDevice != 0 || v.o.Disk || v.o.HostID != "":
		v.report.Kind = KindDisk
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is neither a directory, a file nor a disk", v.o.Path)
	}
	if v.o.Manifest != "" {
		v.manifest, v.dir = v.o.Manifest, filepath.Dir(v.o.Manifest)
		if info, err := os.Stat(v.manifest); err == nil && info.IsDir() {
			v.dir, v.manifest = v.manifest, filepath.Join(v.manifest, release.ManifestName)
		}
	} else {
		v.manifest = filepath.Join(v.dir, release.ManifestName)
	}
	return nil
}

// checkBytes compares files, table and partitions with the manifest. The
// digest of the whole image is one chain and takes longest, so everything else
// runs beside it; what is refused in the image is named by the other checks.
func (v *verifier) checkBytes(files, table, parts *Check) error {
	if v.image == nil {
		table.skip(WhyNoImage)
		parts.skip(WhyNoImage)
	}
	g, ctx := errgroup.WithContext(v.ctx)
	if v.report.Kind == KindSet || v.report.Kind == KindFile {
		g.Go(func() error { return v.checkFiles(ctx, files) })
	} else {
		files.skip(WhyNoSet)
		g.Go(func() error { return v.checkDocuments(ctx) })
	}
	if v.image != nil {
		g.Go(func() error { return v.checkTable(ctx, table) })
		g.Go(func() error { return v.checkPartitions(ctx, parts) })
	}
	return g.Wait()
}

// checkContents looks into what has the right digest.
func (v *verifier) checkContents() error {
	boot, signed, ramfs := v.begin(CheckBoot), v.begin(CheckSecureBoot), v.begin(CheckInitramfs)
	root, bom, origin := v.begin(CheckRoot), v.begin(CheckSBOM), v.begin(CheckProvenance)
	measured, policies, others := v.begin(CheckReference), v.begin(CheckPolicies), v.begin(CheckContainers)
	if err := v.readVolumes(boot); err != nil {
		return err
	}
	if err := v.checkBoot(boot); err != nil {
		return err
	}
	var g errgroup.Group
	ram, payload := contents{}, contents{}
	g.Go(func() error { return v.checkSecureBoot(signed) })
	g.Go(func() error { return v.checkInitramfs(ramfs, ram) })
	g.Go(func() error { return v.checkRoot(root, payload) })
	g.Go(func() error { return v.checkProvenance(origin) })
	g.Go(func() error { return v.checkReference(measured) })
	g.Go(func() error { return v.checkPolicies(policies) })
	g.Go(func() error { return v.checkContainers(others) })
	if err := g.Wait(); err != nil {
		return err
	}
	v.found.merge(ram)
	v.found.merge(payload)
	return v.checkSBOM(bom)
}
