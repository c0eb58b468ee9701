package main

import (
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/lock"
)

// linkSet puts a finished set under a name without copying its bytes: sets are
// replaced, never written in place.
func linkSet(t testing.TB, from, to string) {
	t.Helper()
	list, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if err := linkOrCopy(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
}

func listDir(t testing.TB, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// says checks exit code and words of a failed command: each text is somewhere
// in what it wrote to standard error, and standard output is empty.
func (o outcome) says(t testing.TB, code int, texts ...string) {
	t.Helper()
	if o.code != code {
		t.Errorf("exit code %d, want %d", o.code, code)
	}
	for _, want := range texts {
		if !strings.Contains(o.stderr, want) {
			t.Errorf("without %q:\n%s", want, o.stderr)
		}
	}
	if o.stdout != "" {
		t.Errorf("standard output: %s", o.stdout)
	}
}

// TestFullDisk fills the output directory's disk at several points of a build,
// and the cache's. The error says so, and nothing is left.
func TestFullDisk(t *testing.T) {
	needRoot(t)
	f := warm(t)
	recipe, _ := f.built(t, "plain")
	for _, size := range []string{"64k", "8m", "30m", "70m"} {
		w := newWorld(t, f, recipe)
		if err := os.Mkdir(w.out, 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := child(f.exe, w.dir, []string{"INGOT_CACHE=" + w.cache}, "build", "-f", w.recipe, "-o", w.out)
		cmd.Args = append([]string{"elsewhere", "--tmpfs", w.out, "--size", size, "--list", w.out, "--"}, cmd.Args[1:]...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
		finish(cmd).says(t, 1, "ingot: error: ", "no space left on device")
	}
	w := newWorld(t, f, recipe)
	cache, vendor := filepath.Join(w.dir, "small-cache"), f.vendor(t)
	if err := os.Mkdir(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := child(f.exe, w.dir, []string{"INGOT_CACHE=" + cache}, "build", "-f", w.recipe, "-o", w.out, "--offline", "--vendor", vendor)
	cmd.Args = append([]string{"elsewhere", "--tmpfs", cache, "--size", "20m", "--"}, cmd.Args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	finish(cmd).says(t, 1, "cache", "no space left on device")
	if left := listDir(t, w.out); len(left) > 0 {
		t.Errorf("a full cache left %v in the output directory", left)
	}
}

// TestInitFullDisk: a recipe of which only a part fits is taken back.
func TestInitFullDisk(t *testing.T) {
	needRoot(t)
	f := warm(t)
	dir := tempDir(t)
	cmd := child(f.exe, dir, nil, "init", dir)
	cmd.Args = append([]string{"elsewhere", "--tmpfs", dir, "--size", "4k", "--list", dir, "--"}, cmd.Args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	res := finish(cmd)
	res.stdout = strings.TrimSpace(strings.ReplaceAll(res.stdout, "service\n", "")) // the empty directory
	res.says(t, 1, "no space left on device")
}

// vendor is a vendor bundle of everything that was downloaded.
func (f *fixture) vendor(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(tempDir(t), "vendor")
	for _, sha := range f.debs {
		if err := linkOrCopy(entryPath(f.cache, sha), filepath.Join(dir, "sha256", sha)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestUnwritable: directories that may not be written are named.
func TestUnwritable(t *testing.T) {
	needRoot(t)
	f := warm(t)
	recipe, want := f.built(t, "plain")
	w := newWorld(t, f, recipe)
	parent := filepath.Join(w.dir, "parent")
	if err := os.Mkdir(parent, 0o555); err != nil {
		t.Fatal(err)
	}
	w.out = filepath.Join(parent, "out")
	run := func(env, flags []string, args ...string) outcome {
		t.Helper()
		cmd := child(f.exe, w.dir, env, args...)
		cmd.Args = append(append([]string{"elsewhere"}, flags...), append([]string{"--"}, args...)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
		return finish(cmd)
	}
	asNobody := []string{"--uid", "65534"}
	build := []string{"build", "-f", w.recipe, "-o", w.out}
	run([]string{"INGOT_CACHE=" + w.cache}, asNobody, build...).says(t, 1, "create output directory", w.out, "permission denied")

	cold := f.cold(t)
	build[4] = filepath.Join(w.dir, "out")
	res := run([]string{"INGOT_CACHE=" + cold}, []string{"--readonly", cold}, build...)
	res.says(t, 1, "cache", cold, "read-only file system", "hint: set INGOT_CACHE")
	if left := listDir(t, build[4]); len(left) > 0 {
		t.Errorf("a read-only cache left %v", left)
	}
	// A warm cache needs no writing.
	res = run([]string{"INGOT_CACHE=" + w.cache}, []string{"--readonly", w.cache}, build...)
	if res.code != 0 {
		t.Fatalf("warm read-only cache: exit %d\n%s", res.code, res.stderr)
	}
	same(t, want, strings.TrimSpace(res.stdout))
	run([]string{"INGOT_CACHE=" + w.cache}, []string{"--readonly", build[4]}, "build", "-f", f.hello, "-o", build[4]).says(t, 1, build[4], "read-only file system")
}

// TestInterrupted ends builds with SIGINT and SIGKILL at random points, with and
// without an older set under the final name. There is the old set, the new one
// or none, never a part of one; and what a killed build left behind is gone
// after the next.
func TestInterrupted(t *testing.T) {
	f := warm(t)
	recipe, want := f.built(t, "plain")
	_, old := f.built(t, "zstd") // has the same name and version
	wantSums, oldSums := digests(t, want), digests(t, old)
	w := newWorld(t, f, recipe)
	start := time.Now()
	os.RemoveAll(w.build(t, f))
	whole := time.Since(start)
	final := filepath.Join(w.out, filepath.Base(want))
	rng := rand.New(rand.NewPCG(5, 5))
	ended := map[string]int{}
	for i := range 16 {
		os.RemoveAll(final)
		before := map[string]string(nil)
		if i%2 == 1 {
			linkSet(t, old, final)
			before = oldSums
		}
		sig := []syscall.Signal{syscall.SIGINT, syscall.SIGKILL}[i/2%2]
		delay := time.Duration(rng.Int64N(int64(whole) * 3 / 2))
		res := interrupt(t, f, w, sig, delay)
		var after map[string]string
		if _, err := os.Stat(final); err == nil {
			after = digests(t, final)
		}
		switch {
		case maps.Equal(after, wantSums):
			ended["complete"]++
		case res.code != 0 && maps.Equal(after, before):
			ended["as before"]++
		default:
			t.Errorf("%v after %v of %v: exit %d, and the final directory holds %v", sig, delay, whole, res.code, after)
		}
		if sig == syscall.SIGINT && res.code != 0 {
			if res.code != -1 { // -1: it came before the program listened
				res.says(t, 1, "ingot: interrupted")
			}
			if left := listDir(t, w.out); len(left) > 1 {
				t.Errorf("an interrupted build left %v", left)
			}
		}
	}
	t.Logf("ended %v, in %v each", ended, whole)
	same(t, want, w.build(t, f))
	if left := listDir(t, w.out); len(left) != 1 {
		t.Errorf("the next build left %v", left)
	}
}

// interrupt starts a build and sends it a signal after some time.
func interrupt(t *testing.T, f *fixture, w *world, sig syscall.Signal, after time.Duration) outcome {
	t.Helper()
	cmd := child(f.exe, w.dir, []string{"INGOT_CACHE=" + w.cache}, "build", "-f", w.recipe, "-o", w.out)
	return finishAfter(cmd, func() {
		time.Sleep(after)
		cmd.Process.Signal(sig)
	})
}

// TestSecondInterrupt: when the first one waits for something that does not
// end, another one ends the program.
func TestSecondInterrupt(t *testing.T) {
	f := warm(t)
	recipe, _ := f.built(t, "plain")
	w := newWorld(t, f, recipe)
	bin, mark := filepath.Join(w.dir, "bin"), filepath.Join(w.dir, "mark")
	writeFile(t, filepath.Join(bin, "go"), "#!/bin/sh\ntrap '' INT\n: > "+mark+"\nexec sleep 20\n")
	if err := os.Chmod(filepath.Join(bin, "go"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := child(f.exe, w.dir, []string{"INGOT_CACHE=" + f.cold(t), "PATH=" + bin + ":" + os.Getenv("PATH")}, "build", "-f", w.recipe, "-o", w.out)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	start := time.Now()
	res := finishAfter(cmd, func() {
		defer func() { // the sleep outlives its parent
			time.Sleep(100 * time.Millisecond)
			syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		}()
		for range 200 {
			if _, err := os.Stat(mark); err == nil {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		cmd.Process.Signal(os.Interrupt)
		time.Sleep(300 * time.Millisecond)
		cmd.Process.Signal(os.Interrupt)
	})
	if took := time.Since(start); res.code != -1 || took > 18*time.Second {
		t.Errorf("exit %d after %v\n%s", res.code, took, res.stderr)
	}
}

// TestCorruptEntry flips a byte of the kernel package in the cache: it is
// fetched anew where something has it, and the lack is told where nothing has.
func TestCorruptEntry(t *testing.T) {
	f := warm(t)
	recipe, want := f.built(t, "plain")
	w := newWorld(t, f, recipe)
	entry := entryPath(w.cache, kernelOf(t, recipe).SHA256)
	corrupt := func() {
		t.Helper()
		data, err := os.ReadFile(entry)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)/2] ^= 1
		if err := errors.Join(os.Remove(entry), os.WriteFile(entry, data, 0o444)); err != nil {
			t.Fatal(err)
		}
	}
	corrupt()
	w.args = []string{"--offline", "--vendor", f.vendor(t)}
	same(t, want, w.build(t, f))
	if got := fileDigest(t, entry); got != filepath.Base(entry) {
		t.Errorf("the entry %s still has sha256 %s", filepath.Base(entry), got)
	}
	corrupt()
	other := filepath.Join(w.dir, "other")
	run1(f.exe, w.dir, []string{"INGOT_CACHE=" + w.cache, "INGOT_OFFLINE=1"}, "build", "-f", recipe, "-o", other).says(t, 1, "kernel", "offline and the cache is cold")
	if left := listDir(t, other); len(left) > 0 {
		t.Errorf("the failed build left %v", left)
	}
}

func kernelOf(t testing.TB, recipe string) *lock.Input {
	t.Helper()
	l, err := lock.Read(filepath.Join(recipe, "appliance.lock"))
	if err != nil {
		t.Fatal(err)
	}
	return l.Find("kernel")
}

// TestConcurrent runs builds of two recipes into one directory and one cache at
// once. Each succeeds; what stays is one of them.
func TestConcurrent(t *testing.T) {
	f := warm(t)
	plain, wantPlain := f.built(t, "plain")
	zstd, wantZstd := f.built(t, "zstd")
	w := newWorld(t, f, plain)
	w.cache = f.cold(t)
	var wg sync.WaitGroup
	for i := range 4 {
		recipe := plain
		if i%2 == 1 {
			recipe = zstd
		}
		wg.Go(func() {
			res := run1(f.exe, w.dir, []string{"INGOT_CACHE=" + w.cache}, "build", "-f", recipe, "-o", w.out)
			if res.code != 0 {
				t.Errorf("build %d: exit %d\n%s", i, res.code, res.stderr)
			}
		})
	}
	wg.Wait()
	got := digests(t, filepath.Join(w.out, filepath.Base(wantPlain)))
	if !maps.Equal(got, digests(t, wantPlain)) && !maps.Equal(got, digests(t, wantZstd)) {
		t.Errorf("the set that stays is of neither recipe: %v", got)
	}
	if left := listDir(t, w.out); len(left) != 1 {
		t.Errorf("the output directory holds %v", left)
	}
}

// TestOldSetIsReplaced fills the final directory with files of random bytes,
// some under the names of the set: none of it is left.
func TestOldSetIsReplaced(t *testing.T) {
	f := warm(t)
	recipe, want := f.built(t, "plain")
	w := newWorld(t, f, recipe)
	final := filepath.Join(w.out, filepath.Base(want))
	rng := rand.New(rand.NewPCG(1, 2))
	for _, e := range append(listDir(t, want), "other", "deep/file") {
		noise := make([]byte, 100_000)
		for i := range noise {
			noise[i] = byte(rng.Uint32())
		}
		writeFile(t, filepath.Join(final, e), string(noise))
	}
	same(t, want, w.build(t, f))
}
