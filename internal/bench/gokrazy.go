package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/ingot-os/ingot/internal/qemu"
)

// gokrazyTools is the packer that is measured.
const gokrazyTools = "v0.0.0-20260109180632-8ed49b4fafc7"

// gokrazyDisk is the size of its disk image in bytes.
const gokrazyDisk = 2 << 30

// gokrazy is an instance of that builder with the service of examples/hello.
type gokrazy struct {
	dir, image string
	digests    map[string]bool // of the images that it wrote
}

// benchGokrazy builds and boots the same service with gokrazy's packer and its
// own kernel for amd64.
func benchGokrazy(ctx context.Context, l *lab, r *report) error {
	name := "gokrazy (tools " + gokrazyTools + ")"
	g, err := newGokrazy(ctx, l)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.addPeer(peer{builder: name, what: "rebuild, nothing changed", note: err.Error()})
		return nil
	}
	all, err := inTurns(3, g.build(ctx), func(int) (cost, error) { return l.base.build(ctx) })
	if err != nil {
		return err
	}
	same := "the same bytes each time"
	if len(g.digests) > 1 {
		same = "other bytes each time"
	}
	r.addPeer(peer{builder: name, what: "rebuild, nothing changed", series: all[0], ours: &all[1], note: same})
	return g.boots(ctx, l, r, name)
}

func (g *gokrazy) boots(ctx context.Context, l *lab, r *report, name string) error {
	theirs, err := repeat(3, func(int) (cost, error) {
		b, err := bootOnce(ctx, qemu.Machine{Arch: qemu.AMD64, Image: g.image, TPM: true})
		return cost{wall: b.total}, err
	})
	const what = "power-on to the service answering HTTP"
	if err != nil {
		r.addPeer(peer{builder: name, what: what, note: err.Error()})
		return ctx.Err()
	}
	ours, _, err := bootSeries(ctx, l.base.set, 3, true)
	r.addPeer(peer{builder: name, what: what, series: theirs, ours: &ours, note: "the same virtual machine for both"})
	return err
}

// newGokrazy compiles the packer and makes an instance, then builds it once,
// which downloads its kernel.
func newGokrazy(ctx context.Context, l *lab) (*gokrazy, error) {
	g := &gokrazy{dir: filepath.Join(l.peerDir, "gokrazy"), image: filepath.Join(l.dir, "gokrazy.img"), digests: map[string]bool{}}
	if err := g.compile(ctx); err != nil {
		return nil, err
	}
	if err := os.RemoveAll(filepath.Join(g.dir, "service")); err != nil {
		return nil, err
	}
	if err := os.CopyFS(filepath.Join(g.dir, "service"), os.DirFS(filepath.Join(l.example, "service"))); err != nil {
		return nil, err
	}
	if err := g.instance(ctx); err != nil {
		return nil, err
	}
	_, err := g.build(ctx)(0)
	clear(g.digests)
	return g, err
}

func (g *gokrazy) compile(ctx context.Context) error {
	if err := os.MkdirAll(g.dir, 0o755); err != nil {
		return err
	}
	mod := "module peer\n\ngo 1.24\n\nrequire github.com/gokrazy/tools " + gokrazyTools + "\n"
	if err := os.WriteFile(filepath.Join(g.dir, "go.mod"), []byte(mod), 0o644); err != nil {
		return err
	}
	_, err := job{dir: g.dir, env: []string{"GOFLAGS=-mod=mod", "CGO_ENABLED=0"},
		args: []string{"go", "build", "-o", "gok", "github.com/gokrazy/tools/cmd/gok"}}.do(ctx)
	return err
}

func (g *gokrazy) gok(ctx context.Context, args ...string) (cost, error) {
	return job{dir: g.dir, args: append([]string{filepath.Join(g.dir, "gok"), "--parent_dir", g.dir, "-i", "instance"}, args...)}.do(ctx)
}

// instance makes a configuration for amd64 with a serial console and adds the service.
func (g *gokrazy) instance(ctx context.Context) error {
	dir := filepath.Join(g.dir, "instance")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	const kernel = "github.com/gokrazy/kernel.amd64"
	config, err := json.Marshal(map[string]any{
		"Hostname": "hello", "Update": map[string]string{"HTTPPassword": "benchmark"},
		"Environment": []string{"GOOS=linux", "GOARCH=amd64"}, "Packages": []string{},
		"SerialConsole": "ttyS0,115200", "KernelPackage": kernel, "FirmwarePackage": kernel, "EEPROMPackage": "",
		"InternalCompatibilityFlags": map[string]any{},
	})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), config, 0o644); err != nil {
		return err
	}
	_, err = g.gok(ctx, "add", filepath.Join(g.dir, "service"))
	return err
}

// build writes the whole disk image over the one before.
func (g *gokrazy) build(ctx context.Context) func(int) (cost, error) {
	return func(int) (cost, error) {
		c, err := g.gok(ctx, "overwrite", "--full="+g.image, fmt.Sprintf("--target_storage_bytes=%d", gokrazyDisk), "--sudo", "never")
		if err != nil {
			return c, err
		}
		sum, err := digestOf(g.image)
		g.digests[sum] = true
		return c, err
	}
}

func digestOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return strings.ToLower(fmt.Sprintf("%x", h.Sum(nil))), err
}
