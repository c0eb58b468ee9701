// Package build is the pipeline from a lock to an image set. It is the one
// place that knows all chapters: sources, initramfs, boot and partition. A
// build reads the lock and the cache only; time, ids and salts come from the
// lock, so the same lock gives the same bytes.
package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"

	"github.com/ingot-os/ingot/initramfs"
	"github.com/ingot-os/ingot/internal/imageset"
	"github.com/ingot-os/ingot/internal/initbin"
	"github.com/ingot-os/ingot/internal/lock"
	"github.com/ingot-os/ingot/internal/recipe"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/source"
	"github.com/ingot-os/ingot/partition/tree"
)

// Options say what to build and where to.
type Options struct {
	Recipe  *recipe.Recipe
	Lock    *lock.Lock
	Fetcher *source.Fetcher
	Out     string // directory that gets NAME-VERSION/
	Version string // of ingot, for the manifest
	// Authority signs; nil builds without signatures. Identity names its keys, so
	// that a set signed by others is not taken for this one.
	Authority imageset.Authority
	Identity  string
	SPDX      bool // a second SBOM, in SPDX
	Workers   int  // 0 = GOMAXPROCS; never changes a byte

	Started func(name string) // called when a step begins; may be nil
	Report  func(Step)        // called when a step has ended; may be nil
}

// Result is a finished image set.
type Result struct {
	Set       *release.Set
	Unchanged bool // the set was there already, made from the same lock
}

type builder struct {
	o     Options
	key   string          // digest of the lock
	stage *imageset.Stage // temporary directory beside the final one
	draft imageset.Draft  // the set as it grows in stage

	kernel   kernel
	init     []byte
	programs []program
	root     *rootPayload
	rootfs   *tree.Tree // initramfs content, for the manifest
	archive  *initramfs.Archive
	cleanup  []func()
}

// Build makes OUT/NAME-VERSION/. It writes into a temporary directory beside
// it and renames at the end: a failed or interrupted build leaves nothing
// under the final name, and an older set of that name stays until then. What a
// killed build left in OUT is removed by the next one. Several builds may have
// one OUT, even one final name: the last to end is the one that stays.
func Build(ctx context.Context, o Options) (*Result, error) {
	key, err := lockKey(o.Lock)
	if err != nil {
		return nil, err
	}
	b := &builder{o: o, key: key}
	b.draft.Manifest = b.head()
	warmUp(initbin.For(o.Recipe.Attest, o.Recipe.Data.Encrypt, o.Recipe.Update), o.Lock.Arch)
	if set := b.upToDate(); set != nil {
		return &Result{Set: set, Unchanged: true}, nil
	}
	if b.stage, err = imageset.NewStage(o.Out, b.stem()); err != nil {
		return nil, err
	}
	b.draft.Dir = b.stage.Dir
	defer b.stage.Remove()
	defer b.close()
	if err := b.run(ctx); err != nil {
		return nil, err
	}
	set, err := b.publish()
	if err != nil {
		return nil, err
	}
	return &Result{Set: set}, nil
}

// warmUp starts what every build waits for and what is done once per process,
// each of it 15 ms: two processors do it side by side.
func warmUp(v initbin.Variant, arch string) {
	go toolDigest()
	go initbin.Digest(v, arch)
}

// run is the whole build, in order.
func (b *builder) run(ctx context.Context) error {
	for _, s := range []struct {
		name string
		do   func(context.Context, *Step) error
	}{
		{"inputs", b.checkInputs},
		{"kernel", b.extractKernel},
		{"programs", b.buildPrograms},
		{"root", b.buildRoot},
		{"layout", b.planLayout},
		{"initramfs", b.planInitramfs},
		{"uki", b.writeUKI},
		{"check", b.checkSizes},
		{"sign", b.sign},
		{"image", b.writeImage},
		{"formats", b.writeFormats},
		{"reference", b.writeReference},
		{"documents", b.writeDocuments},
	} {
		if s.name == "formats" && len(b.o.Recipe.Outputs) == 0 {
			continue
		}
		err := b.step(s.name, b.key, func(st *Step) error { return s.do(ctx, st) })
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// toolDigest is the SHA-256 of the running program; reading 20 MB takes 15 ms, once.
var toolDigest = sync.OnceValue(func() string {
	h := sha256.New()
	// Not os.Executable: the file of that name may have been replaced since.
	f, err := os.Open("/proc/self/exe")
	if err == nil {
		_, err = io.Copy(h, f)
		f.Close()
	}
	if err != nil { // without /proc, the version of all that went into it
		info, _ := debug.ReadBuildInfo()
		fmt.Fprintln(h, runtime.Version(), info)
	}
	return hex.EncodeToString(h.Sum(nil))
})

// close lets go of what fetched trees keep open.
func (b *builder) close() {
	for _, f := range b.cleanup {
		f()
	}
}

func (b *builder) stem() string { return b.o.Lock.Name + "-" + b.o.Lock.Version }

func (b *builder) final() string { return filepath.Join(b.o.Out, b.stem()) }

func (b *builder) staged(suffix string) string { return filepath.Join(b.stage.Dir, b.stem()+suffix) }

// lockKey is the digest of a lock: what the machine reports as its build.
func lockKey(l *lock.Lock) (string, error) {
	data, err := l.Bytes()
	if err != nil {
		return "", err
	}
	return digest(data), nil
}

// derived is the cache key of a result that depends on the given words and on
// this program only. The program counts because its code decides the bytes: a
// cache filled by another version of ingot is never asked.
func derived(words ...string) string {
	h := sha256.New()
	fmt.Fprintln(h, toolDigest())
	for _, w := range words {
		fmt.Fprintf(h, "%d:%s,", len(w), w)
	}
	return hex.EncodeToString(h.Sum(nil))
}
