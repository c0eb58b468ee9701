package lock

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ingot-os/ingot/internal/lock/local"
	"github.com/ingot-os/ingot/internal/recipe"
)

// kindLocal is a path that may be a file or a directory, until somebody looks.
const kindLocal Kind = ""

// want is an input as the recipe asks for it: the fields of an Input that are
// known before it is resolved.
type want struct {
	Input
	tags []string // go-dir
}

// wants lists the inputs of a recipe in its own order. Names are unique: what a
// recipe names twice is one input.
func wants(r *recipe.Recipe) []want {
	list := kernelWants(r)
	for _, f := range r.Firmware {
		if f.Package != "" {
			list = append(list, debWant("firmware/"+f.Package, f.Package, f.Suite))
		} else {
			list = append(list, pathWant("firmware/"+path.Clean(f.Source), kindLocal, f.Source))
		}
	}
	list = append(list, goWants(r)...)
	for _, f := range r.Files {
		switch name := "file" + path.Clean(f.Path); {
		case f.URL != "":
			list = append(list, want{Input: Input{Name: name, Kind: KindURL, Path: f.URL, SHA256: f.SHA256}})
		case f.Source != "":
			list = append(list, pathWant(name, kindLocal, f.Source))
		}
	}
	list = append(list, rootWants(r.Root)...)
	list = append(list, trustWants(r)...)
	if r.Certificates || r.Root != nil {
		list = append(list, debWant("ca-certificates", "ca-certificates", recipe.DefaultSuite))
	}
	if r.Root != nil {
		list = append(list, debWant("tzdata", "tzdata", recipe.DefaultSuite))
	}
	return unique(list)
}

func kernelWants(r *recipe.Recipe) []want {
	var list []want
	if r.Kernel.File != "" {
		list = append(list, pathWant("kernel", KindFile, r.Kernel.File))
		if r.Kernel.Modules != "" {
			list = append(list, pathWant("kernel/modules", KindDir, r.Kernel.Modules))
		}
	} else {
		list = append(list, debWant("kernel", r.Kernel.Package, r.Kernel.Suite))
	}
	loader := debWant("loader", recipe.DefaultStub, recipe.DefaultSuite)
	if r.Stub.File != "" {
		list = append(list, pathWant("stub", KindFile, r.Stub.File))
	} else {
		list = append(list, debWant("stub", r.Stub.Package, r.Stub.Suite))
		loader = debWant("loader", r.Stub.Package, r.Stub.Suite)
	}
	for _, e := range r.Boot.Entries {
		if e.Source != "" {
			list = append(list, pathWant("boot"+e.ESPPath(), KindFile, e.Source))
		}
	}
	if r.Boot.Loader == "systemd-boot" {
		list = append(list, loader) // Debian ships stub and loader in one package
	}
	return list
}

// goWants makes one input of all modules, so that they share one go.mod.
func goWants(r *recipe.Recipe) []want {
	var list []want
	var modules []string
	for _, p := range r.Go {
		if p.Local() {
			list = append(list, want{Input: Input{Name: "go/" + p.Name, Kind: KindGoDir, Path: p.Package}, tags: p.Tags})
		} else {
			modules = append(modules, p.Package)
		}
	}
	for _, c := range r.URoot {
		modules = append(modules, "u-root/"+c)
	}
	if len(modules) > 0 {
		slices.Sort(modules)
		list = append(list, want{Input: Input{
			Name: "go/modules", Kind: KindGoModule, Package: strings.Join(slices.Compact(modules), " "),
		}})
	}
	return list
}

func rootWants(r *recipe.Root) []want {
	switch {
	case r == nil:
		return nil
	case r.Directory != "":
		return []want{pathWant("root", KindDir, r.Directory)}
	case r.Tar != "":
		return []want{pathWant("root", KindFile, r.Tar)}
	}
	return []want{{Input: Input{Name: "root", Kind: KindOCI, Path: r.OCI}}}
}

// trustWants pins public keys: one directory, or files one by one.
func trustWants(r *recipe.Recipe) []want {
	if r.Trust != nil && r.Trust.Keys != "" {
		return []want{pathWant("trust", KindDir, r.Trust.Keys)}
	}
	var list []want
	for _, name := range r.TrustFiles() {
		list = append(list, pathWant("trust/"+name, KindFile, name))
	}
	return list
}

func debWant(name, pkg, suite string) want {
	return want{Input: Input{Name: name, Kind: KindDeb, Package: pkg, Suite: suite}}
}

func pathWant(name string, kind Kind, p string) want {
	return want{Input: Input{Name: name, Kind: kind, Path: p}}
}

func unique(list []want) []want {
	seen := map[string]bool{}
	return slices.DeleteFunc(list, func(w want) bool {
		double := seen[w.Name]
		seen[w.Name] = true
		return double
	})
}

// local tells inputs that are hashed in place, each time.
func (w want) local() bool {
	return w.Kind == kindLocal || w.Kind == KindFile || w.Kind == KindDir || w.Kind == KindGoDir
}

// keeps tells whether a pin still is what the recipe asks for.
func (w want) keeps(old *Input, arch string) bool {
	if w.local() || old.Kind != w.Kind {
		return false
	}
	switch w.Kind {
	case KindDeb:
		return (old.Package == w.Package || old.Via == w.Package) && old.Suite == w.Suite && (old.Arch == arch || old.Arch == "all")
	case KindURL:
		return old.Path == w.Path && old.SHA256 == w.SHA256
	case KindOCI:
		return old.Path == w.Path
	case KindGoModule:
		return old.Package == w.Package
	}
	return false
}

// hashLocal describes a local file or directory.
func hashLocal(dir string, w want) (Input, error) {
	in := w.Input
	p := resolvePath(dir, in.Path)
	info, err := os.Stat(p)
	if err != nil {
		return in, plainPathError(err)
	}
	if in.Kind == kindLocal {
		in.Kind = KindFile
		if info.IsDir() {
			in.Kind = KindDir
		}
	}
	if in.Kind == KindDir {
		in.Files, in.SHA256, err = local.HashDir(p)
		return in, err
	}
	in.SHA256, in.Size, err = local.HashFile(p)
	in.Mode = local.ModeText(info.Mode())
	return in, err
}

func resolvePath(dir, p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(dir, filepath.FromSlash(p))
}

// plainPathError drops the name of the system call.
func plainPathError(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return fmt.Errorf("%s: %w", pe.Path, pe.Err)
	}
	return err
}

func (s *resolver) resolveGoDir(ctx context.Context, w want) (Input, error) {
	in := w.Input
	if s.o.Go == nil {
		return in, errNoGo
	}
	files, err := s.o.Go.Sources(ctx, s.o.Recipe.Dir, in.Path, w.tags, s.l.Arch)
	if err != nil {
		return in, err
	}
	in.Files, in.SHA256 = files, local.ListDigest(files)
	return in, nil
}

func (s *resolver) resolveModules(ctx context.Context, w want) (Input, error) {
	in := w.Input
	if s.o.Go == nil {
		return in, errNoGo
	}
	var programs []string
	for _, p := range s.o.Recipe.Go {
		if !p.Local() {
			programs = append(programs, p.Package)
		}
	}
	var err error
	in.GoMod, in.GoSum, err = s.o.Go.Modules(ctx, s.o.Recipe.Dir, programs, s.o.Recipe.URoot)
	in.SHA256 = linesDigest(in.GoMod, in.GoSum)
	return in, err
}

// linesDigest is the sha256 in hex of the two files with a zero byte between.
func linesDigest(goMod, goSum []string) string {
	text := strings.Join(goMod, "\n") + "\x00" + strings.Join(goSum, "\n")
	h := sha256.Sum256([]byte(text))
	return hex.EncodeToString(h[:])
}
