// Package e2e tests ingot run and ingot test as a user calls them: real
// images, booted by the program with firmware, TPM, disk and network.
// The program and each image are built once per test process. Nothing here
// runs with -short.
package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ingot-os/ingot/internal/agent/listener"
	"github.com/ingot-os/ingot/internal/oracle"
	"github.com/ingot-os/ingot/internal/qemu"
	"github.com/ingot-os/ingot/internal/smoke"
)

// bootLimit is generous: a boot takes 15 s on two idle cores without KVM, and
// several times that on busy ones.
const bootLimit = "4m"

var (
	root    string // everything this process makes
	program = sync.OnceValues(compile)
)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "ingot-e2e-")
	if err != nil {
		panic(err)
	}
	root = dir
	code := m.Run()
	os.RemoveAll(root)
	os.Exit(code)
}

// compile builds the program under test.
func compile() (string, error) {
	exe := filepath.Join(root, "ingot")
	out, err := exec.Command("go", "build", "-o", exe, "github.com/ingot-os/ingot/cmd/ingot").CombinedOutput()
	if err != nil {
		return "", errors.New("build ingot: " + string(out))
	}
	return exe, nil
}

// needs skips a test that cannot run here, unless INGOT_REQUIRE_TOOLS=1. Each
// test calls it first, and runs beside others from then on: an emulated guest
// keeps one core busy, and nothing here depends on how long something takes.
func needs(t *testing.T, arch string) {
	t.Helper()
	t.Parallel()
	if testing.Short() {
		t.Skip("boots a machine")
	}
	for _, m := range qemu.Tools(arch) {
		oracle.Missing(t, "%s is not installed (Debian package %s)", m.Name, m.Package)
	}
}

// result is how a call of the program ended.
type result struct {
	code        int
	out, stderr string
}

func ingot(t *testing.T, args ...string) result {
	t.Helper()
	exe, err := program()
	if err != nil {
		t.Fatal(err)
	}
	return call(t, exe, args...)
}

// call runs a program.
func call(t *testing.T, exe string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	var out, stderr bytes.Buffer
	c := exec.CommandContext(ctx, exe, args...)
	c.Stdout, c.Stderr = &out, &stderr
	if err := c.Run(); err != nil && c.ProcessState == nil {
		t.Fatal(err)
	}
	return result{c.ProcessState.ExitCode(), out.String(), stderr.String()}
}

// variant is an example, changed.
type variant struct {
	example string // directory of the recipe
	file    string // the recipe, if it is not appliance.yaml
	edit    string // old=new replacements in the recipe, separated by ";"
}

type built struct {
	once sync.Once
	dir  string
}

var (
	sets   = map[variant]*built{}
	setsMu sync.Mutex
)

// image builds a variant once per test process and returns its image set.
func image(t *testing.T, v variant) string {
	t.Helper()
	setsMu.Lock()
	b := sets[v]
	if b == nil {
		b = &built{}
		sets[v] = b
	}
	setsMu.Unlock()
	b.once.Do(func() { b.dir = build(t, v) })
	if b.dir == "" {
		t.Fatal("the image of this test could not be built")
	}
	return b.dir
}

func build(t *testing.T, v variant) string {
	t.Helper()
	dir, err := os.MkdirTemp(root, "recipe-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(dir, os.DirFS(v.example)); err != nil {
		t.Fatal(err)
	}
	recipe := filepath.Join(dir, cmp.Or(v.file, "appliance.yaml"))
	edit(t, recipe, v.edit)
	lockfile := strings.TrimSuffix(recipe, ".yaml") + ".lock"
	if _, err := os.Stat(lockfile); v.edit != "" || err != nil {
		os.Remove(lockfile)
		if r := ingot(t, "lock", "-f", recipe); r.code != 0 {
			t.Fatalf("ingot lock: %s", r.stderr)
		}
	}
	r := ingot(t, "build", "-f", recipe, "-o", filepath.Join(dir, "out"))
	if moved := updates(r.stderr); r.code != 0 && len(moved) > 0 {
		// The lock in the repository is of another toolchain, another
		// ingot-init, or of packages that the mirror has dropped: the build
		// says which, as it would to a user.
		if l := ingot(t, append([]string{"lock", "-f", recipe}, moved...)...); l.code != 0 {
			t.Fatalf("ingot lock: %s", l.stderr)
		}
		r = ingot(t, "build", "-f", recipe, "-o", filepath.Join(dir, "out"))
	}
	if r.code != 0 {
		t.Fatalf("ingot build: %s", r.stderr)
	}
	return strings.TrimSpace(r.out)
}

var updateHint = regexp.MustCompile(`--update ([a-z/]+)`)

func updates(stderr string) []string {
	var names []string
	for _, m := range updateHint.FindAllStringSubmatch(stderr, -1) {
		names = append(names, m[1])
	}
	slices.Sort(names)
	var args []string
	for _, n := range slices.Compact(names) {
		args = append(args, "--update", n)
	}
	return args
}

func edit(t *testing.T, path, edits string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for e := range strings.SplitSeq(edits, ";") {
		before, after, ok := strings.Cut(e, "=")
		if !ok {
			continue
		}
		if !strings.Contains(text, before) {
			t.Fatalf("%s has no %q to change", path, before)
		}
		text = strings.Replace(text, before, after, 1)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// verdict is what ingot test prints.
type verdict struct {
	smoke.Verdict
	Status   listener.Status `json:"status"`
	PowerOff string          `json:"powerOff"`
	raw      string
}

// boot runs ingot test on an image set and wants it to pass.
func boot(t *testing.T, set string, args ...string) verdict {
	t.Helper()
	r := ingot(t, append([]string{"test", set, "--json", "--console", "--timeout", bootLimit}, args...)...)
	v := verdict{raw: r.out}
	if err := json.Unmarshal([]byte(r.out), &v); err != nil {
		t.Fatalf("ingot test: code %d, %v in %q\n%s", r.code, err, r.out, r.stderr)
	}
	if r.code != 0 || !v.OK || v.Error != "" || v.PowerOff != "orderly" {
		t.Fatalf("ingot test: code %d, %s\n%s", r.code, r.out, r.stderr)
	}
	v.raw += r.stderr
	t.Logf("healthy after %.1f s, http after %.1f s (%s)", v.Boot.Healthy, v.Boot.HTTP, v.Machine.Accel)
	return v
}
