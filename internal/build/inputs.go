package build

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/ingot-os/ingot/initramfs/gobuild"
	"github.com/ingot-os/ingot/internal/initbin"
	"github.com/ingot-os/ingot/internal/lock"
	"github.com/ingot-os/ingot/internal/recipe"
)

// checkInputs compares everything local with the lock and the tool with the
// revision that the lock pins, before any work is done.
func (b *builder) checkInputs(context.Context, *Step) error {
	l := b.o.Lock
	if l.Ingot.Format != lock.ImageFormat {
		return &hintError{fmt.Errorf("the lock pins image format %d, this ingot writes %d", l.Ingot.Format, lock.ImageFormat), "ingot lock --update ingot"}
	}
	variant := initbin.For(b.o.Recipe.Attest, b.o.Recipe.Data.Encrypt, b.o.Recipe.Update)
	digest, err := initbin.Digest(variant, l.Arch)
	if err != nil {
		return err
	}
	if digest != l.Ingot.Init {
		return &hintError{fmt.Errorf("the lock pins %s %s, this ingot carries %s", variant, short(l.Ingot.Init), short(digest)), "ingot lock --update ingot"}
	}
	if b.init, err = initbin.Open(variant, l.Arch); err != nil {
		return err
	}
	if err := lock.Verify(l, b.o.Recipe); err != nil {
		return err
	}
	if err := b.checkUnlisted(); err != nil {
		return err
	}
	return recipe.Check(b.o.Recipe, recipe.Facts{Now: time.Unix(l.Epoch, 0)}).Err()
}

// checkUnlisted finds Go files that came after the lock was written: a build
// would not see them, which nobody expects.
func (b *builder) checkUnlisted() error {
	for _, p := range b.o.Recipe.Go {
		in := b.o.Lock.Find("go/" + p.Name)
		if !p.Local() || in == nil {
			continue
		}
		extra, err := gobuild.Unlisted(b.o.Recipe.Dir, in.Files)
		if err != nil {
			return err
		}
		if len(extra) > 0 {
			return &hintError{fmt.Errorf("input go/%s: %s came after the lock", p.Name, strings.Join(extra, ", ")), "ingot lock"}
		}
	}
	return nil
}

// hintError is an error that knows what to do next; the CLI prints its Hint.
type hintError struct {
	error
	hint string
}

// Hint says what to type next.
func (e *hintError) Hint() string { return e.hint }

// Unwrap gives the cause.
func (e *hintError) Unwrap() error { return e.error }

func notLocked(name string) error {
	return &hintError{fmt.Errorf("input %s is not in the lock", name), "ingot lock"}
}

func short(digest string) string { return digest[:min(12, len(digest))] }

// fetch brings one locked input into the cache and returns its path there.
func (b *builder) fetch(ctx context.Context, name string) (string, *lock.Input, error) {
	in := b.o.Lock.Find(name)
	if in == nil {
		return "", nil, notLocked(name)
	}
	path, err := b.o.Fetcher.Fetch(ctx, *in, b.o.Recipe.Dir)
	if err != nil {
		return "", nil, err // says which input
	}
	return path, in, nil
}

// cached returns the store's file for a derived key, or runs make to write it.
func (b *builder) cached(key string, st *Step, make func(*os.File) error) (*os.File, error) {
	store := b.o.Fetcher.Store
	if sha, ok := store.Derived(key); ok {
		if f, err := store.Open(sha); err == nil {
			st.Cached, st.Out = true, sha
			return f, nil
		}
	}
	sha, err := b.put(make)
	if err != nil {
		return nil, err
	}
	if err := store.SetDerived(key, sha); err != nil {
		return nil, err
	}
	st.Out = sha
	return store.Open(sha)
}

// put runs make and stores what it wrote.
func (b *builder) put(make func(*os.File) error) (sha string, err error) {
	tmp, err := os.CreateTemp(b.stage.Dir, "make-")
	if err != nil {
		return "", err
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	if err := make(tmp); err != nil {
		return "", err
	}
	if _, err := tmp.Seek(0, 0); err != nil {
		return "", err
	}
	sha, _, err = b.o.Fetcher.Store.Put(tmp)
	return sha, err
}
