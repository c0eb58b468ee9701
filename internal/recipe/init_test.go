package recipe

import (
	"os"
	"path/filepath"
	"testing"
)

func TestInitTemplateLoads(t *testing.T) {
	for dir, want := range map[string]string{"hello": "hello", "My Appliance 2": "my-appliance-2", "42": "hello", "9-edge": "edge"} {
		root := filepath.Join(t.TempDir(), dir)
		if err := os.MkdirAll(root, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, content := range InitYAML(root) {
			if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		r, err := Load(filepath.Join(root, "appliance.yaml"))
		if err != nil {
			t.Fatalf("%s: %v", dir, err)
		}
		if r.Name != want {
			t.Errorf("init %s: name is %q, want %q", dir, r.Name, want)
		}
	}
}
