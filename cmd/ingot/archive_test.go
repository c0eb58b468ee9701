package main

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/lock"
	"github.com/ingot-os/ingot/internal/source/debian/debiantest"
)

// bareRecipe takes its kernel and stub out of Debian and nothing else.
const bareRecipe = "name: bare\nversion: 1.0.0\nmodules: [virtio]\ndisk: {esp: 64M, slot: 64M}\ndata: {size: 16M}\n"

// TestArchiveRefused locks against archives that must not be believed. The
// exit code is 3 and no lock is written.
func TestArchiveRefused(t *testing.T) {
	f := warm(t)
	for _, tt := range []struct {
		name   string
		tamper func(a *debiantest.Archive)
		says   string
	}{
		{"another key", nil, "signature refused"},
		{"no signature", func(a *debiantest.Archive) {
			a.Intrude(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, "/InRelease") {
					return false
				}
				w.Write([]byte("Origin: Debian\nSuite: stable\n"))
				return true
			})
		}, "not a signed message"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := debiantest.New(t)
			a.Date = time.Now().Add(-time.Hour)
			a.Add(debiantest.Package{Name: "linux-image-cloud-amd64", Version: "6.12-1"})
			a.Publish()
			if tt.tamper != nil {
				tt.tamper(a)
			}
			dir := tempDir(t)
			writeFile(t, filepath.Join(dir, "appliance.yaml"), bareRecipe)
			env := []string{"INGOT_CACHE=" + filepath.Join(dir, "cache"), "no_proxy=127.0.0.1"}
			run1(f.exe, dir, env, "lock", "--mirror", a.Main).says(t, 3, "ingot: error: lock kernel: ", tt.says)
			if left := listDir(t, dir); len(left) > 2 {
				t.Errorf("a refused archive left %v", left)
			}
		})
	}
}

// TestTamperedPackage builds from a mirror that gives other bytes under the
// name of the locked package.
func TestTamperedPackage(t *testing.T) {
	f := warm(t)
	recipe, _ := f.built(t, "plain")
	l, err := lock.Read(filepath.Join(recipe, "appliance.lock"))
	if err != nil {
		t.Fatal(err)
	}
	in := l.Find("stub")
	a := debiantest.New(t)
	a.Publish()
	a.Intrude(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, ".deb") {
			w.Write(bytes.Repeat([]byte{7}, int(in.Size)))
			return true
		}
		return false
	})
	dir, cache := tempDir(t), f.clone(t)
	if err := os.Remove(entryPath(cache, in.SHA256)); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "out")
	res := run1(f.exe, dir, []string{"INGOT_CACHE=" + cache, "no_proxy=127.0.0.1"}, "build", "-f", recipe, "-o", out, "--mirror", a.Main)
	res.says(t, 3, "check stub: "+a.Main, "expected sha256 "+in.SHA256, "got ")
	if left := listDir(t, out); len(left) > 0 {
		t.Errorf("a tampered package left %v", left)
	}
}
