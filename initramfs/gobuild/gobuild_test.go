package gobuild

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func sum(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}
func TestBB(t *testing.T) {
	ctx := context.Background()
	tc, err := Find()
	if err != nil {
		t.Fatal(err)
	}
	cmds := []string{"init", "gosh", "ls", "cat", "dhclient", "wget", "ip", "mount", "kexec", "shutdown"}
	t0 := time.Now()
	mod, gosum, err := tc.Modules(ctx, nil, cmds)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(len(mod), len(gosum), time.Since(t0))
	for i := range 2 {
		t0 = time.Now()
		out := filepath.Join(t.TempDir(), "bb")
		if err := tc.Busybox(ctx, BusyboxJob{Commands: cmds, GoMod: mod, GoSum: gosum, Arch: "amd64", Output: out}); err != nil {
			t.Fatal(err)
		}
		info, _ := os.Stat(out)
		t.Log(i, time.Since(t0), info.Size(), sum(t, out))
		os.Rename(out, "/tmp/kmod/bb")
	}
}
