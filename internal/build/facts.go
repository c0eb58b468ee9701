package build

import (
	"context"
	"encoding/json"
	"io"
	"os"

	"github.com/ingot-os/ingot/internal/lock"
	"github.com/ingot-os/ingot/internal/recipe"
	"github.com/ingot-os/ingot/internal/source"
)

func factsKey(sha string) string { return derived("kernel-facts", sha) }

// sizes are what only a build knows; they are kept for the next ingot check.
type sizes struct {
	UKI  int64 `json:"uki"`            // bytes
	Root int64 `json:"root,omitempty"` // with its hash tree
}

func sizesKey(build string) string { return derived("sizes", build) }

// checkSizes runs the static check again, now that the kernel and the size of
// the boot file are known: an image that does not fit, or that firmware could
// not load, is refused before it is written.
func (b *builder) checkSizes(context.Context, *Step) error {
	info, err := os.Stat(b.staged(".efi"))
	if err != nil {
		return err
	}
	s := sizes{UKI: info.Size()}
	if b.root != nil {
		s.Root = b.root.content.Size()
	}
	// Kept for ingot check; a cache that cannot be written is no reason to fail.
	if f, err := b.cached(sizesKey(b.key), &Step{}, func(w *os.File) error { return json.NewEncoder(w).Encode(s) }); err == nil {
		f.Close()
	}
	facts := Facts(b.o.Fetcher.Store, b.o.Lock)
	facts.UKI, facts.RootSize = s.UKI, s.Root
	return recipe.Check(b.o.Recipe, facts).Err()
}

// Facts collects for a static check what a lock and the cache know, without
// any network: nil and zero where a part has not been fetched or built yet.
func Facts(store *source.Store, l *lock.Lock) recipe.Facts {
	var facts recipe.Facts
	if l == nil {
		return facts
	}
	if in := l.Find("kernel"); in != nil {
		facts.Kernel = kernelFacts(store, in)
	}
	var s sizes
	if key, err := lockKey(l); err == nil && readDerived(store, sizesKey(key), &s) {
		facts.UKI, facts.RootSize = s.UKI, s.Root
	}
	return facts
}

// readDerived decodes a JSON entry of the cache.
func readDerived(store *source.Store, key string, v any) bool {
	sha, ok := store.Derived(key)
	if !ok {
		return false
	}
	f, err := store.Open(sha)
	if err != nil {
		return false
	}
	defer f.Close()
	return json.NewDecoder(f).Decode(v) == nil
}

// kernelFacts takes them from the cache, or reads a package that is there
// (once, two seconds); a package that is not there is not fetched.
func kernelFacts(store *source.Store, in *lock.Input) *recipe.KernelFacts {
	facts := new(recipe.KernelFacts)
	if readDerived(store, factsKey(in.SHA256), facts) {
		return facts
	}
	if in.Kind != lock.KindDeb || !store.Has(in.SHA256) {
		return nil
	}
	path, err := store.Path(in.SHA256)
	if err != nil {
		return nil
	}
	pkg := &kernelPackage{path: path}
	defer pkg.close()
	r, w := io.Pipe()
	go func() { w.CloseWithError(pkg.writeFacts(in.Package, w)) }()
	sha, _, err := store.Put(r)
	r.CloseWithError(err)
	if err != nil || store.SetDerived(factsKey(in.SHA256), sha) != nil || !readDerived(store, factsKey(in.SHA256), facts) {
		return nil
	}
	return facts
}
