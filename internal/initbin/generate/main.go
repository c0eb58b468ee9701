// The generate program compiles each variant of ingot-init for amd64 and arm64
// and stores the results, compressed, where package initbin embeds them. It does
// nothing for a program whose sources, toolchain and result are as it left them.
//
//	go run ./internal/initbin/generate
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"github.com/ingot-os/ingot/initramfs/gobuild"
	"github.com/ingot-os/ingot/internal/initbin"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, "."); err != nil {
		fmt.Fprintln(os.Stderr, "ingot: build ingot-init:", err)
		os.Exit(1)
	}
}

// run works in the module that holds dir.
func run(ctx context.Context, dir string) error {
	root, err := moduleRoot(dir)
	if err != nil {
		return err
	}
	tc, err := gobuild.Find()
	if err != nil {
		return err
	}
	version, err := tc.Version(ctx)
	if err != nil {
		return err
	}
	out := filepath.Join(root, "internal", "initbin", "bin")
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	var g errgroup.Group
	for _, v := range initbin.Variants {
		for _, arch := range initbin.Arches {
			g.Go(func() error {
				base := filepath.Join(out, fmt.Sprintf("%s-%s", v, arch))
				return generate(ctx, tc, version, root, base, "./cmd/"+string(v), arch)
			})
		}
	}
	return g.Wait()
}

func moduleRoot(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "go.mod")); err == nil {
			return d, nil
		}
		if d == filepath.Dir(d) {
			return "", errors.New("no go.mod above " + dir)
		}
	}
}

// generate writes base.zst, unless base.key says that it would not change.
func generate(ctx context.Context, tc gobuild.Toolchain, version, root, base, pkg, arch string) error {
	job := gobuild.Job{Dir: root, Package: pkg, Arch: arch, Small: true, Output: hidden(base)}
	var err error
	if job.Files, err = tc.Sources(ctx, root, job.Package, nil, arch); err != nil {
		return err
	}
	key := job.Key(version)
	if stamp(base, key) == read(base+".key") {
		return nil
	}
	defer os.Remove(job.Output)
	if err := tc.Build(ctx, job); err != nil {
		return err
	}
	if err := compress(job.Output, base+".zst"); err != nil {
		return err
	}
	return os.WriteFile(base+".key", []byte(stamp(base, key)), 0o644)
}

// stamp ties a key to the bytes that it led to.
func stamp(base, key string) string {
	sum := sha256.Sum256([]byte(read(base + ".zst")))
	return key + " " + hex.EncodeToString(sum[:]) + "\n"
}

func read(path string) string {
	b, _ := os.ReadFile(path) // missing is as good as other content
	return string(b)
}

// compress packs the whole file at once with one encoder, so its bytes do not
// depend on how many processors there are.
func compress(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedBestCompression))
	if err != nil {
		return err
	}
	defer enc.Close()
	tmp := hidden(to)
	if err := os.WriteFile(tmp, enc.EncodeAll(b, nil), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, to)
}

// hidden is a temporary name beside a file. It begins with a dot, so that it is
// not embedded: a compiler that runs meanwhile would miss it a moment later.
func hidden(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".tmp")
}
