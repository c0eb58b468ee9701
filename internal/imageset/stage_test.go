package imageset

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// names lists a directory.
func names(t *testing.T, dir string) string {
	t.Helper()
	list, err := fs.Glob(os.DirFS(dir), "*")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(list, " ")
}

// TestPublishReplaces: both ways to replace a set leave the new one only.
func TestPublishReplaces(t *testing.T) {
	for name, publish := range map[string]func(*Stage, string) error{"exchange": (*Stage).Publish, "apart": (*Stage).publishApart} {
		t.Run(name, func(t *testing.T) {
			out := t.TempDir()
			final := filepath.Join(out, "a-1")
			for _, content := range []string{"first", "second"} {
				s, err := NewStage(out, "a-1")
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(s.Dir, content), nil, 0o644); err != nil {
					t.Fatal(err)
				}
				if err := publish(s, final); err != nil {
					t.Fatal(err)
				}
				s.Remove()
				if got := names(t, final); got != content {
					t.Errorf("final directory holds %q, want %q", got, content)
				}
				if got := names(t, out); got != "a-1" {
					t.Errorf("output directory holds %q, want a-1 only", got)
				}
			}
		})
	}
}
