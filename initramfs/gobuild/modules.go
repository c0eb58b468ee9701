package gobuild

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/semver"
)

// URoot is the u-root release that the commands of a busybox come from.
const URoot = "github.com/u-root/u-root@v0.16.0"

const urootPath = "github.com/u-root/u-root"

// Modules resolves programs, each "module/path/of/package@version", and u-root
// commands ("ls", "exp/pxeboot" or a full import path) in one module graph and
// returns the lines of its go.mod and go.sum. The tool lines of the go.mod are
// the packages' import paths. A version that another requirement would raise is
// an error: what is asked for is what is built.
func (tc Toolchain) Modules(ctx context.Context, programs, uroot []string) (goMod, goSum []string, err error) {
	tmp, err := os.MkdirTemp("", "ingot-mod-")
	if err != nil {
		return nil, nil, err
	}
	defer os.RemoveAll(tmp)
	if err := tc.resolve(ctx, tmp, programs, uroot); err != nil {
		return nil, nil, fmt.Errorf("resolve Go modules: %w", err)
	}
	if goMod, err = readLines(filepath.Join(tmp, "go.mod")); err != nil {
		return nil, nil, err
	}
	if goSum, err = readLines(filepath.Join(tmp, "go.sum")); err != nil {
		return nil, nil, err
	}
	return goMod, goSum, checkVersions(goMod, programs, len(uroot) > 0)
}

func (tc Toolchain) resolve(ctx context.Context, dir string, programs, uroot []string) error {
	version, err := tc.Version(ctx)
	if err != nil {
		return err
	}
	// The go line decides about language and GODEBUG defaults: those of the
	// toolchain, without its patch level.
	head := []string{"module ingot.invalid/programs", "", "go " + language(version) + ".0"}
	if err := writeModule(dir, head, nil); err != nil {
		return err
	}
	args := []string{"get", "-tool"}
	for _, p := range programs {
		if _, v, ok := strings.Cut(p, "@"); !ok || v == "" {
			return fmt.Errorf("program %q: want module/path@version", p)
		}
		args = append(args, p)
	}
	commands, err := tc.commandPaths(ctx, dir, uroot)
	if err != nil {
		return err
	}
	for _, c := range commands {
		args = append(args, c+"@"+urootVersion())
	}
	if len(args) == 2 {
		return nil
	}
	// go get adds the sums of what the packages import on any architecture.
	_, err = tc.run(ctx, dir, nil, args...)
	return err
}

func urootVersion() string { _, v, _ := strings.Cut(URoot, "@"); return v }

// language is the "1.26" in "go1.26.8" or "go1.26rc1".
func language(version string) string {
	return strings.TrimPrefix(semver.MajorMinor("v"+strings.NewReplacer("rc", ".0-rc", "beta", ".0-beta").Replace(strings.TrimPrefix(version, "go"))), "v")
}

func readLines(path string) ([]string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return strings.Split(strings.TrimRight(string(b), "\n"), "\n"), nil
}

// checkVersions compares what minimal version selection chose with what was asked for.
func checkVersions(goMod, programs []string, uroot bool) error {
	f, err := modfile.Parse("go.mod", []byte(strings.Join(goMod, "\n")), nil)
	if err != nil {
		return err
	}
	if uroot {
		programs = append(slices.Clone(programs), urootPath+"/cmds@"+urootVersion())
	}
	var errs []error
	for _, p := range programs {
		pkg, want, _ := strings.Cut(p, "@")
		if got := requiredBy(f, pkg); semver.IsValid(want) && got != want && semver.Canonical(want) == want {
			errs = append(errs, fmt.Errorf("resolve Go modules: %s: another program or u-root needs %s: take that version, or build it from a local module", p, got))
		}
	}
	return errors.Join(errs...)
}

// requiredBy is the version of the module with the longest path that holds pkg.
func requiredBy(f *modfile.File, pkg string) (version string) {
	longest := ""
	for _, r := range f.Require {
		if m := r.Mod.Path; (pkg == m || strings.HasPrefix(pkg, m+"/")) && len(m) > len(longest) {
			longest, version = m, r.Mod.Version
		}
	}
	return version
}

// commandPaths turns u-root command names into import paths.
func (tc Toolchain) commandPaths(ctx context.Context, dir string, names []string) ([]string, error) {
	if len(names) == 0 {
		return nil, nil
	}
	out, err := tc.run(ctx, dir, nil, "mod", "download", "-json", URoot)
	if err != nil {
		return nil, err
	}
	var m struct{ Dir string }
	if err := json.Unmarshal(out, &m); err != nil {
		return nil, fmt.Errorf("read go mod download: %w", err)
	}
	var paths []string
	var errs []error
	for _, n := range names {
		p, err := commandPath(m.Dir, n)
		paths, errs = append(paths, p), append(errs, err)
	}
	return paths, errors.Join(errs...)
}

// commandPath finds a command in a u-root source tree: the stable ones in
// cmds/core come first.
func commandPath(root, name string) (string, error) {
	rel := strings.TrimPrefix(strings.TrimPrefix(name, urootPath+"/"), "cmds/")
	if strings.Contains(rel, "..") || rel == "" {
		return "", fmt.Errorf("u-root command %q: not a name", name)
	}
	dirs := []string{"core", "boot", "cluster", "contrib", "exp", "extra", "fwtools"}
	candidates := []string{rel}
	if !strings.Contains(rel, "/") {
		candidates = nil
		for _, d := range dirs {
			candidates = append(candidates, d+"/"+rel)
		}
	}
	for _, c := range candidates {
		if found, _ := filepath.Glob(filepath.Join(root, "cmds", filepath.FromSlash(c), "*.go")); len(found) > 0 {
			return path.Join(urootPath, "cmds", c), nil
		}
	}
	return "", fmt.Errorf("u-root command %q: not in %s", name, URoot)
}
