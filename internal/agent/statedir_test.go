package agent

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/agent/proc"
	"github.com/ingot-os/ingot/internal/appliance"
)

func ownerOf(t *testing.T, path string, uid, gid int) bool {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return owned(info, uid, gid)
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		if os.Getenv("INGOT_REQUIRE_TOOLS") == "1" {
			t.Fatal("needs root to give files away")
		}
		t.Skip("needs root to give files away")
	}
}

func TestStateDirectoryIsMadeForTheUser(t *testing.T) {
	needRoot(t)
	m := &Machine{spec: appliance.Spec{Data: appliance.Data{Mount: t.TempDir()}}}
	for _, dir := range []string{"recorder", "a/b"} {
		err := m.prepareState(appliance.Service{StateDirectory: dir}, proc.Command{UID: 1002, GID: 1003})
		if err != nil {
			t.Fatal(err)
		}
		at := filepath.Join(m.spec.Data.Mount, dir)
		if info, _ := os.Stat(at); info.Mode() != fs.ModeDir|0o755 {
			t.Errorf("%s has mode %v", dir, info.Mode())
		}
		if !ownerOf(t, at, 1002, 1003) {
			t.Errorf("%s does not belong to the user", dir)
		}
	}
	if !ownerOf(t, filepath.Join(m.spec.Data.Mount, "a"), 0, 0) {
		t.Error("the directory above was given away too")
	}
}

// A new image may run the service as another user: what the old one wrote goes
// along, links are given themselves and not followed.
func TestStateDirectoryChangesItsOwner(t *testing.T) {
	needRoot(t)
	mount, outside := t.TempDir(), filepath.Join(t.TempDir(), "outside")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(makeState(mount, "db", 1001, 1001))
	must(os.MkdirAll(filepath.Join(mount, "db/wal/old"), 0o700))
	must(os.WriteFile(filepath.Join(mount, "db/wal/old/1"), nil, 0o600))
	must(os.WriteFile(outside, nil, 0o600))
	must(os.Symlink(outside, filepath.Join(mount, "db/link")))
	must(makeState(mount, "db", 1002, 1002))
	for _, name := range []string{"db", "db/wal", "db/wal/old", "db/wal/old/1", "db/link"} {
		if !ownerOf(t, filepath.Join(mount, name), 1002, 1002) {
			t.Errorf("%s kept its owner", name)
		}
	}
	if !ownerOf(t, outside, 0, 0) {
		t.Error("the target of a link outside was given away")
	}
	// The owner of the directory itself says that the work is done.
	must(os.Lchown(filepath.Join(mount, "db/wal"), 1001, 1001))
	must(makeState(mount, "db", 1002, 1002))
	if !ownerOf(t, filepath.Join(mount, "db/wal"), 1001, 1001) {
		t.Error("an owned directory was walked again")
	}
}

func TestStateDirectoryRefusesWhatIsNoDirectory(t *testing.T) {
	mount := t.TempDir()
	other := filepath.Join(mount, "other")
	if err := os.Mkdir(other, 0o755); err != nil {
		t.Fatal(err)
	}
	os.WriteFile(filepath.Join(mount, "file"), nil, 0o644)
	os.Symlink("other", filepath.Join(mount, "link"))
	for _, dir := range []string{"file", "link", "link/below", "file/below"} {
		m := &Machine{spec: appliance.Spec{Data: appliance.Data{Mount: mount}}}
		err := m.prepareState(appliance.Service{StateDirectory: dir}, proc.Command{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())})
		if err == nil || !strings.Contains(err.Error(), "make state directory "+filepath.Join(mount, dir)) || !strings.Contains(err.Error(), "not a directory") {
			t.Errorf("%s: got %v, want that it is not a directory", dir, err)
		}
	}
	if entries, _ := os.ReadDir(other); len(entries) != 0 {
		t.Error("something was made behind a link")
	}
}
