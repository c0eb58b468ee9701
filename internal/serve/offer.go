package serve

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ingot-os/ingot/internal/bootfiles"
	"github.com/ingot-os/ingot/internal/bootrule"
	"github.com/ingot-os/ingot/internal/chain"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/verifier"
	"github.com/ingot-os/ingot/pxe/netboot"
)

// offer is the releases that can be booted.
type offer struct {
	catalog *verifier.Catalog // that it is of
	list    []bootrule.Release
	sets    map[string]*bootable // by digest of the manifest
}

// bootable is a release with all that is served of it.
type bootable struct {
	bootfiles.Set
	stem   string
	arch   string       // GOARCH
	digest string       // of the manifest
	parts  *chain.Parts // for a BIOS, and scripts of iPXE
	whole  error        // why it has no parts
}

// unchained is why iPXE cannot be told to load the release on that firmware; nil: it
// can.
func (b *bootable) unchained(a netboot.Arch) (err error) {
	switch {
	case b == nil:
		return nil // it has gone meanwhile, which is found when its files are asked for
	case b.parts == nil:
		return b.whole
	}
	_, err = b.parts.ScriptFor(a)
	return err
}

// check looks at the files of what a catalog has. A release whose files are not those
// of its manifest is refused in the catalog, and the others go on; so it is done before
// anybody else has the catalog.
func (t *site) check(ctx context.Context, c *verifier.Catalog) (*offer, error) {
	o := &offer{catalog: c, sets: map[string]*bootable{}}
	for _, r := range c.Releases {
		b, err := t.bootable(ctx, r)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			c.Refused = append(c.Refused, verifier.NewRefused(r.Dir, fmt.Errorf("it cannot be booted from here: %w", err)))
			continue
		}
		o.list = append(o.list, bootrule.Release{Digest: r.Digest, Name: r.Name, Version: r.Version, Arch: r.Arch, Epoch: r.Epoch})
		o.sets[r.Digest] = b
	}
	return o, nil
}

// use serves an offer from now on.
func (t *site) use(ctx context.Context, o *offer) error {
	var kept []bootfiles.Set
	for _, b := range o.sets {
		kept = append(kept, b.Set)
	}
	t.catalog = o.catalog
	t.offered.Store(o)
	t.files.Retain(kept)
	t.metrics.releases.WithLabelValues("loaded").Set(float64(len(o.list)))
	t.metrics.releases.WithLabelValues("refused").Set(float64(len(o.catalog.Refused)))
	if t.c.Load().Rules == "" && t.ruled.Load() != nil {
		return t.loadRules(ctx) // without rules and default, the only appliance is it
	}
	return nil
}

// bootable checks each byte of a release, and finds what a BIOS needs of it.
func (t *site) bootable(ctx context.Context, r verifier.Release) (*bootable, error) {
	if err := t.files.Check(ctx, r.Boot); err != nil {
		return nil, err
	}
	b := &bootable{Set: r.Boot, stem: r.Name + "-" + r.Version, arch: r.Arch, digest: r.Digest}
	m, err := manifest(r)
	if err != nil {
		return nil, err
	}
	uki, err := t.files.Open(ctx, r.Boot.UKI)
	if err != nil {
		return nil, err
	}
	defer uki.Close()
	// What iPXE cannot be told still boots without it.
	b.parts, b.whole = chain.Split(uki, uki.Size(), m, r.Digest)
	return b, nil
}

// manifest reads the manifest that the catalog has believed.
func manifest(r verifier.Release) (*release.Manifest, error) {
	set, err := release.Open(r.Dir)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(filepath.Join(r.Dir, release.ManifestName))
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != r.Digest {
		return nil, fmt.Errorf("%s was changed meanwhile", filepath.Join(r.Dir, release.ManifestName))
	}
	return set.Manifest, nil
}
