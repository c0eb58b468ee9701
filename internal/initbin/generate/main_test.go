package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/initramfs/gobuild"
)

const trivial = "package main\n\nfunc main() { println(\"init\") }\n"

// module is a checkout with nothing but small variants of ingot-init.
func module(t *testing.T, source string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"go.mod":                 "module example.invalid/ingot\n\ngo 1.26\n",
		"cmd/ingot-init/main.go": source, "cmd/ingot-init-fleet/main.go": source,
	} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func generated(t *testing.T, dir string) (map[string][]byte, time.Time) {
	t.Helper()
	if err := run(context.Background(), filepath.Join(dir, "cmd")); err != nil {
		if errors.Is(err, gobuild.ErrNoGo) {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	files := map[string][]byte{}
	var when time.Time
	for _, arch := range []string{"amd64", "arm64"} {
		p := filepath.Join(dir, "internal/initbin/bin/ingot-init-"+arch+".zst")
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		files[arch], when = b, info.ModTime()
	}
	return files, when
}

func TestGenerate(t *testing.T) {
	one, two := module(t, trivial), module(t, trivial)
	a, first := generated(t, one)
	b, _ := generated(t, two)
	for arch := range a {
		if !bytes.Equal(a[arch], b[arch]) {
			t.Errorf("%s: two directories give two results", arch)
		}
	}
	if _, again := generated(t, one); !again.Equal(first) {
		t.Error("nothing changed, but it was built again")
	}
	main := filepath.Join(one, "cmd/ingot-init/main.go")
	if err := os.WriteFile(main, []byte(strings.Replace(trivial, "init", "other", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	if c, _ := generated(t, one); bytes.Equal(c["amd64"], a["amd64"]) {
		t.Error("the source changed, the result did not")
	}
	if err := os.WriteFile(filepath.Join(two, "internal/initbin/bin/ingot-init-arm64.zst"), []byte("broken"), 0o644); err != nil {
		t.Fatal(err)
	}
	if c, _ := generated(t, two); !bytes.Equal(c["arm64"], b["arm64"]) {
		t.Error("a damaged result was kept")
	}
}

func TestGenerateFails(t *testing.T) {
	dir := module(t, "package main\n\nfunc main() { undefined() }\n")
	err := run(context.Background(), dir)
	if errors.Is(err, gobuild.ErrNoGo) {
		t.Skip(err)
	}
	if err == nil || !strings.Contains(err.Error(), "undefined") {
		t.Errorf("error %v", err)
	}
	left, _ := filepath.Glob(filepath.Join(dir, "internal/initbin/bin/*"))
	if len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
