// Package buildtest makes small appliances for tests of whole builds: a recipe
// directory with a kernel, a stub and modules of a few hundred bytes, which pass
// for real ones as far as a build looks, and packages that lie in a vendor
// bundle. Nothing is downloaded and nothing compiled, so a build takes a fifth
// of a second. Such an image does not boot.
//
//	a := buildtest.New(t, "cmdline: [quiet]\n")
//	r, l, f := a.Locked()
//	res, err := build.Build(ctx, build.Options{Recipe: r, Lock: l, Fetcher: f, Out: a.Out})
package buildtest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/initbin"
	"github.com/ingot-os/ingot/internal/lock"
	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/internal/recipe"
	"github.com/ingot-os/ingot/internal/source"
	"github.com/ingot-os/ingot/internal/source/debian/debiantest"
)

// head starts every recipe of these tests, with a %s for more disk keys:
// nothing to download, nothing to compile, and the smallest disk that FAT32
// allows.
const head = `name: tiny
version: 1.0.0
epoch: "2026-01-02T03:04:05Z"
kernel: {file: ./vmlinuz}
stub: {file: ./stub.efi}
disk: {esp: 36M, slot: 36M%s}
data: {disabled: true}
`

// Appliance is a recipe directory with a cache, a vendor bundle and a place
// for images, all of them temporary.
type Appliance struct {
	Dir, Cache, Out, Vendor string

	tb   testing.TB
	pins lock.Lock // what a root payload takes out of Debian
}

// New makes an appliance; more is appended to a recipe
// with name, version, epoch, kernel, stub and a small disk. The test is skipped when
// it carries no ingot-init.
func New(tb testing.TB, more string) *Appliance {
	tb.Helper()
	if _, err := initbin.Digest(initbin.Plain, "amd64"); err != nil {
		oracle.Missing(tb, "%v", err)
	}
	root := tb.TempDir()
	a := &Appliance{
		Dir: filepath.Join(root, "recipe"), Cache: filepath.Join(root, "cache"), Out: filepath.Join(root, "out"),
		Vendor: filepath.Join(root, "vendor"), tb: tb,
	}
	a.pins.Arch = "amd64"
	a.vendored("ca-certificates", map[string]string{"usr/share/ca-certificates/test.crt": "-----BEGIN CERTIFICATE-----\n"})
	a.vendored("tzdata", map[string]string{"usr/share/zoneinfo/UTC": "TZif2"})
	a.File("vmlinuz", string(Kernel()), 0o644)
	a.File("stub.efi", string(Stub(tb)), 0o644)
	a.Recipe(more)
	return a
}

// vendored makes a package, pins it and puts it into the vendor bundle.
func (a *Appliance) vendored(name string, files map[string]string) {
	a.tb.Helper()
	deb := debiantest.Deb(a.tb, debiantest.Package{Name: name, Version: "1-1", Arch: "all", Files: files})
	sum := sha256.Sum256(deb)
	sha := hex.EncodeToString(sum[:])
	a.pins.Inputs = append(a.pins.Inputs, lock.Input{
		Name: name, Kind: lock.KindDeb, SHA256: sha, Size: int64(len(deb)), Package: name, Version: "1-1", Arch: "all",
		Suite: recipe.DefaultSuite, Pocket: "main", Path: "pool/" + name + ".deb",
	})
	path := source.VendorPath(a.Vendor, sha)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, deb, 0o644)); err != nil {
		a.tb.Fatal(err)
	}
}

// Recipe writes appliance.yaml anew; a root payload gets its partitions.
func (a *Appliance) Recipe(more string) {
	a.tb.Helper()
	root := ""
	if strings.Contains("\n"+more, "\nroot:") {
		root = ", root: 4M"
	}
	a.File("appliance.yaml", fmt.Sprintf(head, root)+more, 0o644)
}

// File writes a file of the recipe directory, with exactly this mode.
func (a *Appliance) File(name, content string, mode os.FileMode) {
	a.tb.Helper()
	path := filepath.Join(a.Dir, name)
	os.Remove(path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), mode), os.Chmod(path, mode)); err != nil {
		a.tb.Fatal(err)
	}
}

// Locked reads the recipe and resolves it, both as the directory is now.
func (a *Appliance) Locked() (*recipe.Recipe, *lock.Lock, *source.Fetcher) {
	a.tb.Helper()
	r, err := recipe.Load(filepath.Join(a.Dir, "appliance.yaml"))
	if err != nil {
		a.tb.Fatal(err)
	}
	digest, err := initbin.Digest(initbin.For(r.Attest, r.Data.Encrypt, r.Update), r.Arch)
	if err != nil {
		a.tb.Fatal(err)
	}
	f := a.Fetcher(a.Cache)
	l, err := lock.Resolve(context.Background(), lock.Options{Recipe: r, Old: &a.pins, Fetcher: f, Init: digest})
	if err != nil {
		a.tb.Fatal(err)
	}
	return r, l, f
}

// Fetcher fetches from the vendor bundle into a cache.
func (a *Appliance) Fetcher(cache string) *source.Fetcher {
	a.tb.Helper()
	f, err := source.New(source.Options{Store: &source.Store{Dir: cache}, Vendor: a.Vendor, Offline: true})
	if err != nil {
		a.tb.Fatal(err)
	}
	return f
}
