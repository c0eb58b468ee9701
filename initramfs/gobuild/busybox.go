package gobuild

import (
	"context"
	_ "embed" // the two files of the busybox that are our own
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/u-root/gobusybox/src/pkg/bb/bbinternal"
	"golang.org/x/mod/modfile"
)

//go:embed template/main.go.txt
var busyboxMain []byte

//go:embed template/bbmain.go.txt
var busyboxRegister []byte

const busyboxModule = "ingot.invalid/busybox"

// BusyboxJob is a set of u-root commands to compile into one program.
type BusyboxJob struct {
	Commands     []string // as given to Modules
	GoMod, GoSum []string // from Modules
	Arch         string   // amd64 or arm64
	Output       string   // file to write; its name on the machine is free
}

// Key is the SHA-256 in hex over everything that decides the bytes of the
// busybox; version is the toolchain's.
func (j *BusyboxJob) Key(version string) string {
	names := slices.Sorted(slices.Values(j.Commands))
	return digest("busybox", version, j.Arch, strings.Join(names, "\x00"), strings.Join(j.GoMod, "\n"), strings.Join(j.GoSum, "\n"), string(busyboxMain), string(busyboxRegister))
}

// Links are the names that the busybox answers to, sorted.
func (j *BusyboxJob) Links() []string {
	var names []string
	for _, c := range j.Commands {
		names = append(names, path.Base(c))
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Busybox compiles the commands into one program that behaves as the command it
// is called as, by its own name or as its first argument.
//
// gobusybox rewrites each command into a package (its mains and inits become
// functions). Where its own driver then copies everything into a GOPATH, the
// result here is a module with a vendor directory: GOPATH mode would take
// GODEBUG defaults and language versions from Go 1.20 for every package, and
// its build info would name no module. mkuimage, on top, always passes -a,
// which builds the standard library anew each time.
func (tc Toolchain) Busybox(ctx context.Context, j BusyboxJob) error {
	if err := tc.busybox(ctx, j); err != nil {
		return fmt.Errorf("compile u-root busybox: %w", err)
	}
	return nil
}

func (tc Toolchain) busybox(ctx context.Context, j BusyboxJob) error {
	if err := checkArch(j.Arch); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "ingot-bb-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := writeModule(tmp, j.GoMod, j.GoSum); err != nil {
		return err
	}
	commands, err := toolPaths(j.GoMod, j.Commands)
	if err != nil {
		return err
	}
	env := []string{"GOARCH=" + j.Arch}
	pkgs, err := tc.list(ctx, tmp, env, append([]string{"-mod=readonly"}, commands...))
	if err != nil {
		return err
	}
	dir := filepath.Join(tmp, "busybox")
	if err := generate(ctx, dir, pkgs, commands, j); err != nil {
		return err
	}
	job := Job{}
	return tc.compile(ctx, dir, env, append(job.flags(), "-mod=vendor"), ".", j.Output)
}

// toolPaths finds the import paths of commands among the tool lines of a go.mod.
func toolPaths(goMod, names []string) ([]string, error) {
	f, err := modfile.Parse("go.mod", []byte(strings.Join(goMod, "\n")), nil)
	if err != nil {
		return nil, err
	}
	var found []string
	var errs []error
	for _, n := range names {
		i := slices.IndexFunc(f.Tool, func(t *modfile.Tool) bool {
			return strings.HasPrefix(t.Path, urootPath+"/cmds/") && strings.HasSuffix("/"+t.Path, "/"+strings.TrimPrefix(n, "/"))
		})
		if i < 0 {
			errs = append(errs, fmt.Errorf("command %q is not locked", n))
			continue
		}
		found = append(found, f.Tool[i].Path)
	}
	slices.Sort(found)
	found = slices.Compact(found)
	base := map[string]string{}
	for _, p := range found {
		if other := base[path.Base(p)]; other != "" {
			errs = append(errs, fmt.Errorf("commands %s and %s have one name", other, p))
		}
		base[path.Base(p)] = p
	}
	return found, errors.Join(errs...)
}

// generate writes the module of the busybox: rewritten commands and all they
// import in vendor, and a main package that imports the commands.
func generate(ctx context.Context, dir string, pkgs []*listed, commands []string, j BusyboxJob) error {
	checked, err := typecheck(ctx, pkgs, commands, j.Arch)
	if err != nil {
		return err
	}
	for _, p := range pkgs {
		if p.Standard {
			continue
		}
		dst := filepath.Join(dir, "vendor", filepath.FromSlash(p.ImportPath))
		if c := checked[p.ImportPath]; c != nil {
			err = bbinternal.NewPackage(path.Base(p.ImportPath), c).Rewrite(dst, busyboxModule+"/bbmain")
		} else {
			err = copyPackage(dst, p)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", p.ImportPath, err)
		}
	}
	return writeBusybox(dir, pkgs, commands, j.GoMod)
}

// copyPackage copies what the compiler reads of a package.
func copyPackage(dst string, p *listed) error {
	for _, f := range p.inBuild() {
		b, err := os.ReadFile(filepath.Join(p.Dir, f))
		if err != nil {
			return err
		}
		if err := writeFile(filepath.Join(dst, f), b); err != nil {
			return err
		}
	}
	return nil
}

func writeFile(path string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o644)
}

// writeBusybox writes the main package, go.mod and the vendor list.
func writeBusybox(dir string, pkgs []*listed, commands, goMod []string) error {
	locked, err := modfile.Parse("go.mod", []byte(strings.Join(goMod, "\n")), nil)
	if err != nil {
		return err
	}
	var imports, mod, vendor strings.Builder
	imports.WriteString("package main\n\n")
	for _, c := range commands {
		fmt.Fprintf(&imports, "import _ %q\n", c)
	}
	fmt.Fprintf(&mod, "module %s\n\ngo %s\n\n", busyboxModule, locked.Go.Version)
	for _, m := range modules(pkgs) {
		fmt.Fprintf(&mod, "require %s %s\n", m.Path, m.Version)
		fmt.Fprintf(&vendor, "# %s %s\n## explicit", m.Path, m.Version)
		if m.GoVersion != "" {
			fmt.Fprintf(&vendor, "; go %s", m.GoVersion)
		}
		fmt.Fprintln(&vendor)
		for _, p := range pkgs {
			if p.Module != nil && p.Module.Path == m.Path {
				fmt.Fprintln(&vendor, p.ImportPath)
			}
		}
	}
	for name, content := range map[string]string{
		"main.go": string(busyboxMain), "imports.go": imports.String(), "bbmain/bbmain.go": string(busyboxRegister),
		"go.mod": mod.String(), "vendor/modules.txt": vendor.String(),
	} {
		if err := writeFile(filepath.Join(dir, filepath.FromSlash(name)), []byte(content)); err != nil {
			return err
		}
	}
	return nil
}

// modules lists the modules of packages, sorted by path.
func modules(pkgs []*listed) []*listedModule {
	byPath := map[string]*listedModule{}
	for _, p := range pkgs {
		if p.Module != nil {
			byPath[p.Module.Path] = p.Module
		}
	}
	var out []*listedModule
	for _, m := range byPath {
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b *listedModule) int { return strings.Compare(a.Path, b.Path) })
	return out
}
