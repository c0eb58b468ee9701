package main

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/oracle"
)

const nobody = 65534

// own gives a directory tree to a user.
func own(t testing.TB, dir string, uid int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, uid)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestNothingButIngot (B3) builds a recipe without Go code where there is
// nothing else at all: in a root directory that holds the program, the recipe
// and the cache, as nobody, without /proc, /dev and an environment. No other
// program can be run there, a chroot may not make user namespaces, and nobody
// may not mount. The bytes are the same as outside.
func TestNothingButIngot(t *testing.T) {
	needRoot(t)
	f := warm(t)
	needStatic(t, f.exe)
	recipe, _ := f.built(t, "squashfs")
	recipe = copyOf(t, recipe)
	withoutGo(t, f, recipe, "compress: zstd\n")
	outside := newWorld(t, f, recipe)
	want := outside.build(t, f)

	root := tempDir(t)
	for _, dir := range []string{"bin", "out", "tmp"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := linkOrCopy(f.exe, filepath.Join(root, "bin/ingot")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(root, "recipe"), os.DirFS(recipe)); err != nil {
		t.Fatal(err)
	}
	copyCache(t, f.cold(t), filepath.Join(root, "cache"))
	for _, dir := range []string{"recipe", "cache", "out", "tmp"} {
		own(t, filepath.Join(root, dir), nobody)
	}
	cmd := exec.Command(f.exe)
	cmd.Args = []string{"elsewhere", "--chroot", root, "--uid", "65534", "--", "build", "-f", "/recipe", "-o", "/out"}
	cmd.Env = []string{"INGOT_CACHE=/cache"}
	res := finish(cmd)
	if res.code != 0 {
		t.Fatalf("exit %d\n%s", res.code, res.stderr)
	}
	same(t, want, filepath.Join(root, strings.TrimSpace(res.stdout)))
}

// needStatic skips a test that runs this program where no libc is: make builds
// and tests with CGO_ENABLED=0, a bare go test may not.
func needStatic(t testing.TB, exe string) {
	t.Helper()
	f, err := elf.Open(exe)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if libs, err := f.ImportedLibraries(); err == nil && len(libs) == 0 {
		return
	}
	oracle.Missing(t, "the test binary needs a libc: set CGO_ENABLED=0")
}

// withoutGo replaces the recipe in a directory by one that compiles nothing.
func withoutGo(t testing.TB, f *fixture, dir, more string) {
	t.Helper()
	text := "name: bare\nversion: 1.0.0\nmodules: [virtio]\nfiles:\n  - {path: /etc/motd, content: hello}\n" + more
	if _, err := os.Stat(filepath.Join(dir, "rootfs")); err == nil {
		text += "root: {directory: ./rootfs}\ndisk: {esp: 64M, slot: 64M, root: 16M}\n"
	} else {
		text += "disk: {esp: 64M, slot: 64M}\n"
	}
	writeFile(t, filepath.Join(dir, "appliance.yaml"), text+"data: {size: 16M}\n")
	relock(t, f, dir)
}

// copyCache copies for a test that changes owners, which hard links share.
func copyCache(t testing.TB, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// TestOnlyGo (B3) compiles with nothing in PATH but the Go toolchain and no
// home directory, as nobody, with empty caches of both kinds.
func TestOnlyGo(t *testing.T) {
	needRoot(t)
	f := warm(t)
	recipe := kindOf(t, f, "", nil)
	// A program without imports: the rest of the standard library would be
	// compiled for this test alone.
	writeFile(t, filepath.Join(recipe, "service/main.go"), "package main\n\nfunc main() { println(\"hello from\") }\n")
	relock(t, f, recipe)
	want := newWorld(t, f, recipe).build(t, f)

	w := newWorld(t, f, recipe)
	copyCache(t, f.cold(t), filepath.Join(w.dir, "own-cache"))
	own(t, w.dir, nobody)
	goroot := goCommand(t)
	cmd := exec.Command(f.exe)
	cmd.Args = []string{"elsewhere", "--uid", "65534", "--umask", "63", "--", "build", "-f", w.recipe, "-o", w.out}
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + filepath.Dir(goroot), "INGOT_CACHE=" + filepath.Join(w.dir, "own-cache")}
	res := finish(cmd)
	if res.code != 0 {
		t.Fatalf("exit %d\n%s", res.code, res.stderr)
	}
	same(t, want, strings.TrimSpace(res.stdout))
}

func goCommand(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath("go")
	if err != nil {
		t.Fatal(err)
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestPoisonedPath builds with a PATH in which every tool that other builders
// run leaves a mark; a recipe without Go code does not even ask for go.
func TestPoisonedPath(t *testing.T) {
	f := warm(t)
	recipe, _ := f.built(t, "erofs-4Kn")
	recipe = copyOf(t, recipe)
	withoutGo(t, f, recipe, "")
	w := newWorld(t, f, recipe)
	bin, mark := filepath.Join(w.dir, "bin"), filepath.Join(w.dir, "mark")
	for _, tool := range strings.Fields("go sh bash mkfs.fat mkfs.vfat mcopy mmd sgdisk sfdisk parted dd truncate cpio xz zstd gzip tar ar dpkg-deb " +
		"mksquashfs mkfs.erofs veritysetup objcopy ukify sbsign systemd-repart depmod modprobe mount losetup fakeroot unshare sudo cp ln") {
		writeFile(t, filepath.Join(bin, tool), "#!/bin/sh\necho "+tool+" >> "+mark+"\nexit 1\n")
		if err := os.Chmod(filepath.Join(bin, tool), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	w.env = []string{"PATH=" + bin}
	w.build(t, f)
	if ran, err := os.ReadFile(mark); err == nil {
		t.Errorf("the build ran %s", strings.Fields(string(ran)))
	}
	// The poison works: a recipe with Go code finds this go, which is none.
	w = newWorld(t, f, f.hello)
	res := run1(f.exe, w.dir, []string{"PATH=" + bin, "INGOT_CACHE=" + f.cold(t)}, "build", "-f", w.recipe, "-o", w.out)
	if ran, err := os.ReadFile(mark); res.code != 1 || err != nil || strings.TrimSpace(string(ran)) != "go" {
		t.Errorf("a broken go: exit %d, ran %q, %v\n%s", res.code, ran, err, res.stderr)
	}
}

// TestOffline (B20) builds in a network namespace that has no interface up.
func TestOffline(t *testing.T) {
	needRoot(t)
	f := warm(t)
	recipe, want := f.built(t, "plain")
	w := newWorld(t, f, recipe)
	w.cache, w.elsewhere = f.cold(t), []string{"--no-net"}
	same(t, want, w.build(t, f))
}
