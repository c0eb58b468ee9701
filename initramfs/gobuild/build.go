package gobuild

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Job is one program to compile: a package in a local directory, or one of the
// programs that a go.mod from Modules requires.
type Job struct {
	Dir     string            // the directory that Package and Files are relative to; empty for a program of GoMod
	Package string            // "./cmd/hello", or "module/path@version"
	Files   map[string]string // from Sources: the build sees only these files and checks their SHA-256; nil builds in place

	GoMod, GoSum []string // from Modules

	Arch    string // amd64 or arm64
	Tags    []string
	LDFlags string // appended to -s -w -buildid=
	Small   bool   // nothing is inlined: about a tenth smaller, and slower where functions are short
	Output  string // file to write
}

// flags are the arguments of go build that reach the bytes.
func (j *Job) flags() []string {
	args := []string{"build", "-trimpath", "-buildvcs=false", "-ldflags", strings.TrimSpace("-s -w -buildid= " + j.LDFlags)}
	if j.Small {
		args = append(args, "-gcflags=all=-l")
	}
	if len(j.Tags) > 0 {
		args = append(args, "-tags", strings.Join(j.Tags, ","))
	}
	return args
}

// Key is the SHA-256 in hex over everything that decides the bytes of a job's
// output: the toolchain's version as from Version, flags and sources. A local
// job needs Files.
func (j *Job) Key(version string) string {
	return digest("program", version, j.Arch, j.Package, strings.Join(j.flags(), "\x00"), list(j.Files), strings.Join(j.GoMod, "\n"), strings.Join(j.GoSum, "\n"))
}

func list(files map[string]string) string {
	var b strings.Builder
	paths := make([]string, 0, len(files))
	for p := range files {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	for _, p := range paths {
		fmt.Fprintf(&b, "%s  %s\n", files[p], p)
	}
	return b.String()
}

func digest(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Build compiles a job and puts the program at its Output, mode 0755. Nothing
// is left there when it fails.
func (tc Toolchain) Build(ctx context.Context, j Job) error {
	if err := tc.build(ctx, j); err != nil {
		return fmt.Errorf("compile %s: %w", j.Package, err)
	}
	return nil
}

func (tc Toolchain) build(ctx context.Context, j Job) error {
	if err := checkArch(j.Arch); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "ingot-go-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	dir, pkg, work, err := tc.place(ctx, j, tmp)
	if err != nil {
		return err
	}
	env := []string{"GOARCH=" + j.Arch, "GOWORK=" + work}
	return tc.compile(ctx, dir, env, append(j.flags(), "-mod="+modMode(dir, work)), pkg, j.Output)
}

// place decides in which directory the go command runs, on which package, and
// in which workspace.
func (tc Toolchain) place(ctx context.Context, j Job, tmp string) (dir, pkg, work string, err error) {
	if j.Dir == "" {
		pkg, _, _ := strings.Cut(j.Package, "@")
		return tmp, pkg, "off", writeModule(tmp, j.GoMod, j.GoSum)
	}
	base := j.Dir
	if j.Files != nil {
		if base, err = stage(tmp, j.Dir, j.Files); err != nil {
			return "", "", "", err
		}
	}
	dir = filepath.Join(base, filepath.FromSlash(j.Package))
	work, err = tc.workspace(ctx, dir)
	return dir, ".", work, err
}

// compile runs go build and moves the result into place.
func (tc Toolchain) compile(ctx context.Context, dir string, extra, args []string, pkg, out string) error {
	out, err := filepath.Abs(out)
	if err != nil {
		return err
	}
	part := out + ".part"
	defer os.Remove(part)
	if _, err := tc.run(ctx, dir, extra, append(args, "-o", part, pkg)...); err != nil {
		return err
	}
	if err := os.Chmod(part, 0o755); err != nil {
		return err
	}
	return os.Rename(part, out)
}

// modMode is vendor for a module or workspace that carries its dependencies, as
// the go command chooses by itself, and never a mode that may change go.mod.
func modMode(dir, work string) string {
	root := filepath.Dir(work)
	if work == "off" {
		for root = dir; !isFile(filepath.Join(root, "go.mod")) && root != filepath.Dir(root); {
			root = filepath.Dir(root)
		}
	}
	if isFile(filepath.Join(root, "vendor", "modules.txt")) {
		return "vendor"
	}
	return "readonly"
}

// workspace returns the go.work that the go command would use in dir, or "off".
func (tc Toolchain) workspace(ctx context.Context, dir string) (string, error) {
	out, err := tc.run(ctx, dir, []string{"GOWORK="}, "env", "GOWORK")
	if work := strings.TrimSpace(string(out)); work != "" {
		return work, err
	}
	return "off", err
}

// writeModule writes the files that Modules returned.
func writeModule(dir string, goMod, goSum []string) error {
	if len(goMod) == 0 {
		return fmt.Errorf("no go.mod is locked for it")
	}
	for name, lines := range map[string][]string{"go.mod": goMod, "go.sum": goSum} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// stage copies files below tmp and returns the copy of dir. Files above dir
// ("../go.mod") keep their place relative to it.
func stage(tmp, dir string, files map[string]string) (string, error) {
	base := tmp
	for range depth(files) {
		base = filepath.Join(base, "up")
	}
	if err := os.MkdirAll(base, 0o755); err != nil {
		return "", err
	}
	for p, want := range files {
		if filepath.IsAbs(p) || p != filepath.ToSlash(filepath.Clean(p)) {
			return "", fmt.Errorf("source %q: not a relative clean path", p)
		}
		if err := copyChecked(filepath.Join(base, filepath.FromSlash(p)), filepath.Join(dir, filepath.FromSlash(p)), want); err != nil {
			return "", err
		}
	}
	return base, nil
}

// depth is how many directories above their base the files reach.
func depth(files map[string]string) int {
	most := 0
	for p := range files {
		n := 0
		for strings.HasPrefix(p, "../") {
			p, n = p[3:], n+1
		}
		most = max(most, n)
	}
	return most
}

// copyChecked copies a file and compares its digest on the way.
func copyChecked(dst, src, want string) error {
	if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
		return err
	}
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(dst)
	if err != nil {
		return err
	}
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(out, h), in)
	if e := out.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return fmt.Errorf("source %s changed: sha256 %s, want %s", src, got, want)
	}
	return nil
}
