package gobuild

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
)

// listed is what go list -json says of a package, as far as it matters here.
type listed struct {
	Dir, ImportPath, Name string
	Standard              bool
	Module                *listedModule

	GoFiles, IgnoredGoFiles, HFiles, SFiles, SysoFiles, EmbedFiles []string

	ImportMap map[string]string
	Imports   []string
	Error     *struct{ Err string }
}

type listedModule struct {
	Path, Version, GoMod, GoVersion, Dir string
	Main                                 bool
	Replace                              *listedModule
}

// inBuild are the files that the compiler, assembler or linker reads.
func (l *listed) inBuild() []string {
	return slices.Concat(l.GoFiles, l.HFiles, l.SFiles, l.SysoFiles, l.EmbedFiles)
}

// list runs go list -deps on pkg in dir.
func (tc Toolchain) list(ctx context.Context, dir string, env, args []string) ([]*listed, error) {
	out, err := tc.run(ctx, dir, env, append([]string{"list", "-deps", "-json=Dir,ImportPath,Name,Standard,Module,GoFiles,IgnoredGoFiles,HFiles,SFiles,SysoFiles,EmbedFiles,ImportMap,Imports,Error"}, args...)...)
	if err != nil {
		return nil, err
	}
	var all []*listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		l := &listed{}
		err := dec.Decode(l)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read go list: %w", err)
		}
		if l.Error != nil {
			return nil, errors.New(l.Error.Err)
		}
		all = append(all, l)
	}
}

// Sources lists every local file that the program pkg ("./hello", relative to
// dir) is built from, with its SHA-256 in hex: Go files, also those that build
// constraints leave out, assembly, embedded files, go.mod, go.sum, go.work and
// the vendor list. Keys are paths relative to dir with slashes; files of
// modules beside dir start with "../". The standard library and the module
// cache are not listed: the toolchain's version and go.sum pin them.
func (tc Toolchain) Sources(ctx context.Context, dir, pkg string, tags []string, arch string) (map[string]string, error) {
	files, err := tc.sources(ctx, dir, pkg, tags, arch)
	if err != nil {
		return nil, fmt.Errorf("list sources of %s: %w", pkg, err)
	}
	return files, nil
}

func (tc Toolchain) sources(ctx context.Context, dir, pkg string, tags []string, arch string) (map[string]string, error) {
	if err := checkArch(arch); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	at := filepath.Join(dir, filepath.FromSlash(pkg))
	if info, err := os.Stat(at); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("%s is not a directory", at)
	}
	work, err := tc.workspace(ctx, at)
	if err != nil {
		return nil, err
	}
	pkgs, err := tc.list(ctx, at, []string{"GOARCH=" + arch, "GOWORK=" + work}, []string{"-mod=" + modMode(at, work), "-tags=" + strings.Join(tags, ","), "."})
	if err != nil {
		return nil, err
	}
	if last := pkgs[len(pkgs)-1]; last.Name != "main" {
		return nil, fmt.Errorf("it is package %s: want a main package", last.Name)
	}
	paths, err := localFiles(pkgs, work)
	if err != nil {
		return nil, err
	}
	return hashAll(dir, paths)
}

// localFiles collects the files of packages that lie outside of the module
// cache, and the files that describe their modules.
func localFiles(pkgs []*listed, work string) ([]string, error) {
	paths := map[string]bool{}
	roots := map[string]bool{} // directories of local modules -> it is a main module
	for _, p := range pkgs {
		if p.Standard || !p.local() {
			continue
		}
		for _, f := range append(p.inBuild(), p.IgnoredGoFiles...) {
			paths[filepath.Join(p.Dir, f)] = true
		}
		if m := p.Module.actual(); m != nil && m.GoMod != "" && m.Dir != "" {
			roots[m.Dir] = m.Main
		}
	}
	if work != "off" {
		if err := addWorkspace(work, paths, roots); err != nil {
			return nil, err
		}
	}
	return addModules(paths, roots)
}

// local says that a package's files are not pinned by go.sum: its module is a
// main module, a directory in place of a module, or a vendored copy.
func (l *listed) local() bool {
	m := l.Module
	switch {
	case m == nil || m.Main:
		return true
	case m.Replace != nil && m.Replace.Version == "":
		return true
	}
	return m.Dir == "" // vendored: go list knows the module's name only
}

func (m *listedModule) actual() *listedModule {
	if m != nil && m.Replace != nil {
		return m.Replace
	}
	return m
}

// addWorkspace adds go.work and its companions to paths, its modules to roots.
func addWorkspace(work string, paths, roots map[string]bool) error {
	b, err := os.ReadFile(work)
	if err != nil {
		return err
	}
	f, err := modfile.ParseWork(work, b, nil)
	if err != nil {
		return err
	}
	root := filepath.Dir(work)
	addFiles(paths, root, "go.work", "go.work.sum", "vendor/modules.txt")
	for _, r := range f.Replace {
		if r.New.Version == "" {
			roots[abs(root, r.New.Path)] = false
		}
	}
	for _, u := range f.Use {
		roots[abs(root, u.Path)] = true
	}
	return nil
}

// addModules adds the files that describe the modules in roots, and go.mod of
// every directory that a main module names in a replace line: the go command
// reads those even when no package comes from there.
func addModules(paths, roots map[string]bool) ([]string, error) {
	for root, isMain := range roots {
		addFiles(paths, root, "go.mod", "go.sum", "vendor/modules.txt")
		if !isMain {
			continue // replace lines count in main modules only
		}
		name := filepath.Join(root, "go.mod")
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		f, err := modfile.Parse(name, b, nil)
		if err != nil {
			return nil, err
		}
		for _, r := range f.Replace {
			if r.New.Version == "" {
				addFiles(paths, abs(root, r.New.Path), "go.mod")
			}
		}
	}
	return slices.Collect(maps.Keys(paths)), nil
}

func abs(root, p string) string {
	if filepath.IsAbs(p) {
		return filepath.Clean(p)
	}
	return filepath.Join(root, filepath.FromSlash(p))
}

func addFiles(paths map[string]bool, root string, names ...string) {
	for _, n := range names {
		if p := filepath.Join(root, filepath.FromSlash(n)); isFile(p) {
			paths[p] = true
		}
	}
}

func hashAll(dir string, paths []string) (map[string]string, error) {
	out := map[string]string{}
	for _, p := range paths {
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return nil, err
		}
		if out[filepath.ToSlash(rel)], err = hashFile(p); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Unlisted returns Go files, except tests, that lie beside the listed ones
// without being listed: they came after the lock was written, and a build from
// Files does not see them. Paths are as in Files, sorted.
func Unlisted(dir string, files map[string]string) ([]string, error) {
	dirs := map[string]bool{}
	for p := range files {
		if strings.HasSuffix(p, ".go") {
			dirs[filepath.Dir(filepath.FromSlash(p))] = true
		}
	}
	var extra []string
	for d := range dirs {
		entries, err := os.ReadDir(filepath.Join(dir, d))
		if errors.Is(err, fs.ErrNotExist) {
			continue // the listed file itself is missing, which its digest tells
		}
		if err != nil {
			return nil, fmt.Errorf("list sources: %w", err)
		}
		for _, e := range entries {
			p := filepath.ToSlash(filepath.Join(d, e.Name()))
			if _, ok := files[p]; !ok && counts(e.Name()) {
				extra = append(extra, p)
			}
		}
	}
	slices.Sort(extra)
	return extra, nil
}

// counts says whether the go command looks at a file of this name.
func counts(name string) bool {
	return strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") && name[0] != '_' && name[0] != '.'
}
