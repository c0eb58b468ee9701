package verify_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/internal/regular"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/verify"
)

// TestPipes: a set that came from elsewhere may have a pipe where a file is
// expected, and nobody writes into it.
func TestPipes(t *testing.T) {
	manifest, err := (&release.Manifest{Format: release.Format, Name: "a", Version: "1"}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{release.ManifestName, release.EnvelopeName} {
		dir := t.TempDir()
		if err := errors.Join(os.WriteFile(filepath.Join(dir, release.ManifestName), manifest, 0o644),
			os.RemoveAll(filepath.Join(dir, name)), unix.Mkfifo(filepath.Join(dir, name), 0o644)); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			_, err := verify.Run(ctx, verify.Options{Path: dir, Unsigned: true})
			done <- err
		}()
		select {
		case err := <-done:
			if !errors.Is(err, regular.ErrKind) {
				t.Errorf("%s is a pipe: got %v, want ErrKind", name, err)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s is a pipe: waits", name)
		}
	}
}
