package keys

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestExportIsForAll: what is public is copied around and read by others.
func TestExportIsForAll(t *testing.T) {
	defer unix.Umask(unix.Umask(0o077))
	out := filepath.Join(t.TempDir(), "out")
	names, err := open(t, testDir).Export(context.Background(), out)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]os.FileMode{".": os.ModeDir | 0o755}
	for _, n := range names {
		want[n] = 0o644
	}
	for name, mode := range want {
		if info, err := os.Stat(filepath.Join(out, name)); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v; want %v", name, info.Mode(), err, mode)
		}
	}
}

// TestPrivateModeIsOfWhatIsRead: the name of a key may be given to another file
// between a look at its mode and the reading. Here it changes all the time, and
// the key that others may read must never be taken.
func TestPrivateModeIsOfWhatIsRead(t *testing.T) {
	dir := t.TempDir()
	good, err := os.ReadFile(filepath.Join(testDir, "db.key"))
	if err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"mine": 0o600, "theirs": 0o644} {
		text := good
		if name == "theirs" {
			if text, err = os.ReadFile(filepath.Join(testDir, "image.key")); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, mode); err != nil {
			t.Fatal(err)
		}
	}
	mine, err := readPrivate(filepath.Join(dir, "mine"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readPrivate(filepath.Join(dir, "theirs")); err == nil || !strings.Contains(err.Error(), "mode 0644") {
		t.Fatalf("got %v", err)
	}
	stop := make(chan bool)
	done := make(chan bool)
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			os.Symlink([]string{"mine", "theirs"}[i%2], filepath.Join(dir, "next"))
			os.Rename(filepath.Join(dir, "next"), filepath.Join(dir, "key"))
		}
	}()
	want, err := Fingerprint(mine.Public())
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); {
		if key, err := readPrivate(filepath.Join(dir, "key")); err == nil {
			if a, _ := Fingerprint(key.Public()); a != want {
				t.Error("a key was taken that others may read")
				break
			}
		}
	}
	close(stop)
	<-done
}
