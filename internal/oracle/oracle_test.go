package oracle_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ingot-os/ingot/internal/oracle"
)

// ended is a test that notes how it ends.
type ended struct {
	testing.TB
	how string
}

func (e *ended) Fatalf(string, ...any) { e.how = "failed" }
func (e *ended) Skipf(string, ...any)  { e.how = "skipped" }

func TestWhatIsMissingIsSkippedOrFails(t *testing.T) {
	for require, want := range map[string]string{"": "skipped", "0": "skipped", "1": "failed"} {
		t.Setenv("INGOT_REQUIRE_TOOLS", require)
		e := &ended{TB: t}
		oracle.Need(e, "no-such-package", "no-such-program", "/no/such/file")
		if e.how != want {
			t.Errorf("INGOT_REQUIRE_TOOLS=%q: %q, want %q", require, e.how, want)
		}
		e = &ended{TB: t}
		if path := oracle.Need(e, "bash", "no-such-program", "sh"); filepath.Base(path) != "sh" || e.how != "" {
			t.Errorf("INGOT_REQUIRE_TOOLS=%q: sh is %q, %s", require, path, e.how)
		}
	}
}

func TestNeedFindsFilesAndTheAdministratorsPrograms(t *testing.T) {
	t.Setenv("INGOT_REQUIRE_TOOLS", "1")
	file := filepath.Join(t.TempDir(), "plain") // not executable
	if err := os.WriteFile(file, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := string(oracle.ReadFile(t, "none", file)); got != "content" {
		t.Errorf("got %q", got)
	}
	t.Setenv("PATH", "/usr/bin")
	if got := oracle.Need(t, "util-linux", "losetup"); !strings.HasSuffix(got, "sbin/losetup") {
		t.Errorf("got %q", got)
	}
}

func TestRun(t *testing.T) {
	t.Setenv("LC_ALL", "de_DE.UTF-8")
	if got := oracle.Run(t, "sh", "-c", "echo $LC_ALL; echo $TZ >&2"); got != "C.UTF-8\nUTC\n" {
		t.Errorf("got %q", got)
	}
	if got := oracle.Pipe(t, []byte("in"), "cat"); got != "in" {
		t.Errorf("got %q", got)
	}
	e := &ended{TB: t}
	oracle.Run(e, "false")
	if e.how != "failed" {
		t.Errorf("false: %q", e.how)
	}
}
