package local

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ingot-os/ingot/partition/tree"
)

const (
	shaA = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb" // "a"
	shaB = "3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d" // "b"
)

func makeDir(t *testing.T) string {
	t.Helper()
	d := t.TempDir()
	for name, mode := range map[string]fs.FileMode{"plain": 0o600, "sub/exec": 0o700, "sub/set": 0o4711} {
		p := filepath.Join(d, name)
		must(t, os.MkdirAll(filepath.Dir(p), 0o700))
		must(t, os.WriteFile(p, []byte("a"), 0o600))
		must(t, os.Chmod(p, mode&0o777|setuid(mode)))
	}
	must(t, os.Symlink("../nowhere", filepath.Join(d, "sub/link")))
	must(t, os.Mkdir(filepath.Join(d, "empty"), 0o711))
	must(t, os.Mkdir(filepath.Join(d, "tmp"), 0o700))
	must(t, os.Chmod(filepath.Join(d, "tmp"), 0o777|fs.ModeSticky))
	return d
}

func setuid(m fs.FileMode) fs.FileMode {
	if m&0o4000 != 0 {
		return fs.ModeSetuid
	}
	return 0
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestHashDirDescribesWhatEntersAnImage(t *testing.T) {
	d := makeDir(t)
	files, sha, err := HashDir(d)
	must(t, err)
	want := map[string]string{
		"plain": shaA, "sub/exec": shaA + " 0755", "sub/set": shaA + " 4755", "sub/link": "-> ../nowhere", "empty": "dir", "tmp": "dir 1755",
	}
	if diff := cmp.Diff(want, files); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if sha != ListDigest(files) {
		t.Errorf("digest %s is not that of the list", sha)
	}
	link := filepath.Join(t.TempDir(), "link")
	must(t, os.Symlink(d, link))
	if _, again, err := HashDir(link); err != nil || again != sha {
		t.Errorf("through a link: %s %v, want %s", again, err, sha)
	}
}

func TestListDigestIsThatOfSha256sum(t *testing.T) {
	// printf '%s  a\n%s  b c\n' SHA_A SHA_B | sha256sum
	got := ListDigest(map[string]string{"b c": shaB, "a": shaA})
	if want := "7dfebcbb0cdd91e29c75279a59e7ef2687c1deba9e64f84b92bf6d771783aac1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got == ListDigest(map[string]string{"b c": shaA, "a": shaB}) {
		t.Error("which digest belongs to which path does not count")
	}
}

func TestCompare(t *testing.T) {
	d := makeDir(t)
	files, _, err := HashDir(d)
	must(t, err)
	if m := Compare(d, files, true); len(m) != 0 {
		t.Errorf("nothing changed: %v", m)
	}
	must(t, os.WriteFile(filepath.Join(d, "plain"), []byte("b"), 0o600))
	must(t, os.WriteFile(filepath.Join(d, "new"), []byte("b"), 0o600))
	must(t, os.Chmod(filepath.Join(d, "sub/exec"), 0o600))
	must(t, os.Remove(filepath.Join(d, "sub/link")))
	want := []Mismatch{
		{"new", Nothing, shaB}, {"plain", shaA, shaB}, {"sub/exec", shaA + " 0755", shaA}, {"sub/link", "-> ../nowhere", Nothing},
	}
	if diff := cmp.Diff(want, Compare(d, files, true)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	listed := map[string]string{"plain": shaA, "gone": shaA, "../outside": shaA}
	want = []Mismatch{{"../outside", shaA, Nothing}, {"gone", shaA, Nothing}, {"plain", shaA, shaB}}
	if diff := cmp.Diff(want, Compare(d, listed, false)); diff != "" {
		t.Errorf("listed files only (-want +got)\n%s", diff)
	}
	if m := Compare(filepath.Join(d, "nowhere"), files, true); len(m) != 1 {
		t.Errorf("missing directory: %v", m)
	}
}

func TestRefusals(t *testing.T) {
	d := t.TempDir()
	must(t, syscall.Mkfifo(filepath.Join(d, "pipe"), 0o600))
	if _, _, err := HashDir(d); err == nil || !strings.Contains(err.Error(), "pipe") {
		t.Errorf("pipe: %v", err)
	}
	d = t.TempDir()
	must(t, os.WriteFile(filepath.Join(d, "a\nb"), nil, 0o600))
	if _, _, err := HashDir(d); err == nil || !strings.Contains(err.Error(), "line break") {
		t.Errorf("line break: %v", err)
	}
	if _, _, err := HashFile(d); err == nil {
		t.Error("hashed a directory as a file")
	}
	if _, _, err := HashDir(filepath.Join(d, "a\nb")); err == nil {
		t.Error("read a file as a directory")
	}
}

func TestTree(t *testing.T) {
	d := makeDir(t)
	files, _, err := HashDir(d)
	must(t, err)
	got, err := Tree(d, files)
	must(t, err)
	var list []string
	for _, n := range got.Nodes() {
		list = append(list, n.Mode.String()+" "+n.Path+" "+n.Target)
	}
	want := []string{
		"drwxr-xr-x . ", "drwxr-xr-x empty ", "-rw-r--r-- plain ", "drwxr-xr-x sub ", "-rwxr-xr-x sub/exec ",
		"Lrwxrwxrwx sub/link ../nowhere", "urwxr-xr-x sub/set ", "dtrwxr-xr-x tmp ",
	}
	if diff := cmp.Diff(want, list); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestChangeDuringBuild: a file that changes after it was checked must not get
// into an image, even when its size stays.
func TestChangeDuringBuild(t *testing.T) {
	for _, content := range []string{"b", ""} {
		d := makeDir(t)
		files, _, err := HashDir(d)
		must(t, err)
		got, err := Tree(d, files)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(d, "plain"), []byte(content), 0o600))
		if err := readSized(got.Get("plain")); err == nil || !strings.Contains(err.Error(), "changed during the build") {
			t.Errorf("content %q: got %v", content, err)
		}
		if err := readSized(got.Get("sub/exec")); err != nil {
			t.Errorf("a file that did not change: %v", err)
		}
	}
}

// readSized reads as writers do: as many bytes as the node has, and no further.
func readSized(n *tree.Node) error {
	r, err := n.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.ReadFull(r, make([]byte, n.Size()))
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return nil // cut short without a word
	}
	return err
}
