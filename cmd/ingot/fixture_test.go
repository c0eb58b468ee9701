package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/initbin"
	"github.com/ingot-os/ingot/internal/lock"
	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/internal/source"
)

// fixture is what the tests of a process share: the program as a file, the
// hello example with a lock that fits this program, and a cache that holds its
// packages and everything derived from them.
type fixture struct {
	root  string // readable by every user
	exe   string // named ingot
	hello string // recipe directory
	trust string // lock with the packages that a root payload needs
	cache string
	debs  []string // digests of the downloaded packages

	mu       sync.Mutex
	products map[string]product // by kind
}

// product is a recipe and what was built of it.
type product struct{ recipe, set string }

var (
	shared      *fixture
	sharedRoot  string
	errShared   error
	sharedOnce  sync.Once
	errNotBuilt = errors.New("this test binary carries no ingot-init: run make init-binaries")
)

func removeFixture() {
	if sharedRoot != "" {
		os.RemoveAll(sharedRoot)
	}
}

// warm returns the fixture. Its two packages (35 MB) are downloaded once into
// the user's cache; a test is skipped when that is not possible.
func warm(t testing.TB) *fixture {
	t.Helper()
	sharedOnce.Do(func() { shared, errShared = newFixture() })
	switch {
	case errors.Is(errShared, source.ErrOffline) || errors.Is(errShared, errNotBuilt):
		oracle.Missing(t, "%v", errShared)
	case errShared != nil:
		t.Fatal(errShared)
	}
	return shared
}

func newFixture() (*fixture, error) {
	if _, err := initbin.Digest(initbin.Plain, "amd64"); err != nil {
		return nil, fmt.Errorf("%w (%v)", errNotBuilt, err)
	}
	root, err := os.MkdirTemp("", "ingot-test-")
	if err != nil {
		return nil, err
	}
	sharedRoot = root
	f := &fixture{
		root: root, exe: filepath.Join(root, "bin", "ingot"),
		hello: filepath.Join(root, "hello"), cache: filepath.Join(root, "cache"),
		trust: filepath.Join(root, "trust", "appliance.lock"), products: map[string]product{},
	}
	for _, step := range []func() error{f.copyProgram, f.copyHello, f.fillCache} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return f, nil
}

func (f *fixture) copyProgram() error {
	if err := os.Chmod(f.root, 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Dir(f.exe), 0o755); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return copyFile(self, f.exe, 0o755)
}

func (f *fixture) copyHello() error {
	if err := os.CopyFS(f.hello, os.DirFS("../../examples/hello")); err != nil {
		return err
	}
	return filepath.WalkDir(f.hello, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chmod(path, 0o755)
	})
}

// fillCache takes the example's packages out of the user's cache and builds it once.
func (f *fixture) fillCache() error {
	if err := f.fetchLocked(f.hello, "ingot", "go"); err != nil {
		return err
	}
	if err := f.fetchTrust(); err != nil {
		return err
	}
	out := filepath.Join(f.root, "out")
	res := run1(f.exe, f.root, []string{"INGOT_CACHE=" + f.cache}, "build", "-f", f.hello, "-o", out)
	if res.code != 0 {
		return fmt.Errorf("build examples/hello: %s", res.stderr)
	}
	return nil
}

// fetchLocked relocks a recipe, with newest versions of what update names, and
// brings its packages into the fixture. Pinned packages are kept as long as
// the mirror has them, and moved otherwise (S11).
func (f *fixture) fetchLocked(dir string, update ...string) error {
	user, err := source.DefaultDir()
	if err != nil {
		return err
	}
	if err := f.lock(user, dir, update...); err != nil {
		return err
	}
	err = f.fetchAll(user, dir)
	var gone *source.SupersededError
	if !errors.As(err, &gone) {
		return err
	}
	if err := f.lock(user, dir, "all"); err != nil {
		return err
	}
	return f.fetchAll(user, dir)
}

// fetchTrust does for the pins of testdata/trust what fetchLocked does.
func (f *fixture) fetchTrust() error {
	dir := filepath.Dir(f.trust)
	if err := os.CopyFS(dir, os.DirFS("testdata/trust")); err != nil {
		return err
	}
	user, err := source.DefaultDir()
	if err != nil {
		return err
	}
	err = f.fetchAll(user, dir)
	var gone *source.SupersededError
	if !errors.As(err, &gone) {
		return err
	}
	if err := f.lock(user, dir, "all"); err != nil {
		return err
	}
	l, err := lock.Read(f.trust)
	if err != nil {
		return err
	}
	l.Inputs = slices.DeleteFunc(l.Inputs, func(in lock.Input) bool { return in.Name != "ca-certificates" && in.Name != "tzdata" })
	if err := l.Write(f.trust); err != nil {
		return err
	}
	return f.fetchAll(user, dir)
}

// pinTrust adds the packages that a root payload needs to the lock of a copy
// of the hello example, so that locking it asks no mirror.
func (f *fixture) pinTrust(dir string) error {
	l, err := lock.Read(filepath.Join(dir, "appliance.lock"))
	if err != nil {
		return err
	}
	pins, err := lock.Read(f.trust)
	if err != nil {
		return err
	}
	l.Inputs = append(l.Inputs, pins.Inputs...)
	return l.Write(filepath.Join(dir, "appliance.lock"))
}

func (f *fixture) lock(cache, dir string, update ...string) error {
	args := []string{"lock", "-f", dir}
	for _, u := range update {
		args = append(args, "--update", u)
	}
	if res := run1(f.exe, f.root, []string{"INGOT_CACHE=" + cache}, args...); res.code != 0 {
		return fmt.Errorf("lock %s: %s", dir, res.stderr)
	}
	return nil
}

// fetchAll brings the packages of a recipe's lock from the user's cache, or
// the mirror, into the fixture's.
func (f *fixture) fetchAll(user, recipeDir string) error {
	l, err := lock.Read(filepath.Join(recipeDir, "appliance.lock"))
	if err != nil {
		return err
	}
	fetcher, err := source.New(source.Options{Store: &source.Store{Dir: user}, Offline: offline(), Mirror: os.Getenv("INGOT_MIRROR")})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	for _, in := range l.Inputs {
		if in.Kind != lock.KindDeb {
			continue
		}
		path, err := fetcher.Fetch(ctx, in, recipeDir)
		if err != nil {
			return err
		}
		if err := linkOrCopy(path, entryPath(f.cache, in.SHA256)); err != nil {
			return err
		}
		f.debs = append(f.debs, in.SHA256)
	}
	return nil
}

// offline tells whether the tests may not use the network.
func offline() bool { v := os.Getenv("INGOT_OFFLINE"); return v != "" && v != "0" }

// clone returns a cache of its own for a test, with everything in it. Entries
// are hard links: they are never written in place, only replaced.
func (f *fixture) clone(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(tempDir(t), "cache")
	err := filepath.WalkDir(f.cache, func(path string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(f.cache, path)
		if err != nil || d.IsDir() || strings.HasPrefix(rel, "sets") {
			return err
		}
		return linkOrCopy(path, filepath.Join(dir, rel))
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// cold returns a cache that holds the downloaded packages and nothing else.
func (f *fixture) cold(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(tempDir(t), "cache")
	for _, sha := range f.debs {
		if err := linkOrCopy(entryPath(f.cache, sha), entryPath(dir, sha)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// copyOf returns a recipe directory of its own with the lock beside it.
func copyOf(t testing.TB, dir string) string {
	t.Helper()
	to := filepath.Join(tempDir(t), "recipe")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

// copyOf is copyOf for as long as the fixture lives.
func (f *fixture) copyOf(t testing.TB, dir string) string {
	t.Helper()
	to, err := os.MkdirTemp(f.root, "recipe-")
	if err == nil {
		err = errors.Join(os.Chmod(to, 0o755), os.CopyFS(to, os.DirFS(dir)))
	}
	if err != nil {
		t.Fatal(err)
	}
	return to
}

func entryPath(cache, sha string) string { return filepath.Join(cache, "sha256", sha[:2], sha) }

// tempDir is t.TempDir that every user may enter.
func tempDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func linkOrCopy(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if err := os.Link(from, to); err == nil || errors.Is(err, fs.ErrExist) {
		return nil
	}
	return copyFile(from, to, 0o444)
}

func copyFile(from, to string, mode fs.FileMode) error {
	r, err := os.Open(from)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, r); err != nil {
		w.Close()
		return err
	}
	return w.Close()
}

// outcome is how a child process ended.
type outcome struct {
	code           int // -1 when a signal ended it
	stdout, stderr string
}

// child prepares ingot as a process of its own; env is added to a minimal
// environment in which the Go toolchain works.
func child(exe, dir string, env []string, args ...string) *exec.Cmd {
	cmd := exec.Command(exe)
	cmd.Args = append([]string{filepath.Base(exe)}, args...)
	cmd.Dir = dir
	for _, k := range []string{"PATH", "HOME", "GOPATH", "GOCACHE", "GOMODCACHE", "GOPROXY", "GOFLAGS", "GONOSUMDB", "GOSUMDB", "GOCOVERDIR"} {
		if v, ok := os.LookupEnv(k); ok {
			cmd.Env = append(cmd.Env, k+"="+v)
		}
	}
	cmd.Env = append(cmd.Env, env...)
	return cmd
}

func run1(exe, dir string, env []string, args ...string) outcome {
	return finish(child(exe, dir, env, args...))
}

func finish(cmd *exec.Cmd) outcome { return finishAfter(cmd, func() {}) }

// finishAfter starts a command, does something to it, and waits for its end.
func finishAfter(cmd *exec.Cmd, do func()) outcome {
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = 5 * time.Second // for what a child left running
	if err := cmd.Start(); err != nil {
		return outcome{-1, "", err.Error()}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	cmd.Wait()
	<-done
	return outcome{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}
