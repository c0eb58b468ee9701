package build

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/ingot-os/ingot/boot"
	"github.com/ingot-os/ingot/internal/imageset"
	"github.com/ingot-os/ingot/internal/source/deb"
	"github.com/ingot-os/ingot/partition/tree"
)

// kernelCmdline is the recipe's words and then ingot's own: panic and oops end
// in a reset, because a machine that hangs cannot fall back (S6).
func (b *builder) kernelCmdline() string {
	words := append([]string{}, b.o.Recipe.Cmdline...)
	words = append(words, "panic=10", "oops=panic", "ingot.build="+b.key)
	if b.root != nil {
		words = append(words, "ingot.roothash="+b.root.hash)
	}
	return strings.Join(words, " ")
}

func (b *builder) writeUKI(ctx context.Context, st *Step) error {
	stub, err := b.stub(ctx, st)
	if err != nil {
		return err
	}
	b.draft.Manifest.Cmdline = b.kernelCmdline()
	plan, err := boot.Assemble(boot.UKI{
		Arch: b.o.Lock.Arch, Stub: stub, Kernel: b.kernel.image, Initrd: b.archive.Blob(),
		Cmdline: b.draft.Manifest.Cmdline, OSRelease: osRelease(b.o.Recipe), Uname: b.kernel.version,
	})
	if err != nil {
		return err
	}
	f, err := os.OpenFile(b.staged(".efi"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	defer f.Close()
	digest, err := writeHashed(f, plan)
	if err != nil {
		return err
	}
	st.made(digest)
	if err := f.Close(); err != nil {
		return err
	}
	if b.draft.UKI, err = imageset.NewBootFile(b.staged(".efi")); err != nil {
		return err
	}
	if err := b.draft.CheckMeasurable(); err != nil {
		return fmt.Errorf("stub %s: %w", b.stubName(), err)
	}
	return nil
}

// stub takes the systemd EFI stub out of its package, or the local file.
func (b *builder) stub(ctx context.Context, st *Step) (tree.Blob, error) {
	path, in, err := b.fetch(ctx, "stub")
	if err != nil {
		return nil, err
	}
	if b.o.Recipe.Stub.File != "" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		return newFileBlob(f)
	}
	name := boot.StubPath(b.o.Lock.Arch)
	f, err := b.cached(derived("stub", in.SHA256, name), &Step{}, func(w *os.File) error {
		return deb.Extract(path, name, w)
	})
	if err != nil {
		return nil, err
	}
	return newFileBlob(f)
}

// stubName is how the recipe, or else the lock, names the stub.
func (b *builder) stubName() string {
	if file := b.o.Recipe.Stub.File; file != "" {
		return file
	}
	in := b.o.Lock.Find("stub")
	return strings.TrimSpace(in.Package + " " + in.Version)
}

func writeHashed(f *os.File, w io.WriterTo) (string, error) {
	h := sha256.New()
	out := bufio.NewWriterSize(io.MultiWriter(f, h), 1<<20)
	if _, err := w.WriteTo(out); err != nil {
		return "", err
	}
	if err := out.Flush(); err != nil {
		return "", fmt.Errorf("write %s: %w", f.Name(), err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
