package signing_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-os/ingot/internal/imageset"
	"github.com/ingot-os/ingot/internal/regular"
	"github.com/ingot-os/ingot/internal/release"
	"github.com/ingot-os/ingot/internal/signing"
)

// soon gives the error of something that must not wait.
func soon(t *testing.T, name string, do func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return err
	case <-time.After(30 * time.Second):
		t.Fatalf("%s: waits", name)
		return nil
	}
}

// TestAttachRefusesWhatIsNoFile: a pipe would be waited on for ever, and a link
// would be taken into the new set, whatever it leads to by then.
func TestAttachRefusesWhatIsNoFile(t *testing.T) {
	set := unsigned(t)
	resp := []*signing.Response{answer(t, authority(t, keySet), request(t, set, false))}
	names := []string{release.ManifestName, release.EnvelopeName}
	for _, f := range set.Manifest.Files {
		names = append(names, f.Name)
	}
	for _, name := range names {
		set := unsigned(t)
		path := filepath.Join(set.Dir, name)
		attach := func() error {
			s, err := release.Open(set.Dir)
			if err == nil {
				err = signing.Attach(s, resp, now)
			}
			return err
		}
		kept := filepath.Join(t.TempDir(), "kept")
		if err := os.Rename(path, kept); err != nil && name != release.EnvelopeName {
			t.Fatal(err)
		}
		if err := unix.Mkfifo(path, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := soon(t, name, attach); !errors.Is(err, regular.ErrKind) {
			t.Errorf("%s is a pipe: got %v, want ErrKind", name, err)
		}
		if name == release.ManifestName || name == release.EnvelopeName {
			continue // read once, so a link is as good as the file
		}
		if err := errors.Join(os.Remove(path), os.Symlink(kept, path)); err != nil {
			t.Fatal(err)
		}
		if err := soon(t, name, attach); !errors.Is(err, regular.ErrKind) {
			t.Errorf("%s is a link: got %v, want ErrKind", name, err)
		}
	}
}

// TestAttachKeepsEveryFile: a file that this ingot does not make would be in the
// manifest of the new set, and not in the set.
func TestAttachKeepsEveryFile(t *testing.T) {
	set := unsigned(t)
	resp := []*signing.Response{answer(t, authority(t, keySet), request(t, set, false))}
	extra := release.File{Name: set.Manifest.Stem() + ".next", Size: 5, SHA256: "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"}
	set.Manifest.Files = append(set.Manifest.Files, extra)
	manifest, err := set.Manifest.Marshal()
	path := filepath.Join(set.Dir, release.ManifestName)
	if err := errors.Join(err, os.Remove(path), os.WriteFile(path, manifest, 0o644),
		os.WriteFile(filepath.Join(set.Dir, extra.Name), []byte("hello"), 0o644)); err != nil {
		t.Fatal(err)
	}
	unchanged(t, "a file of a later ingot", set, imageset.ErrUnknownFile, extra.Name, func() error { return signing.Attach(set, resp, now) })
}
