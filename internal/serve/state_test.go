package serve

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/internal/attestd"
)

// TestTryState: what keeps a server from its state is said, and nothing is made or changed.
func TestTryState(t *testing.T) {
	dir := open(t)
	put(t, filepath.Join(dir, "file"), "")
	for name, mode := range map[string]os.FileMode{"open": 0o755, "volume": 0o777, "good": 0o700, "readonly": 0o500} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	put(t, filepath.Join(dir, "open", "file"), "")
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		for _, name := range []string{"open", "good", "readonly"} {
			if err := os.Chown(filepath.Join(dir, name), nobody, nobody); err != nil {
				t.Fatal(err)
			}
		}
	}
	asNobody(t)
	for _, tt := range []struct{ dir, want string }{
		{"good", ""}, {"good/deep/new", ""}, {"volume", ""}, {"file", "it is no directory\nchmod"}, {"file/new", "not a directory\n"}, {"open", "mode 0755 lets others in; want 0700\nchmod 700 "},
		{"readonly", "permission denied\nname a directory"}, {"new", "it is not there, and cannot be made in " + dir + ": permission denied\nname a directory"},
	} {
		path := filepath.Join(dir, tt.dir)
		running, err := tryState(path)
		got := ""
		if err != nil {
			got = trouble(err).What + "\n" + trouble(err).Hint
		}
		first, _, _ := strings.Cut(tt.want, "\nchmod")
		if running || (err == nil) != (tt.want == "") || !strings.Contains(got, first) || err != nil && !strings.HasPrefix(got, "state "+path+": ") {
			t.Errorf("%s: %t, %q, want %q", tt.dir, running, got, tt.want)
		}
	}
	if list, _ := os.ReadDir(filepath.Join(dir, "good")); len(list) > 0 {
		t.Errorf("it has made %v", list)
	}
	if info, err := os.Stat(filepath.Join(dir, "volume")); err != nil || info.Mode().Perm() != 0o777 {
		t.Errorf("it has changed %v, %v", info.Mode(), err)
	}
}

// TestTryFreshState: an empty directory is taken only from this user alone.
func TestTryFreshState(t *testing.T) {
	for _, tt := range []struct {
		name  string
		mode  os.FileMode
		owner int
		file  bool
		want  bool
	}{
		{"own and empty", 0o755, os.Geteuid(), false, true}, {"own with a file", 0o755, os.Geteuid(), true, false},
		{"shared like /tmp", 0o777 | os.ModeSticky, os.Geteuid(), false, false}, {"of another user", 0o755, nobody, false, false},
	} {
		if tt.owner == nobody && os.Geteuid() != 0 {
			continue
		}
		dir := t.TempDir()
		if tt.file {
			put(t, filepath.Join(dir, "file"), "")
		}
		if err := errors.Join(os.Chown(dir, tt.owner, -1), os.Chmod(dir, tt.mode)); err != nil {
			t.Fatal(err)
		}
		if _, err := tryState(dir); (err == nil) != tt.want {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// open is a directory that other users reach, too.
func open(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// asNobody goes on as an ordinary user for files, where the test is root's.
func asNobody(t *testing.T) {
	if os.Geteuid() != 0 {
		return
	}
	runtime.LockOSThread()
	if err := unix.Setfsuid(nobody); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Setfsuid(0)
		runtime.UnlockOSThread()
	})
}

const nobody = 65534

// TestStateOfAnother: a state that has files of another user, and one on which a server runs.
func TestStateOfAnother(t *testing.T) {
	dir := filepath.Join(open(t), "state")
	store, err := attestd.OpenStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	if running, err := tryState(dir); !running || err != nil {
		t.Errorf("a server runs: %t, %v", running, err)
	}
	store.Close()
	if running, err := tryState(dir); running || err != nil {
		t.Errorf("none runs: %t, %v", running, err)
	}
	again, err := attestd.OpenStore(dir)
	if err != nil {
		t.Fatalf("the lock was kept: %v", err)
	}
	again.Close()
	if err := os.Chmod(filepath.Join(dir, "lock"), 0o400); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(dir, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	asNobody(t)
	if _, err := tryState(dir); err == nil || !strings.Contains(err.Error(), "lock: permission denied") && !strings.Contains(err.Error(), "state.db: permission denied") || !strings.Contains(trouble(err).Hint, "chown") {
		t.Errorf("of another user: %v", err)
	}
}
