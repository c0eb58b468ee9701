package regular_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/internal/regular"
)

// zoo has one of each kind; the names say what must be said of them.
func zoo(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	l, err := net.Listen("unix", at("socket"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	for _, err := range []error{
		os.WriteFile(at("file"), bytes.Repeat([]byte("x"), 100), 0o600),
		os.Symlink("file", at("link")),
		os.Symlink("pipe", at("link to pipe")),
		os.Symlink("loop", at("loop")),
		os.Mkdir(at("directory"), 0o755),
		unix.Mkfifo(at("pipe"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// soon ends a test that waits, as on a pipe.
func soon(t *testing.T, do func()) {
	t.Helper()
	done := make(chan bool)
	go func() { defer close(done); do() }()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("waits")
	}
}

func TestOnlyRegularFilesAreOpened(t *testing.T) {
	dir := zoo(t)
	for path, want := range map[string][2]error{ // of Open, of OpenHere
		"file": {nil, nil}, "link": {nil, regular.ErrKind}, "link to pipe": {regular.ErrKind, regular.ErrKind},
		"pipe": {regular.ErrKind, regular.ErrKind}, "socket": {regular.ErrKind, regular.ErrKind},
		"directory": {regular.ErrKind, regular.ErrKind}, "loop": {unix.ELOOP, regular.ErrKind}, "none": {fs.ErrNotExist, fs.ErrNotExist},
	} {
		for i, open := range []func(string) (*os.File, fs.FileInfo, error){regular.Open, regular.OpenHere} {
			soon(t, func() {
				f, info, err := open(filepath.Join(dir, path))
				if !errors.Is(err, want[i]) {
					t.Errorf("%s, way %d: %v, want %v", path, i, err, want[i])
				}
				if err != nil {
					return
				}
				defer f.Close()
				b, err := io.ReadAll(f)
				if len(b) != 100 || info.Size() != 100 || err != nil {
					t.Errorf("%s: %d bytes of %d, %v", path, len(b), info.Size(), err)
				}
			})
		}
	}
}

func TestReadIsBounded(t *testing.T) {
	dir := zoo(t)
	for limit, want := range map[int64]error{100: nil, 1 << 40: nil, 99: regular.ErrSize, 0: regular.ErrSize} {
		if b, err := regular.Read(filepath.Join(dir, "file"), limit); !errors.Is(err, want) || err == nil && len(b) != 100 {
			t.Errorf("limit %d: %d bytes, %v", limit, len(b), err)
		}
	}
	// A file of /proc has no size, so only its bytes tell.
	if _, err := regular.Read("/proc/self/status", 10); !errors.Is(err, regular.ErrSize) {
		t.Errorf("/proc: %v", err)
	}
	soon(t, func() {
		if _, err := regular.Read(filepath.Join(dir, "pipe"), 10); !errors.Is(err, regular.ErrKind) {
			t.Errorf("pipe: %v", err)
		}
	})
}
