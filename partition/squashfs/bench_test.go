package squashfs

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/partition/tree"
)

// onDisk is a file as a Blob.
type onDisk struct {
	name string
	size int64
}

func (f onDisk) Size() int64                  { return f.size }
func (f onDisk) Open() (io.ReadCloser, error) { return os.Open(f.name) }

// hostTree is a directory of the host as a tree: regular files, directories and symlinks.
func hostTree(t testing.TB, root string) (tr *tree.Tree, size int64) {
	t.Helper()
	tr = &tree.Tree{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		info, err := d.Info()
		if err != nil {
			return err
		}
		n := tree.Node{Path: rel, Mode: info.Mode()}
		switch info.Mode().Type() {
		case 0:
			n.Content = onDisk{p, info.Size()}
			size += info.Size()
		case fs.ModeSymlink:
			if n.Target, err = os.Readlink(p); err != nil {
				return err
			}
		case fs.ModeDir:
		default:
			return nil
		}
		return tr.Add(n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return tr, size
}

// benchRoot is a real tree of source, objects and programs: the Go installation,
// or what INGOT_BENCH_TREE names.
func benchRoot(b *testing.B) string {
	if dir := os.Getenv("INGOT_BENCH_TREE"); dir != "" {
		return dir
	}
	oracle.Need(b, "golang-go", "go")
	return strings.TrimSpace(oracle.Run(b, "go", "env", "GOROOT"))
}

func BenchmarkWrite(b *testing.B) {
	tr, size := hostTree(b, benchRoot(b))
	b.SetBytes(size)
	f := dirty(b, 0)
	for b.Loop() {
		n, err := Write(f, tr, Options{Epoch: testEpoch})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(n)/1e6, "MB")
		b.ReportMetric(float64(tr.Len()), "files")
	}
}

func BenchmarkMksquashfs(b *testing.B) {
	oracle.Need(b, "squashfs-tools", "mksquashfs")
	_, size := hostTree(b, benchRoot(b))
	b.SetBytes(size)
	img := filepath.Join(b.TempDir(), "img")
	for b.Loop() {
		oracle.Run(b, "mksquashfs", benchRoot(b), img, "-comp", "zstd", "-Xcompression-level", "3", "-noappend", "-quiet", "-no-progress")
		st, err := os.Stat(img)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(st.Size())/1e6, "MB")
	}
}

func BenchmarkRead(b *testing.B) {
	tr, size := hostTree(b, benchRoot(b))
	f := write(b, tr, Options{Epoch: testEpoch})
	b.SetBytes(size)
	for b.Loop() {
		got, err := open(b, f).Tree()
		if err != nil {
			b.Fatal(err)
		}
		for _, n := range got.Nodes() {
			r, err := n.Open()
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, r); err != nil {
				b.Fatal(err)
			}
		}
	}
}
